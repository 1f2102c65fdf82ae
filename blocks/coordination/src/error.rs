//! What can go wrong here; knows neither HTTP nor gRPC.

use kernel::Problem;

kernel::codes! {
    EMPTY_KEY = "COORDINATION_EMPTY_KEY", Invalid, "A key must be given";
    KEY_NOT_FOUND = "COORDINATION_KEY_NOT_FOUND", NotFound, "There is no such key whose value or lease could be kept";
    TOO_LARGE = "COORDINATION_TOO_LARGE", TooLarge, "The key, the value or the request is too large";
    TOO_MANY_OPS = "COORDINATION_TOO_MANY_OPS", Invalid, "The transaction has too many operations";
    DUPLICATE_KEY = "COORDINATION_DUPLICATE_KEY", Invalid, "A transaction writes one key twice";
    PAST_IN_TXN = "COORDINATION_PAST_IN_TXN", Invalid, "A transaction reads only what is now";
    COMPACTED = "COORDINATION_COMPACTED", Gone, "The revision has been compacted";
    FUTURE_REVISION = "COORDINATION_FUTURE_REVISION", Invalid, "The revision is not there yet";
    NO_SPACE = "COORDINATION_NO_SPACE", Unavailable, "The keys of this project take as much room as they may";
    LEASE_NOT_FOUND = "COORDINATION_LEASE_NOT_FOUND", NotFound, "There is no such lease: it ended, or never was";
    LEASE_EXISTS = "COORDINATION_LEASE_EXISTS", Conflict, "There is such a lease already";
    LEASE_TOO_LONG = "COORDINATION_LEASE_TOO_LONG", Invalid, "The lease is too long";
    OVERLOADED = "COORDINATION_OVERLOADED", Unavailable, "Too many changes wait to be written";
    UNAVAILABLE = "COORDINATION_UNAVAILABLE", Unavailable, "Keys cannot be read or written right now";
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The closed set of failures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No key.
    #[error("no key")]
    EmptyKey,
    /// Nothing there to keep the value or lease of.
    #[error("no such key")]
    KeyNotFound,
    /// Past a bound in bytes.
    #[error("too large")]
    TooLarge,
    /// Past the bound on operations or depth.
    #[error("too many operations")]
    TooManyOps,
    /// One key twice.
    #[error("a key is written twice")]
    DuplicateKey,
    /// A revision that is not the newest, inside a transaction.
    #[error("a transaction reads only what is now")]
    PastInTxn,
    /// History before this revision was given up; what was asked for lies before.
    #[error("compacted at {0}")]
    Compacted(i64),
    /// Not there yet.
    #[error("a future revision")]
    FutureRevision,
    /// Past the bound on bytes of the project.
    #[error("no space")]
    NoSpace,
    /// No such lease.
    #[error("no such lease")]
    LeaseNotFound,
    /// There is one.
    #[error("the lease exists")]
    LeaseExists,
    /// Past the bound.
    #[error("the lease is too long")]
    LeaseTooLong,
    /// The bounded queue is full.
    #[error("too many changes wait")]
    Overloaded,
    /// It stops, or its worker does.
    #[error("stopped")]
    Stopped,
    /// The database; nothing was written unless it says so.
    #[error(transparent)]
    Database(#[from] database::Error),
}

impl From<Error> for Problem {
    fn from(e: Error) -> Self {
        match e {
            Error::EmptyKey => Self::new(&EMPTY_KEY, "a key has at least one byte"),
            Error::KeyNotFound => Self::new(&KEY_NOT_FOUND, "put it with a value and a lease first"),
            Error::TooLarge => Self::new(
                &TOO_LARGE,
                format!(
                    "a key may have {} bytes, the values of a request together {}",
                    crate::model::MAX_KEY_BYTES,
                    crate::model::MAX_VALUE_BYTES
                ),
            ),
            Error::TooManyOps => {
                Self::new(&TOO_MANY_OPS, format!("a transaction may have {} on each level", crate::model::MAX_TXN_OPS))
            }
            Error::DuplicateKey => Self::new(&DUPLICATE_KEY, "all of a transaction is one revision"),
            Error::PastInTxn => Self::new(&PAST_IN_TXN, "read the revision outside of the transaction"),
            Error::Compacted(at) => Self::new(&COMPACTED, format!("history begins at revision {at}")),
            Error::FutureRevision => Self::new(&FUTURE_REVISION, "read without a revision to see the newest"),
            Error::NoSpace => Self::new(&NO_SPACE, "delete keys first"),
            Error::LeaseNotFound => Self::new(&LEASE_NOT_FOUND, "grant a new one"),
            Error::LeaseExists => Self::new(&LEASE_EXISTS, "leave the id out to get one that is free"),
            Error::LeaseTooLong => {
                Self::new(&LEASE_TOO_LONG, format!("at most {} seconds", crate::model::MAX_LEASE_SECONDS))
            }
            Error::Overloaded => Self::new(&OVERLOADED, "try again in a moment"),
            Error::Stopped => Self::new(&UNAVAILABLE, "this node is stopping"),
            Error::Database(e) => e.into(),
        }
    }
}
