//! The rate limit service of Envoy, version 3 (`envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`).
//!
//! - Who asks is whoever `authorization: Bearer …` names, as everywhere; it needs `limits:write`. The rules are those of its
//!   project and of the request's domain, and apply where their keys are exactly the descriptor's.
//! - Every descriptor is charged or none is: when one is over its limit, the others lose nothing.
//! - A status for each descriptor: `OVER_LIMIT` when a rule refuses it, with that rule's limit and the time until the cost fits
//!   again; else `OK` with the rule that has least left and the time until it is whole; without a limit where no rule applies.
//! - `hits_addend` of the request is 1 when it is 0; that of a descriptor wins over it, and 0 there asks without taking.
//!   `is_negative_hits` is refused: what was taken is given back by settling a reservation.
//! - A descriptor's own limit takes the place of the rules. A month there is 30 days and a year 365.
//! - `RateLimit-Policy`, `RateLimit` and, when it refuses, `Retry-After` are among the headers for the proxy's client.
//! - Errors are gRPC statuses with the stable code in `mainstay-code`; `grpc-timeout` is heeded.

use std::time::Duration;

use access::Caller;
use axum::Router;
use kernel::Problem;
use tonic::{Request, Response, Status};
use web::Reject;

use crate::{Check, Decision, Descriptor, Error, LimitOverride, Limiter, Matching, Outcome, SYSTEM, http::headers};

/// What `proto/` compiles to.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod rls {
    tonic::include_proto!("envoy.service.ratelimit.v3");
}

use rls::{
    HeaderValue, RateLimitDescriptor, RateLimitRequest, RateLimitResponse, Unit,
    rate_limit_response::{Code, DescriptorStatus, RateLimit},
    rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
};

/// The largest request, in bytes: 32 descriptors with the longest entries that are taken fit well.
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// Where it is called.
pub const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

const DAY: Duration = Duration::from_hours(24);

/// The route. It belongs inside of [`access::auth_layer`] and outside of the Idempotency-Key layer.
pub fn routes(limiter: Limiter) -> Router {
    let service = RateLimitServiceServer::new(Service(limiter)).max_decoding_message_size(MAX_REQUEST_BYTES);
    Router::new().route_service("/envoy.service.ratelimit.v3.RateLimitService/{method}", service)
}

#[derive(Debug, Clone)]
struct Service(Limiter);

#[tonic::async_trait]
impl RateLimitService for Service {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let caller = request.extensions().get::<Caller>().cloned().ok_or(access::Error::Unauthenticated);
        let answer = async {
            let caller = caller.map_err(Problem::from)?;
            caller.require(SYSTEM, "write").map_err(Problem::from)?;
            let asked = request.into_inner();
            let descriptors = asked.descriptors.into_iter().enumerate().map(descriptor);
            let descriptors = descriptors.collect::<Result<Vec<_>, _>>()?;
            let check = Check {
                domain: &asked.domain,
                descriptors: &descriptors,
                matching: Matching::Exact,
                cost: u64::from(asked.hits_addend).max(1),
            };
            let outcome = match self.0.try_check(caller.project(), &check) {
                Some(outcome) => outcome,
                None => self.0.check(caller.project(), &check).await,
            };
            Ok(answer(&outcome.map_err(Problem::from)?, descriptors.len()))
        };
        answer.await.map(Response::new).map_err(|problem: Problem| status(&problem.into()))
    }
}

/// A refusal as tonic sends it.
fn status(reject: &Reject) -> Status {
    let headers = web::stack::grpc_refusal(reject);
    Status::from_header_map(&headers).unwrap_or_else(|| Status::internal("the refusal cannot be told"))
}

/// A descriptor as it came in place `index`.
fn descriptor((index, wire): (usize, RateLimitDescriptor)) -> Result<Descriptor, Problem> {
    let wrong = |field: &str, detail: &str| -> Problem {
        Error::CheckInvalid { field: format!("/descriptors/{index}/{field}"), detail: detail.to_owned() }.into()
    };
    if wire.is_negative_hits {
        return Err(wrong("is_negative_hits", "giving back is not taken here; settle a reservation instead"));
    }
    let limit = wire.limit.map(|limit| {
        let window = match limit.unit() {
            Unit::Unknown => {
                return Err(wrong("limit/unit", "expected SECOND, MINUTE, HOUR, DAY, WEEK, MONTH or YEAR"));
            }
            Unit::Second => Duration::from_secs(1),
            Unit::Minute => Duration::from_mins(1),
            Unit::Hour => Duration::from_hours(1),
            Unit::Day => DAY,
            Unit::Week => DAY * 7,
            Unit::Month => DAY * 30,
            Unit::Year => DAY * 365,
        };
        Ok(LimitOverride { limit: u64::from(limit.requests_per_unit), window })
    });
    Ok(Descriptor {
        entries: wire.entries.into_iter().map(|entry| (entry.key, entry.value)).collect(),
        cost: wire.hits_addend,
        limit: limit.transpose()?,
    })
}

fn answer(outcome: &Outcome, descriptor_count: usize) -> RateLimitResponse {
    let told = headers::headers(outcome, headers::Form::Standard);
    let told = told.iter().filter_map(|(name, value)| {
        Some(HeaderValue { key: name.as_str().to_owned(), value: value.to_str().ok()?.to_owned() })
    });
    RateLimitResponse {
        overall_code: if outcome.is_allowed { Code::Ok } else { Code::OverLimit }.into(),
        statuses: (0..descriptor_count).map(|index| descriptor_status(outcome, index)).collect(),
        response_headers_to_add: told.collect(),
    }
}

/// What the rules of one descriptor say together: the one that refuses longest, else the one with least left.
fn descriptor_status(outcome: &Outcome, index: usize) -> DescriptorStatus {
    let mine = || outcome.decisions.iter().filter(|d| d.descriptor == index);
    // A rule that never allows it has no time after which it would.
    let longest = |d: &&Decision| d.retry_after.unwrap_or(Duration::MAX);
    let refusing = mine().filter(|d| !d.is_allowed && !d.is_shadow).max_by_key(longest);
    let Some(decision) = refusing.or_else(|| mine().min_by_key(|d| (d.is_shadow, d.remaining))) else {
        return DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() };
    };
    let until = if refusing.is_some() { decision.retry_after } else { Some(decision.reset_after) };
    DescriptorStatus {
        code: if refusing.is_some() { Code::OverLimit } else { Code::Ok }.into(),
        current_limit: Some(RateLimit {
            requests_per_unit: u32::try_from(decision.limit).unwrap_or(u32::MAX),
            unit: unit(decision.window).into(),
            name: decision.rule.to_string(),
        }),
        limit_remaining: u32::try_from(decision.remaining).unwrap_or(u32::MAX),
        duration_until_reset: until.and_then(|d| d.try_into().ok()),
    }
}

/// The unit of a window, where it is one.
fn unit(window: Duration) -> Unit {
    const DAY_S: u64 = 86_400;
    if window.subsec_nanos() != 0 {
        return Unit::Unknown;
    }
    match window.as_secs() {
        1 => Unit::Second,
        60 => Unit::Minute,
        3_600 => Unit::Hour,
        DAY_S => Unit::Day,
        s if s == 7 * DAY_S => Unit::Week,
        // Months and years of a calendar; an hour more or less where clocks change.
        s if (28 * DAY_S - 3_600..=31 * DAY_S + 3_600).contains(&s) => Unit::Month,
        s if (365 * DAY_S..=366 * DAY_S).contains(&s) => Unit::Year,
        _ => Unit::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;

    fn decision(descriptor: usize, rule: &str, remaining: u64, reset_s: u64) -> Decision {
        Decision {
            descriptor,
            rule: rule.into(),
            limit: 100,
            window: Duration::from_mins(1),
            is_allowed: true,
            is_shadow: false,
            remaining,
            reset_after: Duration::from_secs(reset_s),
            retry_after: None,
            source: Source::Exact,
        }
    }

    fn refusing(decision: Decision, retry_s: Option<u64>) -> Decision {
        Decision { is_allowed: false, retry_after: retry_s.map(Duration::from_secs), ..decision }
    }

    /// `CODE rule remaining seconds` of each descriptor.
    fn told(decisions: Vec<Decision>, count: usize) -> Vec<String> {
        let is_allowed = decisions.iter().all(|d| d.is_allowed || d.is_shadow);
        let answer = answer(&Outcome { is_allowed, decisions, retry_after: None }, count);
        assert_eq!(answer.overall_code() == Code::Ok, is_allowed);
        let tell = |status: &DescriptorStatus| {
            let limit = status.current_limit.as_ref().map_or("-", |l| l.name.as_str());
            let seconds = status.duration_until_reset.as_ref().map_or("-".to_owned(), |d| d.seconds.to_string());
            format!("{} {limit} {} {seconds}", status.code().as_str_name(), status.limit_remaining)
        };
        answer.statuses.iter().map(tell).collect()
    }

    #[test]
    fn every_descriptor_has_its_status() {
        let shadow = Decision { is_shadow: true, ..refusing(decision(0, "shadow", 0, 60), Some(60)) };
        for (decisions, expected) in [
            (vec![], vec!["OK - 0 -", "OK - 0 -"]),
            // The one with least left.
            (vec![decision(0, "wide", 50, 9), decision(0, "tight", 3, 5)], vec!["OK tight 3 5", "OK - 0 -"]),
            // One descriptor over its limit says nothing about the other.
            (
                vec![refusing(decision(0, "a", 2, 60), Some(7)), decision(1, "b", 5, 8)],
                vec!["OVER_LIMIT a 2 7", "OK b 5 8"],
            ),
            // Of two that refuse, the one that does so longer; never is longest.
            (
                vec![refusing(decision(0, "a", 0, 60), Some(7)), refusing(decision(0, "b", 0, 60), Some(9))],
                vec!["OVER_LIMIT b 0 9", "OK - 0 -"],
            ),
            (
                vec![refusing(decision(1, "a", 0, 60), None), refusing(decision(1, "b", 0, 60), Some(9))],
                vec!["OK - 0 -", "OVER_LIMIT a 0 -"],
            ),
            // Shadow mode refuses nothing, and stands behind what could.
            (vec![shadow.clone()], vec!["OK shadow 0 60", "OK - 0 -"]),
            (vec![shadow, decision(0, "real", 5, 6)], vec!["OK real 5 6", "OK - 0 -"]),
        ] {
            assert_eq!(told(decisions, 2), expected);
        }
    }

    #[test]
    fn windows_that_are_units() {
        for (seconds, expected) in [
            (1, Unit::Second),
            (60, Unit::Minute),
            (61, Unit::Unknown),
            (3_600, Unit::Hour),
            (86_400, Unit::Day),
            (604_800, Unit::Week),
            (28 * 86_400 - 3_600, Unit::Month),
            (31 * 86_400 + 3_600, Unit::Month),
            (32 * 86_400, Unit::Unknown),
            (365 * 86_400, Unit::Year),
            (366 * 86_400, Unit::Year),
        ] {
            assert_eq!(unit(Duration::from_secs(seconds)), expected, "{seconds}");
        }
        assert_eq!(unit(Duration::from_millis(1_500)), Unit::Unknown);
    }
}
