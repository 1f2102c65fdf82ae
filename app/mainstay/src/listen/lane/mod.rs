//! The fast lane of the public listener: HTTP/1.1 requests without a body, answered from memory with one read and one write.
//!
//! ```text
//! read ─▶ head::begin ─┬─ simple, known ───▶ answer into the same write ─▶ next
//!                      ├─ simple, unknown ─▶ ask, write ─▶ next
//!                      ├─ part ────────────▶ keep it, read on
//!                      └─ anything else ───▶ hyper, with the bytes read, for the rest of the connection
//! ```
//!
//! - LANE-1: a client cannot tell the lane from hyper: for the same bytes it gets the same bytes, however they were cut.
//! - LANE-2: nothing that may have a body, asks for an upgrade or an expectation, or is wrong is interpreted here; it reaches hyper
//!   unread.
//! - LANE-3: a connection that makes no progress for the listener's timeout is cut: no whole head since the last answer, or no
//!   byte of an answer taken. Nothing more is read from a client that does not take its answers.
//! - LANE-4: at shutdown an open request is answered, with `Connection: close`; who is silent is let go at once.
//!
//! Buffers belong to the worker, not to the connection: one that idles holds no memory beyond its socket and task. In place of a
//! timer for each connection the worker looks at all of them several times in a timeout.

mod head;
mod rewind;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, UNIX_EPOCH},
};

use kernel::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::head::Begin;
pub(crate) use self::{head::Peer, rewind::Rewind};
use super::public::PublicWorker;

/// The longest head that is read here; longer ones go to hyper, which has a limit of its own.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Answers to pipelined requests are sent when they are this many bytes, before more requests are looked at.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;
/// How long shutdown waits for the rest of a request head of which a part is here.
const GRACE: Duration = Duration::from_secs(3);

/// What the connections of one worker share.
pub(super) struct Lane {
    clock: Clock,
    timeout: Duration,
    scratch: RefCell<Scratch>,
    date: RefCell<Date>,
    seats: RefCell<HashMap<u64, Rc<Seat>>>,
    next_seat: Cell<u64>,
    is_closing: Cell<bool>,
}

struct Scratch {
    input: Box<[u8]>,
    output: Vec<u8>,
}

/// The `Date` of answers, written once a second.
#[derive(Default)]
struct Date {
    text: String,
    /// When it is over, monotonic.
    until: Duration,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Nothing came since its last answer.
    Idle,
    /// A part of a head is here.
    Reading,
    /// The client has not taken all of an answer.
    Writing,
    /// Not the lane's to end: it waits for the database, or is not in the lane yet.
    Other,
}

/// The worker's view of one connection.
struct Seat {
    doing: Cell<Doing>,
    since: Cell<Duration>,
    is_cut: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Seat {
    fn set(&self, doing: Doing, since: Duration) {
        self.doing.set(doing);
        self.since.set(since);
    }

    fn remember(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|k| k.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn cut(&self) {
        self.is_cut.set(true);
        self.wake();
    }
}

/// A connection's place in the lane.
pub(super) struct Place {
    lane: Rc<Lane>,
    number: u64,
    seat: Rc<Seat>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.seats.borrow_mut().remove(&self.number);
    }
}

impl Lane {
    pub(super) fn new(clock: &Clock, timeout: Duration) -> Self {
        Self {
            clock: clock.clone(),
            timeout,
            scratch: RefCell::new(Scratch { input: vec![0; MAX_HEAD_BYTES].into(), output: Vec::new() }),
            date: RefCell::default(),
            seats: RefCell::default(),
            next_seat: Cell::new(0),
            is_closing: Cell::new(false),
        }
    }

    fn enter(self: &Rc<Self>) -> Place {
        let number = self.next_seat.get();
        self.next_seat.set(number + 1);
        let seat = Rc::new(Seat {
            doing: Cell::new(Doing::Idle),
            since: Cell::new(self.clock.monotonic()),
            is_cut: Cell::new(false),
            waker: RefCell::default(),
        });
        self.seats.borrow_mut().insert(number, seat.clone());
        Place { lane: self.clone(), number, seat }
    }

    /// Cuts connections that make no progress; runs as long as the worker.
    pub(super) async fn watch(&self) {
        let period = (self.timeout / 8).clamp(Duration::from_millis(5), Duration::from_secs(1));
        loop {
            self.clock.sleep(period).await;
            let now = self.clock.monotonic();
            for seat in self.seats.borrow().values() {
                if seat.doing.get() != Doing::Other && now.saturating_sub(seat.since.get()) >= self.timeout {
                    tracing::debug!(doing = ?seat.doing.get(), "public connection cut: no progress");
                    seat.cut();
                }
            }
        }
    }

    /// Lets every connection end with its next answer, the idle ones at once; goes on until it is dropped.
    pub(super) async fn close(&self) {
        self.is_closing.set(true);
        self.wake_all();
        self.clock.sleep(GRACE).await;
        for seat in self.seats.borrow().values().filter(|s| s.doing.get() == Doing::Reading) {
            seat.cut();
        }
        std::future::pending::<()>().await;
    }

    fn wake_all(&self) {
        for seat in self.seats.borrow().values() {
            seat.wake();
        }
    }

    /// The text of `Date` at `now`, monotonic.
    fn date(&self, now: Duration) -> std::cell::Ref<'_, str> {
        if now >= self.date.borrow().until {
            let wall_ms = u64::try_from(self.clock.now().as_millis()).unwrap_or(0);
            let mut date = self.date.borrow_mut();
            date.text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(wall_ms));
            date.until = now + Duration::from_millis(1000 - wall_ms % 1000);
        }
        std::cell::Ref::map(self.date.borrow(), |date| date.text.as_str())
    }
}

/// What comes after a turn, once its output is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The next turn.
    Go,
    /// The first request in `kept` is simple, and memory does not know its answer.
    Ask,
    HandOver,
    Close,
}

/// One connection in the lane.
struct Connection<'a, I, S> {
    stream: I,
    peer: &'a Peer,
    service: &'a S,
    place: Place,
    /// What was read and not answered; empty between requests.
    kept: Vec<u8>,
    /// Whether `kept` may hold a whole request.
    is_kept_fresh: bool,
    /// What the client did not take at once.
    unsent: Vec<u8>,
    sent: usize,
    is_flushed: bool,
}

/// Serves a connection until it ends, or until hyper has to: then it is given back with what was read.
pub(super) async fn serve<I, S>(lane: &Rc<Lane>, service: &S, peer: &Peer, stream: I) -> io::Result<Option<Rewind<I>>>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: PublicWorker,
{
    let mut this = Connection {
        stream,
        peer,
        service,
        place: lane.enter(),
        kept: Vec::new(),
        is_kept_fresh: false,
        unsent: Vec::new(),
        sent: 0,
        is_flushed: true,
    };
    loop {
        let then = poll_fn(|cx| this.turn(cx)).await?;
        if !this.is_flushed {
            this.flush().await?;
        }
        match then {
            Then::Go => {}
            Then::Ask if this.ask().await? => {}
            Then::Ask | Then::Close => {
                this.shut_down().await?;
                return Ok(None);
            }
            Then::HandOver => return Ok(Some(Rewind::new(this.kept, this.stream))),
        }
    }
}

impl<I, S> Connection<'_, I, S>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: PublicWorker,
{
    /// Reads once, answers what memory can, and writes once. Never waits but for the read.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Then>> {
        let lane = &*self.place.lane;
        let mut scratch = lane.scratch.borrow_mut();
        let Scratch { input, output } = &mut *scratch;
        // What is kept stays kept until more has come.
        let part = self.kept.len();
        input[..part].copy_from_slice(&self.kept);
        let mut end = part;
        if !self.is_kept_fresh {
            let mut buffer = ReadBuf::new(&mut input[part..]);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending if self.place.seat.is_cut.get() || (lane.is_closing.get() && part == 0) => {
                    return Poll::Ready(Ok(Then::Close));
                }
                Poll::Pending => {
                    self.place.seat.remember(cx.waker());
                    return Poll::Pending;
                }
                Poll::Ready(read) => read?,
            }
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(Then::Close));
            }
            end += buffer.filled().len();
        }
        let now = lane.clock.monotonic();
        output.clear();
        let (used, then) = answer(lane, self.service, self.peer, &input[..end], output, now);
        self.is_kept_fresh = then == Then::Go && output.len() >= MAX_OUTPUT_BYTES && used < end;
        let has_answered = used > 0;
        if used < end {
            self.kept.clear();
            self.kept.extend_from_slice(&input[used..end]);
        } else if part > 0 {
            self.kept = Vec::new();
        }
        let doing = if self.kept.is_empty() { Doing::Idle } else { Doing::Reading };
        let since = if has_answered { now } else { self.place.seat.since.get() };
        self.place.seat.set(doing, since);

        if !output.is_empty() {
            let written = match Pin::new(&mut self.stream).poll_write(cx, output) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            if written < output.len() {
                self.unsent.clear();
                self.unsent.extend_from_slice(&output[written..]);
                self.sent = 0;
            }
            self.is_flushed =
                written == output.len() && matches!(Pin::new(&mut self.stream).poll_flush(cx), Poll::Ready(Ok(())));
        }
        Poll::Ready(Ok(then))
    }

    /// Sends the rest of an answer.
    async fn flush(&mut self) -> io::Result<()> {
        let Place { lane, seat, .. } = &self.place;
        let after = (seat.doing.get(), lane.clock.monotonic());
        seat.set(Doing::Writing, after.1);
        poll_fn(|cx| {
            seat.remember(cx.waker());
            while self.sent < self.unsent.len() {
                match Pin::new(&mut self.stream).poll_write(cx, &self.unsent[self.sent..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(written) => self.sent += written?,
                    Poll::Pending if seat.is_cut.get() => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    Poll::Pending => return Poll::Pending,
                }
                seat.since.set(lane.clock.monotonic());
            }
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending if seat.is_cut.get() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                flushed => flushed,
            }
        })
        .await?;
        (self.unsent, self.sent, self.is_flushed) = (Vec::new(), 0, true);
        seat.set(after.0, lane.clock.monotonic());
        Ok(())
    }

    /// Answers the first request in `kept`, asking the database; gives whether the connection goes on.
    async fn ask(&mut self) -> io::Result<bool> {
        let Place { lane, seat, .. } = &self.place;
        let started = lane.clock.monotonic();
        seat.set(Doing::Other, started);
        // It was looked at before, and has not changed.
        let Begin::Simple(simple) = head::begin(&self.kept, self.peer) else { return Ok(false) };
        let answer = self.service.ask(&simple.visit, started).await;
        let now = lane.clock.monotonic();
        let (is_head, is_last) = (simple.visit.method == http::Method::HEAD, simple.is_last || lane.is_closing.get());
        let used = simple.len;
        let is_last = head::write(&mut self.unsent, answer, is_head, is_last, lane.date(now).as_bytes());
        self.kept.drain(..used);
        self.is_kept_fresh = !self.kept.is_empty();
        seat.set(if self.is_kept_fresh { Doing::Reading } else { Doing::Idle }, now);
        self.flush().await?;
        Ok(!is_last)
    }

    async fn shut_down(&mut self) -> io::Result<()> {
        let Place { lane, seat, .. } = &self.place;
        seat.set(Doing::Writing, lane.clock.monotonic());
        poll_fn(|cx| {
            seat.remember(cx.waker());
            match Pin::new(&mut self.stream).poll_shutdown(cx) {
                Poll::Pending if seat.is_cut.get() => Poll::Ready(Ok(())),
                done => done,
            }
        })
        .await
    }
}

/// Answers requests from the front of `input` as long as memory can; gives how many bytes they were, and what comes then.
fn answer<S: PublicWorker>(
    lane: &Lane,
    service: &S,
    peer: &Peer,
    input: &[u8],
    output: &mut Vec<u8>,
    now: Duration,
) -> (usize, Then) {
    let mut used = 0;
    while used < input.len() && output.len() < MAX_OUTPUT_BYTES {
        let simple = match head::begin(&input[used..], peer) {
            Begin::Part if input.len() - used == MAX_HEAD_BYTES => return (used, Then::HandOver),
            Begin::Part => break,
            Begin::Other => return (used, Then::HandOver),
            Begin::Simple(simple) => simple,
        };
        if !service.is_for_lane(&simple.visit) {
            return (used, Then::HandOver);
        }
        let Some(answer) = service.try_cached(&simple.visit, now) else { return (used, Then::Ask) };
        used += simple.len;
        let is_last = simple.is_last || lane.is_closing.get();
        let is_head = simple.visit.method == http::Method::HEAD;
        if head::write(output, answer, is_head, is_last, lane.date(now).as_bytes()) {
            return (used, Then::Close);
        }
    }
    (used, Then::Go)
}
