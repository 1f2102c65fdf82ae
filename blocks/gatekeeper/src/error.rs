//! What is refused, and why; knows no HTTP.

use std::{borrow::Cow, time::Duration};

use kernel::{Internal, Problem};

kernel::codes! {
    UNAUTHENTICATED = "GATEKEEPER_UNAUTHENTICATED", Unauthenticated, "The route asks who you are";
    TOKEN_INVALID = "GATEKEEPER_TOKEN_INVALID", Unauthenticated, "The token does not hold";
    CREDENTIAL_AMBIGUOUS = "GATEKEEPER_CREDENTIAL_AMBIGUOUS", Invalid, "The request names more than one caller";
    TOO_MANY_ATTEMPTS = "GATEKEEPER_TOO_MANY_ATTEMPTS", Limited, "Too many failed attempts";
    ADDRESS_REFUSED = "GATEKEEPER_ADDRESS_REFUSED", Forbidden, "The route is not open to this address";
    CERTIFICATE_REFUSED = "GATEKEEPER_CERTIFICATE_REFUSED", Forbidden, "The route asks for another client certificate";
    FORBIDDEN = "GATEKEEPER_FORBIDDEN", Forbidden, "The caller may not do this";
    LOGIN_FAILED = "GATEKEEPER_LOGIN_FAILED", Invalid, "The sign-in did not come to an end";
    UNAVAILABLE = "GATEKEEPER_UNAVAILABLE", Unavailable, "Who asks cannot be found out right now";
}

/// The closed set of refusals.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No credential, or a wrong name or password: which is not told.
    #[error("unauthenticated: {0}")]
    Unauthenticated(&'static str),
    /// A token that does not hold; why.
    #[error("invalid token: {0}")]
    Token(Cow<'static, str>),
    /// A credential came twice.
    #[error("the credential came more than once")]
    Ambiguous,
    /// Too many failures; try again after this time.
    #[error("too many attempts")]
    TooManyAttempts(Duration),
    /// The address may not.
    #[error("address refused")]
    Address,
    /// No certificate, or another.
    #[error("certificate refused: {0}")]
    Certificate(&'static str),
    /// It is known who asks, and they may not; the message is for them, the reason for operators.
    #[error("forbidden: {message}")]
    Forbidden {
        /// For the client.
        message: Cow<'static, str>,
        /// For operators.
        reason: Option<Internal>,
    },
    /// A sign-in that went wrong; the message is for the user.
    #[error("sign-in failed: {message}")]
    Login {
        /// For the user.
        message: Cow<'static, str>,
        /// For operators.
        reason: Option<Internal>,
    },
    /// What is needed to decide is away.
    #[error("unavailable: {}", .0.for_operators())]
    Unavailable(Internal),
    /// A failure below, already in its own words.
    #[error(transparent)]
    Below(Box<Problem>),
}

impl Error {
    pub(crate) fn unavailable(why: impl std::fmt::Display) -> Self {
        Self::Unavailable(Internal::new(why))
    }

    pub(crate) fn login(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Login { message: message.into(), reason: None }
    }

    pub(crate) fn forbidden(message: impl Into<Cow<'static, str>>, reason: impl std::fmt::Display) -> Self {
        Self::Forbidden { message: message.into(), reason: Some(Internal::new(reason)) }
    }
}

impl From<access::Error> for Error {
    fn from(error: access::Error) -> Self {
        Self::Below(Box::new(error.into()))
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let with = |mut problem: Self, reason: Option<Internal>| {
            problem.internal = reason;
            problem
        };
        match error {
            Error::Unauthenticated(what) => Self::new(&UNAUTHENTICATED, what),
            Error::Token(why) => Self::new(&TOKEN_INVALID, format!("{why}.")),
            Error::Ambiguous => Self::new(
                &CREDENTIAL_AMBIGUOUS,
                "The credential came more than once, so another server might read another one of them. Send it once.",
            ),
            Error::TooManyAttempts(wait) => Self::new(
                &TOO_MANY_ATTEMPTS,
                "Wrong names or passwords came too often, from your address or for this name. Wait as long as Retry-After says.",
            )
            .retry_after(wait),
            Error::Address => Self::new(&ADDRESS_REFUSED, "Ask whoever runs this server if your network should be let in."),
            Error::Certificate(what) => Self::new(&CERTIFICATE_REFUSED, what),
            Error::Forbidden { message, reason } => with(Self::new(&FORBIDDEN, message), reason),
            Error::Login { message, reason } => with(Self::new(&LOGIN_FAILED, message), reason),
            Error::Unavailable(reason) => with(
                Self::new(&UNAVAILABLE, "What is needed to find out who asks cannot be reached. Try again in a moment.")
                    .retry_after(Duration::from_secs(5)),
                Some(reason),
            ),
            Error::Below(problem) => *problem,
        }
    }
}
