//! One request, from its head to its answer.
//!
//! - ANSWER-1: whatever happens a client gets an answer, and one that is the gateway's own says so in `Mainstay-Error`.

use std::{borrow::Cow, net::IpAddr, rc::Rc, sync::Arc};

use bytes::Bytes;
use gatekeeper::{Ask, Passed, Verdict};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri,
    header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, ETAG, LOCATION, SET_COOKIE, UPGRADE},
};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt as _, Limited};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::{
    Services, aggregate,
    asked::{self, Asked, Rendered},
    body::{Body, BoxError},
    compress::{self, Coding},
    exchange::Exchange,
    files::{Folder, Served},
    forward::{self, Chosen, Outgoing},
    limits, mirror,
    peer::Peer,
    refuse::{FILE_NOT_FOUND, Refusal, SERVICE_UNKNOWN},
    request_body::{RequestBody, Source, set_length},
    upgrade,
    worker::{Inner, Worker},
};
use crate::model::{
    Action, Origin, Route,
    compiled::{Fallback, Files, Forward, MessageRules, Redirect, Respond},
};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What is known of a request beside its head and body.
struct Ways<'a> {
    peer: &'a Peer,
    client: IpAddr,
    is_grpc: bool,
    on_upgrade: Option<OnUpgrade>,
}

/// What goes into the answer, whatever it is.
#[derive(Default)]
struct Extras {
    passed: Passed,
    limits: HeaderMap,
    rendered: Option<Rendered>,
    coding: Option<Coding>,
}

impl Worker {
    /// Whether there is no document: then every request is for short links.
    pub fn is_default(&self) -> bool {
        self.0.shared.table.load().origin == Origin::Default
    }

    /// Answers a request. `client` is who asks, after trusted proxies have been read.
    pub async fn call<B, S>(&self, request: Request<B>, peer: &Peer, client: IpAddr, services: &S) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Unpin + 'static,
        B::Error: Into<BoxError>,
        S: Services<B>,
    {
        let worker = &self.0;
        let (mut parts, body) = request.into_parts();
        let mut exchange = Box::new(Exchange::new(worker, worker.clock.monotonic(), &parts));
        let on_upgrade = parts.extensions.remove::<OnUpgrade>();
        let scheme = if peer.is_trusted { asked::scheme_of(&parts.headers, peer) } else { peer.scheme() };
        let asked = match Asked::new(parts, scheme, client) {
            Ok(asked) => asked,
            Err(refusal) => return refused(exchange, &refusal, false, &Extras::default()),
        };
        exchange.keep(&asked);
        let is_grpc = asked.is_grpc();
        let found = worker.shared.table.load().find(&asked.head()).cloned();
        let Some(route) = found else { return refused(exchange, &Refusal::no_route(), is_grpc, &Extras::default()) };
        let mut extras = Extras::default();
        let ways = Ways { peer, client, is_grpc, on_upgrade };
        match carry_out(&mut exchange, asked, body, &route, ways, &mut extras, services).await {
            Ok(Done::Answer(response)) => finish(exchange, &route, extras, response).await,
            Ok(Done::Switched(response, on_upgrade)) => switch(worker, exchange, &route, extras, response, on_upgrade),
            Err(refusal) => refused(exchange, &refusal, is_grpc, &extras),
        }
    }
}

/// How an action ended.
enum Done {
    Answer(Response<Body>),
    /// The back end switched protocols.
    Switched(Response<wire::Body>, OnUpgrade),
}

async fn carry_out<B, S>(
    exchange: &mut Exchange,
    mut asked: Asked,
    body: B,
    route: &Arc<Route>,
    ways: Ways<'_>,
    extras: &mut Extras,
    services: &S,
) -> Result<Done, Refusal>
where
    B: HttpBody<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
    S: Services<B>,
{
    let worker = exchange.worker().clone();
    if !exchange.enter(route) {
        return Err(Refusal::busy());
    }
    if asked.is_looping(&worker.shared.via) {
        return Err(Refusal::looped());
    }
    limits::sizes(&asked, route)?;
    if let Some(response) = admit(exchange, &mut asked, route, &ways, extras).await {
        return Ok(Done::Answer(response));
    }
    let passed = std::mem::take(&mut extras.passed);
    let identity = |name: &str| identity(&passed, name);
    if let Some(rules) = &route.rate_limit {
        match limits::rate(&worker, &asked, route, rules, &identity).await {
            Ok(told) => extras.limits = told,
            Err((refusal, told)) => {
                extras.limits = told;
                return Err(refusal);
            }
        }
    }
    if !route.response.is_empty() {
        extras.rendered = Some(Rendered::new(&route.response, &asked, route, &identity));
    }
    if route.compress {
        extras.coding = Coding::asked_for(&asked.parts.headers);
    }
    let done = match &route.action {
        Action::Forward(action) => Box::pin(pass_on(exchange, asked, body, route, action, ways, &identity)).await,
        Action::Redirect(action) => redirect(&asked, route, action, &identity).map(Done::Answer),
        Action::Respond(action) => Ok(Done::Answer(ready(action))),
        Action::Files(action) => files(exchange, &asked, route, action, &identity).await.map(Done::Answer),
        Action::Service(name) => {
            asked::send_on_to_service(&mut asked, route, &identity);
            let mut request = Request::from_parts(asked.parts, body);
            if let Some(on_upgrade) = ways.on_upgrade {
                request.extensions_mut().insert(on_upgrade);
            }
            let answered = services.call(name, request, ways.client).await;
            answered.map(Done::Answer).map_err(|_| {
                Refusal::new(
                    &SERVICE_UNKNOWN,
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "service_unknown",
                    "The gateway's document names it.",
                )
            })
        }
        Action::Aggregate(calls) => {
            let targets: Vec<Option<Uri>> = asked.with_values(route, &identity, |values| {
                let fill = |call: &crate::model::compiled::Call| call.path.render_uri(values)?.parse().ok();
                calls.iter().map(fill).collect()
            });
            drop(body);
            asked::send_on(&mut asked, ways.peer, route, &identity, &worker.shared.via, &exchange.request_id);
            Box::pin(aggregate::answer(exchange, &asked, &targets, route, calls, ways.peer)).await.map(Done::Answer)
        }
    };
    extras.passed = passed;
    done
}

/// Asks the policies; gives their answer when they have one.
async fn admit(
    exchange: &mut Exchange,
    asked: &mut Asked,
    route: &Route,
    ways: &Ways<'_>,
    extras: &mut Extras,
) -> Option<Response<Body>> {
    let chain = route.chain.as_ref()?;
    let host = asked.authority().to_owned();
    let request_id = exchange.request_id.clone();
    let verdict = Box::pin(chain.admit(Ask {
        scheme: asked.scheme,
        host: &host,
        peer: ways.client,
        client_certificate: ways.peer.certificate.as_deref(),
        request_id: request_id.to_str().unwrap_or_default(),
        parts: &mut asked.parts,
    }))
    .await;
    match verdict {
        Verdict::Pass(passed) => {
            if let Some(identity) = &passed.identity {
                exchange.set_user(&identity.subject);
            }
            extras.passed = passed;
            None
        }
        Verdict::Answer(response, steps) => {
            exchange.error = "policy";
            tracing::debug!(route = %route.name, ?steps, "a policy answered");
            Some(response.map(Body::from))
        }
    }
}

/// What templates may name of who asks.
fn identity(passed: &Passed, name: &str) -> Option<String> {
    let identity = passed.identity.as_ref()?;
    match name {
        "subject" => Some(identity.subject.to_string()),
        "policy" => Some(identity.policy.to_string()),
        "method" => Some(identity.method.as_str().to_owned()),
        "project" => identity.project.as_ref().map(ToString::to_string),
        claim => Some(match identity.claim(claim)? {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }),
    }
}

async fn pass_on<B>(
    exchange: &mut Exchange,
    mut asked: Asked,
    body: B,
    route: &Arc<Route>,
    action: &Forward,
    ways: Ways<'_>,
    identity: &dyn Fn(&str) -> Option<String>,
) -> Result<Done, Refusal>
where
    B: HttpBody<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let worker = exchange.worker().clone();
    let chosen = forward::choose(&worker, route, action, &asked.parts);
    let upgrade = asked::send_on(&mut asked, ways.peer, route, identity, &worker.shared.via, &exchange.request_id);
    // Without a connection that can be switched none is asked for.
    let upgrade = upgrade.filter(|_| ways.on_upgrade.is_some());
    let mut body = RequestBody::new(body, route.max_body);
    if let Some(rules) = &route.request.json {
        body = map_request(&mut asked, body, rules).await?;
    }
    let deadline = forward::deadline(route, &mut asked.parts, exchange.started(), ways.is_grpc);
    let source = if upgrade.is_some() { Source::Empty } else { Source::new(body) };
    let mut out =
        Outgoing { route, parts: asked.parts, source, peer: ways.peer, client: ways.client, upgrade, deadline };
    let mirror = action.mirror.as_ref().filter(|mirror| out.upgrade.is_none() && mirror::is_chosen(&worker, mirror));
    let mut sent = forward::send(exchange, &chosen, &mut out, ways.is_grpc).await;
    if let (Err(refusal), Some(fallback)) = (&sent, &action.fallback)
        && refusal.is_nobody_asked()
    {
        route.stats.fell_back();
        match fallback {
            Fallback::Respond(respond) => {
                exchange.error = refusal.label;
                return Ok(Done::Answer(ready(respond)));
            }
            Fallback::Upstream(name, upstream) if out.source.can_repeat() => {
                let other = Chosen { name, upstream, endpoint: None };
                sent = forward::send(exchange, &other, &mut out, ways.is_grpc).await;
            }
            Fallback::Upstream(..) => {}
        }
    }
    let sent = match sent {
        Ok(sent) => sent,
        Err(refusal) => {
            if mirror.is_some() {
                mirror::spawn(&worker, route, &out.parts, out.source.kept(), None);
            }
            return Err(refusal);
        }
    };
    if sent.response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(on_upgrade) = ways.on_upgrade
    {
        return Ok(Done::Switched(sent.response, on_upgrade));
    }
    let mut response = sent.response.map(Body::from);
    if let Some(sticky) = &action.sticky
        && let Some(cookie) = forward::stick(&worker, route, sticky, &chosen, sent.endpoint, ways.peer.is_tls)
    {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    if mirror.is_some() {
        let (watched, seen) = mirror::watch(response);
        mirror::spawn(&worker, route, &out.parts, out.source.kept(), Some(seen));
        response = watched;
    }
    Ok(Done::Answer(response))
}

/// Changes a JSON body of a request; anything else goes through.
async fn map_request<B>(
    asked: &mut Asked,
    body: RequestBody<B>,
    rules: &super::JsonRules,
) -> Result<RequestBody<B>, Refusal>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    if !has_json(&asked.parts.headers) || body.is_end_stream() {
        return Ok(body);
    }
    let bytes = body.whole(rules.max_bytes).await.map_err(|e| Refusal::of_body(&*e))?;
    let bytes = match serde_json::from_slice(&bytes) {
        Ok(mut value) => {
            rules.apply(&mut value);
            Bytes::from(value.to_string())
        }
        Err(_) => bytes,
    };
    set_length(&mut asked.parts.headers, &bytes);
    Ok(RequestBody::Full(bytes))
}

fn has_json(headers: &HeaderMap) -> bool {
    !headers.contains_key(CONTENT_ENCODING)
        && headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(mirror::is_json)
}

/// Changes a JSON body of an answer; what is too large or no JSON goes through as it is.
async fn map_response(response: Response<Body>, rules: &MessageRules) -> Response<Body> {
    let Some(json) = &rules.json else { return response };
    let fits = response.body().size_hint().upper().is_none_or(|upper| upper <= json.max_bytes as u64);
    if !has_json(response.headers()) || response.body().is_end_stream() || !fits {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = match Limited::new(body, json.max_bytes).collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(e) => {
            // A part of it is read already: it cannot go through as it is.
            let refusal = Refusal::unmappable(&*e);
            return refusal.answer(b"", false);
        }
    };
    let Ok(mut value) = serde_json::from_slice(&bytes) else {
        return Response::from_parts(parts, bytes.into());
    };
    json.apply(&mut value);
    let bytes = Bytes::from(value.to_string());
    set_length(&mut parts.headers, &bytes);
    // It names other bytes.
    parts.headers.remove(ETAG);
    Response::from_parts(parts, bytes.into())
}

fn redirect(
    asked: &Asked,
    route: &Route,
    action: &Redirect,
    identity: &dyn Fn(&str) -> Option<String>,
) -> Result<Response<Body>, Refusal> {
    let to = asked.with_values(route, identity, |values| action.to.render_uri(values).map(Cow::into_owned));
    let to = to.and_then(|to| HeaderValue::try_from(to).ok()).ok_or_else(Refusal::bad_target)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = action.status;
    response.headers_mut().insert(LOCATION, to);
    Ok(response)
}

fn ready(action: &Respond) -> Response<Body> {
    let mut response = Response::new(Body::from(action.body.clone()));
    *response.status_mut() = action.status;
    *response.headers_mut() = action.headers.clone();
    response
}

async fn files(
    exchange: &mut Exchange,
    asked: &Asked,
    route: &Route,
    action: &Files,
    identity: &dyn Fn(&str) -> Option<String>,
) -> Result<Response<Body>, Refusal> {
    let target = asked::target(asked, route, identity);
    let path = target.as_ref().map_or_else(|| asked.path(), |target| target.path());
    let folder = Folder {
        root: action.root.clone(),
        index: action.index.to_string(),
        fallback: action.fallback.as_deref().map(str::to_owned),
        cache_control: action.cache_control.clone(),
    };
    let parts = &asked.parts;
    match folder.serve(&parts.method, path, asked.path(), parts.uri.query(), &parts.headers).await {
        Served::Answer(response) => Ok(response),
        Served::NotFound => Err(not_found()),
        Served::Failed(e) => {
            tracing::error!(error = %e, route = %route.name, root = %action.root.display(), "cannot serve a file");
            exchange.error = "disk";
            Err(not_found())
        }
    }
}

const fn not_found() -> Refusal {
    Refusal::new(
        &FILE_NOT_FOUND,
        StatusCode::NOT_FOUND,
        "file_not_found",
        "Names that start with a dot are never served.",
    )
}

/// An answer on its way to the client.
async fn finish(
    mut exchange: Box<Exchange>,
    route: &Route,
    extras: Extras,
    mut response: Response<Body>,
) -> Response<Body> {
    let Extras { passed, limits, rendered, coding } = extras;
    if route.response.json.is_some() {
        response = Box::pin(map_response(response, &route.response)).await;
    }
    if let Some(rendered) = rendered {
        rendered.apply(&route.response, response.headers_mut());
    }
    passed.finish(response.headers_mut());
    for (name, value) in &limits {
        response.headers_mut().append(name, value.clone());
    }
    if route.compress {
        let (mut parts, body) = response.into_parts();
        let body = compress::answer(coding, parts.status, &mut parts.headers, body);
        response = Response::from_parts(parts, body);
    }
    if exchange.worker().shared.server_timing {
        time(&exchange, response.headers_mut());
    }
    exchange.status = response.status().as_u16();
    response.map(|body| body.of(exchange))
}

/// Says how long the back end took, and all of it.
fn time(exchange: &Exchange, headers: &mut HeaderMap) {
    let ms = |d: std::time::Duration| d.as_secs_f64() * 1000.0;
    let all = ms(exchange.worker().since(exchange.started()));
    let text = match exchange.head_took {
        Some(took) => format!("upstream;dur={:.3}, gateway;dur={all:.3}", ms(took)),
        None => format!("gateway;dur={all:.3}"),
    };
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.append(SERVER_TIMING, value);
    }
}

/// An answer of the gateway's own.
fn refused(mut exchange: Box<Exchange>, refusal: &Refusal, is_grpc: bool, extras: &Extras) -> Response<Body> {
    let mut response = refusal.answer(exchange.request_id.as_bytes(), is_grpc);
    extras.passed.finish(response.headers_mut());
    for (name, value) in &extras.limits {
        response.headers_mut().append(name, value.clone());
    }
    exchange.status = refusal.status.as_u16();
    exchange.error = refusal.label;
    response.map(|body| body.of(exchange))
}

/// Passes on that the back end switched protocols, and carries bytes from then on.
fn switch(
    worker: &Rc<Inner>,
    mut exchange: Box<Exchange>,
    route: &Route,
    extras: Extras,
    response: Response<wire::Body>,
    on_upgrade: OnUpgrade,
) -> Response<Body> {
    let (mut parts, mut body) = response.into_parts();
    let Some(server) = body.take_upgraded() else {
        return refused(exchange, &Refusal::not_switched(), false, &extras);
    };
    exchange.status = parts.status.as_u16();
    exchange.settle();
    let protocol = parts.headers.get(UPGRADE).cloned();
    if let Some(rendered) = extras.rendered {
        rendered.apply(&route.response, &mut parts.headers);
    }
    extras.passed.finish(&mut parts.headers);
    let is_websocket = protocol.as_ref().is_some_and(|p| p.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if let Some(protocol) = protocol {
        parts.headers.insert(UPGRADE, protocol);
    }
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    let (worker, idle) = (worker.clone(), route.timeouts.idle);
    tokio::task::spawn_local(async move {
        let Ok(client) = on_upgrade.await else {
            exchange.error = "client_gone";
            return;
        };
        let client = TokioIo::new(client);
        let (relays, clock) = (worker.relays.clone(), worker.clock.clone());
        let (relayed, ended) = upgrade::relay(&relays, &clock, client, server, is_websocket, idle).await;
        exchange.bytes = relayed.to_client;
        if let Err(e) = ended {
            exchange.error = if e.kind() == std::io::ErrorKind::TimedOut { "idle_timeout" } else { "relay" };
            tracing::debug!(error = %e, from_client = relayed.from_client, "an upgraded connection ended with an error");
        }
    });
    Response::from_parts(parts, Body::empty())
}
