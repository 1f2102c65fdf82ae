//! Addresses: built parameter by parameter, escaped, and never a way to run script.

use std::fmt;

use maud::Render;

/// An address inside the console: a path and its query parameters. Tables, pagers and menus change one parameter of the
/// current address and keep the others, so a page can be shared as its URL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    path: String,
    params: Vec<(String, String)>,
}

impl Link {
    /// A path without parameters.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), params: Vec::new() }
    }

    /// Reads `path?query` as a request carries it. Broken escapes are kept as they stand.
    pub fn parse(path_and_query: &str) -> Self {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let query = query.split_once('#').map_or(query, |(q, _)| q);
        let params = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(name), decode(value))
            })
            .collect();
        Self { path: path.to_owned(), params }
    }

    /// The path without its query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The parameters in their order.
    pub fn params(&self) -> &[(String, String)] {
        &self.params
    }

    /// The value of the first parameter of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// With this parameter set to this value (every earlier one of its name goes).
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.params.retain(|(n, _)| n != name);
        self.params.push((name.to_owned(), value.to_string()));
        self
    }

    /// Without this parameter.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.params.retain(|(n, _)| n != name);
        self
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(safe_href(&self.path))?;
        for (i, (name, value)) in self.params.iter().enumerate() {
            f.write_str(if i == 0 { "?" } else { "&" })?;
            write!(f, "{}={}", escape(name), escape(value))?;
        }
        Ok(())
    }
}

impl Render for Link {
    fn render_to(&self, buffer: &mut String) {
        maud::display(self).render_to(buffer);
    }
}

impl From<&Link> for String {
    fn from(link: &Link) -> Self {
        link.to_string()
    }
}

impl From<Link> for String {
    fn from(link: Link) -> Self {
        link.to_string()
    }
}

/// `href` when following it can only go to a page: an absolute path, `?…`, `#…`, `http(s):` or `mailto:`. Anything else
/// (`javascript:`, `data:`, `//host`, control characters) becomes `#`.
pub fn safe_href(href: &str) -> &str {
    let lower = |prefix: &str| href.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let local = href.starts_with('/') && !href.starts_with("//") && !href.starts_with("/\\");
    let known = ["?", "#", "http://", "https://", "mailto:"].iter().any(|prefix| lower(prefix));
    if (local || known) && !href.chars().any(char::is_control) { href } else { "#" }
}

/// Escapes one component of a path or query: everything but `A-Z a-z 0-9 - . _ ~` (RFC 3986, 2.3).
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(b"0123456789ABCDEF"[usize::from(byte >> 4)]));
            out.push(char::from(b"0123456789ABCDEF"[usize::from(byte & 15)]));
        }
    }
    out
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let pair = text.get(i + 1..i + 3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match (bytes[i], pair.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_one_parameter_and_keeps_the_others() {
        let at = Link::parse("/console/links?q=a%26b+c&sort=clicks&cursor=x");
        assert_eq!(at.get("q"), Some("a&b c"));
        assert_eq!(
            at.clone().with("sort", "-clicks").without("cursor").to_string(),
            "/console/links?q=a%26b%20c&sort=-clicks"
        );
        assert_eq!(Link::parse("/x").to_string(), "/x");
        assert_eq!(Link::parse("/x?%zz=%é").to_string(), "/x?%25zz=%25%C3%A9");
    }

    #[test]
    fn an_address_never_runs_script() {
        for bad in [
            "javascript:alert(1)",
            " javascript:alert(1)",
            "JaVaScRiPt:x",
            "data:text/html,x",
            "//evil.example",
            "/\\evil",
            "/a\nb",
            "vbscript:x",
            "",
        ] {
            assert_eq!(safe_href(bad), "#", "{bad}");
        }
        for good in ["/console", "?a=b", "#top", "https://example.com/x", "HTTP://example.com", "mailto:a@b.c"] {
            assert_eq!(safe_href(good), good);
        }
    }
}
