//! The pure core: codes, aliases, destinations, clicks. No I/O, no async, no clock.

mod agent;
mod clicks;
mod code;
mod destination;
mod visitor;

pub use agent::{Agent, Browser, Device, MAX_AGENT_BYTES, System, is_bot};
pub use clicks::{ClickCounts, ClickPoint, MAX_POINTS, Series, SeriesError, Step};
pub use code::{ALPHABET, Alias, AliasError, CODE_CHARS_MAX, Code, Codes, ID_LIMIT, MIN_CODE_CHARS, looks_like_code};
pub use destination::{Destination, DestinationError, MAX_URL_CHARS};
pub use visitor::{Country, Facts, Language, MAX_REFERRER_BYTES, referrer_host};

use kernel::{ProjectId, Timestamp};

/// The number of a link inside an installation: from a block, never given twice. Internal; the wire shows codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A short link as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub id: LinkId,
    /// Whose it is.
    pub project: ProjectId,
    /// What follows the slash: generated, or chosen by its owner.
    pub code: Code,
    /// Whether the owner chose the code.
    pub is_alias: bool,
    /// Where it leads, normalised.
    pub url: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The name of the key that made it.
    pub created_by: String,
    /// From when on it answers 410; never when `None`.
    pub expires_at: Option<Timestamp>,
    /// Grows with every change; the entity tag.
    pub version: i64,
}

impl Link {
    /// Whether the link has ended by `now`: the instant of expiry itself counts as ended.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// A link with what was counted on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkWithClicks {
    /// The link.
    pub link: Link,
    /// Clicks since it was made.
    pub total: ClickCounts,
    /// The minute of the last click, at the precision of the rollups.
    pub last_click_at: Option<Timestamp>,
}
