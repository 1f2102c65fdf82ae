//! Hosts on which links answer.

use kernel::{ProjectId, Timestamp};

use super::{Destination, link::Invalid};

/// The number of a domain inside an installation; 0 is the installation's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DomainId(pub u64);

impl DomainId {
    /// The installation's own domain, which every project shares.
    pub const OWN: Self = Self(0);
}

/// The longest host name (RFC 1035, section 2.3.4).
pub const MAX_HOST_CHARS: usize = 253;

/// A host that belongs to one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its number.
    pub id: DomainId,
    /// The host name in lower case, international names as `xn--`, without port.
    pub host: String,
    /// Whose it is.
    pub project: ProjectId,
    /// Whether `/Sale` and `/sale` are two codes. When not, aliases are kept in lower case, and a code that no link has as it is
    /// written is looked for in lower case.
    pub is_case_sensitive: bool,
    /// Where `/` leads; a small page when `None`.
    pub root_url: Option<String>,
    /// Where unknown codes lead; the page for 404 when `None`.
    pub unknown_url: Option<String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// The name of the key that added it.
    pub created_by: String,
}

/// Reads a host name: what `Host` carries, or what people type.
pub fn host(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_HOST_CHARS || text.contains(['/', ':', '@', '?', '#', '\\', ' ']) {
        return None;
    }
    match url::Url::parse(&format!("http://{text}/")).ok()?.host()? {
        url::Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            (name.contains('.') || name == "localhost").then(|| name.to_owned())
        }
        url::Host::Ipv4(_) | url::Host::Ipv6(_) => None,
    }
}

/// Checks where `/` and unknown codes lead.
pub fn page_url(url: Option<&str>, field: &'static str) -> Result<Option<String>, Invalid> {
    url.map(str::trim)
        .filter(|url| !url.is_empty())
        .map(|url| {
            Destination::parse(url)
                .map(Destination::into_string)
                .map_err(|why| Invalid { url: Some(why), ..Invalid::new(field, why.detail()) })
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("go.example.com", Some("go.example.com")),
            (" GO.Example.com. ", Some("go.example.com")),
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("localhost", Some("localhost")),
            ("intranet", None),
            ("127.0.0.1", None),
            ("0x7f.1", None),
            ("[::1]", None),
            ("go.example.com:8080", None),
            ("https://go.example.com", None),
            ("a b.example", None),
            ("", None),
        ] {
            assert_eq!(host(text).as_deref(), expected, "{text:?}");
        }
        assert_eq!(host(&format!("{}.example", "a".repeat(250))), None);
    }
}
