//! Errors with stable codes, where what a user sees and what an operator sees are two types.
//!
//! A room declares its codes with [`codes!`], returns its own small enum, and converts it into a [`Problem`] at its door.
//! `base/web` holds the one table that turns a [`Kind`] into an HTTP status; rooms know no HTTP. Every code has a page in
//! `docs/errors/<CODE>.md`, which a test checks.

use std::{fmt, time::Duration};

/// What sort of failure it is; the closed set that transports map to their own statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request cannot be understood or breaks a rule (HTTP 400).
    Invalid,
    /// No identity, or one that does not hold (401).
    Unauthenticated,
    /// A known identity without the right (403).
    Forbidden,
    /// No such thing (404).
    NotFound,
    /// The thing exists, but not this verb on it (405).
    MethodNotAllowed,
    /// None of the asked representations is offered (406).
    NotAcceptable,
    /// The state of the thing forbids it now (409).
    Conflict,
    /// It existed and is gone for good (410).
    Gone,
    /// `If-Match` or its like did not hold (412).
    PreconditionFailed,
    /// Past a size limit (413).
    TooLarge,
    /// A body in a form that is not taken (415).
    UnsupportedMedia,
    /// Understood, but cannot be done with this content (422).
    Unprocessable,
    /// Past a rate or quota (429).
    Limited,
    /// Taken away for legal reasons (451).
    Legal,
    /// Our fault (500).
    Internal,
    /// Cannot serve now; try again (503).
    Unavailable,
    /// A deadline passed (504).
    Timeout,
}

/// A stable error code. Its name never changes meaning once released.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Code {
    /// For example `SHORTENER_ALIAS_TAKEN`.
    pub name: &'static str,
    /// Its sort.
    pub kind: Kind,
    /// One short sentence that fits every occurrence.
    pub title: &'static str,
}

/// Declares codes as constants and the list `CODES` of all of them: `codes! { ALIAS_TAKEN = "SHORTENER_ALIAS_TAKEN", Conflict,
/// "That alias is taken"; }`.
#[macro_export]
macro_rules! codes {
    ($($ident:ident = $name:literal, $kind:ident, $title:literal;)+) => {
        $(
            #[doc = $title]
            pub static $ident: $crate::Code =
                $crate::Code { name: $name, kind: $crate::Kind::$kind, title: $title };
        )+
        /// Every code declared here, for the documentation check.
        pub static CODES: &[&$crate::Code] = &[$(&$ident),+];
    };
}

codes! {
    INTERNAL = "INTERNAL", Internal, "Something went wrong on our side";
    UNAVAILABLE = "UNAVAILABLE", Unavailable, "The service cannot answer right now";
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN", Unavailable, "The outcome of the write is unknown";
    INVALID_CURSOR = "INVALID_CURSOR", Invalid, "The page cursor is not one that this server gave";
}

/// What only operators see. It has no `Display`, so it cannot reach a user by formatting.
#[derive(Clone)]
pub struct Internal(String);

impl Internal {
    /// Wraps a message for logs.
    pub fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string())
    }

    /// The message, for a log line.
    pub fn for_operators(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Internal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Internal(…)")
    }
}

/// One field that is wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Where: a field name or JSON pointer.
    pub field: String,
    /// What is wrong and what would be right.
    pub detail: String,
}

/// A failure as its receiver may see it, with what operators see kept apart.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The stable code.
    pub code: &'static Code,
    /// What happened here, and what to do.
    pub detail: String,
    /// Fields that are wrong.
    pub fields: Vec<FieldError>,
    /// When it makes sense to try again.
    pub retry_after: Option<Duration>,
    /// For the log only.
    pub internal: Option<Internal>,
}

impl Problem {
    /// A problem with its detail.
    pub fn new(code: &'static Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), fields: Vec::new(), retry_after: None, internal: None }
    }

    /// A failure of our own: the user sees a fixed sentence, the log sees `message`.
    pub fn internal(message: impl fmt::Display) -> Self {
        let mut p = Self::new(&INTERNAL, "The request failed on our side; the log of the server has the reason.");
        p.internal = Some(Internal::new(message));
        p
    }

    /// Adds a field that is wrong.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.fields.push(FieldError { field: field.into(), detail: detail.into() });
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Keeps a message for operators.
    #[must_use]
    pub fn with_internal(mut self, message: impl fmt::Display) -> Self {
        self.internal = Some(Internal::new(message));
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name, self.detail)
    }
}

impl std::error::Error for Problem {}
