//! What a request has collected on its way through the policies, and how a policy says no.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header, request::Parts};

use super::places;
use crate::{
    ClientCertificate, Error, Identity,
    model::ask::{Outcome, Steps},
};

/// The request as policies see it.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) parts: &'a Parts,
    pub(super) peer: IpAddr,
    pub(super) client_certificate: Option<&'a ClientCertificate>,
    pub(super) scheme: &'a str,
    pub(super) host: &'a str,
}

/// A credential that does not go on.
#[derive(Clone)]
pub(super) enum Strip {
    Header(HeaderName),
    Cookie(Box<str>),
    /// Those whose names are of a family.
    Cookies(Arc<dyn Fn(&str) -> bool + Send + Sync>),
    Query(Box<str>),
}

/// What was collected. Nothing of it touches the request before the last policy has passed.
#[derive(Default)]
pub(super) struct Going {
    pub(super) identity: Option<Identity>,
    pub(super) set: Vec<(HeaderName, HeaderValue)>,
    pub(super) strip: Vec<Strip>,
    pub(super) response: HeaderMap,
    pub(super) steps: Steps,
}

impl Going {
    pub(super) fn apply(&self, parts: &mut Parts) {
        for strip in &self.strip {
            match strip {
                Strip::Header(name) => drop(parts.headers.remove(name)),
                Strip::Cookie(name) => places::remove_cookies(&mut parts.headers, |given| given == &**name),
                Strip::Cookies(is_removed) => places::remove_cookies(&mut parts.headers, |given| is_removed(given)),
                Strip::Query(name) => places::remove_query(&mut parts.uri, name),
            }
        }
        for (name, value) in &self.set {
            parts.headers.insert(name.clone(), value.clone());
        }
    }
}

/// How a policy lets a request through.
pub(super) struct Said {
    pub(super) outcome: Outcome,
    pub(super) detail: Cow<'static, str>,
}

impl Said {
    pub(super) fn passed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome: Outcome::Passed, detail: detail.into() }
    }

    pub(super) fn anonymous() -> Self {
        Self { outcome: Outcome::Anonymous, detail: Cow::Borrowed("no credential, and none is needed") }
    }
}

/// How it does not.
pub(super) enum Stop {
    /// A refusal, and what `WWW-Authenticate` asks for.
    Refused(Error, Option<HeaderValue>),
    /// An answer of the policy's own.
    Answer(Box<Response<Bytes>>, Cow<'static, str>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Refused(error, None)
    }
}

impl Stop {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(Error::Unavailable(_), _) => Outcome::Unavailable,
            Self::Refused(..) => Outcome::Refused,
            Self::Answer(..) => Outcome::Answered,
        }
    }

    pub(super) fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::Refused(error, _) => error.to_string().into(),
            Self::Answer(_, detail) => detail.clone(),
        }
    }

    pub(super) fn into_response(self, request_id: &str) -> Response<Bytes> {
        match self {
            Self::Refused(error, challenge) => {
                let mut response = web::Reject::from(error).render(Some(request_id).filter(|id| !id.is_empty()));
                let headers = response.headers_mut();
                if let Some(challenge) = challenge {
                    headers.insert(header::WWW_AUTHENTICATE, challenge);
                }
                response
            }
            Self::Answer(response, _) => *response,
        }
    }
}

pub(super) type Checked = Result<Said, Stop>;
