//! The same request to another system too: its answer is compared with the one that the client got, and thrown away. After
//! Fowler's strangler fig and GitHub's Scientist.
//!
//! - MIRROR-1: a client never waits for a mirror, and never sees what it does.
//! - MIRROR-2: at most [`MAX_UNDER_WAY`] mirrored requests are under way on a worker, each for at most [`PATIENCE`], with at most
//!   [`MAX_COMPARED_BYTES`] of each answer; what is beyond is counted as skipped.

use std::{
    cell::Cell,
    collections::BTreeSet,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE, request::Parts};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tokio::sync::oneshot;
use upstream::{Outcome, Pick};
use wire::SendOptions;

use super::{
    body::{Body, BoxError},
    recent::Difference,
    worker::Inner,
};
use crate::model::{Route, action::CompareSpec, compiled::Mirror, json::Places};

/// Mirrored requests at once, for each worker.
const MAX_UNDER_WAY: usize = 128;
/// How long a mirror, and the client's own answer, may take to be whole.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most of an answer that is compared.
const MAX_COMPARED_BYTES: usize = 256 * 1024;
/// The most differences of one pair that are told.
const MAX_TOLD: usize = 16;
/// The longest text of a value that is told.
const MAX_TOLD_CHARS: usize = 80;
/// Says to the mirror that nobody gets its answer.
const MAINSTAY_MIRROR: HeaderName = HeaderName::from_static("mainstay-mirror");

/// Mirrored requests of one worker.
#[derive(Default)]
pub(super) struct Mirrors {
    under_way: Rc<Cell<usize>>,
}

struct UnderWay(Rc<Cell<usize>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What of an answer is compared.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    status: StatusCode,
    headers: HeaderMap,
    /// `None`: too large, or it did not come whole.
    body: Option<Bytes>,
}

/// Whether this request is one of those that are mirrored.
pub(super) fn is_chosen(worker: &Inner, mirror: &Mirror) -> bool {
    mirror.per_million >= 1_000_000 || worker.below(1_000_000) < mirror.per_million
}

/// Lets an answer go through to the client and keeps what of it will be compared.
pub(super) fn watch(response: Response<Body>) -> (Response<Body>, oneshot::Receiver<Seen>) {
    let (to, seen) = oneshot::channel();
    let (parts, body) = response.into_parts();
    let kept = Seen { status: parts.status, headers: parts.headers.clone(), body: None };
    let tap = Tap { inner: body, kept: Some(kept), bytes: Some(BytesMut::new()), to: Some(to) };
    let body = if tap.inner.is_end_stream() {
        let mut tap = tap;
        tap.tell();
        std::mem::replace(&mut tap.inner, Body::empty())
    } else {
        Body::stream(tap)
    };
    (Response::from_parts(parts, body), seen)
}

struct Tap {
    inner: Body,
    kept: Option<Seen>,
    bytes: Option<BytesMut>,
    to: Option<oneshot::Sender<Seen>>,
}

impl Tap {
    fn tell(&mut self) {
        if let (Some(to), Some(mut kept)) = (self.to.take(), self.kept.take()) {
            kept.body = self.bytes.take().map(BytesMut::freeze);
            // Nobody listens when the mirror gave up.
            drop(to.send(kept));
        }
    }
}

impl http_body::Body for Tap {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(kept)) = (frame.data_ref(), &mut self.bytes) {
                    if kept.len() + data.len() > MAX_COMPARED_BYTES {
                        self.bytes = None;
                    } else {
                        kept.extend_from_slice(data);
                    }
                }
                if self.inner.is_end_stream() {
                    self.tell();
                }
            }
            Some(Err(_)) => self.bytes = None,
            None => self.tell(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Sends a request to the mirror; `primary` is what the client gets, once it has.
pub(super) fn spawn(
    worker: &Rc<Inner>,
    route: &Arc<Route>,
    parts: &Parts,
    body: Option<Bytes>,
    primary: Option<oneshot::Receiver<Seen>>,
) {
    let crate::model::Action::Forward(forward) = &route.action else { return };
    let Some(mirror) = &forward.mirror else { return };
    let under_way = &worker.mirrors.under_way;
    let (Some(body), true) = (body, under_way.get() < MAX_UNDER_WAY) else {
        worker.shared.differences.skipped();
        return;
    };
    under_way.set(under_way.get() + 1);
    let guard = UnderWay(under_way.clone());
    let (worker, route, upstream) = (worker.clone(), route.clone(), mirror.upstream.clone());
    let mut parts = parts.clone();
    parts.headers.insert(MAINSTAY_MIRROR, HeaderValue::from_static("1"));
    tokio::task::spawn_local(async move {
        let _guard = guard;
        let asked = worker.clock.timeout(PATIENCE, ask(&worker, &upstream, &parts, body));
        let Some(Some(mirrored)) = asked.await else { return worker.shared.differences.failed() };
        let crate::model::Action::Forward(forward) = &route.action else { return };
        let compare = forward.mirror.as_ref().and_then(|mirror| mirror.compare.as_ref());
        let (Some(compare), Some(primary)) = (compare, primary) else { return };
        let Some(Ok(primary)) = worker.clock.timeout(PATIENCE, primary).await else {
            return worker.shared.differences.skipped();
        };
        match differences(compare, &primary, &mirrored) {
            None => worker.shared.differences.skipped(),
            Some(none) if none.is_empty() => worker.shared.differences.same(),
            Some(differences) => worker.shared.differences.note(Difference {
                at: worker.clock.now(),
                route: route.name.to_string(),
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                differences,
            }),
        }
    });
}

async fn ask(worker: &Inner, upstream: &upstream::Upstream, parts: &Parts, body: Bytes) -> Option<Seen> {
    let lease = upstream.pick(&Pick::default()).ok()?;
    let began = worker.clock.monotonic();
    let target = lease.target().clone();
    let sent = worker.pool.send(&target, parts, Full::new(body), &SendOptions::default()).await;
    let took = worker.since(began);
    lease.report(Outcome { is_success: sent.as_ref().is_ok_and(|r| !r.status().is_server_error()), took });
    let (parts, body) = sent.ok()?.into_parts();
    let mut body = Body::from(body);
    let mut bytes = Some(BytesMut::new());
    // Read to its end even when it is not kept, so that the connection can be used again.
    while let Some(frame) = body.frame().await {
        if let (Ok(data), Some(kept)) = (frame.ok()?.into_data(), &mut bytes) {
            if kept.len() + data.len() > MAX_COMPARED_BYTES {
                bytes = None;
            } else {
                kept.extend_from_slice(&data);
            }
        }
    }
    Some(Seen { status: parts.status, headers: parts.headers, body: bytes.map(BytesMut::freeze) })
}

/// In what two answers differ; `None` when that cannot be said.
fn differences(compare: &CompareSpec, primary: &Seen, mirrored: &Seen) -> Option<Vec<String>> {
    let mut found = Vec::new();
    if compare.status && primary.status != mirrored.status {
        found.push(format!("status: {}, {}", primary.status.as_u16(), mirrored.status.as_u16()));
    }
    for name in &compare.headers {
        let of = |seen: &Seen| {
            let values = seen.headers.get_all(name.as_str()).iter();
            values.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect::<Vec<_>>().join(", ")
        };
        let (a, b) = (of(primary), of(mirrored));
        if a != b {
            found.push(format!("{name}: {}, {}", short(&a), short(&b)));
        }
    }
    if compare.body {
        let (a, b) = (primary.body.as_ref()?, mirrored.body.as_ref()?);
        if a != b {
            match (json(primary, a), json(mirrored, b)) {
                (Some(mut a), Some(mut b)) => {
                    for places in compare.ignore_json.iter().filter_map(|text| Places::parse(text)) {
                        places.remove_from(&mut a);
                        places.remove_from(&mut b);
                    }
                    walk("", &a, &b, &mut found);
                }
                _ => found.push(format!("body: {} and {} bytes, not the same", a.len(), b.len())),
            }
        }
    }
    found.truncate(MAX_TOLD);
    Some(found)
}

fn json(seen: &Seen, body: &Bytes) -> Option<Value> {
    let kind = seen.headers.get(CONTENT_TYPE)?.to_str().ok()?;
    is_json(kind).then(|| serde_json::from_slice(body).ok()).flatten()
}

/// `application/json`, or one of its kin.
pub(super) fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
}

fn walk(at: &str, a: &Value, b: &Value, found: &mut Vec<String>) {
    if found.len() >= MAX_TOLD || a == b {
        return;
    }
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let names: BTreeSet<&String> = x.keys().chain(y.keys()).collect();
            for name in names {
                let place = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                match (x.get(name), y.get(name)) {
                    (Some(x), Some(y)) => walk(&place, x, y, found),
                    (x, y) => found.push(told(&place, x, y)),
                }
            }
        }
        (Value::Array(x), Value::Array(y)) => {
            for n in 0..x.len().max(y.len()) {
                match (x.get(n), y.get(n)) {
                    (Some(x), Some(y)) => walk(&format!("{at}/{n}"), x, y, found),
                    (x, y) => found.push(told(&format!("{at}/{n}"), x, y)),
                }
                if found.len() >= MAX_TOLD {
                    return;
                }
            }
        }
        _ => found.push(told(at, Some(a), Some(b))),
    }
}

fn told(at: &str, a: Option<&Value>, b: Option<&Value>) -> String {
    let text = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), |v| short(&v.to_string()));
    format!("body {at}: {}, {}", text(a), text(b))
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_TOLD_CHARS) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(status: u16, kind: &'static str, body: &'static str) -> Seen {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Seen { status: StatusCode::from_u16(status).unwrap(), headers, body: Some(Bytes::from_static(body.as_bytes())) }
    }

    #[test]
    fn differences_are_told_where_they_are() {
        let all = CompareSpec {
            status: true,
            headers: vec!["content-type".to_owned()],
            body: true,
            ignore_json: vec!["/at".to_owned(), "/items/*/seen".to_owned()],
        };
        let json = |body| seen(200, "application/json", body);
        for (a, b, told) in [
            (json(r#"{"a":1,"at":5}"#), json(r#"{ "at":6, "a":1 }"#), &[][..]),
            (json(r#"{"a":1}"#), seen(404, "application/json", r#"{"a":1}"#), &["status: 200, 404"]),
            (
                json(r#"{"items":[{"p":5,"seen":1},{"p":6}],"x":1}"#),
                json(r#"{"items":[{"p":5,"seen":2},{"p":7}]}"#),
                &["body /items/1/p: 6, 7", "body /x: 1, nothing"],
            ),
            (json("[1,2]"), json("[1]"), &["body /1: 2, nothing"]),
            (
                seen(200, "text/plain", "a"),
                seen(200, "text/html", "b"),
                &["content-type: text/plain, text/html", "body: 1 and 1 bytes, not the same"],
            ),
        ] {
            assert_eq!(differences(&all, &a, &b).unwrap(), told);
        }
        let large = Seen { body: None, ..json("{}") };
        assert_eq!(differences(&all, &large, &json("{}")), None);
        let status = CompareSpec { status: true, ..CompareSpec::default() };
        assert_eq!(differences(&status, &large, &json("{}")), Some(Vec::new()));
    }
}
