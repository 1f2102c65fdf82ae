//! What can go wrong here; knows no HTTP.

use std::time::Duration;

use kernel::{Problem, Timestamp};

kernel::codes! {
    UNAUTHENTICATED = "ACCESS_UNAUTHENTICATED", Unauthenticated, "A valid API key is needed";
    KEY_MALFORMED = "ACCESS_KEY_MALFORMED", Unauthenticated, "The API key was mistyped";
    KEY_EXPIRED = "ACCESS_KEY_EXPIRED", Unauthenticated, "The API key has expired";
    KEY_REVOKED = "ACCESS_KEY_REVOKED", Unauthenticated, "The API key was revoked";
    FORBIDDEN = "ACCESS_FORBIDDEN", Forbidden, "The API key does not allow this";
    SCOPE_TOO_WIDE = "ACCESS_SCOPE_TOO_WIDE", Forbidden, "A key cannot give what it does not have";
    CROSS_SITE = "ACCESS_CROSS_SITE", Forbidden, "The request came from another site";
    FORM_EXPIRED = "ACCESS_FORM_EXPIRED", Forbidden, "The form is not one of this session";
    TOO_MANY_ATTEMPTS = "ACCESS_TOO_MANY_ATTEMPTS", Limited, "Too many failed attempts";
    PROJECT_UNKNOWN = "ACCESS_PROJECT_UNKNOWN", NotFound, "There is no such project";
    PROJECT_EXISTS = "ACCESS_PROJECT_EXISTS", Conflict, "A project of that name exists";
    PROJECT_INVALID = "ACCESS_PROJECT_INVALID", Unprocessable, "The project breaks a rule for projects";
    KEY_UNKNOWN = "ACCESS_KEY_UNKNOWN", NotFound, "There is no such key";
    KEY_INVALID = "ACCESS_KEY_INVALID", Unprocessable, "The key breaks a rule for keys";
    KEY_ENDED = "ACCESS_KEY_ENDED", Conflict, "The key was revoked or has expired";
    LAST_ADMIN_KEY = "ACCESS_LAST_ADMIN_KEY", Conflict, "It is the last key of an administrator";
    ROOT_SECRET_CHANGED = "ACCESS_ROOT_SECRET_CHANGED", Internal, "The root secret is not the one of this installation";
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The closed set of failures of access.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No key, an unknown one, or a wrong secret: which of them is not told.
    #[error("no valid key")]
    Unauthenticated,
    /// What was sent is a key with a typo, or no key at all.
    #[error("malformed key: {0}")]
    KeyMalformed(identity::KeyError),
    /// The secret was right, but its time is over.
    #[error("key expired at {at}")]
    KeyExpired {
        /// When it ended.
        at: Timestamp,
        /// It ended because a rotation replaced it.
        rotated: bool,
    },
    /// The secret was right, but the key was revoked.
    #[error("key revoked at {0}")]
    KeyRevoked(Timestamp),
    /// The scopes do not allow it.
    #[error("forbidden: {system}:{verb} is needed")]
    Forbidden {
        /// The system.
        system: String,
        /// The verb.
        verb: String,
    },
    /// Only a key with `*` may do this.
    #[error("only an administrator may {0}")]
    AdminOnly(&'static str),
    /// A key of one project asked for another.
    #[error("bound to another project")]
    OtherProject,
    /// A scope that is wider than those of who asks.
    #[error("scope too wide: {0}")]
    ScopeTooWide(String),
    /// A browser sent it for another site.
    #[error("cross-site request")]
    CrossSite,
    /// The CSRF token is missing or belongs to another session.
    #[error("form expired")]
    FormExpired,
    /// Too many failures; try again after this time.
    #[error("too many attempts")]
    TooManyAttempts(Duration),
    /// No such project.
    #[error("unknown project")]
    ProjectUnknown,
    /// The name is taken.
    #[error("project exists")]
    ProjectExists,
    /// A field of a project is wrong.
    #[error("invalid project: {field}: {detail}")]
    ProjectInvalid {
        /// Which.
        field: &'static str,
        /// What would be right.
        detail: String,
    },
    /// No such key in this project.
    #[error("unknown key")]
    KeyUnknown,
    /// A field of a key is wrong.
    #[error("invalid key: {field}: {detail}")]
    KeyInvalid {
        /// Which.
        field: &'static str,
        /// What would be right.
        detail: String,
    },
    /// A key that has ended cannot be rotated.
    #[error("key has ended")]
    KeyEnded,
    /// Revoking it would lock everybody out.
    #[error("last admin key")]
    LastAdminKey,
    /// The configured root secret does not fit what the database was made with.
    #[error("the root secret is not the one that this installation was made with")]
    RootSecretChanged,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// A failure below, already in its own words.
    #[error(transparent)]
    Below(#[from] Problem),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Unauthenticated => Self::new(
                &UNAUTHENTICATED,
                "Send a key that exists as `Authorization: Bearer msk_…`. An administrator makes keys with `mainstay keys create`.",
            ),
            Error::KeyMalformed(identity::KeyError::Checksum) => Self::new(
                &KEY_MALFORMED,
                "This has the form of a key, but its checksum does not fit: a character was lost or changed. Copy the key again, whole.",
            ),
            Error::KeyMalformed(identity::KeyError::Form) => Self::new(
                &KEY_MALFORMED,
                "This is not a key. Keys start with msk_ and are sent as `Authorization: Bearer msk_…`.",
            ),
            Error::KeyExpired { at, rotated: false } => {
                Self::new(&KEY_EXPIRED, format!("The key expired at {at}. Ask an administrator for a new one."))
            }
            Error::KeyExpired { at, rotated: true } => Self::new(
                &KEY_EXPIRED,
                format!("The key was rotated, and this secret of it stopped working at {at}. Use the new one."),
            ),
            Error::KeyRevoked(at) => {
                Self::new(&KEY_REVOKED, format!("The key was revoked at {at}. Ask an administrator for a new one."))
            }
            Error::Forbidden { system, verb } => Self::new(
                &FORBIDDEN,
                format!("This needs the scope {system}:{verb}, which the key does not have. `GET /v1/whoami` shows what it has."),
            ),
            Error::AdminOnly(what) => {
                Self::new(&FORBIDDEN, format!("Only a key with the scope * (an administrator) may {what}."))
            }
            Error::OtherProject => Self::new(
                &FORBIDDEN,
                "The key belongs to another project than the one asked for. Leave the header Mainstay-Project out, or use a key of that project.",
            ),
            Error::ScopeTooWide(scope) => Self::new(
                &SCOPE_TOO_WIDE,
                format!("The key that asks does not have {scope} itself, so it can neither give it to another key nor change a key that has it."),
            ),
            Error::CrossSite => Self::new(
                &CROSS_SITE,
                "A browser sent this on behalf of another site, which could be an attack. Open the console itself, or call the API with a key.",
            ),
            Error::FormExpired => Self::new(
                &FORM_EXPIRED,
                "The form was opened before you signed in last. Nothing was done: go back, load the page again and send it once more.",
            ),
            Error::TooManyAttempts(wait) => Self::new(
                &TOO_MANY_ATTEMPTS,
                "Keys that do not exist were tried too often, from your address or on this key. Wait as long as Retry-After says.",
            )
            .retry_after(wait),
            Error::ProjectUnknown => {
                Self::new(&PROJECT_UNKNOWN, "No project has that name, or this key may not see it. `GET /v1/projects` lists them.")
            }
            Error::ProjectExists => Self::new(&PROJECT_EXISTS, "Choose another name, or use the project that has it.")
                .field("/id", "a project has that name"),
            Error::ProjectInvalid { field, detail } => {
                Self::new(&PROJECT_INVALID, detail.clone()).field(format!("/{field}"), detail)
            }
            Error::KeyUnknown => Self::new(&KEY_UNKNOWN, "This project has no key with that id. `GET /v1/keys` lists them."),
            Error::KeyInvalid { field, detail } => {
                Self::new(&KEY_INVALID, detail.clone()).field(format!("/{field}"), detail)
            }
            Error::KeyEnded => {
                Self::new(&KEY_ENDED, "A key that was revoked or has expired stays as it is. Create a new one.")
            }
            Error::LastAdminKey => Self::new(
                &LAST_ADMIN_KEY,
                "Nobody could create keys or projects any more. Create another key with the scope * first, then revoke this one.",
            ),
            Error::RootSecretChanged => Self::new(
                &ROOT_SECRET_CHANGED,
                "access.root_secret differs from the one this database was made with. Give the old one, or remove it if there was none.",
            ),
            Error::Database(e) => e.into(),
            Error::Below(problem) => problem,
        }
    }
}
