//! Every metric that the shortener emits; each shows as `mainstay_shortener_…`.

use ::telemetry::RoomRegistry;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    outcome: &'static str,
}

/// The room's numbers. Counters of the redirect path are resolved here once, so that a request only adds to an atomic.
#[derive(Debug, Clone)]
pub(crate) struct Telemetry {
    /// `redirects{outcome="found"}`
    pub(crate) found: Counter,
    /// `redirects{outcome="unknown"}`
    pub(crate) unknown: Counter,
    /// `redirects{outcome="expired"}`
    pub(crate) expired: Counter,
    /// `redirects{outcome="early"}`: before the link's time.
    pub(crate) early: Counter,
    /// `redirects{outcome="closed"}`: switched off by its owner or a moderator.
    pub(crate) closed: Counter,
    /// `redirects{outcome="preview"}`: looked at without being led on.
    pub(crate) previews: Counter,
    /// `redirects{outcome="asked"}`: for a password.
    pub(crate) asked: Counter,
    /// `redirects{outcome="denied"}`: a password that did not fit, or was not looked at.
    pub(crate) denied: Counter,
    /// `redirects{outcome="other"}`: `/`, `/robots.txt`, `/favicon.ico`.
    pub(crate) others: Counter,
    /// `redirects{outcome="refused"}`: a method other than GET and HEAD.
    pub(crate) refused: Counter,
    /// `redirects{outcome="unavailable"}`: the database could not be asked.
    pub(crate) unavailable: Counter,
    /// `cache_lookups{outcome="hit"}`
    pub(crate) cache_hits: Counter,
    /// `cache_lookups{outcome="miss"}`
    pub(crate) cache_misses: Counter,
    /// `questions`: codes that the database was asked for.
    pub(crate) questions: Counter,
    /// `cache_invalidations{outcome="local"}`
    pub(crate) invalidated_here: Counter,
    /// `cache_invalidations{outcome="remote"}`
    pub(crate) invalidated_elsewhere: Counter,
    /// `cache_invalidations{outcome="all"}`: after a gap, everything.
    pub(crate) invalidated_all: Counter,
    /// `cache_invalidations{outcome="unsent"}`: other nodes were not told and rely on the maximum age.
    pub(crate) invalidations_unsent: Counter,
    /// `cache_degraded`: 1 while invalidations are not received.
    pub(crate) cache_degraded: Gauge,
    /// `clicks{outcome="recorded"}`
    pub(crate) clicks_recorded: Counter,
    /// `clicks{outcome="dropped"}`
    pub(crate) clicks_dropped: Counter,
    /// `clicks{outcome="logged"}`: appended to the click log.
    pub(crate) clicks_logged: Counter,
    /// `clicks{outcome="lost"}`: given up, see CLICKS-3.
    pub(crate) clicks_lost: Counter,
    /// `clicks{outcome="rolled"}`: brought into the rollups by this node, whoever took them.
    pub(crate) clicks_rolled: Counter,
    /// `clicks_pending`: in memory, not in the log.
    pub(crate) clicks_pending: Gauge,
    /// `click_log_bytes`: appended.
    pub(crate) log_bytes: Counter,
    /// `click_append_seconds`
    pub(crate) append_seconds: Histogram,
    /// `click_append_failures`
    pub(crate) append_failures: Counter,
    /// `click_roll_seconds`
    pub(crate) roll_seconds: Histogram,
    /// `click_roll_failures`
    pub(crate) roll_failures: Counter,
    /// `click_rolls_taken`: started over, because another node had some of the segments.
    pub(crate) rolls_taken: Counter,
    /// `click_segments{outcome="adopted"}`: of other nodes, left over for a minute.
    pub(crate) segments_adopted: Counter,
    /// `click_roll_parts`: transactions that added some links' sums.
    pub(crate) roll_parts: Counter,
    /// `click_segments{outcome="damaged"}`: left out of the rollups.
    pub(crate) segments_damaged: Counter,
    /// `click_segments{outcome="deleted"}`: older than `raw_clicks_kept`.
    pub(crate) segments_deleted: Counter,
    /// `country_files{outcome="read"}`
    pub(crate) countries_read: Counter,
    /// `country_files{outcome="refused"}`: damaged or gone; the one before stays.
    pub(crate) countries_refused: Counter,
    /// `links{outcome="created"}`
    pub(crate) links_created: Counter,
    /// `links{outcome="changed"}`
    pub(crate) links_changed: Counter,
    /// `links{outcome="deleted"}`
    pub(crate) links_deleted: Counter,
    /// `links{outcome="limited"}`: creations refused by the rate limit.
    pub(crate) links_limited: Counter,
    /// `reports`: reports of links that were taken.
    pub(crate) reports: Counter,
    /// `block_list_entries{outcome="file"}`
    pub(crate) block_entries_file: Gauge,
    /// `block_list_entries{outcome="moderators"}`
    pub(crate) block_entries_managed: Gauge,
    /// `block_list_stale`: 1 while the file cannot be read and the list before it stays.
    pub(crate) block_list_stale: Gauge,
    /// `id_blocks`: blocks of ids taken from the database.
    pub(crate) id_blocks: Counter,
    /// `minutes_expired`: old buckets taken away.
    pub(crate) minutes_expired: Counter,
}

impl Telemetry {
    pub(crate) fn new(registry: &RoomRegistry) -> Self {
        let family = |name: &str, help: &str| {
            let family = registry.add(name, help, Family::<Label, Counter>::default());
            move |outcome| family.get_or_create(&Label { outcome }).clone()
        };
        let counter = |name: &str, help: &str| registry.add(name, help, Counter::default());
        let entries = registry.add(
            "block_list_entries",
            "Blocked destinations by where they are listed",
            Family::<Label, Gauge>::default(),
        );
        // A number is taken out of its family one at a time: the family is locked meanwhile.
        let entries = |outcome| entries.get_or_create(&Label { outcome }).clone();
        let redirects = family("redirects", "Visits of short URLs by outcome");
        let lookups = family("cache_lookups", "Lookups of the near cache by outcome");
        let invalidations = family("cache_invalidations", "Invalidations of the near cache by where they came from");
        let clicks = family("clicks", "Clicks by what became of them");
        let segments = family("click_segments", "Segments of the click log by what became of them");
        let countries = family("country_files", "Databases of countries by whether they could be read");
        let histogram =
            |name: &str, help: &str| registry.add(name, help, Histogram::new(exponential_buckets(0.001, 2.0, 13)));
        let links = family("links", "Links created, changed, deleted, or refused by the rate limit");
        Self {
            found: redirects("found"),
            unknown: redirects("unknown"),
            expired: redirects("expired"),
            early: redirects("early"),
            closed: redirects("closed"),
            previews: redirects("preview"),
            asked: redirects("asked"),
            denied: redirects("denied"),
            others: redirects("other"),
            refused: redirects("refused"),
            unavailable: redirects("unavailable"),
            cache_hits: lookups("hit"),
            cache_misses: lookups("miss"),
            questions: counter("questions", "Codes that the database was asked for"),
            invalidated_here: invalidations("local"),
            invalidated_elsewhere: invalidations("remote"),
            invalidated_all: invalidations("all"),
            invalidations_unsent: invalidations("unsent"),
            cache_degraded: registry.add("cache_degraded", "1 while invalidations are not received", Gauge::default()),
            clicks_recorded: clicks("recorded"),
            clicks_dropped: clicks("dropped"),
            clicks_logged: clicks("logged"),
            clicks_lost: clicks("lost"),
            clicks_rolled: clicks("rolled"),
            clicks_pending: registry.add(
                "clicks_pending",
                "Clicks in memory that are not in the click log",
                Gauge::default(),
            ),
            log_bytes: counter("click_log_bytes", "Bytes appended to the click log"),
            append_seconds: histogram("click_append_seconds", "Time of one append to the click log"),
            append_failures: counter(
                "click_append_failures",
                "Appends to the click log that failed and are tried again",
            ),
            roll_seconds: histogram("click_roll_seconds", "Time of bringing some of the click log into the rollups"),
            roll_failures: counter("click_roll_failures", "Rolls that failed and are tried again"),
            rolls_taken: counter("click_rolls_taken", "Rolls started over because another node was faster"),
            segments_adopted: segments("adopted"),
            roll_parts: counter("click_roll_parts", "Transactions that brought some links' clicks into the rollups"),
            segments_damaged: segments("damaged"),
            segments_deleted: segments("deleted"),
            countries_read: countries("read"),
            countries_refused: countries("refused"),
            links_created: links("created"),
            links_changed: links("changed"),
            links_deleted: links("deleted"),
            links_limited: links("limited"),
            reports: counter("reports", "Reports of links that were taken"),
            block_entries_file: entries("file"),
            block_entries_managed: entries("moderators"),
            block_list_stale: registry.add(
                "block_list_stale",
                "1 while the file of blocked destinations cannot be read and the list before it stays",
                Gauge::default(),
            ),
            id_blocks: counter("id_blocks", "Blocks of ids taken from the database"),
            minutes_expired: counter("minutes_expired", "Old buckets of a minute taken away"),
        }
    }
}
