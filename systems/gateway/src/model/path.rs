//! Hosts and paths in the one form that routes are matched on, so that no other spelling of a path goes past its route.

use std::borrow::Cow;

/// Why a request target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// `..` above the root.
    #[error("the path leaves the root")]
    AboveRoot,
    /// `%` without two hexadecimal digits, or an escaped NUL.
    #[error("the path has an escape that is none")]
    Escape,
    /// A character that no path has.
    #[error("the path has a character that no path has")]
    Character,
    /// A host with characters that no host has.
    #[error("the host is not one")]
    Host,
}

/// A path in its normal form (RFC 3986 §6.2.2): escapes of unreserved characters undone and others in upper case, `.` and `..` resolved,
/// runs of slashes made one. Escaped slashes stay escaped: they are part of a segment. Borrowed when it was normal.
pub fn normal(path: &str) -> Result<Cow<'_, str>, BadTarget> {
    if is_normal(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    if !path.starts_with('/') {
        return Err(BadTarget::Character);
    }
    let unescaped = unescape(path)?;
    let mut out: Vec<&str> = Vec::new();
    let mut segments = unescaped.split('/').skip(1).peekable();
    let mut ends_open = false;
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "" | "." => ends_open = is_last,
            ".." => {
                out.pop().ok_or(BadTarget::AboveRoot)?;
                ends_open = is_last;
            }
            _ => out.push(segment),
        }
    }
    let mut normal = String::with_capacity(path.len());
    for segment in &out {
        normal.push('/');
        normal.push_str(segment);
    }
    if ends_open || normal.is_empty() {
        normal.push('/');
    }
    Ok(normal.into())
}

/// Whether nothing has to be done: the usual case, in one pass.
fn is_normal(path: &[u8]) -> bool {
    if path == b"*" {
        return true;
    }
    path.first() == Some(&b'/')
        && path.iter().all(|b| b.is_ascii_graphic() && !b"%\\#?\"<>^`{|}".contains(b))
        && !path.windows(2).any(|pair| pair == b"//" || pair == b"/.")
}

fn unescape(path: &str) -> Result<String, BadTarget> {
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut digit = || (bytes.next().unwrap_or_default() as char).to_digit(16).ok_or(BadTarget::Escape);
                let value = u8::try_from(digit()? * 16 + digit()?).map_err(|_| BadTarget::Escape)?;
                if value == 0 {
                    return Err(BadTarget::Escape);
                }
                if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
                    out.push(char::from(value));
                } else {
                    out.push_str(&format!("%{value:02X}"));
                }
            }
            // Some servers take it for a slash: nothing may come through that means something else behind.
            b'\\' => out.push_str("%5C"),
            b if b.is_ascii_graphic() && !b"#?".contains(&b) => out.push(char::from(b)),
            // Browsers escape these; what they stand for is not in doubt.
            b if b >= 0x80 => out.push_str(&format!("%{b:02X}")),
            _ => return Err(BadTarget::Character),
        }
    }
    Ok(out)
}

/// The host of a `Host` header or authority: in lower case, without port and last dot.
pub fn host(authority: &str) -> Result<Cow<'_, str>, BadTarget> {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => authority,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_v6 = name.starts_with('[') && name.ends_with(']');
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b) || (is_v6 && b"[]:".contains(&b));
    if name.len() > 255 || !name.bytes().all(fits) {
        return Err(BadTarget::Host);
    }
    Ok(if name.bytes().any(|b| b.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, expected) in [
            ("/", Ok("/")),
            ("/a/b", Ok("/a/b")),
            ("/a/b/", Ok("/a/b/")),
            ("//a///b//", Ok("/a/b/")),
            ("/a/./b/.", Ok("/a/b/")),
            ("/a/../b", Ok("/b")),
            ("/a/b/..", Ok("/a/")),
            ("/a/%2e%2E/b", Ok("/b")),
            ("/%61dmin", Ok("/admin")),
            ("/a%2fb", Ok("/a%2Fb")),
            ("/a\\..\\b", Ok("/a%5C..%5Cb")),
            ("/.hidden", Ok("/.hidden")),
            ("/...", Ok("/...")),
            ("/%7euser", Ok("/~user")),
            ("/a%252e", Ok("/a%252e")),
            ("/ä", Ok("/%C3%A4")),
            ("*", Ok("*")),
            ("/..", Err(BadTarget::AboveRoot)),
            ("/a/../../b", Err(BadTarget::AboveRoot)),
            ("/%2e%2e/b", Err(BadTarget::AboveRoot)),
            ("/a%", Err(BadTarget::Escape)),
            ("/a%zz", Err(BadTarget::Escape)),
            ("/a%00", Err(BadTarget::Escape)),
            ("/a b", Err(BadTarget::Character)),
            ("/a?b", Err(BadTarget::Character)),
            ("a", Err(BadTarget::Character)),
            ("", Err(BadTarget::Character)),
        ] {
            assert_eq!(normal(path).as_deref(), expected.as_ref().copied(), "{path}");
        }
    }

    #[test]
    fn hosts() {
        for (authority, expected) in [
            ("Example.COM:8080", Ok("example.com")),
            ("example.com.", Ok("example.com")),
            ("[::1]:80", Ok("[::1]")),
            ("[::1]", Ok("[::1]")),
            ("127.0.0.1", Ok("127.0.0.1")),
            ("", Ok("")),
            ("a/b", Err(BadTarget::Host)),
            ("a b", Err(BadTarget::Host)),
            ("a@b", Err(BadTarget::Host)),
            ("a:b", Err(BadTarget::Host)),
        ] {
            assert_eq!(host(authority).as_deref(), expected.as_ref().copied(), "{authority}");
        }
    }
}
