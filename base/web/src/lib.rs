//! The HTTP shape: problem details, idempotency, pagination, limits, OpenAPI.
