//! Where a link may lead.

use url::Url;

/// The longest destination, in characters after normalisation.
pub const MAX_URL_CHARS: usize = 2048;

/// A checked and normalised destination: an absolute `http` or `https` URL with a host and without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination(String);

/// Why a URL cannot be a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestinationError {
    /// Longer than [`MAX_URL_CHARS`].
    TooLong,
    /// Not an absolute URL.
    NotAUrl,
    /// Another scheme than `http` or `https`: `javascript:` and `data:` run in the visitor's browser.
    Scheme,
    /// A name or password before the host, which would be handed to every visitor and is a favourite of phishers.
    Credentials,
    /// Spaces inside, control characters anywhere: likely two things pasted as one.
    Whitespace,
    /// An address or name that means something else to each visitor: see [`super::safety`].
    Private,
    /// A host of this installation: the link would lead back here.
    Own,
    /// On a block list of this installation.
    Blocked,
}

impl DestinationError {
    /// What is wrong and what would be right.
    pub fn detail(self) -> &'static str {
        match self {
            Self::TooLong => {
                "The URL is longer than 2048 characters; shorten it at its source or host the data it carries."
            }
            Self::NotAUrl => "This is not an absolute URL; write it whole, such as https://example.com/page.",
            Self::Scheme => "Only http and https URLs can be shortened.",
            Self::Credentials => "The URL carries a user name or password, which every visitor would see; remove them.",
            Self::Whitespace => {
                "The URL has spaces or control characters inside; percent-encode them (a space is %20)."
            }
            Self::Private => {
                "The host is private, local or reserved, and not the same for every visitor; give a public host name or address."
            }
            Self::Own => {
                "The host is this shortener itself, which would lead in a circle; give the page that is meant."
            }
            Self::Blocked => {
                "This installation does not shorten links to that destination; choose another, or ask its operator to unblock it."
            }
        }
    }
}

impl Destination {
    /// Checks and normalises (WHATWG URL: lower-case scheme and host, international names as `xn--`, default port removed,
    /// dots in the path resolved). Spaces at both ends are ignored, as they come from pasting.
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        if text.len() > MAX_URL_CHARS {
            return Err(DestinationError::TooLong);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(DestinationError::Whitespace);
        }
        let url = Url::parse(text).map_err(|_| DestinationError::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            // `example.com:8080` reads as a scheme `example.com`: the remedy is to write the URL whole.
            return Err(if url.cannot_be_a_base() && url.scheme().contains('.') {
                DestinationError::NotAUrl
            } else {
                DestinationError::Scheme
            });
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(DestinationError::NotAUrl);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(DestinationError::Credentials);
        }
        let normalised = String::from(url);
        if normalised.len() > MAX_URL_CHARS {
            return Err(DestinationError::TooLong);
        }
        Ok(Self(normalised))
    }

    /// The normalised URL: printable ASCII, therefore a valid header value.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The normalised URL.
    pub fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn destinations() {
        use DestinationError::{Credentials, NotAUrl, Scheme, TooLong, Whitespace};
        let long = format!("https://example.com/{}", "a".repeat(MAX_URL_CHARS));
        let grows = format!("https://example.com/{}", "ü".repeat(700));
        for (text, expected) in [
            ("https://example.com", Ok("https://example.com/")),
            ("  https://example.com/a \n", Ok("https://example.com/a")),
            ("HTTPS://EXAMPLE.com:443/a/../b?q=1#f", Ok("https://example.com/b?q=1#f")),
            ("http://example.com:8080/", Ok("http://example.com:8080/")),
            ("https://bücher.example/ü", Ok("https://xn--bcher-kva.example/%C3%BC")),
            ("http://[::1]/", Ok("http://[::1]/")),
            ("ftp://example.com/", Err(Scheme)),
            ("javascript:alert(1)", Err(Scheme)),
            ("data:text/html,x", Err(Scheme)),
            ("mailto:a@example.com", Err(Scheme)),
            ("example.com/page", Err(NotAUrl)),
            ("example.com:8080", Err(NotAUrl)),
            ("/page", Err(NotAUrl)),
            ("", Err(NotAUrl)),
            ("https://", Err(NotAUrl)),
            ("http:///", Err(NotAUrl)),
            ("https://user@example.com/", Err(Credentials)),
            ("https://user:secret@example.com/", Err(Credentials)),
            ("https://example.com/a b", Err(Whitespace)),
            ("https://example.com/a\u{0}b", Err(Whitespace)),
            ("https://example.com/\r\nSet-Cookie: a=b", Err(Whitespace)),
            (long.as_str(), Err(TooLong)),
            (grows.as_str(), Err(TooLong)),
        ] {
            let got = Destination::parse(text);
            assert_eq!(got.as_ref().map(Destination::as_str).map_err(|e| *e), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_a_safe_header_and_stays_the_same(text in "(https?://)?\\PC{0,60}") {
            if let Ok(first) = Destination::parse(&text) {
                prop_assert!(first.as_str().bytes().all(|b| (0x21..0x7f).contains(&b)), "{first:?}");
                prop_assert_eq!(Destination::parse(first.as_str()), Ok(first));
            }
        }
    }
}
