//! Another service decides.
//!
//! - FORWARD-1: a request passes only because the service said 2xx to its own method, host, path, query, address and headers; a service that
//!   fails, is late, or says 5xx lets nobody in.
//! - FORWARD-2: a 2xx is believed again for at most `cache`, and only for the same question.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use kernel::{Clock, FieldError};
use quick_cache::sync::Cache;
use ring::digest;
use serde_json::{Map, Value};

use super::{
    claims,
    going::{Checked, Going, Said, Seen, Stop},
};
use crate::{Error, Fetch, ForwardSpec, Identity, Limits, Method, telemetry};

const MAX_HEADERS: usize = 32;
const MAX_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_CACHE: Duration = Duration::from_mins(1);
/// The most answers of a policy that are remembered.
const CACHE_ENTRIES: usize = 10_000;
/// The longest answer that the client may get.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Headers of a refusal that are between the service and the gateway.
const NOT_FOR_CLIENTS: [HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::TRAILER,
    header::UPGRADE,
    header::TE,
];

pub(super) struct Forward {
    policy: Arc<str>,
    url: Uri,
    fetch: Arc<dyn Fetch>,
    clock: Clock,
    sent: Vec<HeaderName>,
    to_backend: Vec<HeaderName>,
    to_client: Vec<HeaderName>,
    subject: Option<HeaderName>,
    timeout: Duration,
    cache_for: Duration,
    known: Cache<[u8; 32], (Arc<HeaderMap>, Duration)>,
    counters: telemetry::Forward,
}

impl Forward {
    pub(super) fn compile(
        spec: &ForwardSpec,
        policy: &Arc<str>,
        inner: &super::Inner,
        at: &str,
        errors: &mut Vec<FieldError>,
    ) -> Option<Self> {
        let mut wrong = |field: &str, detail: &str| {
            errors.push(FieldError { field: format!("{at}/{field}"), detail: detail.to_owned() });
        };
        let url = url::Url::parse(&spec.url).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.fragment().is_none()
        });
        let url = url.and_then(|url| url.as_str().parse::<Uri>().ok());
        if url.is_none() {
            wrong("url", "an http or https URL");
        }
        if spec.timeout.0.is_zero() || spec.timeout.0 > MAX_TIMEOUT {
            wrong("timeout", "more than 0s, at most 30s");
        }
        if spec.cache.0 > MAX_CACHE {
            wrong("cache", "at most 1m");
        }
        let mut names = |field: &str, list: &[String]| -> Vec<HeaderName> {
            if list.len() > MAX_HEADERS {
                wrong(field, "at most 32 headers");
            }
            let mut names = Vec::new();
            for (index, text) in list.iter().enumerate() {
                let parsed = match field {
                    "to_backend" => claims::header_name(text),
                    _ => HeaderName::from_bytes(text.as_bytes()).map_err(|_| "not the name of a header".to_owned()),
                };
                match parsed {
                    Ok(name) => names.push(name),
                    Err(detail) => wrong(&format!("{field}/{index}"), &detail),
                }
            }
            names
        };
        let default = ["authorization", "cookie"].map(str::to_owned);
        let sent = names("request_headers", spec.request_headers.as_deref().unwrap_or(&default));
        let to_backend = names("to_backend", &spec.to_backend);
        let to_client = names("to_client", &spec.to_client);
        let subject = spec.subject.as_ref().and_then(|name| {
            let found = to_backend.iter().find(|known| known.as_str().eq_ignore_ascii_case(name)).cloned();
            if found.is_none() {
                wrong("subject", "one of to_backend");
            }
            found
        });
        Some(Self {
            policy: policy.clone(),
            url: url?,
            fetch: inner.deps.fetch.clone(),
            clock: inner.deps.clock.clone(),
            sent,
            to_backend,
            to_client,
            subject,
            timeout: spec.timeout.0,
            cache_for: spec.cache.0,
            known: Cache::new(CACHE_ENTRIES),
            counters: inner.telemetry.forward.clone(),
        })
    }

    pub(super) fn protected(&self) -> impl Iterator<Item = &HeaderName> {
        self.to_backend.iter()
    }

    pub(super) async fn check(&self, seen: &Seen<'_>, going: &mut Going) -> Checked {
        let question = self.question(seen)?;
        let name = fingerprint(question.headers());
        if !self.cache_for.is_zero()
            && let Some((answer, at)) = self.known.get(&name)
            && self.clock.monotonic().saturating_sub(at) < self.cache_for
        {
            self.counters.cached.inc();
            self.take(&answer, going);
            return Ok(Said::passed("the service let the same request in a moment ago"));
        }
        let limits = Limits { timeout: self.timeout, max_body_bytes: MAX_BODY_BYTES };
        let answer = match self.fetch.fetch(question, limits).await {
            Ok(answer) if !answer.status().is_server_error() => answer,
            Ok(answer) => {
                self.counters.failed.inc();
                return Err(Error::unavailable(format!("forward auth answered {}", answer.status())).into());
            }
            Err(e) => {
                self.counters.failed.inc();
                return Err(Error::unavailable(format!("forward auth: {e}")).into());
            }
        };
        self.counters.answered.inc();
        if !answer.status().is_success() {
            return Err(refusal(answer));
        }
        let mut headers = answer.into_parts().0.headers;
        if !self.cache_for.is_zero() {
            let mut kept = headers.clone();
            // A cookie is made for one answer.
            kept.remove(header::SET_COOKIE);
            self.known.insert(name, (Arc::new(kept), self.clock.monotonic()));
        }
        self.take(&headers, going);
        headers.clear();
        Ok(Said::passed("the service lets it in"))
    }

    fn take(&self, answer: &HeaderMap, going: &mut Going) {
        for name in &self.to_backend {
            // Of several values the last, so that back ends see one.
            let value = answer.get_all(name).iter().next_back().cloned();
            going.set.extend(value.map(|value| (name.clone(), value)));
        }
        for name in &self.to_client {
            for value in answer.get_all(name) {
                going.response.append(name.clone(), value.clone());
            }
        }
        if let Some(name) = &self.subject
            && let Some(subject) = answer.get(name).and_then(|value| value.to_str().ok())
        {
            let mut claims = Map::new();
            claims.insert("sub".to_owned(), Value::from(subject));
            going.identity = Some(Identity {
                policy: self.policy.clone(),
                method: Method::Forward,
                subject: subject.into(),
                project: None,
                claims: claims.into(),
            });
        }
    }

    fn question(&self, seen: &Seen<'_>) -> Result<Request<Bytes>, Error> {
        let parts = seen.parts;
        let mut request = Request::get(self.url.clone()).body(Bytes::new()).map_err(Error::unavailable)?;
        let headers = request.headers_mut();
        for name in &self.sent {
            for value in parts.headers.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        // After the client's own, which say whatever it likes.
        let uri = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let told = [
            ("x-forwarded-method", parts.method.as_str()),
            ("x-forwarded-proto", seen.scheme),
            ("x-forwarded-host", seen.host),
            ("x-forwarded-uri", uri),
            ("x-forwarded-for", &seen.peer.to_canonical().to_string()),
        ];
        for (name, value) in told {
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(Error::unavailable)?;
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(request)
    }
}

/// What the service told the client. What it says of the connection to the gateway stays here.
fn refusal(answer: Response<Bytes>) -> Stop {
    let (mut parts, body) = answer.into_parts();
    let named: Vec<HeaderName> = parts
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in NOT_FOR_CLIENTS.into_iter().chain(named) {
        parts.headers.remove(name);
    }
    // 1xx is no answer, and what has no body would be read as another message's.
    if parts.status.is_informational() {
        parts.status = StatusCode::FORBIDDEN;
    }
    let mut response = Response::new(body);
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    Stop::Answer(Box::new(response), "the service does not let it in".into())
}

/// Of everything that the service is told, lengths included, so that no two questions have the same.
fn fingerprint(headers: &HeaderMap) -> [u8; 32] {
    let mut lines: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    // Stable: values of one name stay in their order.
    lines.sort_by_key(|(name, _)| *name);
    let mut context = digest::Context::new(&digest::SHA256);
    for part in lines.iter().flat_map(|(name, value)| [name.as_bytes(), value]) {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
