//! Deadlines, retries, bulkheads, single flight.
