//! Envoy's protocol, spoken by a client made of the published types of Envoy.

use access::Access;
use axum::{Router, middleware::from_fn_with_state};
use database::{Db, Durability, SqliteOptions};
use envoy_types::pb::{
    envoy::{
        extensions::common::ratelimit::v3::{
            RateLimitDescriptor,
            rate_limit_descriptor::{Entry, RateLimitOverride},
        },
        service::ratelimit::v3::{
            RateLimitRequest, RateLimitResponse, rate_limit_response::Code,
            rate_limit_service_client::RateLimitServiceClient,
        },
    },
    google::protobuf::UInt64Value,
};
use identity::Principal;
use kernel::{Clock, Lifecycle, Rng, Stage, Timestamp};
use limiter::{Deps, Limiter, LimiterConfig, grpc};
use memory::{LocalOptions, Memory};
use telemetry::Metrics;
use tonic::{Request, Status};

struct Desk {
    router: Router,
    access: Access,
    _folder: tempfile::TempDir,
    _lifecycle: Lifecycle,
}

async fn desk(is_dev: bool) -> Desk {
    let folder = tempfile::tempdir().unwrap();
    let lifecycle = Lifecycle::new(Clock::system(), Rng::seeded(1));
    let (clock, _) = Clock::simulated(Timestamp::parse("2026-11-24T06:00:00Z").unwrap());
    let options = SqliteOptions { durability: Durability::Normal, ..SqliteOptions::default() };
    let tasks = lifecycle.tasks(Stage::Planes);
    let db = Db::open_sqlite(&folder.path().join("test.db"), options, Clock::system(), &tasks).unwrap();
    let options = access::Options { dev: is_dev, ..access::Options::default() };
    let (access, _) = Access::start(db.clone(), options, clock.clone(), Rng::system(), &tasks).await.unwrap();
    let limiter = Limiter::open(Deps {
        config: LimiterConfig::default(),
        db,
        memory: Memory::local(LocalOptions::default(), clock.clone(), Rng::system()),
        access: access.clone(),
        clock: clock.clone(),
        rng: Rng::system(),
        metrics: Metrics::new(),
        built_in: Vec::new(),
    })
    .await
    .unwrap();
    let routes = grpc::routes(limiter).layer(from_fn_with_state(access.clone(), access::auth_layer));
    let options = web::StackOptions::new(web::HttpConfig::default(), clock, Rng::seeded(2)).unwrap();
    Desk { router: web::stack(routes, options), access, _folder: folder, _lifecycle: lifecycle }
}

impl Desk {
    async fn key(&self, scope: &str) -> String {
        let scopes = identity::Scopes::parse(scope).unwrap();
        let new = access::NewKey { name: "envoy".to_owned(), scopes, expires_at: None };
        self.access.create_key(&Principal::system(), &new, None).await.unwrap().text.expose()
    }

    async fn ask(&self, asked: RateLimitRequest, key: Option<&str>) -> Result<RateLimitResponse, Status> {
        let mut request = Request::new(asked);
        if let Some(key) = key {
            request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        }
        let mut client = RateLimitServiceClient::new(self.router.clone());
        client.should_rate_limit(request).await.map(tonic::Response::into_inner)
    }
}

fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).to_owned(), value: (*value).to_owned() };
    RateLimitDescriptor { entries: entries.iter().map(entry).collect(), ..RateLimitDescriptor::default() }
}

fn asked(descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest { domain: "edge".to_owned(), descriptors, hits_addend: 0 }
}

fn code_of(status: &Status) -> (tonic::Code, &str) {
    (status.code(), status.metadata().get("mainstay-code").map_or("", |v| v.to_str().unwrap()))
}

#[tokio::test]
async fn who_may_ask() {
    use tonic::Code::{Ok, PermissionDenied, Unauthenticated};
    let desk = desk(false).await;
    let (right, reader) = (desk.key("limits:write").await, desk.key("limits:read").await);
    for (key, expected) in [
        (None, (Unauthenticated, "ACCESS_UNAUTHENTICATED")),
        (Some("hello"), (Unauthenticated, "ACCESS_KEY_MALFORMED")),
        (Some(&*reader), (PermissionDenied, "ACCESS_FORBIDDEN")),
        (Some(&*right), (Ok, "")),
    ] {
        let answer = desk.ask(asked(vec![descriptor(&[("user", "1")])]), key).await;
        let status = answer.err().unwrap_or_else(|| Status::new(Ok, ""));
        assert_eq!(code_of(&status), expected, "{status}");
    }
    assert!(self::desk(true).await.ask(asked(vec![descriptor(&[("user", "1")])]), None).await.is_ok(), "--dev");
}

#[tokio::test]
async fn bad_questions() {
    let desk = desk(true).await;
    let user = || descriptor(&[("user", "1")]);
    let with = |change: fn(&mut RateLimitDescriptor)| {
        let mut descriptor = user();
        change(&mut descriptor);
        asked(vec![user(), descriptor])
    };
    for (question, field) in [
        (with(|d| d.is_negative_hits = true), "/descriptors/1/is_negative_hits"),
        (with(|d| d.limit = Some(RateLimitOverride { requests_per_unit: 5, unit: 0 })), "/descriptors/1/limit/unit"),
        (with(|d| d.limit = Some(RateLimitOverride { requests_per_unit: 5, unit: 99 })), "/descriptors/1/limit/unit"),
    ] {
        let status = desk.ask(question, None).await.unwrap_err();
        assert_eq!(code_of(&status), (tonic::Code::InvalidArgument, "LIMITER_CHECK_INVALID"), "{status}");
        assert!(status.message().contains(field), "{status}");
    }
}

#[tokio::test]
async fn a_status_for_each_descriptor() {
    let desk = desk(true).await;
    let with_limit = RateLimitDescriptor {
        limit: Some(RateLimitOverride { requests_per_unit: 5, unit: 2 }),
        hits_addend: Some(UInt64Value { value: 2 }),
        ..descriptor(&[("user", "1")])
    };
    let answer = desk.ask(asked(vec![descriptor(&[("path", "/")]), with_limit]), None).await.unwrap();
    assert_eq!((answer.overall_code(), answer.statuses.len()), (Code::Ok, 2));
}
