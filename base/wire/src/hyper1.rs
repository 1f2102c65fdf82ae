//! HTTP/1.1 to back ends by hyper's client connections: the second opinion on the own codec.

use std::{cell::RefCell, future::poll_fn, io, rc::Rc, task::Poll, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header, request::Parts};
use http_body::Body as _;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;

use crate::{
    Body, BoxError, Error, ErrorKind, SendOptions, Target, Upgraded,
    conn::Peer,
    hop::strip_hop_by_hop,
    relay::{Guard, Incoming, Outgoing, Progress, error, fields},
    watch::Place,
};

/// Connections that wait for a request.
#[derive(Default)]
pub(crate) struct Idle(RefCell<Vec<Connection>>);

/// A connection.
pub(crate) struct Connection {
    sender: SendRequest<Outgoing>,
    pub(crate) place: Place,
    /// `None` while it is idle: its peer holds it.
    peer: Option<Rc<Peer>>,
    opened_at: Duration,
    used_at: Duration,
}

impl Idle {
    pub(crate) fn sweep(&self, now: Duration, target: &Target) -> bool {
        let mut idle = self.0.borrow_mut();
        idle.retain(|c| c.is_fresh(now, target));
        idle.is_empty()
    }

    pub(crate) fn forget(&self) {
        self.0.take();
    }
}

impl Connection {
    /// Waits for the next request.
    pub(crate) fn give_back(mut self) {
        let Some(peer) = self.peer.take() else { return };
        self.place.disarm();
        self.used_at = self.place.now();
        let mut idle = peer.hyper1.0.borrow_mut();
        if !peer.is_forgotten.get() && idle.len() < peer.target.max_idle && !self.sender.is_closed() {
            idle.push(self);
        }
    }

    fn is_fresh(&self, now: Duration, target: &Target) -> bool {
        let is_young = target.max_age.is_none_or(|age| now.saturating_sub(self.opened_at) < age);
        !self.sender.is_closed() && is_young && now.saturating_sub(self.used_at) < target.idle_timeout
    }

    async fn open(peer: &Rc<Peer>, options: &SendOptions<'_>) -> Result<Self, ErrorKind> {
        let client = peer.target.proxy_header.and(options.client);
        let opened = *Box::pin(peer.connect(client)).await?;
        let (sender, driver) = Builder::new()
            .max_headers(peer.shared.limits.max_fields)
            .max_buf_size(peer.shared.limits.max_head_bytes.max(8 * 1024))
            .handshake(TokioIo::new(opened.stream))
            .await
            .map_err(|e| ErrorKind::Connect(io::Error::other(e)))?;
        tokio::task::spawn_local(async move {
            if let Err(e) = driver.with_upgrades().await {
                tracing::debug!(error = %e, "HTTP/1 connection to a back end ended with an error");
            }
        });
        let now = peer.shared.watch.now();
        Ok(Self { sender, place: opened.place, peer: Some(peer.clone()), opened_at: now, used_at: now })
    }

    /// One that is idle, or a new one. One with a PROXY header serves one request: it speaks for one client.
    async fn take(peer: &Rc<Peer>, options: &SendOptions<'_>) -> Result<Self, ErrorKind> {
        let now = peer.shared.watch.now();
        if peer.target.proxy_header.is_none() {
            while let Some(mut idle) = { peer.hyper1.0.borrow_mut().pop() } {
                if idle.is_fresh(now, &peer.target) && poll_fn(|cx| idle.sender.poll_ready(cx)).await.is_ok() {
                    idle.peer = Some(peer.clone());
                    peer.shared.reused_count.update(|count| count + 1);
                    return Ok(idle);
                }
            }
        }
        Self::open(peer, options).await
    }
}

/// Sends a request and gives its answer. A request that a closing connection did not take goes on another.
pub(crate) async fn send<B>(
    peer: &Rc<Peer>,
    parts: &Parts,
    body: Option<B>,
    options: &SendOptions<'_>,
) -> Result<Response<Body>, Error>
where
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let progress = Rc::new(Progress::default());
    let mut connection = Connection::take(peer, options).await?;
    let mut request = request(parts, Outgoing::new(body, &progress), &peer.target, options)?;
    let mut is_second = false;
    let answer = loop {
        let Connection { sender, place, .. } = &mut connection;
        let mut answer = Box::pin(sender.try_send_request(request));
        let outcome = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
            Poll::Pending => progress.wait(place, options, cx).map(Err),
        })
        .await?;
        drop(answer);
        match outcome {
            Ok(answer) => break answer,
            Err(mut e) => match e.take_message() {
                Some(unsent) if !is_second => {
                    (request, is_second) = (unsent, true);
                    connection = Connection::open(peer, options).await?;
                }
                _ => return Err(error(e.into_error(), &progress)),
            },
        }
    };
    connection.place.disarm();
    let is_switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS
        || (parts.method == http::Method::CONNECT && answer.status().is_success());
    if is_switched {
        let is_asked = options.upgrade.is_some() || parts.method == http::Method::CONNECT;
        if !is_asked {
            return Err(ErrorKind::Malformed("a switch of protocols that was not asked for").into());
        }
        let (mut parts, incoming) = answer.into_parts();
        let upgrade = parts.headers.get(header::UPGRADE).cloned();
        let on = hyper::upgrade::on(Response::from_parts(parts.clone(), incoming));
        let upgraded = on.await.map_err(|e| ErrorKind::Reset(io::Error::other(e)))?;
        strip_hop_by_hop(&mut parts.headers);
        parts.headers.extend(upgrade.map(|protocol| (header::UPGRADE, protocol)));
        let upgraded = Upgraded::new(Bytes::new(), Box::new(TokioIo::new(upgraded)));
        return Ok(Response::from_parts(parts, Body::upgraded(upgraded)));
    }
    let (mut parts, incoming) = answer.into_parts();
    strip_hop_by_hop(&mut parts.headers);
    if incoming.is_end_stream() {
        if progress.is_sent() {
            connection.give_back();
        }
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    let body = Incoming::new(incoming, Guard::Http1(connection), options.idle, progress);
    Ok(Response::from_parts(parts, Body::relayed(body)))
}

fn request(
    parts: &Parts,
    body: Outgoing,
    target: &Target,
    options: &SendOptions<'_>,
) -> Result<Request<Outgoing>, ErrorKind> {
    let bad = |e: http::Error| ErrorKind::RequestBody(e.into());
    let mut headers = fields(parts);
    if !headers.contains_key(header::HOST) {
        let host = parts.uri.authority().map_or_else(|| target.address.to_string(), ToString::to_string);
        let host = HeaderValue::from_str(host.rsplit('@').next().unwrap_or_default());
        headers.insert(header::HOST, host.map_err(|e| bad(e.into()))?);
    }
    if let Some(protocol) = options.upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
    let uri = match parts.uri.authority() {
        Some(authority) if parts.method == http::Method::CONNECT => Uri::builder().authority(authority.clone()).build(),
        _ => Uri::builder().path_and_query(parts.uri.path_and_query().map_or("/", |p| p.as_str())).build(),
    };
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri.map_err(bad)?;
    *request.headers_mut() = headers;
    Ok(request)
}
