//! Whether a browser sent a request on behalf of another site.
//!
//! Two signs: `Sec-Fetch-Site` (Fetch Metadata, W3C), which a page cannot forge, and where a browser does not send it, `Origin`
//! (RFC 6454) against the host that was asked. A request with neither does not come from a page's script or form in any browser
//! of today.

use axum::http::{HeaderMap, Method, Uri, header};

/// Whether the request was caused by another site.
pub(crate) fn is_cross_site(headers: &HeaderMap, uri: &Uri) -> bool {
    let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or("unreadable"));
    match (text("sec-fetch-site"), text("origin")) {
        // "same-site" is another host of the same domain, which need not be ours.
        (Some(site), _) => !matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let own = host(headers, uri);
            own.is_none() || origin.split_once("://").map(|(_, rest)| rest) != own
        }
        (None, None) => false,
    }
}

/// The host and port that was asked.
fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    headers
        .get(header::HOST)
        .and_then(|v| v.to_str().ok())
        .or_else(|| uri.authority().map(axum::http::uri::Authority::as_str))
}

/// Whether the host that was asked is this machine by name: the defence of `--dev` against a foreign name that was pointed at
/// 127.0.0.1 (DNS rebinding). A request without any host did not come from a browser.
pub(crate) fn is_loopback_host(headers: &HeaderMap, uri: &Uri) -> bool {
    host(headers, uri).is_none_or(is_loopback_name)
}

/// The same of the text of a `Host`.
pub(crate) fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_name = name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost");
    is_name || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether the method changes nothing.
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (header::HeaderName::from_static(n), v.parse().unwrap())).collect()
    }

    #[test]
    fn sites() {
        for (pairs, want) in [
            (&[][..], false),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("host", "127.0.0.1:7070"), ("origin", "http://127.0.0.1:7070")], false),
            (&[("host", "127.0.0.1:7070"), ("origin", "http://127.0.0.1:8080")], true),
            (&[("host", "127.0.0.1:7070"), ("origin", "http://evil.example")], true),
            (&[("host", "127.0.0.1:7070"), ("origin", "null")], true),
            (&[("origin", "http://127.0.0.1:7070")], true),
            // What a page cannot forge wins over what it might.
            (&[("sec-fetch-site", "cross-site"), ("host", "a"), ("origin", "http://a")], true),
        ] {
            assert_eq!(is_cross_site(&headers(pairs), &Uri::from_static("/")), want, "{pairs:?}");
        }
    }

    #[test]
    fn hosts() {
        for (host, want) in [
            ("localhost", true),
            ("LOCALHOST:7070", true),
            ("mainstay.localhost:7070", true),
            ("127.0.0.1:7070", true),
            ("127.9.9.9", true),
            ("[::1]:7070", true),
            ("[::2]:7070", false),
            ("evil.example:7070", false),
            ("localhost.evil.example", false),
            ("192.0.2.1", false),
        ] {
            assert_eq!(is_loopback_host(&headers(&[("host", host)]), &Uri::from_static("/")), want, "{host}");
        }
        assert!(is_loopback_host(&HeaderMap::new(), &Uri::from_static("/v1/keys")));
        assert!(!is_loopback_host(&HeaderMap::new(), &Uri::from_static("http://evil.example/v1/keys")));
    }
}
