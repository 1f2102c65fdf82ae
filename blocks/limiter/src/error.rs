//! What can go wrong here; knows no HTTP.

use std::time::Duration;

use kernel::{FieldError, Problem};

kernel::codes! {
    DOMAIN_UNKNOWN = "LIMITER_DOMAIN_UNKNOWN", NotFound, "There are no rules for this domain";
    VERSION_UNKNOWN = "LIMITER_VERSION_UNKNOWN", NotFound, "There is no such version of the rules";
    RULES_INVALID = "LIMITER_RULES_INVALID", Unprocessable, "The rules break the rules for rules";
    RULES_CHANGED = "LIMITER_RULES_CHANGED", PreconditionFailed, "The rules were changed since they were read";
    RULES_IN_FILE = "LIMITER_RULES_IN_FILE", Conflict, "The rules of this domain stand in a file";
    RULES_FULL = "LIMITER_RULES_FULL", Conflict, "The project has as many rules as it may";
    DOMAIN_RESERVED = "LIMITER_DOMAIN_RESERVED", Forbidden, "Only administrators change the server's own limits";
    RULES_FILE_INVALID = "LIMITER_RULES_FILE_INVALID", Unprocessable, "The file of rules cannot be used";
    CHECK_INVALID = "LIMITER_CHECK_INVALID", Unprocessable, "The check cannot be decided";
    RESERVATION_INVALID = "LIMITER_RESERVATION_INVALID", Unprocessable, "The reservation is not one that this server gave";
    RESERVATION_EXPIRED = "LIMITER_RESERVATION_EXPIRED", Conflict, "The reservation has expired";
    EXCEEDED = "LIMITER_EXCEEDED", Limited, "A rate limit is used up";
    UNAVAILABLE = "LIMITER_UNAVAILABLE", Unavailable, "The limit cannot be counted right now";
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The closed set of failures of the limiter.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No rules for this domain.
    #[error("unknown domain")]
    DomainUnknown,
    /// No such version.
    #[error("unknown version")]
    VersionUnknown,
    /// Rules that break the rules; every mistake, by its JSON pointer.
    #[error("invalid rules")]
    RulesInvalid(Vec<FieldError>),
    /// `If-Match` did not hold.
    #[error("the rules were changed")]
    RulesChanged,
    /// The domain is in the file.
    #[error("the rules of this domain are in a file")]
    RulesInFile,
    /// Past a limit of the project; which.
    #[error("too many rules: {0}")]
    RulesFull(String),
    /// The domain `mainstay`, by somebody who is no administrator.
    #[error("a reserved domain")]
    DomainReserved,
    /// The file of rules cannot be used.
    #[error("the file of rules: {0}")]
    RulesFile(String),
    /// A check that cannot be decided.
    #[error("invalid check: {field}: {detail}")]
    CheckInvalid {
        /// Which field, as a JSON pointer.
        field: String,
        /// What would be right.
        detail: String,
    },
    /// A token that was not made here for this project, or was changed.
    #[error("not a reservation")]
    ReservationInvalid,
    /// A token whose time is over.
    #[error("the reservation has expired")]
    ReservationExpired,
    /// The memory plane is away, and what was asked cannot be done without it.
    #[error("the memory plane is away")]
    Unavailable,
    /// A failure below, already in its own words.
    #[error(transparent)]
    Below(Box<Problem>),
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Below(Box::new(problem))
    }
}

impl From<database::Error> for Error {
    fn from(error: database::Error) -> Self {
        Problem::from(error).into()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::DomainUnknown => Self::new(&DOMAIN_UNKNOWN, "This project has no rules for that domain."),
            Error::VersionUnknown => {
                Self::new(&VERSION_UNKNOWN, "The list of versions has those that are kept; the oldest go.")
            }
            Error::RulesInvalid(fields) => {
                let mut problem =
                    Self::new(&RULES_INVALID, "Nothing was changed; `errors` names every field that is wrong.");
                problem.fields = fields;
                problem
            }
            Error::RulesChanged => Self::new(
                &RULES_CHANGED,
                "Read the rules again, apply your change, and send it with their ETag in If-Match.",
            ),
            Error::RulesInFile => {
                Self::new(&RULES_IN_FILE, "They are in the file that `limiter.rules_file` names; change them there.")
            }
            Error::RulesFull(what) => Self::new(&RULES_FULL, format!("Nothing was changed: {what}.")),
            Error::DomainReserved => Self::new(
                &DOMAIN_RESERVED,
                "The domain `mainstay` holds the server's own limits: a key with `*` is needed.",
            ),
            Error::RulesFile(why) => Self::new(&RULES_FILE_INVALID, why),
            Error::CheckInvalid { field, detail } => {
                Self::new(&CHECK_INVALID, "Nothing was charged.").field(field, detail)
            }
            Error::ReservationInvalid => {
                Self::new(&RESERVATION_INVALID, "Send the text as it was given, with a key of the same project.")
            }
            Error::ReservationExpired => Self::new(
                &RESERVATION_EXPIRED,
                "What was reserved stays charged; settle within the lease that was asked for.",
            ),
            Error::Unavailable => Self::new(
                &UNAVAILABLE,
                "A part of the server that this needs cannot be reached. Try again in a moment.",
            )
            .retry_after(Duration::from_secs(1)),
            Error::Below(problem) => *problem,
        }
    }
}
