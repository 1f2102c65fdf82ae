//! Envoy's rate limit service on the API listener: the real binary, a gRPC channel, a client of Envoy's published types.

use std::time::Duration;

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::{
        RateLimitDescriptor,
        rate_limit_descriptor::{Entry, RateLimitOverride},
    },
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse, rate_limit_response::Code,
        rate_limit_service_client::RateLimitServiceClient,
    },
};
use tonic::{Request, Status, transport::Channel};

use crate::support::{Node, get};

type Client = RateLimitServiceClient<Channel>;

async fn client(node: &Node) -> Client {
    RateLimitServiceClient::connect(node.api.clone()).await.unwrap()
}

/// A limit of 5 a year that comes with the question, for one user.
fn question(user: &str) -> RateLimitRequest {
    let entry = Entry { key: "user".to_owned(), value: user.to_owned() };
    let limit = RateLimitOverride { requests_per_unit: 5, unit: 6 };
    let descriptor = RateLimitDescriptor { entries: vec![entry], limit: Some(limit), ..RateLimitDescriptor::default() };
    RateLimitRequest { domain: "edge".to_owned(), descriptors: vec![descriptor], hits_addend: 0 }
}

async fn ask(
    client: &mut Client,
    request: impl tonic::IntoRequest<RateLimitRequest>,
) -> Result<RateLimitResponse, Status> {
    client.should_rate_limit(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_channel_asks_and_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    let mut client = client(&node).await;
    // Many at once over one connection: exactly five fit, whatever the order.
    let asking = (0..200).map(|_| {
        let mut client = client.clone();
        async move { ask(&mut client, question("1")).await.unwrap() }
    });
    let answers = futures_util::future::join_all(asking).await;
    assert_eq!(answers.iter().filter(|answer| answer.overall_code() == Code::Ok).count(), 5);
    let refused = answers.iter().find(|answer| answer.overall_code() == Code::OverLimit).unwrap();
    let status = &refused.statuses[0];
    assert_eq!((status.code(), status.limit_remaining), (Code::OverLimit, 0));
    assert_eq!(status.current_limit.as_ref().map(|limit| limit.requests_per_unit), Some(5));
    assert!(status.duration_until_reset.is_some());
    let headers: Vec<&str> = refused.response_headers_to_add.iter().map(|h| h.key.as_str()).collect();
    assert_eq!(headers, ["ratelimit-policy", "ratelimit", "retry-after"]);

    // Past what a check takes, and past what a message may be.
    let mut many = question("2");
    many.descriptors = vec![many.descriptors[0].clone(); 33];
    let status = ask(&mut client, many.clone()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    assert_eq!(status.metadata().get("mainstay-code").unwrap(), "LIMITER_CHECK_INVALID");
    many.descriptors = vec![many.descriptors[0].clone(); 100_000];
    let status = ask(&mut client, many).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status}");
    // And the connection goes on.
    assert_eq!(ask(&mut client, question("2")).await.unwrap().overall_code(), Code::Ok);

    let mut late = Request::new(question("3"));
    late.set_timeout(Duration::from_secs(5));
    assert_eq!(ask(&mut client, late).await.unwrap().overall_code(), Code::Ok);
    let mut late = Request::new(question("3"));
    late.set_timeout(Duration::ZERO);
    let status = ask(&mut client, late).await.unwrap_err();
    assert!(matches!(status.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled), "{status}");

    let metrics = get(&format!("{}/metrics", node.api)).body;
    let route = "/envoy.service.ratelimit.v3.RateLimitService/";
    assert!(metrics.lines().any(|line| line.contains(route)), "golden signals name the method");
}

#[tokio::test]
async fn a_key_in_the_metadata_says_who_asks() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), "data", &[]);
    let log = node.log();
    let key = log.split_whitespace().find(|word| word.starts_with("msk_")).unwrap().to_owned();
    let mut client = client(&node).await;
    let with = |value: String| {
        let mut request = Request::new(question("1"));
        request.metadata_mut().insert("authorization", value.parse().unwrap());
        request
    };
    let status = ask(&mut client, question("1")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status}");
    assert_eq!(status.metadata().get("mainstay-code").unwrap(), "ACCESS_UNAUTHENTICATED");
    let status = ask(&mut client, with("Bearer nonsense".to_owned())).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status}");
    assert_eq!(ask(&mut client, with(format!("Bearer {key}"))).await.unwrap().overall_code(), Code::Ok);
}
