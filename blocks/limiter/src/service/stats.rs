//! What this node has counted.

use std::sync::Arc;

use kernel::Timestamp;

use crate::model::{Mode, Source};

/// What this node knows of a project's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Since when it counts.
    pub since: Timestamp,
    /// Since when the memory plane is away; `None` while it serves.
    pub down_since: Option<Timestamp>,
    /// Why the file of rules is not what the rules are; `None` when it is.
    pub file_trouble: Option<String>,
    /// By rule, in order of domain and name.
    pub rules: Vec<RuleStats>,
    /// The keys that were refused most of late (5 to 10 minutes), the most refused first.
    pub top_refused: Vec<RefusedKey>,
}

/// Decisions of one rule on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleStats {
    /// Its domain.
    pub domain: Arc<str>,
    /// Its name.
    pub rule: Arc<str>,
    /// Its mode now.
    pub mode: Mode,
    /// Allowed.
    pub allowed: u64,
    /// Refused.
    pub refused: u64,
    /// Would have been refused: in shadow mode.
    pub shadow_refused: u64,
    /// Allowed and refused (shadow included) by who decided; only those that ever did.
    pub by_source: Vec<(Source, u64, u64)>,
}

/// A key that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedKey {
    /// The domain.
    pub domain: Arc<str>,
    /// The rule.
    pub rule: Arc<str>,
    /// The values of the rule's keys, as `user=42, route=/search`.
    pub key: String,
    /// How often, at most.
    pub count: u64,
    /// By how much `count` may be too high: the sketch is bounded.
    pub overcount: u64,
}
