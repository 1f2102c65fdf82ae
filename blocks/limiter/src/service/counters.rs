//! Counting decisions: an addition each, and no lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::model::Source;

/// What one rule decided on this node. Alone on its cache lines, so that threads that count for different rules do not wait for one
/// another.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    allowed: [AtomicU64; Source::ALL.len()],
    refused: [AtomicU64; Source::ALL.len()],
    shadow_refused: [AtomicU64; Source::ALL.len()],
}

impl Counters {
    pub(crate) fn count(&self, source: Source, is_allowed: bool, is_shadow: bool) {
        let by = match (is_allowed, is_shadow) {
            (true, _) => &self.allowed,
            (false, false) => &self.refused,
            (false, true) => &self.shadow_refused,
        };
        by[source as usize].fetch_add(1, Relaxed);
    }

    /// Allowed, refused, and refused in shadow mode.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let sum = |of: &[AtomicU64]| of.iter().map(|n| n.load(Relaxed)).sum();
        (sum(&self.allowed), sum(&self.refused), sum(&self.shadow_refused))
    }

    /// By source: allowed, and refused (shadow included); only those that ever decided.
    pub(crate) fn by_source(&self) -> Vec<(Source, u64, u64)> {
        let read = |source: Source| {
            let at = source as usize;
            let refused = self.refused[at].load(Relaxed) + self.shadow_refused[at].load(Relaxed);
            (source, self.allowed[at].load(Relaxed), refused)
        };
        Source::ALL.map(read).into_iter().filter(|(_, allowed, refused)| allowed + refused > 0).collect()
    }
}
