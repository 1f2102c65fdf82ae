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
    /// `clicks{outcome="written"}`
    pub(crate) clicks_written: Counter,
    /// `clicks_pending`: counted in memory, not yet written.
    pub(crate) clicks_pending: Gauge,
    /// `click_flush_seconds`
    pub(crate) flush_seconds: Histogram,
    /// `click_flush_failures`
    pub(crate) flush_failures: Counter,
    /// `links{outcome="created"}`
    pub(crate) links_created: Counter,
    /// `links{outcome="changed"}`
    pub(crate) links_changed: Counter,
    /// `links{outcome="deleted"}`
    pub(crate) links_deleted: Counter,
    /// `links{outcome="limited"}`: creations refused by the rate limit.
    pub(crate) links_limited: Counter,
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
        let redirects = family("redirects", "Visits of short URLs by outcome");
        let lookups = family("cache_lookups", "Lookups of the near cache by outcome");
        let invalidations = family("cache_invalidations", "Invalidations of the near cache by where they came from");
        let clicks = family("clicks", "Clicks by what became of them");
        let links = family("links", "Links created, changed, deleted, or refused by the rate limit");
        Self {
            found: redirects("found"),
            unknown: redirects("unknown"),
            expired: redirects("expired"),
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
            clicks_written: clicks("written"),
            clicks_pending: registry.add(
                "clicks_pending",
                "Clicks counted in memory, not yet written",
                Gauge::default(),
            ),
            flush_seconds: registry.add(
                "click_flush_seconds",
                "Time of one write of clicks",
                Histogram::new(exponential_buckets(0.001, 2.0, 13)),
            ),
            flush_failures: counter("click_flush_failures", "Writes of clicks that failed and are tried again"),
            links_created: links("created"),
            links_changed: links("changed"),
            links_deleted: links("deleted"),
            links_limited: links("limited"),
            id_blocks: counter("id_blocks", "Blocks of ids taken from the database"),
            minutes_expired: counter("minutes_expired", "Old buckets of a minute taken away"),
        }
    }
}
