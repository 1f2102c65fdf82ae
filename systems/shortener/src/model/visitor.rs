//! What a visit tells about its visitor, as far as analytics and rules need it.

use std::{fmt, hash::Hasher as _, sync::Arc};

use siphasher::sip::SipHasher13;

use serde::{Deserialize, Serialize};

use super::agent::Agent;

/// The longest host of a referrer that is kept, in bytes; a longer one counts as none.
pub const MAX_REFERRER_BYTES: usize = 100;
/// How much of an `Accept-Language` is looked at, in bytes.
const MAX_LANGUAGE_BYTES: usize = 256;

/// A language by its ISO 639-1 code, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Language([u8; 2]);

impl Language {
    /// The best of an `Accept-Language` (RFC 9110, 12.5.4): the primary part with the highest weight, the first of equals.
    /// Wildcards, weights of 0 and languages that have no code of two letters are passed over.
    pub fn of_header(accept_language: &[u8]) -> Option<Self> {
        let text = &accept_language[..accept_language.len().min(MAX_LANGUAGE_BYTES)];
        let mut best: Option<(u16, Self)> = None;
        for range in text.split(|b| *b == b',') {
            let mut parts = range.split(|b| *b == b';').map(<[u8]>::trim_ascii);
            let tag = parts.next().unwrap_or_default();
            let weight = parts.find_map(read_weight).unwrap_or(1000);
            let primary = tag.split(|b| *b == b'-').next().unwrap_or_default();
            if let Some(language) = Self::of_bytes(primary)
                && weight > best.map_or(0, |(weight, _)| weight)
            {
                best = Some((weight, language));
            }
        }
        best.map(|(_, language)| language)
    }

    /// The language of a two-letter code, in any case.
    pub fn parse(code: &str) -> Option<Self> {
        Self::of_bytes(code.as_bytes())
    }

    fn of_bytes(code: &[u8]) -> Option<Self> {
        let code = <[u8; 2]>::try_from(code).ok()?;
        code.iter().all(u8::is_ascii_alphabetic).then(|| Self(code.map(|b| b.to_ascii_lowercase())))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The code as two bytes.
    pub const fn bytes(self) -> [u8; 2] {
        self.0
    }
}

/// `q=` in thousandths; 0 when it cannot be read, `None` when the parameter is another.
fn read_weight(parameter: &[u8]) -> Option<u16> {
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let digits = value.get(2..).unwrap_or_default();
    let is_whole = value.len() == 1 || value.get(1) == Some(&b'.');
    if !is_whole || digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return Some(0);
    }
    let thousandths = (0..3).fold(0, |sum, place| sum * 10 + digits.get(place).map_or(0, |d| u16::from(d - b'0')));
    Some(match value.first() {
        Some(b'0') => thousandths,
        Some(b'1') if thousandths == 0 => 1000,
        _ => 0,
    })
}

impl TryFrom<String> for Language {
    type Error = &'static str;

    fn try_from(code: String) -> Result<Self, Self::Error> {
        Self::parse(&code).ok_or("expected a language by its two letters (ISO 639-1, such as de)")
    }
}

impl From<Language> for String {
    fn from(code: Language) -> Self {
        code.as_str().to_owned()
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A country by its ISO 3166-1 alpha-2 code, in capitals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

impl Country {
    /// The country of a two-letter code, in any case.
    pub fn parse(code: &str) -> Option<Self> {
        let code = <[u8; 2]>::try_from(code.as_bytes()).ok()?;
        code.iter().all(u8::is_ascii_alphabetic).then(|| Self(code.map(|b| b.to_ascii_uppercase())))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The code as two bytes.
    pub const fn bytes(self) -> [u8; 2] {
        self.0
    }
}

impl TryFrom<String> for Country {
    type Error = &'static str;

    fn try_from(code: String) -> Result<Self, Self::Error> {
        Self::parse(&code).ok_or("expected a country by its two letters (ISO 3166-1 alpha-2, such as DE)")
    }
}

impl From<Country> for String {
    fn from(code: Country) -> Self {
        code.as_str().to_owned()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The host of a `Referer` (RFC 9110, 10.1.3), normalised so that one site is one value: lower case, without a leading `www.`, without
/// user name, port and a dot at the end. Path and query are never looked at: they can hold what is private.
///
/// Only `http`, `https` and `android-app` (an app's name) have a host here; `None` for everything else and for more than
/// [`MAX_REFERRER_BYTES`].
pub fn referrer_host(referer: &[u8]) -> Option<Arc<str>> {
    let after = ["https://", "http://", "android-app://"].into_iter().find_map(|scheme| {
        let (start, rest) = referer.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    })?;
    let authority = after.split(|b| matches!(b, b'/' | b'?' | b'#')).next()?;
    let host = authority.rsplit(|b| *b == b'@').next()?;
    let host = match host.iter().position(|b| *b == b':') {
        Some(colon) => &host[..colon],
        None => host,
    };
    let host = host.strip_suffix(b".").unwrap_or(host);
    let host = match host.split_at_checked(4) {
        Some((start, rest)) if start.eq_ignore_ascii_case(b"www.") && !rest.is_empty() => rest,
        _ => host,
    };
    let is_host = !host.is_empty()
        && host.len() <= MAX_REFERRER_BYTES
        && host.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    is_host.then(|| host.iter().map(|b| char::from(b.to_ascii_lowercase())).collect::<String>().into())
}

/// What a visit tells about its visitor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// From `User-Agent`.
    pub agent: Agent,
    /// From `Accept-Language`.
    pub language: Option<Language>,
    /// From the address, when the operator gave a database of countries.
    pub country: Option<Country>,
    /// From `Referer`; see [`referrer_host`].
    pub referrer: Option<Arc<str>>,
    /// A number for the whole user agent, the same on every node; for telling visitors apart.
    pub agent_digest: u64,
}

impl Facts {
    /// What the headers tell; the country is not among them.
    pub fn of_headers(user_agent: Option<&[u8]>, accept_language: Option<&[u8]>, referer: Option<&[u8]>) -> Self {
        Self {
            agent: Agent::parse(user_agent.unwrap_or_default()),
            agent_digest: agent_digest(user_agent.unwrap_or_default()),
            language: accept_language.and_then(Language::of_header),
            country: None,
            referrer: referer.and_then(referrer_host),
        }
    }
}

/// A number for a whole `User-Agent`, the same on every node. The salt of the day is what keeps it from being turned back; this only
/// makes a long text short.
pub fn agent_digest(user_agent: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(user_agent);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_best_language_wins() {
        for (header, expected) in [
            ("de", Some("de")),
            ("en-US,en;q=0.9,de;q=0.8", Some("en")),
            ("de-CH, fr;q=0.9, *;q=0.5", Some("de")),
            ("da;q=0.1, fr;q=0.8, en;q=0.7", Some("fr")),
            ("fr;q=0.8, es;q=0.8", Some("fr")),
            ("fil, tl;q=0.9", Some("tl")),
            ("*", None),
            ("en;q=0, sv;q=0.001", Some("sv")),
            ("en;q=0", None),
            ("EN-gb", Some("en")),
            ("pt-BR;q=1.000", Some("pt")),
            ("nl;q=1.5, it;q=0.2", Some("it")),
            ("nl;q=abc, it;q=0.2", Some("it")),
            ("nl;q=0.1234, it;q=0.2", Some("it")),
            (" ja ; q=0.3 , ko ; q=0.4 ", Some("ko")),
            ("zh-Hans-CN", Some("zh")),
            ("x", None),
            ("", None),
            (",,;;,", None),
        ] {
            let got = Language::of_header(header.as_bytes());
            assert_eq!(got.as_ref().map(Language::as_str), expected, "{header:?}");
        }
    }

    #[test]
    fn codes_are_two_letters() {
        assert_eq!(Language::parse("DE").unwrap().to_string(), "de");
        assert_eq!(Country::parse("ch").unwrap().to_string(), "CH");
        for bad in ["", "d", "deu", "d1", "ü", "??"] {
            assert_eq!((Language::parse(bad), Country::parse(bad)), (None, None), "{bad:?}");
        }
    }

    #[test]
    fn a_referrer_is_a_host() {
        let long = format!("https://{}.example.com/", "a".repeat(100));
        for (referer, expected) in [
            ("https://www.google.com/", Some("google.com")),
            ("https://news.ycombinator.com/item?id=1#2", Some("news.ycombinator.com")),
            ("HTTP://WWW.Example.COM:8080/secret?token=1", Some("example.com")),
            ("https://user:pass@example.com/", Some("example.com")),
            ("https://example.com", Some("example.com")),
            ("https://example.com.", Some("example.com")),
            ("https://t.co/abc", Some("t.co")),
            ("https://www.", Some("www")),
            ("https://xn--bcher-kva.example/", Some("xn--bcher-kva.example")),
            ("android-app://com.google.android.gm/", Some("com.google.android.gm")),
            ("http://192.0.2.1/", Some("192.0.2.1")),
            ("http://[2001:db8::1]/", None),
            ("https://", None),
            ("https:///path", None),
            ("https://exa mple.com/", None),
            ("https://b\u{fc}cher.example/", None),
            ("about:blank", None),
            ("javascript:alert(1)", None),
            ("example.com", None),
            ("", None),
            (long.as_str(), None),
        ] {
            assert_eq!(referrer_host(referer.as_bytes()).as_deref(), expected, "{referer:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_and_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let facts = Facts::of_headers(Some(&bytes), Some(&bytes), Some(&[b"https://", &bytes[..]].concat()));
            if let Some(host) = facts.referrer {
                prop_assert!(!host.is_empty() && host.len() <= MAX_REFERRER_BYTES);
                prop_assert_eq!(host.to_ascii_lowercase(), host.as_ref());
            }
        }
    }
}
