//! What a key may do: `<system>:<verb>`, `*:<verb>`, or `*`.
//!
//! - A system is 1 to 32 of `a-z`, `0-9` and `-`, starting with a letter: `links`, `access`.
//! - The verbs are ordered, and the greater includes the lesser: `read` < `write` < `admin`.
//! - `*:<verb>` is that verb on every system of the key's project.
//! - `*` is the administrator of the installation: everything, in every project. It is not `*:admin`, which stays inside one.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The most scopes that one key may have.
pub const MAX_SCOPES: usize = 32;

/// What is done to a system. The greater includes the lesser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Look.
    Read,
    /// Change things.
    Write,
    /// Change how the system works, or what others may do.
    Admin,
}

impl Verb {
    /// Reads `read`, `write` or `admin`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// One permission.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `*`: everything, in every project.
    Everything,
    /// `*:<verb>`: on every system of the project.
    EverySystem(Verb),
    /// `<system>:<verb>`.
    System(Box<str>, Verb),
}

/// A text that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// It breaks the grammar.
    #[error("{0:?} is not a scope: expected <system>:<read|write|admin>, *:<read|write|admin>, or *")]
    Grammar(String),
    /// No scope at all.
    #[error("a key needs at least one scope")]
    Empty,
    /// More than [`MAX_SCOPES`].
    #[error("a key may have at most {MAX_SCOPES} scopes")]
    TooMany,
}

impl Scope {
    /// Whether it allows `verb` on `system`.
    pub fn allows(&self, system: &str, verb: Verb) -> bool {
        match self {
            Self::Everything => true,
            Self::EverySystem(mine) => *mine >= verb,
            Self::System(name, mine) => &**name == system && *mine >= verb,
        }
    }

    /// Whether everything that `other` allows, this allows too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everything, _) => true,
            (_, Self::Everything) | (Self::System(..), Self::EverySystem(_)) => false,
            (Self::EverySystem(mine), Self::EverySystem(theirs) | Self::System(_, theirs)) => mine >= theirs,
            (Self::System(name, mine), Self::System(other_name, theirs)) => name == other_name && mine >= theirs,
        }
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let refuse = || ScopeError::Grammar(text.chars().take(80).collect());
        if text == "*" {
            return Ok(Self::Everything);
        }
        let (system, verb) = text.split_once(':').ok_or_else(refuse)?;
        let verb = Verb::parse(verb).ok_or_else(refuse)?;
        if system == "*" {
            return Ok(Self::EverySystem(verb));
        }
        let is_name = (1..=32).contains(&system.len())
            && system.as_bytes()[0].is_ascii_lowercase()
            && system.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if is_name { Ok(Self::System(system.into(), verb)) } else { Err(refuse()) }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("*"),
            Self::EverySystem(verb) => write!(f, "*:{}", verb.as_str()),
            Self::System(name, verb) => write!(f, "{name}:{}", verb.as_str()),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The scopes of one key: sorted, without duplicates, at most [`MAX_SCOPES`]. Cheap to clone. The empty list allows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Scopes(Arc<[Scope]>);

impl Scopes {
    /// From single scopes; at least one.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, ScopeError> {
        let mut list: Vec<Scope> = scopes.into_iter().take(MAX_SCOPES * 4).collect();
        list.sort();
        list.dedup();
        match list.len() {
            0 => Err(ScopeError::Empty),
            1..=MAX_SCOPES => Ok(Self(list.into())),
            _ => Err(ScopeError::TooMany),
        }
    }

    /// `*`: the administrator of the installation.
    pub fn everything() -> Self {
        Self(Arc::new([Scope::Everything]))
    }

    /// Reads scopes with spaces or commas between them.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        let words = text.split([' ', ',', '\t', '\n', '\r']).filter(|w| !w.is_empty());
        Self::new(words.map(str::parse).collect::<Result<Vec<_>, _>>()?)
    }

    /// Whether one of them allows `verb` on `system`. A word that is no verb is allowed to nobody.
    pub fn allows(&self, system: &str, verb: &str) -> bool {
        Verb::parse(verb).is_some_and(|verb| self.0.iter().any(|s| s.allows(system, verb)))
    }

    /// The first scope of `other` that no scope of this covers; `None` when everything is covered.
    pub fn beyond<'a>(&self, other: &'a Self) -> Option<&'a Scope> {
        other.0.iter().find(|theirs| !self.0.iter().any(|mine| mine.covers(theirs)))
    }

    /// Whether it holds `*`.
    pub fn is_everything(&self) -> bool {
        self.0.contains(&Scope::Everything)
    }

    /// The scopes.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }
}

impl fmt::Display for Scopes {
    /// With spaces between, as [`Scopes::parse`] reads them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{scope}")?;
        }
        Ok(())
    }
}
