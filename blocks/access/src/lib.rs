//! Stored projects, API keys, the audit log and idempotency records.
