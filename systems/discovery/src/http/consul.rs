//! The API of Consul's catalog, health and agent endpoints, as its published clients use it (developer.hashicorp.com/consul/api-docs).
//!
//! There is one agent, and it is this installation: what any node registers, all of them tell. Tokens are API keys. A node is what
//! an instance says it runs on. What Consul has beside this (keys, sessions, access control, intentions, prepared queries) is not here.

mod agent;
mod catalog;
mod filter;
mod health;
mod wire;

use std::time::Duration;

use access::Caller;
use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
    routing::{get, put},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use kernel::{Problem, ProjectId, Shutdown};
use serde::Serialize;
use serde_json::Value;

use self::filter::Filter;
use super::{Api, parse_wait};
use crate::{
    SYSTEM,
    error::Error,
    service::{Discovery, USUAL_WAIT},
};

/// The header with the index to wait from.
const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
/// The header that carries a key.
const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");
/// Says that others than well instances are among those given out; Consul has no such thing.
const GUARD: HeaderName = HeaderName::from_static("mainstay-guard");

/// The routes, inside of the auth layer and outside of the idempotency layer.
pub fn routes(discovery: Discovery, shutdown: Shutdown) -> Router {
    Router::new()
        .route("/v1/status/leader", get(catalog::leader))
        .route("/v1/status/peers", get(catalog::peers))
        .route("/v1/catalog/datacenters", get(catalog::datacenters))
        .route("/v1/catalog/nodes", get(catalog::nodes))
        .route("/v1/catalog/services", get(catalog::services))
        .route("/v1/catalog/service/{service}", get(catalog::service))
        .route("/v1/catalog/node/{node}", get(catalog::node))
        .route("/v1/catalog/register", put(catalog::register))
        .route("/v1/catalog/deregister", put(catalog::deregister))
        .route("/v1/health/service/{service}", get(health::service))
        .route("/v1/health/checks/{service}", get(health::checks))
        .route("/v1/health/node/{node}", get(health::node))
        .route("/v1/health/state/{state}", get(health::state))
        .route("/v1/agent/self", get(agent::itself))
        .route("/v1/agent/members", get(agent::members))
        .route("/v1/agent/services", get(agent::services))
        .route("/v1/agent/service/{id}", get(agent::service))
        .route("/v1/agent/service/register", put(agent::register))
        .route("/v1/agent/service/deregister/{id}", put(agent::deregister))
        .route("/v1/agent/service/maintenance/{id}", put(agent::maintenance))
        .route("/v1/agent/health/service/name/{name}", get(agent::health_by_name))
        .route("/v1/agent/health/service/id/{id}", get(agent::health_by_id))
        .route("/v1/agent/checks", get(agent::checks))
        .route("/v1/agent/check/register", put(agent::register_check))
        .route("/v1/agent/check/deregister/{id}", put(agent::deregister_check))
        .route("/v1/agent/check/pass/{id}", put(agent::pass))
        .route("/v1/agent/check/warn/{id}", put(agent::warn))
        .route("/v1/agent/check/fail/{id}", put(agent::fail))
        .route("/v1/agent/check/update/{id}", put(agent::update))
        .with_state(Api { discovery, shutdown })
}

/// Whether a path is one of Consul's.
fn is_ours(path: &str) -> bool {
    ["/v1/catalog/", "/v1/health/", "/v1/agent/", "/v1/status/"].iter().any(|start| path.starts_with(start))
}

/// Shows the key in `X-Consul-Token` (or `?token=`) as the auth layer expects it: `axum::middleware::from_fn(token_layer)` outside of
/// that layer. A request that shows one in `Authorization` is left alone, and so is every path that is not Consul's.
pub async fn token_layer(mut request: Request, next: Next) -> Response {
    if is_ours(request.uri().path()) && !request.headers().contains_key(header::AUTHORIZATION) {
        let of_query = || {
            let query = request.uri().query()?;
            query.split('&').find_map(|pair| pair.strip_prefix("token=")).map(str::to_owned)
        };
        let shown = request.headers().get(&TOKEN).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let token = shown.or_else(of_query).filter(|token| !token.is_empty());
        if let Some(value) = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok()) {
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
    }
    next.run(request).await
}

/// A refusal in the form that Consul's clients read: a line of text.
#[derive(Debug)]
struct Refused(StatusCode, String);

impl Refused {
    fn invalid(why: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, why.into())
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, why.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        (self.0, headers, self.1).into_response()
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        if let Some(internal) = &problem.internal {
            tracing::warn!(
                code = problem.code.name,
                internal = internal.for_operators(),
                "a request of Consul's API failed"
            );
        }
        let fields =
            problem.fields.iter().map(|f| format!("; {} {}", f.field.trim_start_matches(['?', '/']), f.detail));
        let text = format!("{} ({}){}", problem.code.title, problem.code.name, fields.collect::<String>());
        // Consul knows no 422.
        let status = match web::status(problem.code.kind) {
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        };
        Self(status, text)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}

impl From<access::Error> for Refused {
    fn from(error: access::Error) -> Self {
        Problem::from(error).into()
    }
}

type Answer<T = Response> = Result<T, Refused>;

/// What every question may say.
#[derive(Debug)]
struct Asked {
    pairs: Vec<(String, String)>,
    filter: Option<Filter>,
    seen: i64,
    wait: Duration,
}

/// The query of a question, read without knowing all of its names: clients send what this server has no use for.
#[derive(Debug)]
struct Pairs(Vec<(String, String)>);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Pairs {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        let parsed = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        Ok(Self(parsed.map(|query| query.0).unwrap_or_default()))
    }
}

impl Asked {
    fn new(api: &Api, Pairs(pairs): Pairs) -> Answer<Self> {
        let of = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let ours = &api.discovery.shared().config.datacenter;
        if of("dc").is_some_and(|dc| !dc.is_empty() && dc != ours) {
            return Err(Refused::invalid("No path to datacenter"));
        }
        let seen = match of("index") {
            None | Some("") => 0,
            Some(text) => text.parse().map_err(|_| Refused::invalid("Invalid index"))?,
        };
        let wait = match of("wait") {
            None | Some("") => USUAL_WAIT,
            Some(text) => parse_wait(text).ok_or_else(|| Refused::invalid("Invalid wait time"))?,
        };
        let filter = of("filter").filter(|text| !text.is_empty()).map(Filter::parse).transpose();
        let filter = filter.map_err(|why| Refused::invalid(format!("Failed to create filter: {why}")))?;
        Ok(Self { pairs, filter, seen, wait })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.pairs
            .iter()
            .filter(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// `?passing`, `?passing=1`, `?passing=true`.
    fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value, "0" | "false" | "f"))
    }

    /// Waits until the index is another than the one that was seen.
    async fn wait(&self, api: &Api, project: &ProjectId, service: Option<&str>) -> Answer<i64> {
        let index = || match service {
            Some(name) => api.discovery.service(project, name).index,
            None => api.discovery.project_index(project),
        };
        if self.seen > 0
            && let Some(waited) =
                api.shutdown.or(api.discovery.wait(project, service, self.seen, self.wait, index)).await
        {
            waited?;
        }
        Ok(index())
    }

    /// The answer, filtered, with its index.
    fn answer<T: Serialize>(&self, index: i64, all: Vec<T>) -> Answer {
        let mut values = Vec::with_capacity(all.len());
        for one in all {
            let value = serde_json::to_value(one).map_err(Problem::internal)?;
            match &self.filter {
                Some(filter) if !filter.holds(&value).map_err(Refused::invalid)? => {}
                _ => values.push(value),
            }
        }
        Ok(with_index(index, &Value::Array(values)))
    }
}

fn json(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from(value.to_string())).into_response()
}

fn with_index(index: i64, value: &Value) -> Response {
    let mut response = json(value);
    let headers = response.headers_mut();
    // Never 0: "clients should treat 0 as an error" (Consul's documentation of blocking queries).
    headers.insert(INDEX, HeaderValue::from(index.max(1)));
    headers.insert("x-consul-knownleader", HeaderValue::from_static("true"));
    headers.insert("x-consul-lastcontact", HeaderValue::from_static("0"));
    response
}

/// 200 without anything, as Consul answers what it carried out.
fn done() -> Response {
    StatusCode::OK.into_response()
}

fn may_read(caller: &Caller) -> Answer<ProjectId> {
    caller.require(SYSTEM, "read")?;
    Ok(caller.project().clone())
}

fn may_write(caller: &Caller) -> Answer<ProjectId> {
    caller.require(SYSTEM, "write")?;
    Ok(caller.project().clone())
}

/// A body of JSON, whatever its type says: clients send none.
fn body<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    serde_json::from_slice(bytes).map_err(|e| Refused::invalid(format!("Request decode failed: {e}")))
}
