//! What is known of where back ends come from.

use kernel::Timestamp;

/// How the source of an upstream does.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceNote {
    /// When it answered last.
    pub(crate) answered_at: Option<Timestamp>,
    /// Why it did not since; the list before is kept.
    pub(crate) error: Option<String>,
}
