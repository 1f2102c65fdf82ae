//! What is asked, and what is answered.

use std::{sync::Arc, time::Duration};

/// The most descriptors of one check.
pub const MAX_DESCRIPTORS: usize = 32;
/// The most entries of one descriptor.
pub const MAX_ENTRIES: usize = 16;
/// The longest key of an entry, in bytes.
pub const MAX_KEY_BYTES: usize = 128;
/// The longest value of an entry, in bytes.
pub const MAX_VALUE_BYTES: usize = 1024;
/// The most that one check may cost.
pub const MAX_COST: u64 = 1_000_000_000;
/// The most cells that one check may touch: all of them are decided at one instant.
pub const MAX_CELLS: usize = 32;

/// Which rules apply to a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Matching {
    /// Those whose keys are among the descriptor's: a rule for `user` applies to `user=42, route=/search`.
    #[default]
    Contains,
    /// Those whose keys are exactly the descriptor's, as Envoy has it.
    Exact,
}

/// One question: may this go on?
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    /// The set of rules.
    pub domain: &'a str,
    /// What is done, seen from different sides; every rule that applies to any of them is charged, all or none.
    pub descriptors: &'a [Descriptor],
    /// Which rules apply.
    pub matching: Matching,
    /// What it costs, at most [`MAX_COST`]; 1 for a request. 0 asks without charging, and is allowed where nothing is used up
    /// beyond its limit.
    pub cost: u64,
}

/// An ordered list of `key=value`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Descriptor {
    /// The entries; of a key that comes twice, the first counts.
    pub entries: Vec<(String, String)>,
    /// What this descriptor costs, instead of [`Check::cost`].
    pub cost: Option<u64>,
    /// A limit that takes the place of the rules for this descriptor: its entries are the key, its window is fixed.
    pub limit: Option<LimitOverride>,
}

impl Descriptor {
    /// One with these entries.
    pub fn new<K: Into<String>, V: Into<String>>(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { entries, ..Self::default() }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// A limit that comes with the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitOverride {
    /// How much in a window.
    pub limit: u64,
    /// The window, aligned to the Unix epoch; from a second to 366 days.
    pub window: Duration,
}

/// The answer to a [`Check`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Whether it may go on. Then everything was charged; otherwise nothing was.
    pub is_allowed: bool,
    /// One for each rule that applies to a descriptor, in the order of the descriptors. None: nothing limits it.
    pub decisions: Vec<Decision>,
    /// When it makes sense to try again: the longest that a refusing rule says. `None` when allowed, or when it can never be.
    pub retry_after: Option<Duration>,
}

/// What one rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// To which descriptor, by its place.
    pub descriptor: usize,
    /// The name of the rule.
    pub rule: Arc<str>,
    /// How much it allows in a window; for concurrency at once.
    pub limit: u64,
    /// The window, period or lease.
    pub window: Duration,
    /// Whether this rule allows it. When another refuses, nothing was charged here either.
    pub is_allowed: bool,
    /// In shadow mode: counted, and never refuses the whole.
    pub is_shadow: bool,
    /// What is left after this check.
    pub remaining: u64,
    /// When all of the limit is there again, if nothing more is charged.
    pub reset_after: Duration,
    /// When this cost fits again; `None` when it fits now, or never does.
    pub retry_after: Option<Duration>,
    /// Who decided.
    pub source: Source,
}

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The cell itself.
    Exact,
    /// A slice of the limit that this node holds.
    Leased,
    /// This node remembers that the key was just refused.
    ShortCut,
    /// This node alone, since the memory plane is away (`when_down = "local"`).
    Fallback,
    /// Nobody: the memory plane is away, and the rule lets everything through then (`when_down = "open"`).
    Open,
    /// Nobody: the memory plane is away, and the rule refuses everything then (`when_down = "closed"`).
    Closed,
    /// The rule's list of overrides: blocked, or a limit of 0.
    Blocked,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Exact, Self::Leased, Self::ShortCut, Self::Fallback, Self::Open, Self::Closed, Self::Blocked];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Leased => "leased",
            Self::ShortCut => "short_cut",
            Self::Fallback => "fallback",
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Blocked => "blocked",
        }
    }
}

/// The signed text that settles a reservation; safe in URLs and headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationToken(String);

impl ReservationToken {
    /// From the text that a client sent.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What became of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Whether this call settled it; `false` when an earlier one did.
    pub is_first: bool,
    /// What was reserved.
    pub reserved: u64,
    /// What was charged in the end.
    pub charged: u64,
}
