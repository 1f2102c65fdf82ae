//! Connections that were upgraded: bytes both ways until either end has had enough.
//!
//! - UPGRADE-1: a relay needs nothing of the configuration that let it in: a reload does not touch it.
//! - UPGRADE-2: when one side is done sending, the other hears of it, and what it still has to say goes through.
//! - UPGRADE-3: at shutdown both ends of a WebSocket are told 1001 ("going away") between two frames, and have [`FAREWELL`] to
//!   close; whatever is still open then is cut. Other protocols have no goodbye and get the same time.
//! - UPGRADE-4: a relay in which nothing moves for its idle timeout is cut.

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use kernel::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Frames, GOING_AWAY, GOING_AWAY_MASKED};

/// How long the ends of a relay have to close when the process goes down.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);
/// Bytes that a direction holds at most. Read buffers are the relay's own only while bytes are in them.
const BUFFER_BYTES: usize = 16 * 1024;

/// The relays of one worker.
#[derive(Default)]
pub(super) struct Relays {
    open: Cell<usize>,
    is_draining: Cell<bool>,
    drain: tokio::sync::Notify,
    ended: tokio::sync::Notify,
}

impl Relays {
    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// Lets every relay say goodbye, and waits until none is open or the time is over.
    pub(super) async fn drain(&self, clock: &Clock) {
        self.is_draining.set(true);
        self.drain.notify_waiters();
        let none_left = async {
            while self.open.get() > 0 {
                self.ended.notified().await;
            }
        };
        // What does not end in time is dropped with the worker.
        clock.timeout(FAREWELL, none_left).await;
    }
}

struct Open(Rc<Relays>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.ended.notify_one();
    }
}

/// One direction: what was read and not written yet.
struct Way {
    buffer: Vec<u8>,
    from: usize,
    /// The reader is done; the writer has to hear of it.
    is_over: bool,
    is_shut: bool,
    frames: Option<Frames>,
    goodbye: &'static [u8],
    has_said_goodbye: bool,
    bytes: u64,
}

impl Way {
    fn new(is_websocket: bool, goodbye: &'static [u8]) -> Self {
        Self {
            buffer: Vec::new(),
            from: 0,
            is_over: false,
            is_shut: false,
            frames: is_websocket.then(Frames::default),
            goodbye,
            has_said_goodbye: false,
            bytes: 0,
        }
    }

    /// Moves bytes until it would wait; `true`: something moved.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W, drains: bool) -> io::Result<bool>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut has_moved = false;
        loop {
            while self.from < self.buffer.len() {
                match Pin::new(&mut *writer).poll_write(cx, &self.buffer[self.from..])? {
                    Poll::Pending => return Ok(has_moved),
                    Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(count) => {
                        self.from += count;
                        has_moved = true;
                    }
                }
            }
            if !self.buffer.is_empty() {
                (self.buffer, self.from) = (Vec::new(), 0);
                if Pin::new(&mut *writer).poll_flush(cx)?.is_pending() {
                    return Ok(has_moved);
                }
            }
            if self.is_shut {
                return Ok(has_moved);
            }
            if self.is_over {
                if Pin::new(&mut *writer).poll_shutdown(cx)?.is_ready() {
                    self.is_shut = true;
                    has_moved = true;
                }
                return Ok(has_moved);
            }
            if drains
                && !self.has_said_goodbye
                && self.frames.as_ref().is_some_and(|f| f.is_between() && !f.has_closed())
            {
                self.has_said_goodbye = true;
                self.buffer.extend_from_slice(self.goodbye);
                continue;
            }
            if self.has_said_goodbye {
                // After a Close nothing may follow; what still comes is read so that the other side's Close is seen.
                match self.read(cx, reader) {
                    Poll::Pending => return Ok(has_moved),
                    Poll::Ready(read) => read?,
                }
                self.buffer.clear();
                self.is_over |= self.frames.as_ref().is_some_and(Frames::has_closed);
                continue;
            }
            match self.read(cx, reader) {
                Poll::Pending => return Ok(has_moved),
                Poll::Ready(read) => read?,
            }
            has_moved = true;
        }
    }

    fn read<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, reader: &mut R) -> Poll<io::Result<()>> {
        let mut space = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut into = ReadBuf::uninit(&mut space);
        ready!(Pin::new(reader).poll_read(cx, &mut into))?;
        let read = into.filled();
        if let Some(frames) = &mut self.frames {
            frames.pass(read);
        }
        self.is_over = read.is_empty();
        self.bytes += read.len() as u64;
        self.buffer.extend_from_slice(read);
        Poll::Ready(Ok(()))
    }
}

/// What went through a relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Relayed {
    pub(super) from_client: u64,
    pub(super) to_client: u64,
}

/// Carries bytes between a client and a back end until both are done.
pub(super) async fn relay<C, S>(
    relays: &Rc<Relays>,
    clock: &Clock,
    mut client: C,
    mut server: S,
    is_websocket: bool,
    idle: Duration,
) -> (Relayed, io::Result<()>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    relays.open.set(relays.open.get() + 1);
    let _open = Open(relays.clone());
    let mut up = Way::new(is_websocket, &GOING_AWAY_MASKED);
    let mut down = Way::new(is_websocket, &GOING_AWAY);
    let moved_at = Cell::new(clock.monotonic());
    let mut told = pin!(relays.drain.notified());
    let work = poll_fn(|cx| {
        let drains = relays.is_draining.get() || told.as_mut().poll(cx).is_ready();
        let moved = up.poll(cx, &mut client, &mut server, drains)? | down.poll(cx, &mut server, &mut client, drains)?;
        if moved {
            moved_at.set(clock.monotonic());
        }
        if up.is_shut && down.is_shut { Poll::Ready(Ok(())) } else { Poll::Pending }
    });
    let ended = {
        let watch = async {
            loop {
                let left = (moved_at.get() + idle).saturating_sub(clock.monotonic());
                if left.is_zero() {
                    return;
                }
                clock.sleep(left).await;
            }
        };
        tokio::select! {
            biased;
            ended = work => ended,
            () = watch => Err(io::ErrorKind::TimedOut.into()),
        }
    };
    (Relayed { from_client: up.bytes, to_client: down.bytes }, ended)
}
