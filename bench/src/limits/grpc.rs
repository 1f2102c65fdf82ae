//! Calls over gRPC, at once over a few connections.

use std::time::{Duration, Instant};

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::ratelimit::v3::{RateLimitRequest, rate_limit_service_client::RateLimitServiceClient},
};
use hdrhistogram::Histogram;
use kernel::Rng;
use tonic::transport::{Channel, Endpoint};

use super::{BURST, DOMAIN, KEYS};
use crate::wrk::Load;

const CONNECTIONS: usize = 4;
const CALLS_AT_ONCE: usize = 64;

/// throttlecrab's request and answer, as its `.proto` numbers them.
#[derive(Clone, PartialEq, prost::Message)]
struct ThrottleRequest {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(int32, tag = "2")]
    max_burst: i32,
    #[prost(int32, tag = "3")]
    count_per_period: i32,
    #[prost(int32, tag = "4")]
    period: i32,
    #[prost(int32, tag = "5")]
    quantity: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ThrottleResponse {
    #[prost(bool, tag = "1")]
    allowed: bool,
    #[prost(int32, tag = "2")]
    limit: i32,
    #[prost(int32, tag = "3")]
    remaining: i32,
}

/// Envoy's rate limit service.
pub(super) fn envoy(port: u16, seconds: u64) -> Load {
    run(port, seconds, |channel| {
        let client = RateLimitServiceClient::new(channel);
        move |key: String| {
            let mut client = client.clone();
            async move {
                let entry = Entry { key: "user".to_owned(), value: key };
                let descriptor = RateLimitDescriptor { entries: vec![entry], ..RateLimitDescriptor::default() };
                let request =
                    RateLimitRequest { domain: DOMAIN.to_owned(), descriptors: vec![descriptor], hits_addend: 1 };
                let answer = client.should_rate_limit(request).await.expect("the server answers").into_inner();
                assert!(answer.statuses.len() == 1 && answer.overall_code != 0, "a rule decided");
            }
        }
    })
}

/// throttlecrab's own service.
pub(super) fn throttlecrab(port: u16, seconds: u64) -> Load {
    run(port, seconds, |channel| {
        let client = tonic::client::Grpc::new(channel);
        move |key: String| {
            let mut client = client.clone();
            async move {
                let burst = i32::try_from(BURST).unwrap_or(i32::MAX);
                let request =
                    ThrottleRequest { key, max_burst: burst, count_per_period: burst, period: 1, quantity: 1 };
                client.ready().await.expect("the connection is open");
                let codec = tonic_prost::ProstCodec::<ThrottleRequest, ThrottleResponse>::default();
                let path = http::uri::PathAndQuery::from_static("/throttlecrab.RateLimiter/Throttle");
                let answer = client.unary(tonic::Request::new(request), path, codec).await.expect("the server answers");
                assert!(answer.into_inner().limit > 0, "a limit decided");
            }
        }
    })
}

fn run<C, F>(port: u16, seconds: u64, connect: impl Fn(Channel) -> C) -> Load
where
    C: Fn(String) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("an address");
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(endpoint.connect().await.expect("the server takes connections"));
        }
        let start = Instant::now();
        let end = start + Duration::from_secs(seconds);
        let tasks: Vec<_> = (0..CALLS_AT_ONCE)
            .map(|number| {
                let call = connect(channels[number % CONNECTIONS].clone());
                let rng = Rng::seeded(number as u64);
                tokio::spawn(async move {
                    let mut times = Histogram::<u64>::new(3).expect("a histogram of three digits");
                    loop {
                        let sent = Instant::now();
                        if sent >= end {
                            return times;
                        }
                        call(format!("user-{}", rng.below(KEYS))).await;
                        let micros = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
                        times.record(micros).expect("a histogram that grows");
                    }
                })
            })
            .collect();
        let mut times = Histogram::<u64>::new(3).expect("a histogram of three digits");
        for task in tasks {
            times.add(task.await.expect("no call panics")).expect("histograms that grow");
        }
        load(&times, start.elapsed())
    })
}

/// What some calls in a time were.
pub(super) fn load(times: &Histogram<u64>, took: Duration) -> Load {
    let figure = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let requests = figure(times.len());
    Load {
        requests,
        per_second: requests / took.as_secs_f64(),
        p50_ms: figure(times.value_at_quantile(0.5)) / 1000.0,
        p99_ms: figure(times.value_at_quantile(0.99)) / 1000.0,
    }
}
