//! What a document is before a transport takes it: this floor knows no HTTP server.

/// A finished document for whoever serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The text.
    pub body: String,
}

pub(crate) const JSON: &str = "application/json";
/// What Prometheus asks for first; it also reads it as its older text format.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
