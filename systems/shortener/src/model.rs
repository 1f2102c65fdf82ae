//! The pure core: codes, aliases, destinations, clicks. No I/O, no async, no clock.

mod agent;
pub mod block_list;
mod clicks;
mod code;
mod destination;
pub mod domain;
pub mod import;
pub mod link;
pub mod moderation;
mod password;
pub mod qr;
mod rollup;
mod routing;
pub mod safety;
mod segment;
mod sketch;
mod tally;
pub mod transfer;
mod varint;
mod visitor;

pub use agent::{Agent, Browser, Device, MAX_AGENT_BYTES, System, is_bot};
pub use clicks::{ClickCounts, ClickPoint, MAX_POINTS, Series, SeriesError, Step};
pub use code::{ALPHABET, Alias, AliasError, CODE_CHARS_MAX, Code, Codes, ID_LIMIT, MIN_CODE_CHARS, looks_like_code};
pub use destination::{Destination, DestinationError, MAX_URL_CHARS};
pub use domain::{Domain, DomainId};
pub use link::{
    Invalid, Link, LinkId, LinkSettings, LinkState, LinkStatus, RedirectStatus, Rule, Takedown, Utm, Variant,
};
pub use password::{MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARS, Password, PasswordHash, SALT_BYTES};
pub use rollup::{Day, Rollup, Sums};
pub use routing::{MAX_LOCATION_BYTES, Routes, Visitors, Ways};
pub use segment::{Entry, Record, Referrer, SEGMENT_FORMAT, Segment, Traits, Writer};
pub use sketch::{Position, Sketch};
pub use tally::{Dimension, MAX_VALUES, Tally};
pub use visitor::{Country, Facts, Language, MAX_REFERRER_BYTES, agent_digest, referrer_host};

use kernel::Timestamp;

/// A link with what was counted on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkWithClicks {
    /// The link.
    pub link: Link,
    /// Clicks since it was made.
    pub total: ClickCounts,
    /// The last click.
    pub last_click_at: Option<Timestamp>,
    /// Of a link with `max_clicks`: how many of them are used up.
    pub uses: u64,
}
