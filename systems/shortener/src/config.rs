//! The section `[shortener]` of `mainstay.toml`.

use kernel::{
    ByteSize,
    config::{ConfigError, ConfigValue, Origin},
};
use limiter::{
    RuleSpec,
    model::{Algorithm, KeySpec, LimitSpec, Mode, Sharing, Span, WhenDown},
};

/// By what the limiter knows the creation of a link.
pub(crate) const CREATION: (&str, &str) = ("action", "create_link");

/// What search engines are told about short URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Robots {
    /// Nothing.
    Index,
    /// Not to list them: `X-Robots-Tag: noindex` on pages and on redirects that are not permanent.
    #[default]
    Noindex,
    /// Not to visit them, by `/robots.txt` as well. Programs that show previews of links may heed it too.
    Disallow,
}

impl ConfigValue for Robots {
    const KIND: &'static str = "robots";

    fn read(value: &kernel::config::Value) -> Result<Self, String> {
        match value.as_str() {
            Some("index") => Ok(Self::Index),
            Some("noindex") => Ok(Self::Noindex),
            Some("disallow") => Ok(Self::Disallow),
            _ => Err("expected \"index\", \"noindex\" or \"disallow\"".to_owned()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Index => "\"index\"".to_owned(),
            Self::Noindex => "\"noindex\"".to_owned(),
            Self::Disallow => "\"disallow\"".to_owned(),
        }
    }
}

kernel::section! {
    /// Short links.
    pub struct ShortenerConfig("shortener") {
        /// What short URLs start with, as visitors reach the public listener. Empty: `http://` and the public listener's address.
        public_url: String = "\"\"", "URL";
        /// What search engines are told about short URLs: `index` nothing, `noindex` not to list them (a header; permanent redirects
        /// go without it), `disallow` not to visit them either (by `/robots.txt`, which link previews may heed as well).
        robots: Robots = "\"noindex\"", "index, noindex or disallow";
        /// Links held in memory by each node for redirects, the unknown ones included.
        cache_entries: usize = "100000", "links";
        /// Most bytes that those links may take.
        cache_bytes: ByteSize = "\"64MiB\"", "bytes";
        /// How long a node may serve a link without asking the database again. The longest time for which a deleted link
        /// can still be followed on another node when its invalidation was lost. On SQLite there is no other node, and it is at least
        /// ten minutes.
        cache_max_age: std::time::Duration = "\"30s\"", "time";
        /// The same while the node knows that it receives no invalidations (Redis is away).
        cache_max_age_degraded: std::time::Duration = "\"2s\"", "time";
        /// How long a node remembers that a code is unknown.
        cache_unknown_age: std::time::Duration = "\"2s\"", "time";
        /// How long a visit waits for the database when its link is not in memory; then, and at once while most visits have to wait so
        /// long, it is answered with 503.
        question_timeout: std::time::Duration = "\"2s\"", "time";
        /// Clicks that each worker of the public listener holds before the aggregator takes them; beyond, they are dropped and counted.
        click_queue: usize = "16384", "clicks";
        /// Most bytes of clicks that wait in memory for the click log, at about 12 a click; beyond, clicks are dropped and counted.
        click_memory: ByteSize = "\"32MiB\"", "bytes";
        /// How often clicks are appended to the click log: about as much as a crash can lose.
        click_flush_interval: std::time::Duration = "\"1s\"", "time";
        /// How long clicks by the minute are kept; by hour and day they are kept with the link.
        minutes_kept: std::time::Duration = "\"3d\"", "time";
        /// How long single clicks are kept in the click log after they were counted. They hold no address, only what the analytics
        /// count.
        raw_clicks_kept: std::time::Duration = "\"7d\"", "time";
        /// A file of countries by address in the MMDB format, such as GeoLite2 Country. Read again when it changes. Empty: countries
        /// are not known.
        geo_database: String = "\"\"", "path";
        /// Ids that a node takes from the database at once. A crash wastes at most two blocks.
        block_size: u32 = "1000", "ids";
        /// Links that one project may create in a minute; 0 for no limit.
        creation_limit_per_minute: u64 = "6000", "links";
        /// The largest file that is imported.
        import_body_limit: ByteSize = "\"64MiB\"", "bytes";
        /// The most rows that a file may have.
        import_row_limit: u64 = "500000", "rows";
        /// How long is told of an import that is over. Its links stay.
        imports_kept: std::time::Duration = "\"30d\"", "time";
        /// Whether links may lead to private, local and reserved hosts. Only for an installation that serves one network.
        allow_private_destinations: bool = "false", "true or false";
        /// A file of destinations that links may not lead to: an entry a line, `example.com` (with subdomains), `=www.example.com`,
        /// or `https://example.com/path`; `#` starts a comment. Read anew when it changes. Empty: none.
        block_list: String = "\"\"", "path";
        /// The most entries of that file; about 40 bytes of memory each. A longer file is refused.
        block_list_entries: usize = "2000000", "entries";
        /// Aliases that nobody may choose, without regard to case.
        reserved_words: Vec<String> = "[\"admin\", \"api\", \"console\", \"docs\", \"export\", \"health\", \"metrics\", \"openapi\", \"assets\", \"static\", \"login\", \"well-known\"]", "words";
    }
}

/// How long links are held at least where nobody else can change them.
const ALONE_MAX_AGE: std::time::Duration = std::time::Duration::from_mins(10);

impl ShortenerConfig {
    /// The limits that hold for every project until it has rules of the same names in the domain `mainstay`: creations in each minute
    /// of the clock, over all nodes. Around the turn of a minute up to twice as many may pass in 60 seconds. While Redis is away every
    /// node counts for itself.
    pub fn built_in_limits(&self) -> Vec<RuleSpec> {
        let (key, value) = CREATION;
        let limit = LimitSpec {
            algorithm: Algorithm::FixedWindow,
            limit: self.creation_limit_per_minute,
            window: Some(Span(std::time::Duration::from_mins(1))),
            period: None,
            calendar: None,
            burst: None,
            lease: None,
        };
        let rule = RuleSpec {
            name: "link-creations".to_owned(),
            description: "Links that a project creates (imports are apart)".to_owned(),
            keys: vec![KeySpec { key: key.to_owned(), value: Some(value.to_owned()), is_shared: false }],
            limit,
            cost_from: None,
            mode: Mode::Enforce,
            when_down: WhenDown::Local,
            sharing: Sharing::Exact,
            overrides: Vec::new(),
        };
        if self.creation_limit_per_minute == 0 { Vec::new() } else { vec![rule] }
    }

    /// For the only process that changes links, as the one that holds a SQLite file is: what it changes it forgets at once, no
    /// invalidation can be lost, and asking again every few seconds only costs.
    #[must_use]
    pub fn alone(self) -> Self {
        Self { cache_max_age: self.cache_max_age.max(ALONE_MAX_AGE), ..self }
    }

    /// Checks what single values cannot say. Returns every mistake.
    pub fn validate(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut check = |ok: bool, key: &str, detail: &str| {
            if !ok {
                let key = format!("shortener.{key}");
                errors.push(ConfigError { key, origin: Origin::Default, detail: detail.to_owned() });
            }
        };
        let is_url = self.public_url.is_empty()
            || url::Url::parse(&self.public_url).is_ok_and(|u| {
                matches!(u.scheme(), "http" | "https")
                    && u.query().is_none()
                    && u.fragment().is_none()
                    && u.path() == "/"
            });
        check(
            is_url,
            "public_url",
            "expected an http or https URL with nothing after the host, such as https://go.example.com",
        );
        check(self.cache_entries > 0, "cache_entries", "must be at least 1");
        check((1..=1_000_000).contains(&self.block_size), "block_size", "must be from 1 to 1000000");
        check(!self.question_timeout.is_zero(), "question_timeout", "must be longer than nothing");
        check(self.click_queue > 0, "click_queue", "must be at least 1");
        check(self.click_memory.0 > 0, "click_memory", "must be at least 1");
        check(
            self.raw_clicks_kept >= std::time::Duration::from_hours(1),
            "raw_clicks_kept",
            "must be at least 1h, so that clicks are counted before they go",
        );
        check(!self.click_flush_interval.is_zero(), "click_flush_interval", "must be longer than nothing");
        check(
            self.minutes_kept >= std::time::Duration::from_hours(2),
            "minutes_kept",
            "must be at least 2h, which the console's shortest chart shows",
        );
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(ShortenerConfig::default().validate(), []);
    }

    #[test]
    fn who_is_alone_holds_links_for_longer_and_never_for_less() {
        let hour = std::time::Duration::from_hours(1);
        let longer = ShortenerConfig { cache_max_age: hour, ..ShortenerConfig::default() };
        assert_eq!(longer.alone().cache_max_age, hour);
        assert_eq!(ShortenerConfig::default().alone().cache_max_age, ALONE_MAX_AGE);
    }

    #[test]
    fn mistakes_are_named() {
        for (change, key) in [
            ((|c| c.public_url = "go.example.com".to_owned()) as fn(&mut ShortenerConfig), "shortener.public_url"),
            (|c| c.public_url = "https://example.com/path".to_owned(), "shortener.public_url"),
            (|c| c.block_size = 0, "shortener.block_size"),
            (|c| c.cache_entries = 0, "shortener.cache_entries"),
        ] {
            let mut config = ShortenerConfig::default();
            change(&mut config);
            assert_eq!(config.validate().iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), [key]);
        }
    }
}
