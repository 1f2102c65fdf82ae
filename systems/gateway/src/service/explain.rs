//! What would be done with a request.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use super::Gateway;
use crate::{
    error::{Error, Result},
    model::{Explanation, RequestHead, path},
};

/// A request to be explained.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Its method; empty: GET.
    pub method: String,
    /// An absolute URL: `https://shop.example.com/cart?x=1`.
    pub url: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
}

/// The most headers of a question.
const MAX_HEADERS: usize = 100;

impl Gateway {
    /// Which route a request would take on this node, and what would be done with it.
    pub fn explain(&self, question: &Question) -> Result<Explanation> {
        let wrong = |field: &str, detail: String| Error::Explain { field: field.to_owned(), detail };
        let url = Url::parse(&question.url).map_err(|e| wrong("url", format!("{e}; expected an absolute URL")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("url", "expected http or https".to_owned()));
        }
        let method = if question.method.is_empty() { "GET" } else { &question.method };
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| wrong("method", "is none".to_owned()))?;
        if question.headers.len() > MAX_HEADERS {
            return Err(wrong("headers", format!("at most {MAX_HEADERS}")));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &question.headers {
            let name =
                HeaderName::try_from(name).map_err(|_| wrong("headers", format!("{name:?} is no name of a header")))?;
            let value =
                HeaderValue::try_from(value).map_err(|_| wrong("headers", format!("{name} has no such value")))?;
            headers.append(name, value);
        }
        // As it stands in the question: what browsers make of `..` is not what clients of other sorts send.
        let rest = question.url.split_once("://").map_or("", |(_, rest)| rest);
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, target) = rest.find(['/', '?']).map_or((rest, "/"), |at| rest.split_at(at));
        let (raw_path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        let raw_path = if raw_path.is_empty() { "/" } else { raw_path };
        let path = path::normal(raw_path).map_err(|e| wrong("url", format!("is refused with 400: {e}")))?;
        let host = path::host(authority).map_err(|e| wrong("url", format!("is refused with 400: {e}")))?;
        let head =
            RequestHead { scheme: url.scheme(), host: &host, method: &method, path: &path, query, headers: &headers };
        Ok(self.snapshot().explain(&head))
    }
}
