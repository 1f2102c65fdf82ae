//! What the data path shows at `/metrics`: rate, errors and duration of each route, mirrors, lines that the log lost. Back ends are shown by
//! `blocks/upstream`.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::DescriptorEncoder,
    metrics::{MetricType, exemplar::Exemplar},
};

use super::worker::DataPath;
use crate::model::{Route, RouteNumbers};

/// Classes of statuses; the first is that of clients that went away before their answer.
const CLASSES: [&str; 6] = ["gone", "1xx", "2xx", "3xx", "4xx", "5xx"];

type NoLabels = [(&'static str, &'static str); 0];

impl Collector for DataPath {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let table = self.table();
        let routes: Vec<(&Arc<Route>, RouteNumbers)> =
            table.routes().iter().map(|route| (route, route.stats.numbers())).collect();
        let out = &mut encoder;
        let mut requests = out.encode_descriptor(
            "mainstay_gateway_requests",
            "Requests by route and class.",
            None,
            MetricType::Counter,
        )?;
        for (route, numbers) in &routes {
            for (class, count) in CLASSES.iter().zip(numbers.by_class).filter(|(_, count)| *count > 0) {
                let labels = [("route", &*route.name), ("class", *class)];
                requests.encode_family(&labels)?.encode_counter(&count, None::<&Exemplar<NoLabels, u64>>)?;
            }
        }
        let help = "Time from the heads of requests to the last bytes of their answers, by route.";
        let mut seconds = out.encode_descriptor("mainstay_gateway_request_seconds", help, None, MetricType::Counter)?;
        for (route, numbers) in &routes {
            let count = u32::try_from(numbers.total).unwrap_or(u32::MAX);
            let sum = numbers.mean.unwrap_or(Duration::ZERO).saturating_mul(count).as_secs_f64();
            let labels = [("route", &*route.name)];
            seconds.encode_family(&labels)?.encode_counter(&sum, None::<&Exemplar<NoLabels, f64>>)?;
        }
        by_route(out, "mainstay_gateway_retries", "Tries after the first, by route.", &routes, |n| n.retries)?;
        by_route(out, "mainstay_gateway_refused", "Refused for too many at once, by route.", &routes, |n| n.refused)?;
        by_route(out, "mainstay_gateway_fallbacks", "Answered by the fallback, by route.", &routes, |n| n.fallbacks)?;
        let mut in_flight = out.encode_descriptor(
            "mainstay_gateway_in_flight",
            "Requests under way, by route.",
            None,
            MetricType::Gauge,
        )?;
        for (route, numbers) in &routes {
            in_flight.encode_family(&[("route", &*route.name)])?.encode_gauge(&i64::from(numbers.in_flight))?;
        }
        let mirrors = self.mirrors();
        for (name, help, count) in [
            ("mainstay_gateway_mirror_compared", "Pairs of answers compared.", mirrors.compared_count),
            ("mainstay_gateway_mirror_different", "Pairs of answers that differ.", mirrors.different_count),
            ("mainstay_gateway_mirror_failed", "Requests that the mirror did not answer.", mirrors.failed_count),
            ("mainstay_gateway_mirror_skipped", "Requests not mirrored or not compared.", mirrors.skipped_count),
            ("mainstay_gateway_log_lost", "Lines that the access log lost.", self.lost_log_lines()),
        ] {
            let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode_counter(&count, None::<&Exemplar<NoLabels, u64>>)?;
        }
        Ok(())
    }
}

fn by_route(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    routes: &[(&Arc<Route>, RouteNumbers)],
    of: impl Fn(&RouteNumbers) -> u64,
) -> fmt::Result {
    let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (route, numbers) in routes {
        let labels = [("route", &*route.name)];
        metric.encode_family(&labels)?.encode_counter(&of(numbers), None::<&Exemplar<NoLabels, u64>>)?;
    }
    Ok(())
}
