//! What can be set.

use std::time::Duration;

use kernel::ByteSize;

/// Bounds of a node's part.
#[derive(Debug, Clone)]
pub struct CoordinationConfig {
    /// What keys and values of one project may take, as they are now; past it nothing is put.
    pub max_bytes: ByteSize,
    /// How long every revision is kept; older history is given up, what is current never. Zero: never by itself.
    pub history: Duration,
    /// Changes that may wait to be written.
    pub queue_capacity: usize,
    /// Leases that ask for less get so much.
    pub min_lease: Duration,
}

impl Default for CoordinationConfig {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize(256 << 20),
            history: Duration::from_hours(1),
            queue_capacity: 10_000,
            min_lease: Duration::from_secs(1),
        }
    }
}
