//! A request as it came, and as it goes on.

use std::{borrow::Cow, net::IpAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FORWARDED, HOST, VIA},
    request::Parts,
    uri::PathAndQuery,
};

use super::{Peer, refuse::Refusal};
use crate::model::{
    Captures, RequestHead, Route, Values,
    compiled::{MessageRules, RewritePath},
    path,
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How often a request may come through the same installation: more is a loop.
const MAX_PASSES: usize = 3;

/// A request as it came.
pub(super) struct Asked {
    pub(super) parts: Parts,
    pub(super) scheme: &'static str,
    pub(super) client: IpAddr,
    /// The path in its normal form, where it came in another.
    path: Option<Box<str>>,
    /// The host in its normal form, where it came in another.
    host: Option<Box<str>>,
}

impl Asked {
    /// Reads host and path.
    pub(super) fn new(parts: Parts, scheme: &'static str, client: IpAddr) -> Result<Self, Refusal> {
        let authority = authority(&parts);
        let host = match authority.map(path::host) {
            // Without one there is nothing to compare with: only routes for every host fit.
            None => Ok(None),
            Some(Ok(Cow::Borrowed(text))) if Some(text) == authority => Ok(None),
            Some(Ok(other)) => Ok(Some(other.into())),
            Some(Err(_)) => Err(()),
        };
        let normal = match path::normal(parts.uri.path()) {
            Ok(Cow::Borrowed(_)) => Ok(None),
            Ok(Cow::Owned(other)) => Ok(Some(other.into())),
            // CONNECT has no path.
            Err(_) if parts.uri.path().is_empty() => Ok(None),
            Err(_) => Err(()),
        };
        match (host, normal) {
            (Ok(host), Ok(path)) => Ok(Self { parts, scheme, client, path, host }),
            _ => Err(Refusal::bad_target()),
        }
    }

    /// The host as routes see it: in lower case, without port.
    pub(super) fn host(&self) -> &str {
        self.host.as_deref().or_else(|| authority(&self.parts)).unwrap_or_default()
    }

    /// Host and port as the client sent them.
    pub(super) fn authority(&self) -> &str {
        authority(&self.parts).unwrap_or_default()
    }

    /// The path as routes see it.
    pub(super) fn path(&self) -> &str {
        self.path.as_deref().unwrap_or_else(|| self.parts.uri.path())
    }

    /// What routes are chosen by.
    pub(super) fn head(&self) -> RequestHead<'_> {
        RequestHead {
            scheme: self.scheme,
            host: self.host(),
            method: &self.parts.method,
            path: self.path(),
            query: self.parts.uri.query(),
            headers: &self.parts.headers,
        }
    }

    /// Whether it is a call of gRPC.
    pub(super) fn is_grpc(&self) -> bool {
        self.parts.version == Version::HTTP_2
            && self.parts.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
    }

    /// What its head says about the length of its body.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// Bytes of names and values of all headers.
    pub(super) fn header_bytes(&self) -> u64 {
        self.parts.headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
    }

    /// Whether it came through this installation too often.
    pub(super) fn is_looping(&self, via: &Via) -> bool {
        if !self.parts.headers.contains_key(VIA) {
            return false;
        }
        let values = self.parts.headers.get_all(VIA).iter();
        let passes = values.flat_map(|v| v.as_bytes().split(|b| *b == b',')).filter(|hop| via.is_ours(hop)).count();
        passes >= MAX_PASSES
    }

    /// Fills templates.
    pub(super) fn with_values<T>(
        &self,
        route: &Route,
        identity: &dyn Fn(&str) -> Option<String>,
        fill: impl FnOnce(&Values<'_>) -> T,
    ) -> T {
        let head = self.head();
        let captures: Captures<'_> = route.captures(self.path());
        let values = Values { head: &head, captures: &captures, client: Some(self.client), identity };
        fill(&values)
    }
}

fn authority(parts: &Parts) -> Option<&str> {
    // An absolute URI wins over the header (RFC 9112, 3.2.2); HTTP/2 has its authority there.
    parts.uri.authority().map(http::uri::Authority::as_str).or_else(|| parts.headers.get(HOST)?.to_str().ok())
}

/// What this installation calls itself in `Via` (RFC 9110, 7.6.3).
#[derive(Debug, Clone)]
pub(super) struct Via {
    name: String,
    /// For requests of HTTP/1.0, 1.1 and 2.
    values: [HeaderValue; 3],
}

impl Via {
    /// `name` is the same on every node, and different in every installation.
    pub(super) fn new(name: &str) -> Self {
        let value = |version: &str| {
            HeaderValue::try_from(format!("{version} {name}")).unwrap_or(HeaderValue::from_static("1.1 mainstay"))
        };
        Self { values: [value("1.0"), value("1.1"), value("2.0")], name: name.to_owned() }
    }

    fn is_ours(&self, hop: &[u8]) -> bool {
        let mut words = hop.split(|b| *b == b' ' || *b == b'\t').filter(|word| !word.is_empty());
        words.nth(1) == Some(self.name.as_bytes())
    }

    fn value(&self, version: Version) -> &HeaderValue {
        match version {
            Version::HTTP_10 => &self.values[0],
            Version::HTTP_2 => &self.values[2],
            _ => &self.values[1],
        }
    }
}

/// Header values that were made from a request before it was changed.
pub(super) struct Rendered(Vec<(HeaderName, HeaderValue, bool)>);

impl Rendered {
    /// Fills the templates of rules; a value that is missing or that no header can have leaves its rule out.
    pub(super) fn new(
        rules: &MessageRules,
        asked: &Asked,
        route: &Route,
        identity: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        if rules.set.is_empty() && rules.add.is_empty() {
            return Self(Vec::new());
        }
        asked.with_values(route, identity, |values| {
            let all = rules.set.iter().map(|rule| (rule, true)).chain(rules.add.iter().map(|rule| (rule, false)));
            let filled = all.filter_map(|((name, template), replaces)| {
                let value = HeaderValue::from_str(&template.render(values)?).ok()?;
                Some((name.clone(), value, replaces))
            });
            Self(filled.collect())
        })
    }

    /// Removes, sets, adds.
    pub(super) fn apply(self, rules: &MessageRules, headers: &mut HeaderMap) {
        for name in &rules.remove {
            headers.remove(name);
        }
        for (name, value, replaces) in self.0 {
            if replaces {
                headers.insert(name, value);
            } else {
                headers.append(name, value);
            }
        }
    }
}

/// Changes a request into the one that a back end gets; gives the protocol that it asks to switch to.
pub(super) fn send_on(
    asked: &mut Asked,
    peer: &Peer,
    route: &Route,
    identity: &dyn Fn(&str) -> Option<String>,
    via: &Via,
    request_id: &HeaderValue,
) -> Option<HeaderValue> {
    let rendered = Rendered::new(&route.request, asked, route, identity);
    let target = target(asked, route, identity);
    let host = route.rewrite.as_ref().and_then(|rewrite| rewrite.host.clone());
    let version = asked.parts.version;
    // As the client sent it: HTTP/2 has it in the URI alone.
    let client_host = match asked.parts.uri.authority() {
        Some(authority) => HeaderValue::try_from(authority.as_str()).ok(),
        None => asked.parts.headers.get(HOST).cloned(),
    };
    if let Some(target) = target {
        asked.parts.uri = Uri::from(target);
    } else if asked.parts.uri.authority().is_some() {
        // To origin form.
        let target = asked.parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        asked.parts.uri = Uri::from(target);
    }
    let headers = &mut asked.parts.headers;
    let hop = wire::strip_hop_by_hop(headers);
    // The listener has answered it when it reads the body.
    headers.remove(EXPECT);
    forwarded(headers, peer, asked.scheme, client_host.as_ref());
    if let Some(host) = host.or(client_host) {
        headers.insert(HOST, host);
    }
    headers.append(VIA, via.value(version).clone());
    headers.insert(X_REQUEST_ID, request_id.clone());
    rendered.apply(&route.request, headers);
    hop.upgrade
}

/// Who asks, as far as it is known for certain: of an untrusted peer nothing that it says about itself goes on.
fn forwarded(headers: &mut HeaderMap, peer: &Peer, scheme: &'static str, host: Option<&HeaderValue>) {
    if peer.is_trusted {
        let so_far: Vec<&[u8]> = headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
        let all = if so_far.is_empty() {
            peer.forwarded_for.clone()
        } else {
            let joined = [&so_far.join(&b", "[..]), &b", "[..], peer.forwarded_for.as_bytes()].concat();
            HeaderValue::from_bytes(&joined).unwrap_or_else(|_| peer.forwarded_for.clone())
        };
        headers.insert(X_FORWARDED_FOR, all);
        headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(scheme));
        if let Some(host) = host {
            headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
        }
        if headers.contains_key(FORWARDED)
            && let Ok(element) = HeaderValue::try_from(peer.forwarded_element(scheme))
        {
            headers.append(FORWARDED, element);
        }
        return;
    }
    // One look at all names instead of one for each that is hardly ever there.
    let mut is_claimed = false;
    for name in headers.keys() {
        let name = name.as_str().as_bytes();
        is_claimed |= matches!(name.first(), Some(b'x' | b'f'))
            && (name.starts_with(b"x-forwarded-") || name == b"x-real-ip" || name == b"forwarded");
    }
    if is_claimed {
        for name in [X_FORWARDED_PORT, X_FORWARDED_PREFIX, X_REAL_IP, X_FORWARDED_HOST, FORWARDED] {
            headers.remove(name);
        }
    }
    headers.insert(X_FORWARDED_FOR, peer.forwarded_for.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
}

/// Changes a request into the one that one of Mainstay's own systems gets: who it is from they are told apart.
pub(super) fn send_on_to_service(asked: &mut Asked, route: &Route, identity: &dyn Fn(&str) -> Option<String>) {
    let rendered = Rendered::new(&route.request, asked, route, identity);
    if let Some(target) = target(asked, route, identity) {
        let mut uri = std::mem::take(&mut asked.parts.uri).into_parts();
        uri.path_and_query = Some(target);
        asked.parts.uri = Uri::from_parts(uri).unwrap_or_default();
    }
    rendered.apply(&route.request, &mut asked.parts.headers);
}

/// What a trusted proxy says its client spoke.
pub(super) fn scheme_of(headers: &HeaderMap, peer: &Peer) -> &'static str {
    match headers.get(X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
        Some(b"https") => "https",
        Some(b"http") => "http",
        _ => peer.scheme(),
    }
}

/// The path and query that the back end is asked for; `None` when they are those that came.
pub(super) fn target(asked: &Asked, route: &Route, identity: &dyn Fn(&str) -> Option<String>) -> Option<PathAndQuery> {
    let Some(rewrite) = &route.rewrite else {
        let normal = asked.path.as_deref()?;
        return path_and_query(normal, asked.parts.uri.query());
    };
    let path = match &rewrite.path {
        None => Cow::Borrowed(asked.path()),
        Some(RewritePath::Prefix(prefix)) => {
            let rest = asked.path().strip_prefix(route.matched_prefix()).unwrap_or(asked.path());
            let joined = format!("{prefix}{rest}");
            if joined.starts_with('/') { joined.into() } else { format!("/{joined}").into() }
        }
        Some(RewritePath::Regex(regex, to)) => regex.replace_all(asked.path(), &**to),
        Some(RewritePath::Template(template)) => {
            let filled = asked.with_values(route, identity, |values| template.render_uri(values).map(Cow::into_owned));
            filled.map_or(Cow::Borrowed(asked.path()), Cow::Owned)
        }
    };
    let query = asked.parts.uri.query();
    if rewrite.set_query.is_empty() && rewrite.remove_query.is_empty() {
        // A template may bring a query of its own.
        return if path.contains('?') { path.parse().ok() } else { path_and_query(&path, query) };
    }
    let goes = |name: &str| {
        rewrite.remove_query.iter().any(|n| **n == *name) || rewrite.set_query.iter().any(|(n, _)| **n == *name)
    };
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in asked.head().parameters().filter(|(name, _)| !goes(name)) {
        text.append_pair(&name, &value);
    }
    asked.with_values(route, identity, |values| {
        for (name, template) in &rewrite.set_query {
            if let Some(value) = template.render(values) {
                text.append_pair(name, &value);
            }
        }
    });
    let text = text.finish();
    path_and_query(&path, Some(&*text).filter(|text| !text.is_empty()))
}

fn path_and_query(path: &str, query: Option<&str>) -> Option<PathAndQuery> {
    match query {
        None => path.parse().ok(),
        Some(query) => format!("{path}?{query}").parse().ok(),
    }
}

/// A cookie of a request by its name; the first one.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get_all(http::header::COOKIE).iter().filter_map(|value| value.to_str().ok()).find_map(|line| {
        line.split(';').find_map(|pair| {
            let (n, value) = pair.trim().split_once('=')?;
            (n == name).then_some(value)
        })
    })
}
