//! The section `[limiter]` of `mainstay.toml`.

use kernel::config::{ConfigError, Origin};

kernel::section! {
    /// Rate limits.
    pub struct LimiterConfig("limiter") {
        /// A file of rules in TOML, read again when it changes. Its domains cannot be changed over the API. Empty: none.
        rules_file: String = "\"\"", "path";
        /// Limits that are counted on this node alone while Redis is away (rules with `when_down = "local"`), at about 60 bytes each.
        /// Past it, those nearest to rest are forgotten.
        fallback_cells: usize = "100000", "cells";
    }
}

impl LimiterConfig {
    /// Checks what single values cannot say. Returns every mistake.
    pub fn validate(&self) -> Vec<ConfigError> {
        if self.fallback_cells > 0 {
            return Vec::new();
        }
        let (key, detail) = ("limiter.fallback_cells".to_owned(), "must be at least 1".to_owned());
        vec![ConfigError { key, origin: Origin::Default, detail }]
    }
}
