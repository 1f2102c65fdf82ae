//! The question and the answer.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Response, header, request::Parts};
use kernel::ProjectId;
use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::ClientCertificate;

/// A request at the door. What passes goes on with `parts` as they are then: credentials that stay here are removed, headers about who
/// asks are set.
#[derive(Debug)]
pub struct Ask<'a> {
    /// Its head. `parts.uri` is as the client sent it, before any rewrite.
    pub parts: &'a mut Parts,
    /// Where it comes from: the client's address, after trusted proxies have been read.
    pub peer: IpAddr,
    /// The certificate that the client showed and the listener has verified.
    pub client_certificate: Option<&'a ClientCertificate>,
    /// `http` or `https`, as the client sees it.
    pub scheme: &'a str,
    /// Host and, where it is not the scheme's, port, as the client sees them.
    pub host: &'a str,
    /// The id of the request, for answers and logs; may be empty.
    pub request_id: &'a str,
}

/// What becomes of the request.
#[derive(Debug)]
#[must_use]
pub enum Verdict {
    /// It goes on.
    Pass(Passed),
    /// It is answered here: a refusal, a sign-in, a preflight. Headers of CORS are already on it. A refusal carries
    /// [`web::ProblemCode`] in its extensions.
    Answer(Response<Bytes>, Steps),
}

/// How a request came through.
#[derive(Debug, Default)]
pub struct Passed {
    /// Who asks; `None` when no policy asked for it, or nobody had to say.
    pub identity: Option<Identity>,
    /// What the response gets; see [`Passed::finish`].
    pub set_on_response: HeaderMap,
    /// Which policies were asked, in order.
    pub steps: Steps,
}

/// Which policies were asked, in order.
pub type Steps = SmallVec<[Step; 4]>;

impl Passed {
    /// Puts [`Passed::set_on_response`] on the response of the back end: cookies and `Vary` are added to what is there, the others replace it.
    pub fn finish(&self, headers: &mut HeaderMap) {
        put_all(&self.set_on_response, headers);
    }
}

/// Cookies and `Vary` are added, the others replace what is there.
pub(crate) fn put_all(from: &HeaderMap, headers: &mut HeaderMap) {
    for name in from.keys() {
        if *name != header::SET_COOKIE && *name != header::VARY {
            headers.remove(name);
        }
        for value in from.get_all(name) {
            headers.append(name, value.clone());
        }
    }
}

/// How somebody proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// A key of this installation.
    ApiKey,
    /// A signed token.
    Jwt,
    /// A session of an OpenID sign-in.
    Oidc,
    /// Name and password.
    Basic,
    /// Another service vouched.
    Forward,
    /// A certificate.
    ClientCertificate,
}

impl Method {
    /// The word in policies, expressions and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::Jwt => "jwt",
            Self::Oidc => "oidc",
            Self::Basic => "basic",
            Self::Forward => "forward",
            Self::ClientCertificate => "client_certificate",
        }
    }
}

/// Who asks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The policy that found it out.
    pub policy: Arc<str>,
    /// How.
    pub method: Method,
    /// Who it is, in the words of whoever vouches: `sub` of a token, the id of a key, a user's name. Unique only together with `policy`.
    pub subject: Arc<str>,
    /// The project, of keys.
    pub project: Option<ProjectId>,
    /// What is known besides.
    pub claims: Arc<Map<String, Value>>,
}

impl Identity {
    /// A claim by its name, or by a JSON pointer where it starts with `/`.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        claim(&self.claims, name)
    }
}

/// A claim by its name, or by a JSON pointer where it starts with `/`.
pub(crate) fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    match name.strip_prefix('/') {
        None => claims.get(name),
        Some(rest) => {
            let (first, deeper) = rest.split_once('/').map_or((rest, None), |(first, deeper)| (first, Some(deeper)));
            let value = claims.get(first.replace("~1", "/").replace("~0", "~").as_str())?;
            deeper.map_or(Some(value), |deeper| value.pointer(&format!("/{deeper}")))
        }
    }
}

/// One policy that was asked.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its name; `cors` for the route's own.
    pub policy: Arc<str>,
    /// Its sort, as it stands in the document.
    pub kind: &'static str,
    /// What it said.
    pub outcome: Outcome,
    /// Why, in words for operators; never a credential.
    pub detail: Cow<'static, str>,
}

/// What a policy said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Go on.
    Passed,
    /// Go on, as nobody.
    Anonymous,
    /// No.
    Refused,
    /// Neither: the answer is a part of the conversation, such as a redirect to the sign-in or a preflight.
    Answered,
    /// It cannot be said: what is needed for it is away. The request is refused.
    Unavailable,
}

impl Outcome {
    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Anonymous => "anonymous",
            Self::Refused => "refused",
            Self::Answered => "answered",
            Self::Unavailable => "unavailable",
        }
    }
}
