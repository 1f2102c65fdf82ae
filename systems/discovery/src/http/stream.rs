//! Changes of a service as server-sent events (WHATWG HTML, section 9.2).

use std::time::Duration;

use access::Caller;
use async_stream::stream;
use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, header};
use web::{Path, Query, Result};

use super::{Api, services::ServiceQuery};
use crate::SYSTEM;

/// How often a quiet stream says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A stream ends after this time; whoever listens opens another, perhaps on another node.
const STREAM_LIFE: Duration = Duration::from_hours(1);

/// Each state of a service as an event `service`, first the present one: what `GET /v1/discovery/services/{service}` answers, in one
/// line. The id of an event is the index; a reader that comes back with it in `Last-Event-ID` hears only news.
#[utoipa::path(
    get, path = "/v1/discovery/services/{service}/events", operation_id = "watch_service", tag = "discovery",
    params(("service" = String, Path, description = "Its name.", max_length = 63), ServiceQuery),
    responses((status = 200, description = "A stream of events.", content_type = "text/event-stream"))
)]
pub(super) async fn events(
    caller: Caller,
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(query): Query<ServiceQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    caller.require(SYSTEM, "read")?;
    let mut subscription = api.discovery.subscribe(caller.project(), &name)?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<i64>().ok());
    let clock = api.discovery.shared().clock.clone();
    let stream = stream! {
        let until = clock.monotonic() + STREAM_LIFE;
        let mut seen = last;
        loop {
            let service = subscription.now();
            if seen == Some(service.index) {
                // Keeps proxies from closing a quiet stream, and notices a reader that left.
                yield Ok::<_, std::convert::Infallible>(":\n\n".to_owned());
            } else {
                seen = Some(service.index);
                let told = query.told(&api.discovery, &service);
                let json = serde_json::to_string(&told).unwrap_or_default();
                yield Ok(format!("event: service\nid: {}\ndata: {json}\n\n", told.index));
            }
            let next = clock.timeout(KEEP_ALIVE, subscription.changed());
            if clock.monotonic() >= until || api.shutdown.or(next).await.is_none() {
                return;
            }
        }
    };
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(stream)).into_response())
}
