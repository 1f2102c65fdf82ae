//! HTTP/1.1 to clients, for plain requests: what hyper would do, at less cost.
//!
//! ```text
//! read ─▶ head::begin ─┬─ plain ──▶ Service::call ─▶ head and body, written as the body comes ─▶ next
//!                      ├─ part ───▶ keep it, read on
//!                      └─ else ───▶ given back with the bytes read: hyper serves the rest of the connection
//! ```
//!
//! - SERVE-1: nothing that has a body, asks for an upgrade or an expectation, or is wrong is interpreted here; it is given back unread.
//! - SERVE-2: a connection that makes no progress for the server's timeout is cut: no whole head since the last answer, or no byte of
//!   an answer taken while some are there. Nothing more is read from a client that does not take its answers than what fits
//!   [`MAX_HEAD_BYTES`].
//! - SERVE-3: a client that goes away while it is answered ends the work for it: the service's future, or the body, is dropped.
//! - SERVE-4: an answer whose body fails ends with its connection, so that a part is never taken for the whole.
//! - SERVE-5: when the server closes, open requests are answered with `Connection: close`, and who is silent is let go at once.
//!
//! Buffers belong to the worker: a connection that idles holds none.

mod head;

use std::{
    cell::{Cell, Ref, RefCell},
    convert::Infallible,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response};
use http_body::{Frame, SizeHint};
use kernel::Clock;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use self::head::{Begin, begin};
use crate::{
    BoxError,
    h1::{
        has_blank_line,
        upload::{Failed, Framing, Outgoing, Upload},
    },
    watch::{Place, Watch},
};

/// The longest head that is read here, and the most that is read ahead.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The room that reads are made into, and the least of it.
const INPUT_BYTES: usize = 32 * 1024;
const LEAST_INPUT_BYTES: usize = 4 * 1024;
/// How long closing waits for the rest of a head of which a part is here.
const GRACE: Duration = Duration::from_secs(3);
/// The largest buffer for heads that is kept.
const MOST_OUTPUT_BYTES: usize = 64 * 1024;

/// The body of a plain request: none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBody;

impl http_body::Body for NoBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

/// What answers requests.
pub trait Service {
    /// The body of an answer.
    type Body: http_body::Body<Data = Bytes, Error: Into<BoxError>>;

    /// Answers one. Dropped when the client goes away.
    fn call(&self, request: Request<NoBody>) -> impl Future<Output = Response<Self::Body>>;
}

/// What the connections of one worker share.
pub struct Server {
    clock: Clock,
    timeout: Duration,
    watch: Rc<Watch>,
    input: RefCell<BytesMut>,
    output: RefCell<Vec<u8>>,
    date: RefCell<Date>,
    is_closing: Cell<bool>,
}

/// The `Date` of answers, written once a second.
#[derive(Default)]
struct Date {
    text: String,
    /// When it is over, monotonic.
    until: Duration,
}

impl Server {
    /// One whose connections are cut when they make no progress for `timeout`.
    pub fn new(clock: &Clock, timeout: Duration) -> Rc<Self> {
        Rc::new(Self {
            clock: clock.clone(),
            timeout,
            watch: Watch::new(clock),
            input: RefCell::default(),
            output: RefCell::default(),
            date: RefCell::default(),
            is_closing: Cell::new(false),
        })
    }

    /// Cuts connections that make no progress, for as long as it runs.
    pub async fn watch(&self) {
        self.watch.run().await;
    }

    /// Lets every connection end with its next answer, the idle ones at once.
    pub fn close(&self) {
        self.is_closing.set(true);
        self.watch.wake_all();
    }

    /// Serves a connection of which `before` was read, until it ends, or until a request comes that is not plain: then it is given
    /// back with what was not read here.
    pub async fn serve<I, S>(&self, stream: I, before: Vec<u8>, service: &S) -> io::Result<Option<(Vec<u8>, I)>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
        S: Service,
    {
        let mut this = Connection {
            server: self,
            place: self.watch.enter(),
            stream,
            fresh: before.into(),
            part: BytesMut::new(),
            deadline: None,
            has_grace: false,
        };
        loop {
            let (request, is_last) = match poll_fn(|cx| this.poll_request(cx)).await? {
                Asked::Request(request, is_last) => (request, is_last),
                Asked::Other => return Ok(Some((this.fresh.into(), this.stream))),
                Asked::End => {
                    this.shut_down().await;
                    return Ok(None);
                }
                Asked::Cut => return Ok(None),
            };
            let is_head = *request.method() == Method::HEAD;
            let answer = {
                // On the heap: a connection that idles does not hold room for it.
                let mut answer = Box::pin(service.call(request));
                poll_fn(|cx| match answer.as_mut().poll(cx) {
                    Poll::Ready(answer) => Poll::Ready(Some(answer)),
                    Poll::Pending if this.poll_gone(cx) => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                })
                .await
            };
            let Some(answer) = answer else { return Ok(None) };
            let is_last = this.answer(answer, is_head, is_last || self.is_closing.get()).await?;
            if is_last {
                this.shut_down().await;
                return Ok(None);
            }
        }
    }

    fn poll_read<I: AsyncRead + Unpin>(&self, cx: &mut Context<'_>, stream: &mut I) -> Poll<io::Result<Bytes>> {
        let mut input = self.input.borrow_mut();
        if input.capacity() < LEAST_INPUT_BYTES {
            input.reserve(INPUT_BYTES);
        }
        // The future holds nothing between polls.
        let read = std::pin::pin!(stream.read_buf(&mut *input)).poll(cx);
        read.map_ok(|_| input.split().freeze())
    }

    /// The text of `Date` at `now`, monotonic.
    fn date(&self, now: Duration) -> Ref<'_, str> {
        if now >= self.date.borrow().until {
            let wall_ms = u64::try_from(self.clock.now().as_millis()).unwrap_or(0);
            let mut date = self.date.borrow_mut();
            date.text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(wall_ms));
            date.until = now + Duration::from_millis(1000 - wall_ms % 1000);
        }
        Ref::map(self.date.borrow(), |date| date.text.as_str())
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// What a client asks for next.
#[allow(clippy::large_enum_variant, reason = "made and taken apart at once")]
enum Asked {
    Request(Request<NoBody>, bool),
    /// Something that is not plain, whose bytes are in `fresh`.
    Other,
    End,
    Cut,
}

struct Connection<'a, I> {
    server: &'a Server,
    place: Place,
    stream: I,
    /// Read and not looked at; begins where a request begins.
    fresh: Bytes,
    /// A part of a head.
    part: BytesMut,
    /// When something has to have moved.
    deadline: Option<Duration>,
    /// Whether closing has set its own deadline.
    has_grace: bool,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Connection<'_, I> {
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Asked>> {
        loop {
            if !self.fresh.is_empty() {
                match begin(&self.fresh) {
                    Begin::Plain(request, len, is_last) if len <= MAX_HEAD_BYTES => {
                        drop(self.fresh.split_to(len));
                        self.deadline = None;
                        self.place.disarm();
                        return Poll::Ready(Ok(Asked::Request(request, is_last)));
                    }
                    Begin::Part if self.fresh.len() < MAX_HEAD_BYTES => {
                        self.part.extend_from_slice(&self.fresh);
                        self.fresh = Bytes::new();
                    }
                    Begin::Plain(..) | Begin::Part | Begin::Other => {
                        self.place.disarm();
                        return Poll::Ready(Ok(Asked::Other));
                    }
                }
            }
            match self.server.poll_read(cx, &mut self.stream) {
                Poll::Ready(Ok(bytes)) if bytes.is_empty() => return Poll::Ready(Ok(Asked::End)),
                Poll::Ready(read) => self.take_in(read?),
                Poll::Pending => {
                    if self.place.has_expired() {
                        return Poll::Ready(Ok(Asked::Cut));
                    }
                    if self.server.is_closing.get() && self.part.is_empty() {
                        return Poll::Ready(Ok(Asked::End));
                    }
                    if self.server.is_closing.get() && !self.has_grace {
                        self.has_grace = true;
                        let until = self.place.now().saturating_add(GRACE);
                        self.deadline = Some(self.deadline.map_or(until, |deadline| deadline.min(until)));
                    }
                    self.arm(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Puts what was read behind a part of a head, which is looked at again only when it may be whole: one that trickles in costs no
    /// more than one that does not.
    fn take_in(&mut self, bytes: Bytes) {
        if self.part.is_empty() {
            self.fresh = bytes;
            return;
        }
        let from = self.part.len().saturating_sub(2);
        self.part.extend_from_slice(&bytes);
        if has_blank_line(&self.part[from..]) || self.part.len() >= MAX_HEAD_BYTES {
            self.fresh = self.part.split().freeze();
        }
    }

    fn arm(&mut self, cx: &Context<'_>) {
        let timeout = self.server.timeout;
        let deadline = *self.deadline.get_or_insert_with(|| self.place.now().saturating_add(timeout));
        self.place.arm(deadline, cx.waker());
    }

    /// Whether the client has gone away. Reads ahead, up to a bound.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        while self.fresh.len() < MAX_HEAD_BYTES {
            match self.server.poll_read(cx, &mut self.stream) {
                Poll::Pending => return false,
                Poll::Ready(Ok(bytes)) if !bytes.is_empty() => {
                    self.fresh = if self.fresh.is_empty() { bytes } else { [&self.fresh[..], &bytes].concat().into() };
                }
                Poll::Ready(_) => return true,
            }
        }
        false
    }

    /// Sends an answer; gives whether the connection ends with it.
    async fn answer<B>(&mut self, answer: Response<B>, is_head: bool, is_last: bool) -> io::Result<bool>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let mut buffer = self.server.output.take();
        let now = self.place.now();
        let (framing, is_last) = head::write(&mut buffer, &answer, is_head, is_last, &self.server.date(now));
        let body = (framing != Framing::None).then(|| answer.into_body());
        // Who understands trailers says so in `TE`, which `Connection` has to name: then the request is not plain.
        let mut outgoing = Outgoing::new(buffer, body, framing).without_trailers();
        poll_fn(|cx| self.poll_answer(cx, &mut outgoing)).await?;
        self.place.disarm();
        self.deadline = None;
        let mut buffer = outgoing.into_buffer();
        if buffer.capacity() <= MOST_OUTPUT_BYTES {
            buffer.clear();
            self.server.output.replace(buffer);
        }
        Ok(is_last)
    }

    fn poll_answer<B>(&mut self, cx: &mut Context<'_>, outgoing: &mut Outgoing<B>) -> Poll<io::Result<()>>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        match outgoing.poll(cx, &mut self.stream) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(Failed::Write(e))) => return Poll::Ready(Err(e)),
            Poll::Ready(Err(Failed::Body(e))) => return Poll::Ready(Err(io::Error::other(e))),
            Poll::Pending => {}
        }
        let has_moved = Upload::<I>::has_moved(outgoing);
        if Upload::<I>::is_waiting_for_client(outgoing) {
            // For the body, that is: the client has all that is here.
            self.place.disarm();
            self.deadline = None;
            if self.poll_gone(cx) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            return Poll::Pending;
        }
        if has_moved {
            self.deadline = None;
        } else if self.place.has_expired() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.arm(cx);
        Poll::Pending
    }

    /// Says that no more comes; waits no longer than for anything else.
    async fn shut_down(&mut self) {
        poll_fn(|cx| {
            if Pin::new(&mut self.stream).poll_shutdown(cx).is_ready() || self.place.has_expired() {
                return Poll::Ready(());
            }
            self.arm(cx);
            Poll::Pending
        })
        .await;
    }
}
