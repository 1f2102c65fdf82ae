//! Which requests the API listener works on when it cannot work on all: the adaptive limit of `resilience`, with a class for every
//! route.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use http::{Method, StatusCode};
use kernel::Clock;
use resilience::{AdaptiveConfig, AdaptiveLimit, AdaptiveStats, Ending, Place, Priority};
use web::{Admission, Admitted, Arriving};

use crate::config::ApiConfig;

/// When who was refused may come back. Bulk work waits longer, so that it does not crowd the door.
const COME_BACK: Duration = Duration::from_secs(1);
const COME_BACK_LOW: Duration = Duration::from_secs(5);

/// The adaptive limit of the API listener. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Shedder(AdaptiveLimit);

impl Shedder {
    /// At most `in_flight_limit`, of which the reserve of the critical class is a part.
    pub(crate) fn new(clock: &Clock, config: &ApiConfig, in_flight_limit: usize) -> Self {
        let usual = AdaptiveConfig::default();
        let all = u32::try_from(in_flight_limit).unwrap_or(u32::MAX);
        let critical_reserve = usual.critical_reserve.min(all / 2);
        let max = all - critical_reserve;
        Self(AdaptiveLimit::new(
            clock,
            AdaptiveConfig {
                min: config.shed_floor.min(max),
                max,
                acceptable: config.acceptable_latency,
                critical_reserve,
                ..usual
            },
        ))
    }

    pub(crate) fn stats(&self) -> AdaptiveStats {
        self.0.stats()
    }
}

impl Admission for Shedder {
    fn admit(&self, request: &Arriving<'_>) -> Result<Box<dyn Admitted>, Duration> {
        let priority = priority(request.method, request.route);
        // A file takes as long as its sender: that says nothing of this node.
        let kind = (priority != Priority::Low).then(|| kind(request));
        match self.0.try_enter(kind, priority) {
            Ok(place) => Ok(Box::new(Work(place))),
            Err(_) if priority == Priority::Low => Err(COME_BACK_LOW),
            Err(_) => Err(COME_BACK),
        }
    }
}

/// The console before writes, writes before reads, files last. Health and metrics are never asked.
fn priority(method: &Method, route: &str) -> Priority {
    let is_console = route == "/console" || route.starts_with("/console/");
    let is_download = route.ends_with("/export") || route.ends_with("imports/{id}/errors");
    if is_download || (*method == Method::POST && route.ends_with("imports")) {
        Priority::Low
    } else if is_console {
        Priority::Critical
    } else if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        Priority::Normal
    } else {
        Priority::High
    }
}

/// Requests of one route and method usually take as long as each other.
#[allow(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
fn kind(request: &Arriving<'_>) -> usize {
    let mut hasher = DefaultHasher::new();
    request.route.hash(&mut hasher);
    request.method.as_str().hash(&mut hasher);
    hasher.finish() as usize
}

struct Work(Place);

impl Admitted for Work {
    fn answered(self: Box<Self>, status: StatusCode) {
        self.0.end(match status {
            // Refused further in, which was fast and says nothing of how long the work takes; or cut off at a deadline that the client
            // chose, which may be a millisecond.
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Ending::Abandoned
            }
            _ => Ending::Done,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_its_class() {
        for (method, route, class) in [
            (Method::GET, "/console", Priority::Critical),
            (Method::POST, "/console/sign-in", Priority::Critical),
            (Method::GET, "/console/link-imports", Priority::Critical),
            (Method::POST, "/console/link-imports", Priority::Low),
            (Method::GET, "/consolation", Priority::Normal),
            (Method::POST, "/v1/links", Priority::High),
            (Method::DELETE, "/v1/links/{code}", Priority::High),
            (Method::POST, "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", Priority::High),
            (Method::GET, "/v1/links/{code}", Priority::Normal),
            (Method::GET, "/v1/links/export", Priority::Low),
            (Method::GET, "/v1/link-imports/{id}/errors", Priority::Low),
            (Method::POST, "/v1/link-imports", Priority::Low),
            (Method::GET, "/v1/link-imports", Priority::Normal),
            (Method::DELETE, "/v1/link-imports/{id}", Priority::High),
            (Method::POST, "/console/link-imports/{id}/stop", Priority::Critical),
        ] {
            assert_eq!(priority(&method, route), class, "{method} {route}");
        }
    }

    /// A client may ask for an answer within a millisecond as often as it likes.
    #[test]
    fn a_deadline_that_the_client_chose_says_nothing_and_a_long_wait_does() {
        for (took_ms, is_lower) in [(1, false), (30_000, true)] {
            let (clock, time) = Clock::simulated(kernel::Timestamp::EPOCH);
            let shedder = Shedder::new(&clock, &ApiConfig::default(), 4_096);
            let most = shedder.stats().limit;
            let read = || shedder.admit(&Arriving { method: &Method::GET, route: "/v1/links" }).ok().unwrap();
            let reads: Vec<_> = (0..100).map(|_| read()).collect();
            time.advance(Duration::from_millis(took_ms));
            for read in reads {
                read.answered(StatusCode::GATEWAY_TIMEOUT);
            }
            assert_eq!(shedder.stats().limit < most, is_lower, "{took_ms} ms");
        }
    }

    #[test]
    fn the_reserve_is_part_of_the_in_flight_limit() {
        let (clock, _time) = Clock::simulated(kernel::Timestamp::EPOCH);
        for all in [1, 2, 20, 4_096] {
            let shedder = Shedder::new(&clock, &ApiConfig::default(), all);
            let enter = || shedder.0.try_enter(Some(0), Priority::Critical).ok();
            let places: Vec<_> = (0..2 * all).map_while(|_| enter()).collect();
            assert!((1..=all).contains(&places.len()), "{} of {all}", places.len());
        }
    }
}
