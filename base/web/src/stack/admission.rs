//! Who is let in, decided elsewhere.

use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use http::{Method, StatusCode};

/// A request that asks to be let in.
#[derive(Debug, Clone, Copy)]
pub struct Arriving<'a> {
    /// The method.
    pub method: &'a Method,
    /// The route's pattern; the path where none took it.
    pub route: &'a str,
}

/// Decides which requests are worked on. Must not block.
pub trait Admission: Send + Sync + 'static {
    /// Lets a request in, or says when to come back: then it is answered with 503, `OVERLOADED` and `Retry-After`.
    fn admit(&self, request: &Arriving<'_>) -> Result<Box<dyn Admitted>, Duration>;
}

/// A request that was let in. Dropped without an answer when its client went away.
pub trait Admitted: Send {
    /// Its answer starts; 504 when it was cut off at its deadline, 500 when its handler panicked.
    fn answered(self: Box<Self>, status: StatusCode);
}

pub(super) fn ask(admission: &dyn Admission, req: &Request) -> Result<Box<dyn Admitted>, Duration> {
    let route = req.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| req.uri().path(), MatchedPath::as_str);
    admission.admit(&Arriving { method: req.method(), route })
}
