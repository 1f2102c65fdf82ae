//! Destinations that are refused: a list that can hold millions of entries and is asked in O(labels of the host).
//!
//! | entry | blocks |
//! |---|---|
//! | `example.com` | the host and every name below it; a single label such as `zip` blocks a whole top-level domain |
//! | `=www.example.com` | that host alone |
//! | `https://example.com/bad` | on that host `/bad`, `/bad/…`, `/bad?…`; by http and https, on any port |
//!
//! Hosts and paths are compared as browsers read them: in lower case, international names as `xn--`, addresses in their one
//! spelling, letters and digits never percent-encoded.

use std::{borrow::Cow, fmt::Write as _};

use url::{Host, Url};

use super::{Destination, safety};

/// The longest entry, in bytes.
pub const MAX_ENTRY_BYTES: usize = 2048;

/// A list of entries: sorted keys in one text, so that millions of them take little more memory than their file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BlockList {
    text: String,
    /// Where each key lies, in the order of the keys.
    spans: Vec<Span>,
    /// The longest key, so that longer ones are not looked for.
    longest: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u32,
    bytes: u16,
}

/// One checked entry. Its key starts with what it blocks: `*` a host and all below, `=` a host, `/` part of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry(String);

/// Why a text is no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// A line is no entry.
    #[error("line {line}: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More entries than allowed, or more text than 4 GiB.
    #[error("more than {0} entries")]
    TooMany(usize),
}

impl Entry {
    /// Reads an entry.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const HOST: &str = "not a host: write example.com, =www.example.com, or https://example.com/path";
        let text = text.trim();
        if text.len() > MAX_ENTRY_BYTES {
            return Err("longer than 2048 bytes");
        }
        if text.contains("://") {
            let url = Destination::parse(text).map_err(|_| "not an http or https URL that a link could lead to")?;
            let url = Url::parse(url.as_str()).map_err(|_| HOST)?;
            let host = safety::host_of(&url).ok_or(HOST)?;
            let rest = path_of(&url);
            return Ok(Self(if rest == "/" { format!("={host}") } else { format!("/{host}{rest}") }));
        }
        let (is_exact, name) = text.strip_prefix('=').map_or((false, text), |name| (true, name.trim_start()));
        let name = name.strip_suffix('.').unwrap_or(name);
        // A bare IPv6 address, for whoever leaves the brackets out.
        let host = if let Ok(v6) = name.parse() { Host::Ipv6(v6) } else { Host::parse(name).map_err(|_| HOST)? };
        match host {
            // The standard takes `*` as a letter.
            Host::Domain(name) if name.contains('*') || name.split('.').any(str::is_empty) => Err(HOST),
            Host::Domain(name) if !is_exact => Ok(Self(format!("*{name}"))),
            // Nothing is below an address.
            host => Ok(Self(format!("={host}"))),
        }
    }

    /// The entry as people write it, normalised.
    pub fn show(&self) -> String {
        show(&self.0)
    }
}

fn show(key: &str) -> String {
    match key.split_at_checked(1) {
        Some(("*", host)) => host.to_owned(),
        Some(("/", rest)) => format!("https://{rest}"),
        _ => key.to_owned(),
    }
}

impl BlockList {
    /// Reads a list: an entry a line, `#` starts a comment at the start of a line or after a space. At most `limit` entries.
    pub fn parse(text: &str, limit: usize) -> Result<Self, ListError> {
        let mut builder = Builder::new(limit);
        for (i, line) in text.lines().enumerate() {
            let line = line.trim_start_matches('\u{feff}');
            let end = if line.trim_start().starts_with('#') {
                0
            } else {
                line.find(" #").or_else(|| line.find("\t#")).unwrap_or(line.len())
            };
            let line = line[..end].trim();
            if line.is_empty() {
                continue;
            }
            builder.add(&Entry::parse(line).map_err(|why| ListError::Line { line: i + 1, why })?)?;
        }
        Ok(builder.build())
    }

    /// A list of entries; at most `limit`.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>, limit: usize) -> Result<Self, ListError> {
        let mut builder = Builder::new(limit);
        for entry in entries {
            builder.add(entry)?;
        }
        Ok(builder.build())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The entry that blocks a URL, as people write it.
    pub fn find(&self, url: &Url) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let host = safety::host_of(url)?;
        let mut key = String::with_capacity(self.longest + 2);
        key.push('=');
        key.push_str(host);
        if self.has(&key) {
            return Some(show(&key));
        }
        if let Some(Host::Domain(_)) = url.host() {
            // The host itself, and what follows each of its dots.
            let below = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
            for name in std::iter::once(host).chain(below) {
                key.clear();
                key.push('*');
                key.push_str(name);
                if self.has(&key) {
                    return Some(show(&key));
                }
            }
        }
        key.clear();
        key.push('/');
        key.push_str(host);
        self.find_part(key, &path_of(url))
    }

    /// The entry for part of a host (`key`) that blocks `rest`: looked for at each place where a prefix may end.
    fn find_part(&self, mut key: String, rest: &str) -> Option<String> {
        let host = key.len();
        key.push('/');
        // Most hosts have no such entry.
        let first = self.spans.partition_point(|span| self.key(*span) < key.as_str());
        if !self.spans.get(first).is_some_and(|span| self.key(*span).starts_with(&key)) {
            return None;
        }
        key.truncate(host);
        for (i, c) in rest.char_indices().skip(1) {
            if key.len() > self.longest {
                return None;
            }
            // A prefix ends before `/`, `?` and `&`, or with the `/` that it was written with.
            let is_end = matches!(c, '/' | '?' | '&') || rest.as_bytes()[i - 1] == b'/';
            if is_end {
                key.truncate(host);
                key.push_str(&rest[..i]);
                if self.has(&key) {
                    return Some(show(&key));
                }
            }
        }
        key.truncate(host);
        key.push_str(rest);
        self.has(&key).then(|| show(&key))
    }

    fn has(&self, key: &str) -> bool {
        key.len() <= self.longest && self.spans.binary_search_by(|span| self.key(*span).cmp(key)).is_ok()
    }

    fn key(&self, span: Span) -> &str {
        let start = span.start as usize;
        &self.text[start..start + usize::from(span.bytes)]
    }
}

struct Builder {
    list: BlockList,
    limit: usize,
}

impl Builder {
    fn new(limit: usize) -> Self {
        Self { list: BlockList::default(), limit }
    }

    fn add(&mut self, entry: &Entry) -> Result<(), ListError> {
        let (Ok(start), Ok(bytes)) = (u32::try_from(self.list.text.len()), u16::try_from(entry.0.len())) else {
            return Err(ListError::TooMany(self.list.len()));
        };
        if self.list.len() >= self.limit {
            return Err(ListError::TooMany(self.limit));
        }
        self.list.text.push_str(&entry.0);
        self.list.spans.push(Span { start, bytes });
        self.list.longest = self.list.longest.max(entry.0.len());
        Ok(())
    }

    fn build(self) -> BlockList {
        let mut list = self.list;
        let mut spans = std::mem::take(&mut list.spans);
        spans.sort_unstable_by(|a, b| list.key(*a).cmp(list.key(*b)));
        spans.dedup_by(|a, b| list.key(*a) == list.key(*b));
        spans.shrink_to_fit();
        list.text.shrink_to_fit();
        list.spans = spans;
        list
    }
}

/// Path and query with one spelling: unreserved characters plain, other escapes in upper case (RFC 3986, section 6.2.2).
fn path_of(url: &Url) -> Cow<'_, str> {
    let path = url.path();
    let Some(query) = url.query().filter(|q| !q.is_empty()) else { return plain(path) };
    Cow::Owned(format!("{}?{}", plain(path), plain(query)))
}

fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let byte = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            Some(byte) => write!(out, "%{byte:02X}").unwrap_or_default(),
            None => {
                out.push('%');
                rest = after;
                continue;
            }
        }
        rest = &after[2..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn list(text: &str) -> BlockList {
        BlockList::parse(text, 1000).unwrap()
    }

    #[test]
    fn entries_block_what_they_say() {
        let list = list(
            "\u{feff}# a comment\n\
             \n\
             Evil.example  # with a reason\n\
             =www.exact.example\n\
             https://part.example/bad\n\
             http://part.example/folder/\n\
             https://part.example/search?q=x\n\
             http://whole.example/\n\
             bücher.example\n\
             tk\n\
             203.0.113.7\n\
             2001:db8::7\n\
             https://part.example/%7Euser/%2f\n",
        );
        assert_eq!(list.len(), 11);
        for (url, expected) in [
            ("https://evil.example/", Some("evil.example")),
            ("https://EVIL.example./x", Some("evil.example")),
            ("https://a.b.evil.example:8443/x?y#z", Some("evil.example")),
            ("https://notevil.example/", None),
            ("https://evil.example.com/", None),
            ("https://www.exact.example/a", Some("=www.exact.example")),
            ("https://exact.example/", None),
            ("https://a.www.exact.example/", None),
            ("https://part.example/", None),
            ("https://part.example/bad", Some("https://part.example/bad")),
            ("http://part.example:8080/bad/more?x", Some("https://part.example/bad")),
            ("http://part.example/bad?x", Some("https://part.example/bad")),
            ("http://part.example/b%61d", Some("https://part.example/bad")),
            ("http://part.example/x/../bad#f", Some("https://part.example/bad")),
            ("http://part.example/badger", None),
            ("http://part.example/folder", None),
            ("http://part.example/folder/", Some("https://part.example/folder/")),
            ("http://part.example/folder/x", Some("https://part.example/folder/")),
            ("http://part.example/search", None),
            ("http://part.example/search?q=x", Some("https://part.example/search?q=x")),
            ("http://part.example/search?q=x&p=2", Some("https://part.example/search?q=x")),
            ("http://part.example/search?q=xy", None),
            ("http://part.example/~user/%2F", Some("https://part.example/~user/%2F")),
            ("http://sub.part.example/bad", None),
            ("http://whole.example/a/b", Some("=whole.example")),
            ("http://www.xn--bcher-kva.example/", Some("xn--bcher-kva.example")),
            ("http://free.tk/", Some("tk")),
            ("http://tk.example/", None),
            ("http://3405803783/", Some("=203.0.113.7")),
            ("http://[2001:db8:0::7]/", Some("=[2001:db8::7]")),
        ] {
            assert_eq!(list.find(&Url::parse(url).unwrap()).as_deref(), expected, "{url}");
        }
        assert_eq!(BlockList::default().find(&Url::parse("https://example.com/").unwrap()), None);
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        for (text, line) in [
            ("ok.example\n0.0.0.0 bad.example\n", 2),
            ("*.example.com", 1),
            ("a..example", 1),
            ("example.com/path", 1),
            ("ftp://example.com/", 1),
            ("# x\n\nhttps://user@example.com/", 3),
            ("=", 1),
        ] {
            let Err(ListError::Line { line: at, .. }) = BlockList::parse(text, 10) else { panic!("{text:?} was read") };
            assert_eq!(at, line, "{text:?}");
        }
        assert_eq!(BlockList::parse("a.example\nb.example\nc.example", 2), Err(ListError::TooMany(2)));
        assert_eq!(BlockList::parse("", 0), Ok(BlockList::default()));
    }

    #[test]
    fn an_entry_reads_as_it_is_shown() {
        for (text, shown) in [
            (" EVIL.example. ", "evil.example"),
            ("= www.example.com", "=www.example.com"),
            ("http://a.example/x#y", "https://a.example/x"),
            ("https://a.example", "=a.example"),
            ("0x7f.1", "=127.0.0.1"),
        ] {
            let entry = Entry::parse(text).unwrap();
            assert_eq!(entry.show(), shown);
            assert_eq!(Entry::parse(shown).unwrap(), entry);
        }
    }

    fn host() -> impl Strategy<Value = String> {
        proptest::collection::vec("[ab]{1,2}", 1..4).prop_map(|labels| labels.join(".") + ".example")
    }

    proptest! {
        /// Against the meaning of the entries, one by one.
        #[test]
        fn the_list_agrees_with_its_entries(
            entries in proptest::collection::vec((0..3_u8, host(), "(/[ab]{0,2}){1,3}"), 0..12),
            asked in host(),
            path in "(/[ab]{0,2}){1,3}(\\?[ab]{0,2})?",
        ) {
            let lines: Vec<String> = entries.iter().map(|(kind, host, path)| match kind {
                0 => host.clone(),
                1 => format!("={host}"),
                _ => format!("https://{host}{path}"),
            }).collect();
            let list = BlockList::parse(&lines.join("\n"), 100).unwrap();
            let url = Url::parse(&format!("https://{asked}{path}")).unwrap();
            let path = path_of(&url);
            let blocks = |(kind, host, prefix): &(u8, String, String)| match kind {
                0 => asked == *host || asked.ends_with(&format!(".{host}")),
                1 => asked == *host,
                _ if prefix == "/" => asked == *host,
                _ => asked == *host && path.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                    rest.is_empty() || rest.starts_with(['/', '?', '&']) || prefix.ends_with('/')
                }),
            };
            prop_assert_eq!(list.find(&url).is_some(), entries.iter().any(blocks), "{:?} {}", lines, url);
            let distinct: BTreeSet<_> = lines.iter().map(|l| Entry::parse(l).unwrap().0).collect();
            prop_assert_eq!(list.len(), distinct.len());
        }

        /// No text makes it panic, and what is read is found again.
        #[test]
        fn any_line_is_an_entry_or_a_mistake(line in "\\PC{0,40}") {
            if let Ok(entry) = Entry::parse(&line) {
                prop_assert_eq!(Entry::parse(&entry.show()), Ok(entry));
            }
        }
    }
}
