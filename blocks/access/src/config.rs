//! The section `[access]` of `mainstay.toml`.

use std::time::Duration;

use kernel::{
    Secret,
    config::{ConfigError, Origin},
};

kernel::section! {
    /// Projects, API keys, the console's sessions.
    pub struct AccessConfig("access") {
        /// The secret that every other secret of the installation is derived from, the same on all nodes; at least 32 characters.
        /// Empty: made at the first start and kept in the database. It cannot be changed later.
        root_secret: Secret = "\"\"", "text";
        /// How long a node may go on without asking the database about a key or session again: the longest time for which
        /// a key that was revoked on one node still works on another when its invalidation was lost.
        cache_ttl: Duration = "\"5s\"", "duration";
        /// Keys, sessions and unknown keys that a node remembers, each.
        cache_entries: usize = "10000", "entries";
        /// Failed attempts of one address, or on one key, that are answered at once; further ones wait 1 s, 2 s, 4 s, … up to 60 s.
        free_attempts: u32 = "10", "attempts";
        /// The console signs out after this time, whatever happens.
        session_lifetime: Duration = "\"12h\"", "duration";
        /// The console signs out after this time without a request.
        session_idle: Duration = "\"1h\"", "duration";
        /// Mark the console's cookie `Secure` although this server itself speaks no TLS: for a proxy in front that does.
        secure_cookies: bool = "false", "true or false";
    }
}

/// The fewest characters of a configured root secret.
pub const MIN_ROOT_SECRET_CHARS: usize = 32;

impl AccessConfig {
    /// Checks what single values cannot say. Returns every mistake.
    pub fn validate(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut check = |ok: bool, key: &str, detail: &str| {
            if !ok {
                let key = format!("access.{key}");
                errors.push(ConfigError { key, origin: Origin::Default, detail: detail.to_owned() });
            }
        };
        let root = self.root_secret.expose();
        check(
            root.is_empty() || root.chars().count() >= MIN_ROOT_SECRET_CHARS,
            "root_secret",
            "expected at least 32 characters, such as the output of `openssl rand -hex 32`",
        );
        check(
            !self.cache_ttl.is_zero() && self.cache_ttl <= Duration::from_mins(1),
            "cache_ttl",
            "must be more than 0 and at most 1m, since a revoked key may live that long",
        );
        check(self.cache_entries > 0, "cache_entries", "must be at least 1");
        check(!self.session_idle.is_zero(), "session_idle", "must be longer than nothing");
        check(
            self.session_lifetime >= self.session_idle,
            "session_lifetime",
            "must be at least as long as access.session_idle",
        );
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_mistakes_are_named() {
        assert_eq!(AccessConfig::default().validate(), []);
        for (change, key) in [
            ((|c| c.root_secret = Secret::new("short")) as fn(&mut AccessConfig), "access.root_secret"),
            (|c| c.cache_ttl = Duration::from_mins(2), "access.cache_ttl"),
            (|c| c.cache_entries = 0, "access.cache_entries"),
            (|c| c.session_idle = Duration::from_hours(13), "access.session_lifetime"),
        ] {
            let mut config = AccessConfig::default();
            change(&mut config);
            assert_eq!(config.validate().iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), [key]);
        }
    }
}
