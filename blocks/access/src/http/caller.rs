//! Who asks, as handlers receive it.

use axum::{extract::FromRequestParts, http::request::Parts};
use identity::Principal;
use kernel::ProjectId;
use web::Reject;

use crate::Error;

/// Who asks: an extractor that refuses with 401 when nobody showed a key. The auth layer puts it into the request.
#[derive(Debug, Clone)]
pub struct Caller(Principal);

impl Caller {
    /// For layers and tests.
    pub fn new(principal: Principal) -> Self {
        Self(principal)
    }

    /// Refuses with 403 unless the caller may do `verb` (`read`, `write`, `admin`) on `system`.
    pub fn require(&self, system: &str, verb: &str) -> Result<(), Error> {
        if self.0.allows(system, verb) {
            Ok(())
        } else {
            Err(Error::Forbidden { system: system.to_owned(), verb: verb.to_owned() })
        }
    }

    /// The project that this request works in.
    pub fn project(&self) -> &ProjectId {
        &self.0.project
    }

    /// Who it is, for the audit log.
    pub fn principal(&self) -> &Principal {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Reject;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Reject> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Error::Unauthenticated.into())
    }
}
