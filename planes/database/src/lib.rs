//! Durable truth: one statement API on SQLite and PostgreSQL.
