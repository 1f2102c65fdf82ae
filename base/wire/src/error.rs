//! What goes wrong between here and a back end.

use std::{fmt, io};

/// An error of somebody else's body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// No connection came about.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// No connection came about in [`Target::connect_timeout`](crate::Target::connect_timeout).
    #[error("no connection in time")]
    ConnectTimeout,
    /// The TLS handshake failed, or did not agree on the protocol.
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    /// The whole request was sent, and no answer began in time.
    #[error("no answer in time")]
    FirstByteTimeout,
    /// The back end neither took nor gave a byte for too long.
    #[error("the back end stood still in the middle of an exchange")]
    IdleTimeout,
    /// The client gave no byte of the request's body for too long.
    #[error("the request's body stood still")]
    RequestTimeout,
    /// The connection (or the HTTP/2 stream) ended too early.
    #[error("the connection was lost: {0}")]
    Reset(io::Error),
    /// The answer is not HTTP, or is HTTP that cannot be passed on safely.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
    /// The request's body failed, or was not as long as it said.
    #[error("the request's body failed: {0}")]
    RequestBody(BoxError),
    /// Part of the answer is larger than what is kept for it.
    #[error("{0} too large")]
    TooLarge(&'static str),
}

/// Why there is no answer, or no rest of an answer.
pub struct Error {
    kind: ErrorKind,
    is_replayable: bool,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        let is_replayable = matches!(kind, ErrorKind::Connect(_) | ErrorKind::ConnectTimeout | ErrorKind::Tls(_));
        Self { kind, is_replayable }
    }

    /// One where the back end said that it did nothing.
    pub(crate) fn untouched(kind: ErrorKind) -> Self {
        Self { kind, is_replayable: true }
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whether nothing of the request can have been acted upon, so that any request may be sent again.
    pub fn is_replayable(&self) -> bool {
        self.is_replayable
    }

    /// Whether time ran out at the back end.
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, ErrorKind::ConnectTimeout | ErrorKind::FirstByteTimeout | ErrorKind::IdleTimeout)
    }

    /// Whether the client is to blame: this says nothing about the back end's health.
    pub fn is_of_client(&self) -> bool {
        matches!(self.kind, ErrorKind::RequestBody(_) | ErrorKind::RequestTimeout)
    }

    /// A short stable name, for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self.kind {
            ErrorKind::Connect(_) => "connect",
            ErrorKind::ConnectTimeout => "connect_timeout",
            ErrorKind::Tls(_) => "tls",
            ErrorKind::FirstByteTimeout => "first_byte_timeout",
            ErrorKind::IdleTimeout => "idle_timeout",
            ErrorKind::RequestTimeout => "request_timeout",
            ErrorKind::Reset(_) => "reset",
            ErrorKind::Malformed(_) => "malformed",
            ErrorKind::RequestBody(_) => "request_body",
            ErrorKind::TooLarge(_) => "too_large",
        }
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.kind).field("is_replayable", &self.is_replayable).finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            ErrorKind::Connect(e) | ErrorKind::Tls(e) | ErrorKind::Reset(e) => Some(e),
            ErrorKind::RequestBody(e) => Some(&**e),
            _ => None,
        }
    }
}
