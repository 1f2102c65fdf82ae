//! The process itself: what it uses of the machine, and how its tasks fare.
//!
//! The names `process_*` are those of Prometheus's client library guidelines. Memory, CPU and descriptors come from
//! `/proc/self`; where there is none they are absent, not zero.

use std::{fmt, fs};

use kernel::{Clock, Lifecycle, Timestamp};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet},
    metrics::{MetricType, exemplar::Exemplar},
};
use tokio::runtime::Handle;

/// Clock ticks a second in `/proc/self/stat`: the kernel's user-space interface fixes it at 100 on every architecture that
/// Rust's standard library supports on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the process uses right now; what the console's tiles show.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Resident memory in bytes.
    pub resident_bytes: Option<u64>,
    /// Address space in bytes.
    pub virtual_bytes: Option<u64>,
    /// CPU time used so far in seconds, user and system.
    pub cpu_seconds: Option<f64>,
    /// Open file descriptors, sockets included.
    pub open_fds: Option<u64>,
    /// The limit of open file descriptors.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

impl Usage {
    /// Reads `/proc/self`: four small files that the kernel keeps in memory (well below a millisecond).
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        // Reading the folder opens one descriptor of its own.
        let open_fds = fs::read_dir("/proc/self/fd").ok().map(|dir| (dir.count() as u64).saturating_sub(1));
        Self { open_fds, ..Self::parse(&status, &stat, &limits) }
    }

    fn parse(status: &str, stat: &str, limits: &str) -> Self {
        let field = |name: &str| {
            status.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok())
        };
        // The name in brackets may hold anything, so count fields after the last bracket: state is 3, utime 14, stime 15.
        let ticks = stat.rsplit_once(')').and_then(|(_, rest)| {
            let mut fields = rest.split_whitespace().skip(11);
            Some(fields.next()?.parse::<u32>().ok()?.saturating_add(fields.next()?.parse::<u32>().ok()?))
        });
        Self {
            resident_bytes: field("VmRSS:").map(|kib| kib * 1024),
            virtual_bytes: field("VmSize:").map(|kib| kib * 1024),
            cpu_seconds: ticks.map(|t| f64::from(t) / TICKS_PER_SECOND),
            open_fds: None,
            max_fds: limits
                .lines()
                .find_map(|l| l.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok()),
            threads: field("Threads:"),
        }
    }
}

/// Registered with [`crate::Metrics::add_process`].
pub struct ProcessCollector {
    clock: Clock,
    started_at: Timestamp,
    version: &'static str,
    lifecycle: Lifecycle,
    runtime: Option<Handle>,
}

impl fmt::Debug for ProcessCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessCollector")
    }
}

impl ProcessCollector {
    /// Of the process that began with `clock`. Made inside a tokio runtime, it shows that runtime too.
    pub fn new(clock: Clock, version: &'static str, lifecycle: Lifecycle) -> Self {
        let started_at = clock.now().minus(clock.monotonic());
        Self { clock, started_at, version, lifecycle, runtime: Handle::try_current().ok() }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        let usage = Usage::read();
        out.gauge("process_resident_memory_bytes", "Resident memory size.", usage.resident_bytes.map(float))?;
        out.gauge("process_virtual_memory_bytes", "Virtual memory size.", usage.virtual_bytes.map(float))?;
        out.counter("process_cpu_seconds", "User and system CPU time spent.", usage.cpu_seconds)?;
        out.gauge("process_open_fds", "Open file descriptors.", usage.open_fds.map(float))?;
        out.gauge("process_max_fds", "Limit of open file descriptors.", usage.max_fds.map(float))?;
        out.gauge("process_threads", "Threads of the operating system.", usage.threads.map(float))?;
        #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit 53 bits")]
        let started = self.started_at.as_millis() as f64 / 1e3;
        out.gauge("process_start_time_seconds", "Start, in seconds since the Unix epoch.", Some(started))?;
        let uptime = self.clock.monotonic().as_secs_f64();
        out.gauge("mainstay_uptime_seconds", "Time since the start.", Some(uptime))?;
        out.family(
            "mainstay_build_info",
            "The running version; always 1.",
            MetricType::Gauge,
            [([("version", self.version)], 1)],
        )?;
        let stats = self.lifecycle.stats();
        let by_name = |pick: fn(&kernel::tasks::TaskStats) -> u64| {
            stats.iter().map(move |(name, s)| ([("task", *name)], pick(s))).collect::<Vec<_>>()
        };
        out.family("mainstay_tasks_running", "Tasks now.", MetricType::Gauge, by_name(|s| s.running_count))?;
        out.family("mainstay_task_panics", "Panics of tasks.", MetricType::Counter, by_name(|s| s.panic_count))?;
        let restarts = by_name(|s| s.restart_count);
        out.family("mainstay_task_restarts", "Restarts after a panic.", MetricType::Counter, restarts)?;
        if let Some(runtime) = &self.runtime {
            let m = runtime.metrics();
            out.gauge("mainstay_runtime_workers", "Worker threads.", Some(float(m.num_workers() as u64)))?;
            out.gauge("mainstay_runtime_tasks", "Tasks not yet ended.", Some(float(m.num_alive_tasks() as u64)))?;
            let depth = m.global_queue_depth() as u64;
            out.gauge("mainstay_runtime_queue_depth", "Tasks in the shared run queue.", Some(float(depth)))?;
            let busy: f64 = (0..m.num_workers()).map(|n| m.worker_total_busy_duration(n).as_secs_f64()).sum();
            out.counter("mainstay_runtime_busy_seconds", "Time that workers spent running tasks.", Some(busy))?;
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "a gauge is an f64 on the wire")]
fn float(n: u64) -> f64 {
    n as f64
}

/// Writes descriptors and values.
pub(crate) struct Out<'a>(pub(crate) DescriptorEncoder<'a>);

impl Out<'_> {
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    pub(crate) fn counter(&mut self, name: &str, help: &str, value: Option<f64>) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        self.0
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)
    }

    pub(crate) fn family<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        sort: MetricType,
        rows: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let is_counter = matches!(sort, MetricType::Counter);
        let mut family = self.0.encode_descriptor(name, help, None, sort)?;
        for (labels, value) in rows {
            let mut metric = family.encode_family(&labels)?;
            if is_counter {
                metric.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)?;
            } else {
                metric.encode_gauge(&float(value))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_by_field_even_with_a_hostile_name() {
        let status = "Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t7\n";
        let stat = "42 (a) b (c) R 1 1 1 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 7 0 100 1 1";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n";
        let usage = Usage::parse(status, stat, limits);
        assert_eq!(
            usage,
            Usage {
                resident_bytes: Some(1 << 20),
                virtual_bytes: Some(2 << 20),
                cpu_seconds: Some(3.0),
                open_fds: None,
                max_fds: Some(1024),
                threads: Some(7),
            }
        );
        assert_eq!(Usage::parse("", "", ""), Usage::default(), "absent, not zero");
    }
}
