//! The golden signals as Prometheus reads them.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::{MetricType, exemplar::Exemplar},
};

use super::{
    Golden, Route,
    cell::{CLASSES, Tally},
    histogram::{BUCKETS, boundaries},
};

impl fmt::Debug for Golden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Golden")
    }
}

/// Registered by [`crate::Metrics::add_golden`].
#[derive(Debug)]
pub(crate) struct GoldenCollector(pub(crate) Golden);

impl Collector for GoldenCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all: Vec<(Route, Vec<(String, Tally)>)> =
            self.0.all_routes().into_iter().map(|route| (route.clone(), route.tallies())).collect();
        let rows = || {
            all.iter().flat_map(|(route, tallies)| {
                tallies.iter().map(move |(project, tally)| {
                    let labels =
                        [("method", route.0.method), ("route", &*route.0.template), ("project", project.as_str())];
                    (labels, tally)
                })
            })
        };
        let mut family =
            encoder.encode_descriptor("mainstay_http_requests", "Requests finished.", None, MetricType::Counter)?;
        for (labels, tally) in rows() {
            for (class, count) in CLASSES.iter().zip(&tally.classes).filter(|(_, n)| **n > 0) {
                let [method, route, project] = labels;
                let labels = [method, route, project, ("class", *class)];
                family.encode_family(&labels)?.encode_counter(count, None::<&Exemplar<NoLabelSet, f64>>)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "mainstay_http_request_duration_seconds",
            "From the first byte read to the last byte written.",
            None,
            MetricType::Histogram,
        )?;
        for (labels, tally) in rows() {
            let (buckets, count) = coarse(tally);
            #[allow(clippy::cast_precision_loss, reason = "a sum of seconds is an f64 on the wire")]
            let sum = tally.sum_us as f64 / 1e6;
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

/// The buckets of the exposition, not cumulative, `+Inf` last; and their sum, so that `count` always equals it.
fn coarse(tally: &Tally) -> (Vec<(f64, u64)>, u64) {
    let mut from = 0;
    let mut out = Vec::with_capacity(12);
    for (le, last) in boundaries().chain([(f64::INFINITY, BUCKETS - 1)]) {
        out.push((le, tally.buckets[from..=last].iter().sum()));
        from = last + 1;
    }
    let count = out.iter().map(|(_, n)| n).sum();
    (out, count)
}
