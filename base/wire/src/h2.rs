//! HTTP/2 to back ends, over hyper's client connections.
//!
//! A worker keeps as few connections to a target as its streams need: one serves [`MAX_STREAMS`] at once before another is opened,
//! up to [`MAX_CONNECTIONS`]; past both, streams wait inside the least loaded one for the back end's own limit.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri, Version, header::HOST, request::Parts};
use http_body::Body as _;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::{
    Body, BoxError, Error, ErrorKind, SendOptions, Target,
    conn::Peer,
    hop::strip_hop_by_hop,
    relay::{Guard, Incoming, Outgoing, Progress, error, fields},
    watch::Place,
};

/// Streams at once on one connection, before another is opened. Servers allow 100 or more (RFC 9113, 6.5.2).
const MAX_STREAMS: usize = 100;
/// Connections of one worker to one target.
const MAX_CONNECTIONS: usize = 8;
/// What the other end may send before it is taken: on a stream, and on a connection in all.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// How often a connection with open streams is asked whether it is there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The connections of a worker to one target.
#[derive(Default)]
pub(crate) struct Connections {
    all: RefCell<Vec<Connection>>,
    /// Held by who opens a connection; the others wait for it instead of opening theirs.
    opening: tokio::sync::Mutex<()>,
}

struct Connection {
    sender: SendRequest<Outgoing>,
    load: Rc<Load>,
    opened_at: Duration,
}

/// How busy a connection is.
#[derive(Default)]
struct Load {
    streams: Cell<usize>,
    /// When the last stream ended.
    idle_since: Cell<Duration>,
}

/// One stream's share of the load.
pub(crate) struct Stream {
    load: Rc<Load>,
    pub(crate) place: Place,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.load.streams.update(|count| count - 1);
        if self.load.streams.get() == 0 {
            self.load.idle_since.set(self.place.now());
        }
    }
}

impl Connections {
    /// Closes what is closed by the other end, idle for too long or too old (after its streams); gives whether none is left.
    pub(crate) fn sweep(&self, now: Duration, target: &Target) -> bool {
        let mut all = self.all.borrow_mut();
        all.retain(|c| {
            let is_idle = c.load.streams.get() == 0;
            let is_stale = is_idle && now.saturating_sub(c.load.idle_since.get()) >= target.idle_timeout;
            !(c.sender.is_closed() || is_stale || c.is_old(now, target))
        });
        all.is_empty()
    }

    /// Lets go of all; each closes when its streams have ended.
    pub(crate) fn forget(&self) {
        self.all.take();
    }

    /// The least loaded connection that can take a stream; one that is full only when no more can be opened.
    fn pick(&self, now: Duration, target: &Target) -> Option<(SendRequest<Outgoing>, Rc<Load>)> {
        let mut all = self.all.borrow_mut();
        all.retain(|c| !c.sender.is_closed() && !c.is_old(now, target));
        let least = all.iter().min_by_key(|c| c.load.streams.get())?;
        let is_taken = least.load.streams.get() < MAX_STREAMS || all.len() >= MAX_CONNECTIONS;
        is_taken.then(|| (least.sender.clone(), least.load.clone()))
    }
}

impl Connection {
    fn is_old(&self, now: Duration, target: &Target) -> bool {
        target.max_age.is_some_and(|age| now.saturating_sub(self.opened_at) >= age)
    }
}

/// Sends a request on a stream and gives its answer.
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
    if options.upgrade.is_some() || parts.method == http::Method::CONNECT {
        let e = io::Error::new(
            io::ErrorKind::Unsupported,
            "a back end that speaks HTTP/2 is not asked to switch protocols",
        );
        return Err(ErrorKind::Connect(e).into());
    }
    let progress = Rc::new(Progress::default());
    let outgoing = Outgoing::new(body, &progress);
    let mut request = request(parts, outgoing, &peer.target)?;
    // A connection can close between the choice and the sending; then the request comes back whole.
    for _ in 0..=MAX_CONNECTIONS {
        let (mut sender, load) = connection(peer).await?;
        load.streams.update(|count| count + 1);
        let stream = Stream { load, place: peer.shared.watch.enter() };
        let mut answer = std::pin::pin!(async {
            // Refused when the connection is closed; the next line then gives the request back.
            drop(sender.ready().await);
            sender.try_send_request(request).await
        });
        let outcome = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
            Poll::Pending => progress.wait(&stream.place, options, cx).map(Err),
        })
        .await;
        stream.place.disarm();
        match outcome {
            Ok(Ok(answer)) => {
                let (mut parts, incoming) = answer.into_parts();
                strip_hop_by_hop(&mut parts.headers);
                if incoming.is_end_stream() {
                    return Ok(Response::from_parts(parts, Body::empty()));
                }
                let body = Incoming::new(incoming, Guard::Http2(stream), options.idle, progress);
                return Ok(Response::from_parts(parts, Body::relayed(body)));
            }
            Ok(Err(mut e)) => match e.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(error(e.into_error(), &progress)),
            },
            Err(kind) => return Err(kind.into()),
        }
    }
    Err(Error::untouched(ErrorKind::Reset(io::Error::other("connections close before they take a request"))))
}

/// A connection with room for a stream.
async fn connection(peer: &Rc<Peer>) -> Result<(SendRequest<Outgoing>, Rc<Load>), Error> {
    let (shared, target) = (&peer.shared, &*peer.target);
    if let Some(found) = peer.http2.pick(shared.watch.now(), target) {
        shared.reused_count.update(|count| count + 1);
        return Ok(found);
    }
    let opening = shared.clock.timeout(target.connect_timeout, peer.http2.opening.lock()).await;
    let _opening = opening.ok_or(ErrorKind::ConnectTimeout)?;
    if let Some(found) = peer.http2.pick(shared.watch.now(), target) {
        return Ok(found);
    }
    let stream = Box::pin(peer.connect(None)).await?.stream;
    let (sender, driver) = Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(shared.limits.max_head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| ErrorKind::Connect(io::Error::other(e)))?;
    tokio::task::spawn_local(async move {
        if let Err(e) = driver.await {
            tracing::debug!(error = %e, "HTTP/2 connection to a back end ended with an error");
        }
    });
    let load = Rc::new(Load::default());
    let opened_at = shared.watch.now();
    load.idle_since.set(opened_at);
    if !peer.is_forgotten.get() {
        peer.http2.all.borrow_mut().push(Connection { sender: sender.clone(), load: load.clone(), opened_at });
    }
    Ok((sender, load))
}

/// The request as HTTP/2 has it: scheme and authority in the target, nothing about the connection in the fields.
fn request(parts: &Parts, body: Outgoing, target: &Target) -> Result<Request<Outgoing>, ErrorKind> {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = match (host, parts.uri.authority()) {
        (Some(host), _) => host.to_owned(),
        (None, Some(authority)) => authority.as_str().rsplit('@').next().unwrap_or_default().to_owned(),
        (None, None) => target.address.to_string(),
    };
    let uri = Uri::builder()
        .scheme(if target.tls.is_some() { "https" } else { "http" })
        .authority(authority)
        .path_and_query(parts.uri.path_and_query().map_or("/", |p| p.as_str()))
        .build()
        .map_err(|e| ErrorKind::RequestBody(e.into()))?;
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    let mut headers = fields(parts);
    headers.remove(HOST);
    // The length of a body that is passed on is the body's own, or not known.
    if !request.body().is_end_stream()
        && let Some(length) = request.body().size_hint().exact()
    {
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    *request.headers_mut() = headers;
    Ok(request)
}

/// Runs what belongs to a connection on the worker's own thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
