//! What can go wrong here; knows no HTTP.

use std::time::Duration;

use kernel::{FieldError, Problem};

kernel::codes! {
    INSTANCE_UNKNOWN = "DISCOVERY_INSTANCE_UNKNOWN", NotFound, "There is no such instance";
    CHECK_UNKNOWN = "DISCOVERY_CHECK_UNKNOWN", NotFound, "The instance has no such check";
    INSTANCE_INVALID = "DISCOVERY_INSTANCE_INVALID", Unprocessable, "The instance cannot be registered so";
    QUERY_INVALID = "DISCOVERY_QUERY_INVALID", Invalid, "The question cannot be answered";
    FULL = "DISCOVERY_FULL", Conflict, "The project has as many instances as it may";
    WATCHERS_FULL = "DISCOVERY_WATCHERS_FULL", Unavailable, "Too many wait for changes on this node";
    HEARTBEAT_LOST = "DISCOVERY_HEARTBEAT_LOST", Unavailable, "The sign of life could not be kept";
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The closed set of failures of the registry.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No instance with this id.
    #[error("unknown instance")]
    InstanceUnknown,
    /// The instance has no such check.
    #[error("unknown check")]
    CheckUnknown,
    /// Every mistake, by its JSON pointer.
    #[error("invalid instance")]
    InstanceInvalid(Vec<FieldError>),
    /// A part of the query.
    #[error("invalid query: {parameter}: {detail}")]
    QueryInvalid {
        /// Which.
        parameter: &'static str,
        /// What would be right.
        detail: String,
    },
    /// Past the limit of the project.
    #[error("too many instances: {0}")]
    Full(usize),
    /// Past the limit of this node.
    #[error("too many watchers")]
    WatchersFull,
    /// Neither plane could keep a sign of life.
    #[error("the sign of life was not kept")]
    HeartbeatLost,
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

impl From<access::Error> for Error {
    fn from(error: access::Error) -> Self {
        Problem::from(error).into()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::InstanceUnknown => Self::new(
                &INSTANCE_UNKNOWN,
                "It was never registered in this project, or left, or was removed after it had been critical for long. Register it again.",
            ),
            Error::CheckUnknown => Self::new(&CHECK_UNKNOWN, "The instance tells which checks it has."),
            Error::InstanceInvalid(fields) => {
                let mut problem =
                    Self::new(&INSTANCE_INVALID, "Nothing was registered; `errors` names every field that is wrong.");
                problem.fields = fields;
                problem
            }
            Error::QueryInvalid { parameter, detail } => {
                Self::new(&QUERY_INVALID, "Nothing was looked up.").field(format!("?{parameter}"), detail)
            }
            Error::Full(most) => Self::new(
                &FULL,
                format!("A project registers at most {most} instances (`discovery.max_instances`). Deregister what is gone."),
            ),
            Error::WatchersFull => Self::new(
                &WATCHERS_FULL,
                "As many wait on this node as `discovery.max_watchers` allows. Ask another node, or again in a moment.",
            )
            .retry_after(Duration::from_secs(2)),
            Error::HeartbeatLost => Self::new(
                &HEARTBEAT_LOST,
                "This node reaches neither Redis nor the database. Send the sign of life to another node, or again in a moment.",
            )
            .retry_after(Duration::from_secs(1)),
            Error::Below(problem) => *problem,
        }
    }
}
