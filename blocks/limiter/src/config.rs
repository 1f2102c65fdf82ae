//! The section `[limiter]` of `mainstay.toml`.

use kernel::ByteSize;

kernel::section! {
    /// Rate limits.
    pub struct LimiterConfig("limiter") {
        /// A file of rules in TOML, read again when it changes. Its domains cannot be changed over the API. Empty: none.
        rules_file: String = "\"\"", "path";
        /// Memory for counting on this node alone while Redis is away (rules with `when_down = "local"`).
        fallback_max_bytes: ByteSize = "\"16MiB\"", "bytes";
    }
}
