//! Reports, takedowns and appeals: what may follow what.
//!
//! ```text
//!           take down            appeal             reject
//!   clear ───────────▶ taken down ─────▶ appealed ─────────▶ upheld
//!     ▲                    │                │                   │
//!     └──── restore ───────┴ restore, grant ┴───── restore ─────┘
//! ```
//!
//! - MODERATION-1: a link has at most one takedown that stands, and a takedown at most one appeal, which is decided once.

use super::link::{LinkState, Takedown};

kernel::typed_id!(
    /// A report of a link.
    ReportId,
    "rep"
);
kernel::typed_id!(
    /// An entry of the block list that moderators keep.
    BlockId,
    "blk"
);

/// The longest text of a report, an appeal, or a decision, in characters.
pub const MAX_WORDS_CHARS: usize = 1000;
/// The most open reports of one link that are kept whole; those beyond are only counted.
pub const MAX_OPEN_REPORTS: u32 = 20;

/// Where a link stands between its owner and the moderators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing stands against it.
    Clear,
    /// It was taken down.
    TakenDown,
    /// Its owner has appealed, and nobody has decided.
    Appealed,
    /// The appeal was rejected.
    Upheld,
}

impl Standing {
    /// Every standing.
    pub const ALL: [Self; 4] = [Self::Clear, Self::TakenDown, Self::Appealed, Self::Upheld];

    /// Its name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "lifted",
            Self::TakenDown => "standing",
            Self::Appealed => "appealed",
            Self::Upheld => "upheld",
        }
    }

    /// The standing of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.as_str() == name)
    }

    /// Where it stands after an act, or why that cannot be done.
    pub const fn after(self, act: Act) -> Result<Self, Refusal> {
        match (self, act) {
            (Self::Clear, Act::TakeDown) => Ok(Self::TakenDown),
            (Self::TakenDown, Act::Appeal) => Ok(Self::Appealed),
            (Self::Appealed, Act::Reject) => Ok(Self::Upheld),
            (Self::TakenDown | Self::Appealed | Self::Upheld, Act::Restore) | (Self::Appealed, Act::Grant) => {
                Ok(Self::Clear)
            }
            (Self::Clear, Act::Restore | Act::Appeal) => Err(Refusal::NotDown),
            (Self::TakenDown | Self::Appealed | Self::Upheld, Act::TakeDown) => Err(Refusal::IsDown),
            (Self::Appealed, Act::Appeal) => Err(Refusal::AppealOpen),
            (Self::Upheld, Act::Appeal) => Err(Refusal::AppealDecided),
            (Self::Clear | Self::TakenDown | Self::Upheld, Act::Grant | Act::Reject) => Err(Refusal::NoAppeal),
        }
    }
}

/// What is done about a takedown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A moderator takes a link down.
    TakeDown,
    /// A moderator brings it back.
    Restore,
    /// Its owner appeals.
    Appeal,
    /// A moderator grants the appeal, which brings the link back.
    Grant,
    /// A moderator rejects the appeal.
    Reject,
}

impl Act {
    /// Every act.
    pub const ALL: [Self; 5] = [Self::TakeDown, Self::Restore, Self::Appeal, Self::Grant, Self::Reject];

    /// Its name in the audit log.
    pub const fn action(self) -> &'static str {
        match self {
            Self::TakeDown => "shortener.link.take_down",
            Self::Restore => "shortener.link.restore",
            Self::Appeal => "shortener.link.appeal",
            Self::Grant => "shortener.appeal.grant",
            Self::Reject => "shortener.appeal.reject",
        }
    }
}

/// Why an act cannot be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is down already.
    IsDown,
    /// It is not down.
    NotDown,
    /// There is an appeal that nobody has decided.
    AppealOpen,
    /// There was an appeal, and it was rejected.
    AppealDecided,
    /// There is no appeal to decide.
    NoAppeal,
}

/// What somebody says is wrong with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportReason {
    /// It pretends to be somebody else, to get at secrets.
    Phishing,
    /// It spreads harmful software.
    Malware,
    /// It was sent unasked.
    Spam,
    /// It leads to what the law forbids.
    Illegal,
    /// It leads to what infringes rights.
    Copyright,
    /// Something else.
    Other,
}

impl ReportReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [Self::Phishing, Self::Malware, Self::Spam, Self::Illegal, Self::Copyright, Self::Other];

    /// Its name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Phishing => "phishing",
            Self::Malware => "malware",
            Self::Spam => "spam",
            Self::Illegal => "illegal",
            Self::Copyright => "copyright",
            Self::Other => "other",
        }
    }

    /// The reason of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReportState {
    /// Nobody has decided.
    #[default]
    Open,
    /// A moderator saw nothing wrong.
    Dismissed,
    /// The link was taken down.
    Upheld,
}

impl ReportState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Open, Self::Dismissed, Self::Upheld];

    /// Its name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Dismissed => "dismissed",
            Self::Upheld => "upheld",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl Takedown {
    /// The state of a link that was taken down for this.
    pub const fn state(self) -> LinkState {
        LinkState::TakenDown(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every act from every standing.
    #[test]
    fn what_may_follow_what() {
        use Refusal::{AppealDecided, AppealOpen, IsDown, NoAppeal, NotDown};
        use Standing::{Appealed, Clear, TakenDown, Upheld};
        // In the order of `Act::ALL`: take down, restore, appeal, grant, reject.
        let table = [
            (Clear, [Ok(TakenDown), Err(NotDown), Err(NotDown), Err(NoAppeal), Err(NoAppeal)]),
            (TakenDown, [Err(IsDown), Ok(Clear), Ok(Appealed), Err(NoAppeal), Err(NoAppeal)]),
            (Appealed, [Err(IsDown), Ok(Clear), Err(AppealOpen), Ok(Clear), Ok(Upheld)]),
            (Upheld, [Err(IsDown), Ok(Clear), Err(AppealDecided), Err(NoAppeal), Err(NoAppeal)]),
        ];
        assert_eq!(table.map(|(standing, _)| standing), Standing::ALL);
        for (standing, expected) in table {
            assert_eq!(Act::ALL.map(|act| standing.after(act)), expected, "{standing:?}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for standing in Standing::ALL {
            assert_eq!(Standing::parse(standing.as_str()), Some(standing));
        }
        for reason in ReportReason::ALL {
            assert_eq!(ReportReason::parse(reason.as_str()), Some(reason));
        }
        for state in ReportState::ALL {
            assert_eq!(ReportState::parse(state.as_str()), Some(state));
        }
    }
}
