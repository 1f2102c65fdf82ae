//! Projects: the tenants. Every row and key belongs to one.

use std::fmt;

/// A project's name: 1 to 40 of `a-z`, `0-9` and `-`, starting with a letter. It is the id: short, readable, unchangeable.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct ProjectId(std::sync::Arc<str>);

impl ProjectId {
    /// The project that exists from the first start.
    pub const DEFAULT: &'static str = "default";

    /// Reads a name; `None` when it breaks the rule above.
    pub fn parse(name: &str) -> Option<Self> {
        let ok = (1..=40).contains(&name.len())
            && name.as_bytes()[0].is_ascii_lowercase()
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        ok.then(|| Self(name.into()))
    }

    /// The project that exists from the first start.
    pub fn default_project() -> Self {
        Self(Self::DEFAULT.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProjectId({})", self.0)
    }
}

impl<'de> serde::Deserialize<'de> for ProjectId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("a project is 1 to 40 of a-z, 0-9 and -, starting with a letter"))
    }
}
