//! Texts with variables: `https://{host}{path}{query}`.

use std::{borrow::Cow, net::IpAddr};

use http::HeaderName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{matching::Captures, table::RequestHead};

/// RFC 3986 §2.3: what needs no escape anywhere in a URI.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a template can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// `http` or `https`.
    Scheme,
    /// The host that was asked for, without a port.
    Host,
    /// The method.
    Method,
    /// The path, as the client sent it.
    Path,
    /// The query with its `?`; empty without one.
    Query,
    /// The client's address.
    Client,
    /// `{header.NAME}`: its first value.
    Header(HeaderName),
    /// `{query.NAME}`: its first value, without escapes.
    Parameter(Box<str>),
    /// `{identity.NAME}`: what the policies found: `subject`, or a claim.
    Identity(Box<str>),
    /// `{NAME}`: a segment of a pattern, or a group of a regular expression.
    Capture(Box<str>),
}

/// A text with variables in braces; `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Box<[Piece]>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Variable(Variable),
}

/// Where values come from.
pub struct Values<'a> {
    /// The request.
    pub head: &'a RequestHead<'a>,
    /// What the path of the route found in the request's.
    pub captures: &'a Captures<'a>,
    /// The client.
    pub client: Option<IpAddr>,
    /// What the policies found, by name.
    pub identity: &'a dyn Fn(&str) -> Option<String>,
}

impl Template {
    /// Reads a template; what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = after.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = after.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else if let Some((name, after)) = after.strip_prefix('{').and_then(|a| a.split_once('}')) {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
                }
                pieces.push(Piece::Variable(variable(name)?));
                rest = after;
            } else {
                return Err("a brace without its other; a brace itself is written twice".to_owned());
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Self(pieces.into()))
    }

    /// The names of captures in it.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.variables().filter_map(|v| match v {
            Variable::Capture(name) => Some(&**name),
            _ => None,
        })
    }

    /// What it names.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Variable(v) => Some(v),
            Piece::Text(_) => None,
        })
    }

    /// The text, when it has no variable.
    pub fn as_text(&self) -> Option<&str> {
        match &*self.0 {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text with its values as they are, for headers; `None` when one has none.
    pub fn render(&self, values: &Values<'_>) -> Option<Cow<'_, str>> {
        self.fill(values, |_, value| value)
    }

    /// The same for a URI: values that did not stand in a URI before are escaped, so that none can become more than one segment.
    pub fn render_uri(&self, values: &Values<'_>) -> Option<Cow<'_, str>> {
        self.fill(values, |variable, value| match variable {
            Variable::Header(_) | Variable::Parameter(_) | Variable::Identity(_) | Variable::Client => {
                utf8_percent_encode(&value, UNRESERVED).to_string().into()
            }
            _ => value,
        })
    }

    fn fill(
        &self,
        values: &Values<'_>,
        escape: impl for<'v> Fn(&Variable, Cow<'v, str>) -> Cow<'v, str>,
    ) -> Option<Cow<'_, str>> {
        if let Some(text) = self.as_text() {
            return Some(text.into());
        }
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Variable(variable) => out.push_str(&escape(variable, values.get(variable)?)),
            }
        }
        Some(out.into())
    }
}

impl Values<'_> {
    fn get(&self, variable: &Variable) -> Option<Cow<'_, str>> {
        let head = self.head;
        Some(match variable {
            Variable::Scheme => head.scheme.into(),
            Variable::Host => head.host.into(),
            Variable::Method => head.method.as_str().into(),
            Variable::Path => head.path.into(),
            Variable::Query => head.query.map_or(Cow::Borrowed(""), |q| format!("?{q}").into()),
            Variable::Client => self.client?.to_string().into(),
            Variable::Header(name) => head.headers.get(name)?.to_str().ok()?.into(),
            Variable::Parameter(name) => head.parameters().find(|(n, _)| *n == **name)?.1,
            Variable::Identity(name) => (self.identity)(name)?.into(),
            Variable::Capture(name) => self.captures.get(name)?.into(),
        })
    }
}

fn variable(name: &str) -> Result<Variable, String> {
    let is_name = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    Ok(match name {
        "scheme" => Variable::Scheme,
        "host" => Variable::Host,
        "method" => Variable::Method,
        "path" => Variable::Path,
        "query" => Variable::Query,
        "client" => Variable::Client,
        _ => match name.split_once('.') {
            Some(("header", name)) => {
                Variable::Header(HeaderName::try_from(name).map_err(|_| format!("`{name}` is no name of a header"))?)
            }
            Some(("query", name)) if !name.is_empty() => Variable::Parameter(name.into()),
            Some(("identity", name)) if !name.is_empty() => Variable::Identity(name.into()),
            None if is_name(name) => Variable::Capture(name.into()),
            _ => {
                return Err(format!(
                    "`{{{name}}}` is no variable: scheme, host, method, path, query, client, header.NAME, query.NAME, \
                     identity.NAME, or a name in the route's path"
                ));
            }
        },
    })
}
