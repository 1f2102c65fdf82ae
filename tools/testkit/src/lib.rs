//! Real PostgreSQL and Redis for tests, on free loopback ports.
