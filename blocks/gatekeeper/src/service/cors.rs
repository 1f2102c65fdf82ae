//! Which pages of other origins may read answers (the Fetch standard, "CORS protocol").

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use kernel::FieldError;
use url::Url;

use crate::CorsSpec;

/// The longest time that browsers may keep the answer to a preflight.
const MAX_AGE_S: u64 = 86_400;

/// Cross-origin resource sharing of a route.
#[derive(Debug, Clone)]
pub struct Cors {
    origins: Origins,
    methods: Vec<Method>,
    allow_methods: HeaderValue,
    allow_headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: HeaderValue,
}

#[derive(Debug, Clone)]
enum Origins {
    All,
    These { exact: Vec<Box<str>>, subdomains: Vec<Subdomains> },
}

/// `https://*.example.com:8443`
#[derive(Debug, Clone)]
struct Subdomains {
    /// `https://`
    before: Box<str>,
    /// `.example.com:8443`
    after: Box<str>,
}

impl Cors {
    /// Compiles; every mistake with the JSON pointer of its field, under `at`.
    pub fn compile(spec: &CorsSpec, at: &str) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut wrong = |field: &str, detail: String| {
            errors.push(FieldError { field: format!("{at}/{field}"), detail });
        };
        let limits = [
            ("origins", spec.origins.len(), 100),
            ("headers", spec.headers.len(), 64),
            ("expose", spec.expose.len(), 64),
        ];
        for (field, count, limit) in limits.into_iter().filter(|(_, count, limit)| count > limit) {
            wrong(field, format!("at most {limit}, not {count}"));
        }
        if spec.origins.is_empty() {
            wrong("origins", "at least one, such as https://app.example.com".to_owned());
        }
        let is_all = spec.origins.iter().any(|origin| origin == "*");
        if is_all && (spec.origins.len() > 1 || spec.credentials) {
            // The standard has browsers refuse the pair, and reflecting every origin instead opens the route to every page.
            wrong("origins", "`*` stands alone, and without credentials".to_owned());
        }
        let (mut exact, mut subdomains) = (Vec::new(), Vec::new());
        for (index, origin) in spec.origins.iter().enumerate().filter(|_| !is_all) {
            match parse_origin(origin) {
                Some(Parsed::Exact(origin)) => exact.push(origin),
                Some(Parsed::Subdomains(pattern)) => subdomains.push(pattern),
                None => wrong(
                    &format!("origins/{index}"),
                    "scheme and host, such as https://app.example.com or https://*.example.com, or *".to_owned(),
                ),
            }
        }
        let mut methods = Vec::new();
        let default = ["GET", "HEAD", "POST"].map(str::to_owned);
        for (index, text) in spec.methods.as_deref().unwrap_or(&default).iter().enumerate() {
            match Method::from_bytes(text.as_bytes()) {
                Ok(method) if text.bytes().all(|b| b.is_ascii_uppercase()) => methods.push(method),
                _ => wrong(&format!("methods/{index}"), "a method, such as PUT".to_owned()),
            }
        }
        let mut header_list = |field: &str, list: &[String]| -> Vec<HeaderName> {
            let mut names = Vec::new();
            for (index, text) in list.iter().enumerate() {
                match HeaderName::from_bytes(text.as_bytes()) {
                    Ok(name) => names.push(name),
                    Err(_) => wrong(&format!("{field}/{index}"), "the name of a header".to_owned()),
                }
            }
            names
        };
        let (headers, expose) = (header_list("headers", &spec.headers), header_list("expose", &spec.expose));
        if spec.max_age.0.as_secs() > MAX_AGE_S {
            wrong("max_age", "at most 1d".to_owned());
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let list = |names: Vec<HeaderName>| (!names.is_empty()).then(|| joined(names.iter().map(HeaderName::as_str)));
        Ok(Self {
            origins: if is_all { Origins::All } else { Origins::These { exact, subdomains } },
            allow_methods: joined(methods.iter().map(Method::as_str)),
            methods,
            allow_headers: list(headers),
            expose: list(expose),
            credentials: spec.credentials,
            max_age: HeaderValue::from(spec.max_age.0.as_secs()),
        })
    }

    /// The answer to a preflight; `None` for every other request. One that is not allowed is answered too, without the headers that
    /// would allow it.
    pub fn preflight(&self, parts: &Parts) -> Option<Response<Bytes>> {
        let asked = parts.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        let origin = parts.headers.get(header::ORIGIN)?;
        if parts.method != Method::OPTIONS {
            return None;
        }
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(
            header::VARY,
            HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers"),
        );
        let is_method = self.methods.iter().any(|method| method.as_str().as_bytes() == asked.as_bytes());
        if let Some(origin) = self.allowed(origin).filter(|_| is_method) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.allow_methods.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
            self.put_credentials(headers);
            if let Some(list) = &self.allow_headers {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, list.clone());
            }
        }
        Some(response)
    }

    /// What the response to a request with these headers gets.
    pub fn decorate(&self, request: &HeaderMap, response: &mut HeaderMap) {
        // Caches must not give one origin's answer to another, also where the request had none.
        if !matches!(self.origins, Origins::All) {
            response.append(header::VARY, HeaderValue::from_static("origin"));
        }
        let Some(origin) = request.get(header::ORIGIN).and_then(|origin| self.allowed(origin)) else { return };
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        self.put_credentials(response);
        if let Some(list) = &self.expose {
            response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, list.clone());
        }
    }

    fn put_credentials(&self, headers: &mut HeaderMap) {
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// What `Access-Control-Allow-Origin` says to this origin.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        match &self.origins {
            Origins::All => Some(HeaderValue::from_static("*")),
            Origins::These { exact, subdomains } => {
                let text = origin.to_str().ok()?;
                let is_allowed = exact.iter().any(|known| **known == *text) || subdomains.iter().any(|s| s.holds(text));
                is_allowed.then(|| origin.clone())
            }
        }
    }
}

impl Subdomains {
    fn holds(&self, origin: &str) -> bool {
        let host = origin.strip_prefix(&*self.before).and_then(|rest| rest.strip_suffix(&*self.after));
        host.is_some_and(|labels| {
            let is_label =
                |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            labels.split('.').all(is_label)
        })
    }
}

enum Parsed {
    Exact(Box<str>),
    Subdomains(Subdomains),
}

fn parse_origin(text: &str) -> Option<Parsed> {
    let (pattern, is_wild) = match text.split_once("://*.") {
        Some((scheme, rest)) => (format!("{scheme}://wild.{rest}"), true),
        None => (text.to_owned(), false),
    };
    let url = Url::parse(&pattern).ok()?;
    let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let origin = url.origin();
    if !origin.is_tuple() || !is_bare || !url.username().is_empty() || url.password().is_some() || pattern.contains('*')
    {
        return None;
    }
    let origin = origin.ascii_serialization();
    if !is_wild {
        return Some(Parsed::Exact(origin.into()));
    }
    let (before, after) = origin.split_once("wild.")?;
    // `https://*.com` would be everybody's.
    let is_narrow = after.split(':').next().is_some_and(|host| host.contains('.'));
    is_narrow.then(|| Parsed::Subdomains(Subdomains { before: before.into(), after: format!(".{after}").into() }))
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> HeaderValue {
    let text = words.collect::<Vec<_>>().join(", ");
    // Names of methods and headers only.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
