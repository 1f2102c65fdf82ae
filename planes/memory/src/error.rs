//! What can go wrong, as a small closed set.

use std::time::Duration;

use kernel::{Problem, codes};

codes! {
    UNAVAILABLE = "MEMORY_UNAVAILABLE", Unavailable, "The memory plane cannot be reached";
    OVERLOADED = "MEMORY_OVERLOADED", Unavailable, "Too much is waiting for the memory plane";
    FULL = "MEMORY_FULL", Unavailable, "The memory plane takes no more data";
    TOO_LARGE = "MEMORY_TOO_LARGE", TooLarge, "Too large for the memory plane";
    TYPE = "MEMORY_TYPE", Conflict, "The key holds another type";
    NUMBER = "MEMORY_NUMBER", Conflict, "The value cannot be counted with";
    INVALID = "MEMORY_INVALID", Invalid, "The operation is not valid";
    INTERNAL = "MEMORY_INTERNAL", Internal, "The memory plane refused an operation";
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the memory plane. Texts inside are for operators: they may name hosts, never keys' values or passwords.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The engine cannot be reached or did not answer in time. A write may or may not have happened.
    #[error("the memory plane is unavailable: {0}")]
    Unavailable(String),
    /// Too many operations wait for an answer already; this one was never sent.
    #[error("too many operations wait for the memory plane")]
    Overloaded,
    /// The server refuses writes because its memory is full (in process, eviction makes room instead).
    #[error("the memory plane is full")]
    Full,
    /// A key, value, member, message or collection past its limit; nothing was written.
    #[error("{what}: more than {limit}")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// The largest one taken.
        limit: usize,
    },
    /// The key holds another type than the operation is for; nothing was written.
    #[error("the key holds another type")]
    WrongType,
    /// A value that is not a decimal integer of 64 bits was counted with, or the sum does not fit; nothing was written.
    #[error("the value is not an integer, or the sum does not fit 64 bits")]
    NotANumber,
    /// The engine's clock is outside the bounds of a [`crate::Rate::Calendar`]; nothing was charged. Compute them anew, at this
    /// instant, and ask once more.
    #[error("the windows of a calendar limit are over")]
    WindowPassed {
        /// When the engine looked.
        at: crate::Moment,
    },
    /// An argument that no engine takes.
    #[error("{0}")]
    Invalid(&'static str),
    /// The options do not make sense; only from constructors.
    #[error("{0}")]
    Config(String),
    /// Anything else the server said.
    #[error("the memory plane refused: {0}")]
    Other(String),
}

impl Error {
    /// Whether the engine could not serve, so that the declared [`crate::OnDown`] applies.
    pub fn is_down(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Overloaded | Self::Full)
    }
}

impl From<Error> for Problem {
    fn from(e: Error) -> Self {
        const SOON: Duration = Duration::from_secs(1);
        let problem = match &e {
            Error::Unavailable(_) => Self::new(
                &UNAVAILABLE,
                "A part of the server that this needs cannot be reached. Try again in a moment.",
            )
            .retry_after(SOON),
            Error::Overloaded => {
                Self::new(&OVERLOADED, "Too much is going on. Try again in a moment.").retry_after(SOON)
            }
            Error::Full => {
                Self::new(&FULL, "The server's memory is full; an operator has to make room.").retry_after(SOON * 10)
            }
            Error::TooLarge { what, limit } => Self::new(&TOO_LARGE, format!("Too large: {what}, at most {limit}.")),
            Error::WrongType => Self::new(&TYPE, "The key holds another type; nothing was written."),
            Error::NotANumber => {
                Self::new(&NUMBER, "The value is not an integer, or the sum does not fit 64 bits; nothing was written.")
            }
            Error::WindowPassed { .. } => {
                Self::new(&UNAVAILABLE, "A window ended just now. Try again in a moment.").retry_after(SOON)
            }
            Error::Invalid(what) => Self::new(&INVALID, format!("Not valid: {what}.")),
            Error::Config(_) | Error::Other(_) => Self::new(&INTERNAL, "The log of the server has the reason."),
        };
        problem.with_internal(e)
    }
}
