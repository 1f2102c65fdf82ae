//! Envoy's rate limit service on the API listener: the real binary, a gRPC channel, a client of Envoy's published types.

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

use crate::support::Node;

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
