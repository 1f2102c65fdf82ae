//! What can go wrong here; knows no HTTP.

use kernel::{FieldError, Problem};

kernel::codes! {
    CONFIG_INVALID = "GATEWAY_CONFIG_INVALID", Unprocessable, "The gateway's document cannot hold";
    CONFIG_CHANGED = "GATEWAY_CONFIG_CHANGED", PreconditionFailed, "The gateway's document was changed since it was read";
    CONFIG_IN_FILE = "GATEWAY_CONFIG_IN_FILE", Conflict, "The gateway's document stands in a file";
    CONFIG_FILE_INVALID = "GATEWAY_CONFIG_FILE_INVALID", Unprocessable, "The gateway's file cannot be used";
    VERSION_UNKNOWN = "GATEWAY_VERSION_UNKNOWN", NotFound, "There is no such version of the gateway's document";
    UPSTREAM_UNKNOWN = "GATEWAY_UPSTREAM_UNKNOWN", NotFound, "There is no such upstream";
    ENDPOINT_UNKNOWN = "GATEWAY_ENDPOINT_UNKNOWN", NotFound, "The upstream has no such endpoint";
    DRAINS_FULL = "GATEWAY_DRAINS_FULL", Conflict, "As many endpoints are drained as may be";
    NOT_OPERATOR = "GATEWAY_NOT_OPERATOR", Forbidden, "Only administrators change what the gateway does";
    EXPLAIN_INVALID = "GATEWAY_EXPLAIN_INVALID", Unprocessable, "The request to be explained is not one";
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The closed set of failures of the gateway's configuration. What requests meet on their way is in `proxy`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A document that cannot hold; every mistake, by its JSON pointer.
    #[error("invalid document")]
    Invalid(Vec<FieldError>),
    /// `If-Match` did not hold.
    #[error("the document was changed")]
    Changed,
    /// The document is in a file.
    #[error("the document is in a file")]
    InFile,
    /// The file cannot be used.
    #[error("the file: {0}")]
    File(String),
    /// No such version.
    #[error("unknown version")]
    VersionUnknown,
    /// No such upstream.
    #[error("unknown upstream")]
    UpstreamUnknown,
    /// No such endpoint.
    #[error("unknown endpoint")]
    EndpointUnknown,
    /// Past the most drained endpoints.
    #[error("too many drained endpoints")]
    DrainsFull,
    /// Somebody who is no administrator.
    #[error("not an operator")]
    NotOperator,
    /// A request to be explained that is none.
    #[error("{field}: {detail}")]
    Explain {
        /// Which field.
        field: String,
        /// What would be right.
        detail: String,
    },
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
            Error::Invalid(fields) => {
                let mut problem =
                    Self::new(&CONFIG_INVALID, "Nothing was changed; `errors` names every field that is wrong.");
                problem.fields = fields;
                problem
            }
            Error::Changed => Self::new(
                &CONFIG_CHANGED,
                "Read the document again, apply your change, and send it with its ETag in If-Match.",
            ),
            Error::InFile => {
                Self::new(&CONFIG_IN_FILE, "It is the file that `gateway.config_file` names; change it there.")
            }
            Error::File(why) => Self::new(&CONFIG_FILE_INVALID, why),
            Error::VersionUnknown => {
                Self::new(&VERSION_UNKNOWN, "The list of versions has those that are kept; the oldest go.")
            }
            Error::UpstreamUnknown => Self::new(&UPSTREAM_UNKNOWN, "The document names no upstream like that."),
            Error::EndpointUnknown => Self::new(
                &ENDPOINT_UNKNOWN,
                "An endpoint is named by its address, as GET /v1/gateway/upstreams shows it.",
            ),
            Error::DrainsFull => {
                Self::new(&DRAINS_FULL, "Give requests back to endpoints first; at most 1000 are drained by hand.")
            }
            Error::NotOperator => Self::new(
                &NOT_OPERATOR,
                "The document belongs to the installation, not to a project: a key with `*` is needed.",
            ),
            Error::Explain { field, detail } => {
                Self::new(&EXPLAIN_INVALID, "Nothing was looked up.").field(field, detail)
            }
            Error::Below(problem) => *problem,
        }
    }
}
