//! The codes that this crate answers with. Each has a page in `docs/errors/`.

kernel::codes! {
    NOT_FOUND = "NOT_FOUND", NotFound, "Nothing is served at this path";
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED", MethodNotAllowed, "This path does not take that method";
    INVALID_JSON = "INVALID_JSON", Invalid, "The body is not the JSON that this operation takes";
    INVALID_FORM = "INVALID_FORM", Invalid, "The body is not the form that this operation takes";
    INVALID_QUERY = "INVALID_QUERY", Invalid, "A query parameter is wrong";
    INVALID_PATH = "INVALID_PATH", Invalid, "A part of the path is wrong";
    INVALID_HEADER = "INVALID_HEADER", Invalid, "A header is wrong";
    BODY_UNREADABLE = "BODY_UNREADABLE", Invalid, "The body ended before it was whole";
    BODY_TOO_LARGE = "BODY_TOO_LARGE", TooLarge, "The body is larger than this server takes";
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE", UnsupportedMedia, "The body has a content type that is not taken here";
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT", Timeout, "The request took longer than its deadline";
    OVERLOADED = "OVERLOADED", Unavailable, "The server has as many requests under way as it takes";
    IDEMPOTENCY_KEY_INVALID = "IDEMPOTENCY_KEY_INVALID", Invalid, "The Idempotency-Key is not a valid key";
    IDEMPOTENCY_KEY_MISSING = "IDEMPOTENCY_KEY_MISSING", Invalid, "This operation needs an Idempotency-Key";
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED", Unprocessable, "The Idempotency-Key was used with another request";
    IDEMPOTENCY_KEY_RUNNING = "IDEMPOTENCY_KEY_RUNNING", Conflict, "The first request with this Idempotency-Key is still running";
    PRECONDITION_FAILED = "PRECONDITION_FAILED", PreconditionFailed, "The thing changed since you read it";
    PRECONDITION_REQUIRED = "PRECONDITION_REQUIRED", PreconditionFailed, "This change needs an If-Match header";
}
