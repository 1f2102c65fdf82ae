//! Whether a request is one that a route is for.

use std::borrow::Cow;

use http::{HeaderName, Method};
use regex::{Regex, RegexBuilder};

use super::{
    route::{MatchSpec, PathSpec, ValueSpec},
    table::RequestHead,
};

/// The largest compiled regular expression. Matching takes time linear in the text whatever the expression is.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Which hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostRule {
    /// This one.
    Exact(Box<str>),
    /// Every name that ends so; starts with a dot.
    Below(Box<str>),
}

/// Which paths.
#[derive(Debug, Clone)]
pub(crate) enum PathRule {
    /// Every one.
    Any,
    /// This one.
    Exact(Box<str>),
    /// This one and those below; without the slash at its end.
    Prefix(Box<str>),
    /// By segments.
    Pattern(Pattern),
    /// As a whole.
    Regex(Regex),
}

/// Segments, some with names.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub(crate) segments: Box<[Segment]>,
    /// The name of all that follows.
    pub(crate) rest: Option<Box<str>>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(Box<str>),
    Named(Box<str>),
}

/// What the path of a route found in that of a request. Values are as they stand in the path, escapes included.
#[derive(Debug, Clone, Default)]
pub struct Captures<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Captures<'a> {
    /// By its name.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }

    /// All, in the order of the path.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().copied()
    }
}

/// Which values.
#[derive(Debug, Clone)]
pub(crate) enum ValueRule {
    Is(Box<str>),
    Like(Regex),
    Present(bool),
}

/// Everything that has to hold.
#[derive(Debug, Clone)]
pub(crate) struct Matcher {
    pub(crate) hosts: Vec<HostRule>,
    pub(crate) path: PathRule,
    pub(crate) methods: Vec<Method>,
    pub(crate) headers: Vec<(HeaderName, ValueRule)>,
    pub(crate) query: Vec<(Box<str>, ValueRule)>,
}

/// The first thing that does not hold, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch(pub(crate) String);

impl Matcher {
    /// Compiles what was checked before; the first mistake otherwise.
    pub(crate) fn new(spec: &MatchSpec) -> Result<Self, String> {
        Ok(Self {
            hosts: spec.hosts.iter().map(|h| HostRule::parse(h)).collect::<Result<_, _>>()?,
            path: spec.path.as_ref().map_or(Ok(PathRule::Any), PathRule::new)?,
            methods: spec
                .methods
                .iter()
                .map(|m| Method::from_bytes(m.as_bytes()).map_err(|e| e.to_string()))
                .collect::<Result<_, _>>()?,
            headers: spec
                .headers
                .iter()
                .map(|h| Ok((HeaderName::try_from(&*h.name).map_err(|e| e.to_string())?, ValueRule::new(h)?)))
                .collect::<Result<_, String>>()?,
            query: spec
                .query
                .iter()
                .map(|q| Ok((q.name.as_str().into(), ValueRule::new(q)?)))
                .collect::<Result<_, String>>()?,
        })
    }

    /// How many conditions there are beside host and path.
    pub(crate) fn condition_count(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len() + self.query.len()
    }

    /// Whether everything but host and path holds.
    pub(crate) fn conditions_hold(&self, head: &RequestHead<'_>) -> bool {
        self.method_holds(head.method)
            && self.headers.iter().all(|(name, rule)| header_holds(name, rule, head))
            && self.query.iter().all(|(name, rule)| parameter_holds(name, rule, head))
    }

    /// Whether everything holds, in the order host, path, method, headers, query; else what does not.
    pub(crate) fn explain(&self, head: &RequestHead<'_>) -> Result<(), Mismatch> {
        let no = |what: String| Err(Mismatch(what));
        if !self.hosts.is_empty() && !self.hosts.iter().any(|h| h.holds(head.host)) {
            return no(format!("the host is not {}", one_of(self.hosts.iter().map(HostRule::text))));
        }
        if !self.path.holds(head.path) {
            return no(self.path.told_not());
        }
        if !self.method_holds(head.method) {
            return no(format!("the method is not {}", one_of(self.methods.iter().map(|m| m.as_str().into()))));
        }
        if let Some((name, rule)) = self.headers.iter().find(|(name, rule)| !header_holds(name, rule, head)) {
            return no(format!("the header {name} {}", rule.told_not()));
        }
        if let Some((name, rule)) = self.query.iter().find(|(name, rule)| !parameter_holds(name, rule, head)) {
            return no(format!("the parameter {name} {}", rule.told_not()));
        }
        Ok(())
    }

    /// A route for GET is one for HEAD (RFC 9110 §9.3.2).
    fn method_holds(&self, method: &Method) -> bool {
        self.methods.is_empty()
            || self.methods.contains(method)
            || (method == Method::HEAD && self.methods.contains(&Method::GET))
    }
}

fn one_of<'a>(names: impl Iterator<Item = Cow<'a, str>>) -> String {
    names.collect::<Vec<_>>().join(" or ")
}

fn header_holds(name: &HeaderName, rule: &ValueRule, head: &RequestHead<'_>) -> bool {
    rule.holds(head.headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())))
}

fn parameter_holds(name: &str, rule: &ValueRule, head: &RequestHead<'_>) -> bool {
    rule.holds(head.parameters().filter(|(n, _)| n == name).map(|(_, value)| value))
}

impl HostRule {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || "expected a host such as api.example.com or *.example.com, in lower case and without a port".to_owned();
        let (is_wildcard, name) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        let is_label = |l: &str| {
            (1..=63).contains(&l.len())
                && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
        };
        let is_name = name.len() <= 253 && name.split('.').all(is_label);
        let is_v6 = !is_wildcard
            && name
                .strip_prefix('[')
                .and_then(|n| n.strip_suffix(']'))
                .is_some_and(|n| n.parse::<std::net::Ipv6Addr>().is_ok());
        if !is_name && !is_v6 {
            return Err(wrong());
        }
        Ok(if is_wildcard { Self::Below(format!(".{name}").into()) } else { Self::Exact(name.into()) })
    }

    pub(crate) fn holds(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }

    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Exact(name) => Cow::Borrowed(name),
            Self::Below(suffix) => format!("*{suffix}").into(),
        }
    }
}

impl PathRule {
    pub(crate) fn new(spec: &PathSpec) -> Result<Self, String> {
        match (&spec.exact, &spec.prefix, &spec.pattern, &spec.regex) {
            (Some(path), None, None, None) => Ok(Self::Exact(starts_well(path)?.into())),
            (None, Some(path), None, None) => match starts_well(path)?.trim_end_matches('/') {
                "" => Ok(Self::Any),
                path => Ok(Self::Prefix(path.into())),
            },
            (None, None, Some(pattern), None) => Pattern::parse(pattern).map(Self::Pattern),
            (None, None, None, Some(regex)) => whole(regex).map(Self::Regex),
            _ => Err("exactly one of exact, prefix, pattern and regex".to_owned()),
        }
    }

    pub(crate) fn holds(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(this) => **this == *path,
            Self::Prefix(this) => {
                path.strip_prefix(&**this).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Pattern(pattern) => pattern.holds(path),
            Self::Regex(regex) => regex.is_match(path),
        }
    }

    /// The names of its captures.
    pub(crate) fn names(&self) -> Vec<&str> {
        match self {
            Self::Pattern(pattern) => pattern.names().collect(),
            Self::Regex(regex) => regex.capture_names().flatten().collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn captures<'a>(&'a self, path: &'a str) -> Captures<'a> {
        match self {
            Self::Pattern(pattern) => pattern.captures(path).unwrap_or_default(),
            Self::Regex(regex) => {
                let found = regex.captures(path);
                let named = regex
                    .capture_names()
                    .flatten()
                    .filter_map(|name| Some((name, found.as_ref()?.name(name)?.as_str())));
                Captures(named.collect())
            }
            _ => Captures::default(),
        }
    }

    fn told_not(&self) -> String {
        match self {
            Self::Any => "the path is none".to_owned(),
            Self::Exact(path) => format!("the path is not {path}"),
            Self::Prefix(path) => format!("the path is not below {path}"),
            Self::Pattern(pattern) => format!("the path is not like {}", pattern.text()),
            Self::Regex(regex) => format!("the path does not match {}", inner(regex)),
        }
    }
}

/// The segments of a path: `/a/b` is `a` and `b`, `/` one empty one.
pub(crate) fn segments(path: &str) -> std::str::Split<'_, char> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        starts_well(text)?;
        let (mut out, mut rest) = (Vec::new(), None);
        let mut names: Vec<&str> = Vec::new();
        let mut all = segments(text).peekable();
        while let Some(segment) = all.next() {
            let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) else {
                if segment.contains(['{', '}']) {
                    return Err("a name in braces is a whole segment".to_owned());
                }
                out.push(Segment::Literal(segment.into()));
                continue;
            };
            let (is_rest, name) = name.strip_prefix('*').map_or((false, name), |name| (true, name));
            let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !is_name || names.contains(&name) {
                return Err("names are of A-Z, a-z, 0-9 and _, each once".to_owned());
            }
            names.push(name);
            match (is_rest, all.peek()) {
                (false, _) => out.push(Segment::Named(name.into())),
                (true, None) => rest = Some(name.into()),
                (true, Some(_)) => return Err("{*name} can only be the last segment".to_owned()),
            }
        }
        Ok(Self { segments: out.into(), rest })
    }

    fn text(&self) -> String {
        let segments = self.segments.iter().map(|s| match s {
            Segment::Literal(text) => format!("/{text}"),
            Segment::Named(name) => format!("/{{{name}}}"),
        });
        segments.chain(self.rest.iter().map(|name| format!("/{{*{name}}}"))).collect()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let named = self.segments.iter().filter_map(|s| match s {
            Segment::Named(name) => Some(&**name),
            Segment::Literal(_) => None,
        });
        named.chain(self.rest.as_deref())
    }

    fn holds(&self, path: &str) -> bool {
        self.captures(path).is_some()
    }

    fn captures<'a>(&'a self, path: &'a str) -> Option<Captures<'a>> {
        let mut found = Captures::default();
        let mut left = path.strip_prefix('/')?;
        let mut is_over = false;
        for segment in &self.segments {
            if is_over {
                return None;
            }
            let (this, rest) = left.split_once('/').unwrap_or_else(|| {
                is_over = true;
                (left, "")
            });
            left = rest;
            match segment {
                Segment::Literal(text) if **text == *this => {}
                Segment::Named(name) if !this.is_empty() => found.0.push((&**name, this)),
                _ => return None,
            }
        }
        match &self.rest {
            Some(name) if !is_over => found.0.push((&**name, left)),
            None if is_over => {}
            _ => return None,
        }
        Some(found)
    }
}

fn starts_well(path: &str) -> Result<&str, String> {
    let is_plain = path.bytes().all(|b| b.is_ascii_graphic() && !b"?#".contains(&b));
    (path.starts_with('/') && is_plain)
        .then_some(path)
        .ok_or_else(|| "a path starts with / and is written as it stands in a URI, without a query".to_owned())
}

impl ValueRule {
    fn new(spec: &ValueSpec) -> Result<Self, String> {
        match (&spec.value, &spec.regex, spec.present) {
            (Some(value), None, None) => Ok(Self::Is(value.as_str().into())),
            (None, Some(regex), None) => whole(regex).map(Self::Like),
            (None, None, Some(is)) => Ok(Self::Present(is)),
            _ => Err("exactly one of value, regex and present".to_owned()),
        }
    }

    fn holds<'a>(&self, mut values: impl Iterator<Item = Cow<'a, str>>) -> bool {
        match self {
            Self::Is(value) => values.any(|v| *v == **value),
            Self::Like(regex) => values.any(|v| regex.is_match(&v)),
            Self::Present(is) => values.next().is_some() == *is,
        }
    }

    fn told_not(&self) -> String {
        match self {
            Self::Is(value) => format!("is not {value}"),
            Self::Like(regex) => format!("does not match {}", inner(regex)),
            Self::Present(true) => "is not there".to_owned(),
            Self::Present(false) => "is there".to_owned(),
        }
    }
}

/// An expression that has to match a whole text.
pub(crate) fn whole(text: &str) -> Result<Regex, String> {
    regex(&format!("^(?:{text})$"))
}

/// An expression, bounded in size.
pub(crate) fn regex(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build().map_err(|e| match e {
        regex::Error::CompiledTooBig(_) => "a regular expression that is too large".to_owned(),
        e => e.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    })
}

fn inner(regex: &Regex) -> &str {
    regex.as_str().strip_prefix("^(?:").and_then(|r| r.strip_suffix(")$")).unwrap_or(regex.as_str())
}
