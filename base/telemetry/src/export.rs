//! Finished spans on their way to a collector: a bounded queue, a worker, batches.
//!
//! Invariants:
//! - EXPORT-1: finishing a span never waits: a full queue drops it and counts it.
//! - EXPORT-2: the worker takes at most [`BATCH`] spans at once and waits at most [`LINGER`] to fill a batch.
//! - EXPORT-3: `finished = exported + failed + dropped + waiting`.
//!
//! The SDK's own batch processor would do the same on a thread of its own, but hides what it dropped and knows nothing of our
//! shutdown order.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use kernel::{Backoff, Clock, OnPanic, Rng, Shutdown, Tasks};
use opentelemetry::{KeyValue, SpanId, TraceId, Value};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{IdGenerator, Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::redact;

/// Most spans of one export.
pub(crate) const BATCH: usize = 512;
/// Longest wait for a batch to fill.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// What happened to finished spans so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanStats {
    /// Taken by the collector.
    pub exported_count: u64,
    /// Lost since an export failed.
    pub failed_count: u64,
    /// Lost since the queue was full.
    pub dropped_count: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    exported: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    down: AtomicBool,
}

impl Counters {
    pub(crate) fn read(&self) -> SpanStats {
        SpanStats {
            exported_count: self.exported.load(Ordering::Relaxed),
            failed_count: self.failed.load(Ordering::Relaxed),
            dropped_count: self.dropped.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }
}

/// Puts finished spans into the queue.
#[derive(Debug)]
pub(crate) struct Pipeline {
    queue: mpsc::Sender<SpanData>,
    counters: Arc<Counters>,
}

impl SpanProcessor for Pipeline {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, mut span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        redact_all(&mut span.attributes);
        for event in &mut span.events.events {
            redact_all(&mut event.attributes);
        }
        if self.queue.try_send(span).is_err() {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn redact_all(attributes: &mut [KeyValue]) {
    for KeyValue { key, value, .. } in attributes {
        if redact::is_secret_name(key.as_str()) {
            *value = Value::from(redact::MASK);
        } else if let Value::String(text) = value
            && let std::borrow::Cow::Owned(masked) = redact::text(text.as_str())
        {
            *value = Value::from(masked);
        }
    }
}

/// Asks the worker to export what waits.
pub(crate) type Flush = mpsc::Sender<oneshot::Sender<()>>;

struct Worker<E> {
    exporter: E,
    spans: mpsc::Receiver<SpanData>,
    flushes: mpsc::Receiver<oneshot::Sender<()>>,
}

/// Starts the worker; spans finished before its shutdown are exported, those after it are dropped.
pub(crate) fn start<E: SpanExporter + 'static>(
    exporter: E,
    queue: usize,
    timeout: Duration,
    clock: &Clock,
    tasks: &Tasks,
) -> (Pipeline, Flush, Arc<Counters>) {
    let (span_tx, spans) = mpsc::channel(queue.max(1));
    let (flush_tx, flushes) = mpsc::channel(4);
    let counters = Arc::new(Counters::default());
    let worker = Arc::new(Mutex::new(Worker { exporter, spans, flushes }));
    let (counted, clock) = (counters.clone(), clock.clone());
    tasks.supervise("span-export", OnPanic::Restart(Backoff::STANDARD), move |shutdown| {
        let (worker, counters, clock) = (worker.clone(), counted.clone(), clock.clone());
        async move { worker.lock().await.run(&counters, &clock, timeout, &shutdown).await }
    });
    (Pipeline { queue: span_tx, counters: counters.clone() }, flush_tx, counters)
}

impl<E: SpanExporter> Worker<E> {
    async fn run(&mut self, counters: &Counters, clock: &Clock, timeout: Duration, shutdown: &Shutdown) {
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            tokio::select! {
                biased;
                () = shutdown.wait() => break,
                Some(done) = self.flushes.recv() => {
                    self.drain(counters, clock, timeout).await;
                    // Whoever asked may have given up.
                    done.send(()).ok();
                    continue;
                }
                count = self.spans.recv_many(&mut batch, BATCH) => if count == 0 { break },
            }
            let full = async {
                while batch.len() < BATCH {
                    let room = BATCH - batch.len();
                    if self.spans.recv_many(&mut batch, room).await == 0 {
                        break;
                    }
                }
            };
            // Shutdown and a waiting flush both cut the wait short; the loop then meets them.
            let mut flush = None;
            tokio::select! {
                () = shutdown.wait() => {}
                asked = self.flushes.recv() => flush = asked,
                _ = clock.timeout(LINGER, full) => {}
            }
            self.export(batch, counters, clock, timeout).await;
            if let Some(done) = flush {
                self.drain(counters, clock, timeout).await;
                done.send(()).ok();
            }
        }
        self.spans.close();
        self.drain(counters, clock, timeout).await;
    }

    /// Exports what waits now; gives up at the first failure, since more would only wait for more time-outs.
    async fn drain(&mut self, counters: &Counters, clock: &Clock, timeout: Duration) {
        let mut left = self.spans.len();
        while left > 0 {
            let mut batch = Vec::with_capacity(left.min(BATCH));
            while batch.len() < left.min(BATCH) {
                let Ok(span) = self.spans.try_recv() else { break };
                batch.push(span);
            }
            left = if batch.is_empty() { 0 } else { left - batch.len() };
            if !batch.is_empty() && !self.export(batch, counters, clock, timeout).await {
                break;
            }
        }
    }

    async fn export(&self, batch: Vec<SpanData>, counters: &Counters, clock: &Clock, timeout: Duration) -> bool {
        let count = batch.len() as u64;
        let outcome = clock.timeout(timeout, self.exporter.export(batch)).await;
        let failure = match outcome {
            Some(Ok(())) => None,
            Some(Err(e)) => Some(redact::text(&e.to_string()).into_owned()),
            None => Some("the collector did not answer in time".to_owned()),
        };
        let sum = if failure.is_some() { &counters.failed } else { &counters.exported };
        sum.fetch_add(count, Ordering::Relaxed);
        // Said once a change, not once a batch.
        let was_down = counters.down.swap(failure.is_some(), Ordering::Relaxed);
        match &failure {
            Some(reason) if !was_down => tracing::warn!(reason, "spans cannot be exported and are lost"),
            None if was_down => tracing::info!("spans are exported again"),
            _ => {}
        }
        failure.is_none()
    }
}

/// Trace and span ids from the kernel's randomness, unless the next ones are given.
#[derive(Debug)]
pub(crate) struct Ids(pub(crate) Rng);

thread_local! {
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

impl Ids {
    /// Runs `start`, in which one span starts on this thread, and gives it these ids.
    pub(crate) fn with_next(trace_id: TraceId, span_id: SpanId, start: impl FnOnce()) {
        NEXT.set(Some((trace_id, span_id)));
        start();
        NEXT.set(None);
    }
}

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| TraceId::from_bytes(self.0.bytes()), |(trace_id, _)| trace_id)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| SpanId::from_bytes(self.0.bytes()), |(_, span_id)| span_id)
    }
}
