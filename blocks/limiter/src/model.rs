//! The pure core: rules, which of them apply, and windows of the calendar. No I/O, no async, no clock.

mod ask;
mod calendar;
pub(crate) mod cell;
mod diff;
pub(crate) mod index;
pub(crate) mod rule;
mod spec;
pub(crate) mod token;

pub use ask::{
    Check, Decision, Descriptor, LimitOverride, MAX_CELLS, MAX_COST, MAX_DESCRIPTORS, MAX_ENTRIES, MAX_KEY_BYTES,
    MAX_VALUE_BYTES, Matching, Outcome, ReservationToken, Settled, Source,
};
pub use diff::RulesDiff;
pub use spec::{
    Algorithm, CalendarSpec, CalendarUnit, KeySpec, LimitSpec, Mode, OverrideSpec, RuleSpec, Sharing, Span, WhenDown,
};

/// The most rules of a project, over all its domains.
pub const MAX_RULES: usize = 1_000;
/// The most overrides of a rule.
pub const MAX_OVERRIDES: usize = 10_000;
/// The most keys of a rule.
pub const MAX_RULE_KEYS: usize = 8;
/// The most different sets of keys that the overrides of a rule name.
pub const MAX_OVERRIDE_SHAPES: usize = 8;
/// The longest name of a rule or domain, in characters.
pub const MAX_NAME_CHARS: usize = 64;
/// The most that a rule may allow.
pub const MAX_LIMIT: u64 = 1_000_000_000;
/// The most that a sliding log may allow: it holds an entry for each.
pub const MAX_LOG_LIMIT: u64 = 10_000;
