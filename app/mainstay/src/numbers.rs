//! What the planes and blocks count, as metrics: they keep plain numbers, since on their floors nobody knows Prometheus.

use std::fmt;

use access::Access;
use database::Db;
use memory::Memory;
use prometheus_client::{
    collector::Collector,
    encoding::DescriptorEncoder,
    metrics::{MetricType, exemplar::Exemplar},
};
use resilience::{BreakerState, Priority};
use shortener::Shortener;

use crate::shed::Shedder;

type NoLabels = [(&'static str, &'static str); 0];

/// Reads the counts when `/metrics` is asked for.
#[derive(Debug)]
pub(crate) struct Numbers {
    pub(crate) db: Db,
    pub(crate) memory: Memory,
    pub(crate) access: Access,
    pub(crate) shedder: Option<Shedder>,
}

/// What the breakers count.
#[derive(Debug)]
pub(crate) struct Breakers {
    pub(crate) shortener: Shortener,
}

impl Collector for Breakers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        let stats = self.shortener.breaker();
        let state = match stats.state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        out.gauge("mainstay_breaker_redirects_state", "0 closed, 1 half-open, 2 open.", state)?;
        let one = |count| [("redirects", count)];
        out.family("mainstay_breaker_let_in", "Calls let in.", "breaker", one(stats.let_in_count))?;
        out.family("mainstay_breaker_refused", "Calls refused without a try.", "breaker", one(stats.refused_count))?;
        out.family("mainstay_breaker_opened", "Times it opened.", "breaker", one(stats.opened_count))
    }
}

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.database(&mut out)?;
        self.memory(&mut out)?;
        self.shedding(&mut out)?;
        let stats = self.access.stats();
        out.counter("mainstay_access_accepted", "Attempts to authenticate that were let in.", stats.accepted_count)?;
        out.counter("mainstay_access_refused", "Attempts that were refused.", stats.refused_count)?;
        out.counter("mainstay_access_throttled", "Refused for failures before.", stats.throttled_count)?;
        out.counter("mainstay_access_key_loads", "Keys read from the database.", stats.key_load_count)
    }
}

impl Numbers {
    fn shedding(&self, out: &mut Out<'_>) -> fmt::Result {
        let Some(shedder) = &self.shedder else { return Ok(()) };
        let stats = shedder.stats();
        out.gauge("mainstay_api_in_flight", "Requests under way.", stats.in_flight_count.into())?;
        out.gauge("mainstay_api_in_flight_limit", "How many may be, as latency has it now.", stats.limit.into())?;
        let refused = Priority::ALL.into_iter().map(Priority::name).zip(stats.refused_counts);
        out.family("mainstay_api_shed", "Requests refused for too many under way, by class.", "class", refused)
    }

    fn database(&self, out: &mut Out<'_>) -> fmt::Result {
        let stats = self.db.stats();
        out.gauge("mainstay_database_queue_length", "Transactions that wait or are in hand.", stats.queue_length)?;
        out.gauge("mainstay_database_queue_capacity", "How many may.", stats.queue_capacity)?;
        out.gauge("mainstay_database_pool_in_use", "Connections in use.", stats.pool_in_use)?;
        out.gauge("mainstay_database_pool_size", "Connections there may be.", stats.pool_size)?;
        out.counter("mainstay_database_jobs", "Transactions and single writes that ended.", stats.job_count)?;
        out.counter("mainstay_database_groups", "Groups committed (SQLite).", stats.group_count)?;
        out.counter("mainstay_database_reruns", "Bodies run again after a conflict.", stats.rerun_count)?;
        out.counter("mainstay_database_listen_lost", "Losses of the LISTEN connection.", stats.listen_lost_count)?;
        out.counter("mainstay_database_commits", "COMMITs.", stats.commit.count())?;
        let seconds = std::time::Duration::from_micros(stats.commit.sum).as_secs_f64();
        out.counter_f64("mainstay_database_commit_seconds", "Time spent in COMMIT (the fsync on SQLite).", seconds)?;
        out.family("mainstay_database_errors", "Errors by kind.", "kind", stats.errors)
    }

    fn memory(&self, out: &mut Out<'_>) -> fmt::Result {
        let stats = self.memory.stats();
        out.gauge("mainstay_memory_used_bytes", "Bytes held in this process.", stats.local.used_bytes as u64)?;
        out.gauge("mainstay_memory_max_bytes", "Their limit.", stats.local.max_bytes as u64)?;
        out.gauge("mainstay_memory_entries", "Keys held in this process.", stats.local.entry_count as u64)?;
        out.counter("mainstay_memory_evicted", "Keys dropped to make room.", stats.local.evicted_count)?;
        out.counter("mainstay_memory_connects", "Connections made to Redis.", stats.connect_count)?;
        out.gauge("mainstay_memory_in_flight", "Operations that wait for Redis.", stats.in_flight_count as u64)?;
        out.counter(
            "mainstay_memory_messages_lost",
            "Messages that a subscriber did not get.",
            stats.pubsub.lost_count,
        )?;
        let by_use = |pick: fn(&memory::UseStats) -> u64| {
            stats.uses.iter().map(move |u| (u.declared.name, pick(u))).collect::<Vec<_>>()
        };
        out.family("mainstay_memory_operations", "Operations by use.", "use", by_use(|u| u.operation_count))?;
        let down = by_use(|u| u.down_count);
        out.family("mainstay_memory_down", "Operations that found the engine down, by use.", "use", down)?;
        let refused = by_use(|u| u.refused_count);
        out.family("mainstay_memory_refused", "Of these, refused as the use declares.", "use", refused)?;
        let local = by_use(|u| u.local_count);
        out.family("mainstay_memory_local", "Of these, answered in this process as the use declares.", "use", local)
    }
}

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter(&value, None::<&Exemplar<NoLabels, u64>>)
    }

    fn counter_f64(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter(&value, None::<&Exemplar<NoLabels, f64>>)
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, count) in values {
            metric.encode_family(&[(label, value)])?.encode_counter(&count, None::<&Exemplar<NoLabels, u64>>)?;
        }
        Ok(())
    }
}
