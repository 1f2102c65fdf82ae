//! The `[http]` section.

use kernel::{
    config::{ConfigError, Origin},
    section,
};

section! {
    /// Limits and manners of the API listener.
    pub struct HttpConfig("http") {
        /// The largest request body; a larger one is refused with 413. Routes for uploads have limits of their own.
        body_limit: kernel::ByteSize = "\"1MiB\"", "bytes";
        /// How long a request may take until its answer starts; then 504. A client may ask for less with `Mainstay-Timeout: 2s`.
        request_timeout: std::time::Duration = "\"30s\"", "duration";
        /// How many requests are worked on at once; more are refused with 503 and Retry-After. Health and metrics always pass.
        in_flight_limit: usize = "4096", "requests";
        /// Origins whose pages may call the API from a browser, such as `https://app.example.com`; none by default, `*` for all.
        cors_origins: Vec<String> = "[]", "origins";
        /// Answers smaller than this are sent uncompressed.
        compression_minimum: kernel::ByteSize = "\"1KiB\"", "bytes";
        /// How long an Idempotency-Key is remembered.
        idempotency_ttl: std::time::Duration = "\"24h\"", "duration";
        /// The largest answer that is kept for an Idempotency-Key; a larger one is sent, but not given again.
        idempotency_answer_limit: kernel::ByteSize = "\"256KiB\"", "bytes";
    }
}

impl HttpConfig {
    /// What the types cannot say; empty when all is well.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut refuse = |wrong: bool, key: &str, detail: String| {
            if wrong {
                errors.push(ConfigError { key: format!("http.{key}"), origin: Origin::Default, detail });
            }
        };
        refuse(self.body_limit.0 == 0, "body_limit", "expected at least one byte".to_owned());
        refuse(self.request_timeout.is_zero(), "request_timeout", "expected more than nothing".to_owned());
        refuse(self.in_flight_limit == 0, "in_flight_limit", "expected at least 1".to_owned());
        refuse(
            self.idempotency_ttl < self.request_timeout,
            "idempotency_ttl",
            "expected at least http.request_timeout".to_owned(),
        );
        for origin in &self.cors_origins {
            let detail = format!("expected an origin such as \"https://app.example.com\" or \"*\", not {origin:?}");
            refuse(origin != "*" && !is_origin(origin), "cors_origins", detail);
        }
        errors
    }
}

fn is_origin(text: &str) -> bool {
    url::Url::parse(text)
        .is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.origin().ascii_serialization() == text)
}
