//! Where credentials stand in a request, and how they are taken out of it.

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, request::Parts, uri::PathAndQuery};
use kernel::FieldError;

use super::going::Strip;
use crate::{Error, PlaceSpec};

/// Where a credential may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Header { name: HeaderName, scheme: Option<Box<str>> },
    Cookie(Box<str>),
    Query(Box<str>),
}

impl Place {
    /// `Authorization: Bearer …`
    pub(super) fn bearer() -> Self {
        Self::Header { name: header::AUTHORIZATION, scheme: Some("Bearer".into()) }
    }

    fn compile(spec: &PlaceSpec, at: &str, errors: &mut Vec<FieldError>) -> Option<Self> {
        let mut wrong = |field: &str, detail: &str| {
            errors.push(FieldError { field: format!("{at}{field}"), detail: detail.to_owned() });
            None
        };
        if spec.scheme.is_some() && spec.header.is_none() {
            return wrong("/scheme", "only with a header");
        }
        match (&spec.header, &spec.cookie, &spec.query) {
            (Some(name), None, None) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) if name == header::COOKIE => wrong("/header", "use cookie = \"…\" for a cookie"),
                Ok(name) => match &spec.scheme {
                    Some(scheme) if !is_token(scheme) => wrong("/scheme", "one word, such as Bearer"),
                    scheme => Some(Self::Header { name, scheme: scheme.as_deref().map(Into::into) }),
                },
                Err(_) => wrong("/header", "not the name of a header"),
            },
            (None, Some(name), None) if is_token(name) => Some(Self::Cookie(name.as_str().into())),
            (None, Some(_), None) => wrong("/cookie", "not the name of a cookie"),
            (None, None, Some(name)) if is_token(name) => Some(Self::Query(name.as_str().into())),
            (None, None, Some(_)) => wrong("/query", "letters, digits, - and _"),
            _ => wrong("", "exactly one of header, cookie and query"),
        }
    }

    /// What removes it from the request.
    pub(super) fn strip(&self) -> Strip {
        match self {
            Self::Header { name, .. } => Strip::Header(name.clone()),
            Self::Cookie(name) => Strip::Cookie(name.clone()),
            Self::Query(name) => Strip::Query(name.clone()),
        }
    }

    fn find(&self, parts: &Parts) -> Result<Option<String>, Error> {
        match self {
            Self::Header { name, scheme } => {
                let Some(value) = the_only(parts.headers.get_all(name).iter())? else { return Ok(None) };
                let Ok(text) = value.to_str() else { return Ok(None) };
                let Some(scheme) = scheme else { return Ok(Some(text.trim().to_owned())) };
                let found = text.trim().split_once(' ').filter(|(given, _)| given.eq_ignore_ascii_case(scheme));
                Ok(found.map(|(_, rest)| rest.trim_start().to_owned()))
            }
            Self::Cookie(name) => the_only(cookies(&parts.headers).filter(|(n, _)| *n == &**name).map(|(_, v)| v))
                .map(|found| found.map(str::to_owned)),
            Self::Query(name) => {
                let pairs = query_pairs(parts.uri.query().unwrap_or_default());
                the_only(pairs.filter(|(n, _)| n == &**name).map(|(_, v)| v))
            }
        }
    }
}

/// The places of a policy, `Authorization: Bearer` where none is named.
pub(super) fn compile(specs: &[PlaceSpec], at: &str, errors: &mut Vec<FieldError>) -> Vec<Place> {
    if specs.is_empty() {
        return vec![Place::bearer()];
    }
    if specs.len() > 4 {
        errors.push(FieldError { field: at.to_owned(), detail: "at most 4 places".to_owned() });
    }
    specs.iter().enumerate().filter_map(|(i, spec)| Place::compile(spec, &format!("{at}/{i}"), errors)).collect()
}

/// The credential, and where it stood. One that comes twice, in one place or in two, is refused: the back end might believe the other.
pub(super) fn find(places: &[Place], parts: &Parts) -> Result<Option<(String, Strip)>, Error> {
    let mut found = None;
    for place in places {
        if let Some(text) = place.find(parts)?.filter(|text| !text.is_empty()) {
            if found.is_some() {
                return Err(Error::Ambiguous);
            }
            found = Some((text, place.strip()));
        }
    }
    Ok(found)
}

fn the_only<T>(mut all: impl Iterator<Item = T>) -> Result<Option<T>, Error> {
    let first = all.next();
    if all.next().is_some() { Err(Error::Ambiguous) } else { Ok(first) }
}

/// The cookies of a request, in order (RFC 6265 §4.2); values that are no text are left out.
pub(super) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let values = headers.get_all(header::COOKIE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b';'));
    values.filter_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        let value = value.trim();
        Some((name.trim(), value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value)))
    })
}

/// Takes cookies out; the others stay as they were written.
pub(super) fn remove_cookies(headers: &mut HeaderMap, is_removed: impl Fn(&str) -> bool) {
    let is_removed = |pair: &[u8]| {
        let name = pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        std::str::from_utf8(name).is_ok_and(&is_removed)
    };
    let values: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    if !values.iter().any(|value| value.as_bytes().split(|b| *b == b';').any(is_removed)) {
        return;
    }
    headers.remove(header::COOKIE);
    for value in values {
        let pairs = value.as_bytes().split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let kept: Vec<&[u8]> = pairs.filter(|pair| !pair.is_empty() && !is_removed(pair)).collect();
        // Parts of a value are a value.
        if let Some(value) = HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok().filter(|_| !kept.is_empty()) {
            headers.append(header::COOKIE, value);
        }
    }
}

/// Takes a parameter out of the query; the others stay as they were written.
pub(super) fn remove_query(uri: &mut Uri, name: &str) {
    let Some(query) = uri.query() else { return };
    let is_named = |pair: &&str| query_pairs(pair).any(|(given, _)| given == name);
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_named(pair)).collect();
    let target = if kept.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), kept.join("&")) };
    let mut parts = uri.clone().into_parts();
    if let Ok(target) = target.parse::<PathAndQuery>() {
        parts.path_and_query = Some(target);
        if let Ok(without) = Uri::from_parts(parts) {
            *uri = without;
        }
    }
}

/// Names and values of a query, decoded (WHATWG URL, "application/x-www-form-urlencoded parsing").
pub(super) fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    url::form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned()))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}
