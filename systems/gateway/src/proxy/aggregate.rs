//! Several calls at once, one answer: for clients that would otherwise make them over a slow network (backend for frontends).
//!
//! - AGGREGATE-1: what did not come is `null` and named in `_errors`, never left out in silence; without a call that is required
//!   there is no answer but a 502.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{
    HeaderValue, Method, Response, StatusCode, Uri,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE},
    request::Parts,
};
use http_body_util::{BodyExt as _, Empty, Limited};
use serde_json::{Map, Value, json};
use upstream::{KeyParts, Outcome, Pick};
use wire::SendOptions;

use super::{
    asked::Asked,
    body::Body,
    exchange::Exchange,
    peer::Peer,
    refuse::{AGGREGATE_FAILED, Refusal},
    worker::Inner,
};
use crate::model::{Route, compiled::Call};

/// The largest answer of one call.
const MAX_PART_BYTES: usize = 1 << 20;

/// Makes the calls of a route. `asked` is the request as it goes on, `targets` what each call asks for.
pub(super) async fn answer(
    exchange: &mut Exchange,
    asked: &Asked,
    targets: &[Option<Uri>],
    route: &Route,
    calls: &[Call],
    peer: &Peer,
) -> Result<Response<Body>, Refusal> {
    let worker = exchange.worker().clone();
    exchange.tries = u32::try_from(calls.len()).unwrap_or(u32::MAX);
    let parts = calls.iter().zip(targets).map(|(call, target)| {
        let worker = &worker;
        async move {
            let Some(target) = target else { return Err("its path cannot be filled".to_owned()) };
            let limit = call.timeout.unwrap_or(route.timeouts.total).min(route.timeouts.total);
            match worker.clock.timeout(limit, ask(worker, asked, target, call, peer, limit)).await {
                Some(answer) => answer,
                None => Err("it did not answer in time".to_owned()),
            }
        }
    });
    let answers = join_all(parts).await;
    let (mut whole, mut errors) = (Map::new(), Map::new());
    for (call, answer) in calls.iter().zip(answers) {
        let name = call.name.to_string();
        match answer {
            Ok(value) => {
                whole.insert(name, value);
            }
            Err(why) if call.required => {
                tracing::debug!(call = name, why, "a required part of an answer did not come");
                return Err(Refusal::new(
                    &AGGREGATE_FAILED,
                    StatusCode::BAD_GATEWAY,
                    "aggregate",
                    "One of the calls that make up the answer failed.",
                ));
            }
            Err(why) => {
                whole.insert(name.clone(), Value::Null);
                errors.insert(name, json!({ "detail": why }));
            }
        }
    }
    let is_partial = !errors.is_empty();
    if is_partial {
        whole.insert("_errors".to_owned(), Value::Object(errors));
    }
    let body = Bytes::from(Value::Object(whole).to_string());
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if is_partial {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if asked.parts.method != Method::HEAD {
        *response.body_mut() = body.into();
    }
    Ok(response)
}

async fn ask(
    worker: &Inner,
    asked: &Asked,
    target: &Uri,
    call: &Call,
    peer: &Peer,
    limit: Duration,
) -> Result<Value, String> {
    let mut request = Parts::clone(&asked.parts);
    request.method = Method::GET;
    request.uri = target.clone();
    // What is about the one answer, not about its parts.
    for name in [CONTENT_LENGTH, CONTENT_TYPE, RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE, http::header::ACCEPT_ENCODING] {
        request.headers.remove(name);
    }
    request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let hash = call.upstream.hash_key(&KeyParts {
        headers: Some(&request.headers),
        path: target.path(),
        query: target.query(),
        client: asked.client,
    });
    let lease = call.upstream.pick(&Pick { hash, ..Pick::default() }).map_err(|e| e.to_string())?;
    let began = worker.clock.monotonic();
    let to = lease.target().clone();
    let options = SendOptions {
        first_byte: limit,
        idle: limit,
        client: Some((peer.address, peer.local)),
        ..SendOptions::default()
    };
    let sent = worker.pool.send(&to, &request, Empty::<Bytes>::new(), &options).await;
    let took = worker.since(began);
    let is_success = sent.as_ref().is_ok_and(|response| !response.status().is_server_error());
    let response = sent.map_err(|e| e.label().to_owned());
    lease.report(Outcome { is_success, took });
    let (parts, body) = response?.into_parts();
    let body =
        Limited::new(body, MAX_PART_BYTES).collect().await.map_err(|_| "its answer did not come whole".to_owned())?;
    if !parts.status.is_success() {
        return Err(format!("it answered {}", parts.status.as_u16()));
    }
    if parts.status == StatusCode::NO_CONTENT {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body.to_bytes()).map_err(|_| "its answer is not JSON".to_owned())
}
