//! What can go wrong, as a small closed set that says for every write whether it happened.

use std::{path::PathBuf, time::Duration};

use kernel::{Problem, codes};

codes! {
    UNIQUE = "DATABASE_UNIQUE", Conflict, "Such a thing exists already";
    REFERENCE = "DATABASE_REFERENCE", Conflict, "Something that this refers to, or that refers to this, forbids it";
    CHECK = "DATABASE_CHECK", Unprocessable, "A value breaks a rule of the database";
    VALUE = "DATABASE_VALUE", Invalid, "A value cannot be stored";
    BUSY = "DATABASE_BUSY", Unavailable, "The database is busy";
    OVERLOADED = "DATABASE_OVERLOADED", Unavailable, "Too much work is waiting for the database";
    TIMEOUT = "DATABASE_TIMEOUT", Timeout, "The database took too long";
    DISK_FULL = "DATABASE_DISK_FULL", Unavailable, "The storage takes no more writes";
    UNAVAILABLE = "DATABASE_UNAVAILABLE", Unavailable, "The database cannot be reached";
    OUTCOME_UNKNOWN = "DATABASE_OUTCOME_UNKNOWN", Unavailable, "The outcome of the write is unknown";
    TOO_LARGE = "DATABASE_TOO_LARGE", Internal, "A result was too large";
    IN_USE = "DATABASE_IN_USE", Unavailable, "Another process uses the data folder";
    MIGRATION = "DATABASE_MIGRATION", Internal, "The database does not fit this version of Mainstay";
    CORRUPT = "DATABASE_CORRUPT", Internal, "The database file is damaged";
    NOT_EMPTY = "DATABASE_NOT_EMPTY", Conflict, "The place to write to is not empty";
    INTERNAL = "DATABASE_INTERNAL", Internal, "The database refused a statement";
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the database plane.
///
/// After every variant but [`Error::Unknown`], the write did **not** happen. Texts inside are for operators: they may name
/// tables and hosts, never parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A UNIQUE or PRIMARY KEY constraint.
    #[error("a row with the same key exists")]
    Unique,
    /// A FOREIGN KEY constraint.
    #[error("a referenced row is missing, or this row is referenced")]
    ForeignKey,
    /// A CHECK or NOT NULL constraint.
    #[error("a value breaks a CHECK or NOT NULL constraint")]
    Check,
    /// A parameter that one of the engines cannot store.
    #[error("{0}")]
    Value(&'static str),
    /// Not committed, through no fault of its own; safe to run again.
    #[error("the transaction was rolled back and can be run again")]
    Retry,
    /// Somebody else holds a lock for longer than the bound; not committed.
    #[error("the database is locked by someone else")]
    Busy,
    /// The bounded queue or pool stayed full for longer than the bound; never begun.
    #[error("too much work is waiting for the database")]
    Overloaded,
    /// A statement ran past its bound; not committed.
    #[error("a statement took too long and was stopped")]
    Timeout,
    /// The storage takes no more writes (full, quota or file-size limit); not committed.
    #[error("the storage of the database is full")]
    DiskFull,
    /// The connection or the file was lost before COMMIT was sent; not committed.
    #[error("the database cannot be reached: {0}")]
    Conn(String),
    /// Lost during COMMIT: it happened or it did not. The plane never retries it.
    #[error("the connection was lost during COMMIT, so the outcome is unknown")]
    Unknown,
    /// A transaction body waited for something that is not its `tx`; rolled back.
    #[error("a transaction body awaited something other than its tx")]
    BodyPending,
    /// A transaction body panicked; rolled back.
    #[error("a transaction body panicked: {0}")]
    Panicked(String),
    /// A column did not hold what was asked for.
    #[error("cannot read a row: {0}")]
    Decode(String),
    /// A result was larger than [`crate::MAX_RESULT_BYTES`].
    #[error("the result is larger than {} MiB", crate::MAX_RESULT_BYTES >> 20)]
    TooLarge,
    /// The handle was closed.
    #[error("the database is closed")]
    Closed,
    /// Another process holds the lock of this folder.
    #[error("another process uses the data folder {}{}", .folder.display(), .process_id.map(|id| format!(" (process {id})")).unwrap_or_default())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process, where it could be read.
        process_id: Option<u32>,
    },
    /// The schema does not fit the binary; the text says what differs.
    #[error("{0}")]
    Migration(String),
    /// The file is not a sound database.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// A place that has to be empty is not.
    #[error("{0}")]
    NotEmpty(String),
    /// A copy does not equal its source.
    #[error("the copy differs from its source: {0}")]
    CopyDiffers(String),
    /// Anything else, mostly a statement that is wrong.
    #[error("the database refused: {0}")]
    Other(String),
}

impl Error {
    /// The stable name of its sort, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unique => "unique",
            Self::ForeignKey => "foreign_key",
            Self::Check => "check",
            Self::Value(_) => "value",
            Self::Retry => "retry",
            Self::Busy => "busy",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::DiskFull => "disk_full",
            Self::Conn(_) => "conn",
            Self::Unknown => "unknown",
            Self::BodyPending => "body_pending",
            Self::Panicked(_) => "panicked",
            Self::Decode(_) => "decode",
            Self::TooLarge => "too_large",
            Self::Closed => "closed",
            Self::InUse { .. } => "in_use",
            Self::Migration(_) => "migration",
            Self::Corrupt(_) => "corrupt",
            Self::NotEmpty(_) => "not_empty",
            Self::CopyDiffers(_) => "copy_differs",
            Self::Other(_) => "other",
        }
    }

    /// Whether running the same transaction again may succeed and cannot do it twice.
    pub fn is_safe_to_retry(&self) -> bool {
        matches!(self, Self::Retry | Self::Busy | Self::Overloaded | Self::Conn(_) | Self::Timeout)
    }
}

impl From<Error> for Problem {
    fn from(e: Error) -> Self {
        const SOON: Duration = Duration::from_secs(1);
        let again = "Nothing was written. Try again in a moment.";
        let reason = "The log of the server has the reason; nothing was written.";
        let problem = match &e {
            Error::Unique => Self::new(&UNIQUE, "A thing with the same key exists already."),
            Error::ForeignKey => Self::new(&REFERENCE, "Something this refers to is missing, or it is still in use."),
            Error::Check => Self::new(&CHECK, "A value breaks a rule of the database."),
            Error::Value(what) => Self::new(&VALUE, format!("A value cannot be stored: {what}.")),
            Error::Retry | Error::Busy => Self::new(&BUSY, again).retry_after(SOON),
            Error::Overloaded => Self::new(&OVERLOADED, again).retry_after(SOON),
            Error::Timeout => Self::new(&TIMEOUT, again).retry_after(SOON),
            Error::DiskFull => Self::new(
                &DISK_FULL,
                "The storage of the server takes no more writes. Nothing was written; an operator has to make room.",
            )
            .retry_after(Duration::from_secs(30)),
            Error::Conn(_) | Error::Closed => Self::new(&UNAVAILABLE, again).retry_after(SOON),
            Error::Unknown => Self::new(
                &OUTCOME_UNKNOWN,
                "The connection to the database was lost while the write was being confirmed. It may or may not have \
                 happened: look before you try again, or try again with the same Idempotency-Key.",
            )
            .retry_after(SOON),
            Error::TooLarge => Self::new(&TOO_LARGE, "The result is too large; ask for less at once."),
            Error::InUse { .. } => Self::new(&IN_USE, "Another process uses the data folder."),
            Error::Migration(_) => Self::new(&MIGRATION, reason),
            Error::Corrupt(_) => Self::new(&CORRUPT, reason),
            Error::NotEmpty(_) => Self::new(&NOT_EMPTY, "The place to write to is not empty; nothing was written."),
            Error::BodyPending | Error::Panicked(_) | Error::Decode(_) | Error::CopyDiffers(_) | Error::Other(_) => {
                Self::new(&INTERNAL, reason)
            }
        };
        problem.with_internal(e)
    }
}
