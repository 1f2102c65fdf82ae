//! Its section of the configuration.

use std::time::Duration;

kernel::section! {
    /// Revisioned keys, leases, locks.
    pub struct CoordinationConfig("coordination") {
        /// What keys and values of one project may take, as they are now; past it nothing is put.
        max_bytes: kernel::ByteSize = "\"256MiB\"", "bytes";
        /// How long every revision is kept; older history is given up, what is current never. 0s: never by itself.
        history: Duration = "\"1h\"", "duration";
        /// Changes that may wait to be written.
        queue_capacity: usize = "10000", "changes";
        /// Leases that ask for less get so much.
        min_lease: Duration = "\"1s\"", "duration";
    }
}
