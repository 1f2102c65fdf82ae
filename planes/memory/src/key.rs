//! Keys that cannot leave their project.

use std::{borrow::Borrow, fmt, sync::Arc};

use kernel::ProjectId;

/// A key: project, system and parts, such as `ms:{acme:limits:user:42}`.
///
/// - Every byte of a part that could be read as structure (`:`, `{`, `}`, `%`), is a control character, a space or not ASCII, is
///   written `%XX`. Therefore two different lists of parts never make the same key, and no part can reach into another system
///   or project.
/// - The braces are the hash tag of Redis Cluster, around the whole identity: anything that is ever derived from one key shares
///   its slot, while the keys of a project spread over all nodes.
///
/// Keys and channels are the same type, but two spaces: publishing to a key does not touch its value.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

const PREFIX: &str = "ms:{";

impl Key {
    /// Builds a key. One longer than [`crate::MAX_KEY_BYTES`] is refused by the operation that uses it.
    ///
    /// ```
    /// use memory::Key;
    /// let project = kernel::ProjectId::default_project();
    /// assert_eq!(Key::new(&project, "limits", ["user", "a:b"]).as_str(), "ms:{default:limits:user:a%3Ab}");
    /// ```
    pub fn new<P: AsRef<[u8]>>(project: &ProjectId, system: &'static str, parts: impl IntoIterator<Item = P>) -> Self {
        let mut text = String::with_capacity(64);
        text.push_str(PREFIX);
        text.push_str(project.as_str());
        text.push(':');
        escape(system.as_bytes(), &mut text);
        for part in parts {
            text.push(':');
            escape(part.as_ref(), &mut text);
        }
        text.push('}');
        Self(text.into())
    }

    /// The whole key as the engine sees it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its project.
    pub fn project(&self) -> &str {
        let rest = self.0.get(PREFIX.len()..).unwrap_or_default();
        rest.split(':').next().unwrap_or_default()
    }

    /// Its length in bytes.
    pub(crate) fn byte_count(&self) -> usize {
        self.0.len()
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

pub(crate) fn escape(part: &[u8], into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in part {
        if byte.is_ascii_graphic() && !matches!(byte, b':' | b'{' | b'}' | b'%') {
            into.push(char::from(*byte));
        } else {
            into.push('%');
            into.push(char::from(HEX[usize::from(byte >> 4)]));
            into.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_forge_structure() {
        let (acme, acme2) = (ProjectId::parse("acme").unwrap(), ProjectId::parse("acme2").unwrap());
        let key = |p: &ProjectId, parts: &[&str]| Key::new(p, "s", parts.iter());
        let all = [
            key(&acme, &["a", "b"]),
            key(&acme, &["a:b"]),
            key(&acme, &["a%3Ab"]),
            key(&acme, &["ab"]),
            key(&acme, &["", "ab"]),
            key(&acme, &["ab", ""]),
            key(&acme, &[]),
            key(&acme, &[""]),
            key(&acme, &["}:{acme2"]),
            key(&acme, &["é\n "]),
            key(&acme2, &["a", "b"]),
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                assert_ne!(a, b);
            }
        }
        for k in &all {
            // One tag around everything, whatever the parts hold.
            assert!(k.as_str().starts_with("ms:{") && k.as_str().ends_with('}'), "{k:?}");
            assert_eq!(k.as_str().matches(['{', '}']).count(), 2, "{k:?}");
            assert!(k.as_str().bytes().all(|b| b.is_ascii_graphic()), "{k:?}");
        }
        assert_eq!((all[0].project(), all[10].project()), ("acme", "acme2"));
    }
}
