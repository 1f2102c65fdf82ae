//! Bytes from one connection to another and back.
//!
//! - PUMP-1: every byte that one side sent before it closed reaches the other, in order; then that direction alone is closed.
//! - PUMP-2: a side that does not take its bytes is not read for: at most [`CHUNK_BYTES`] are held for it.
//! - PUMP-3: a pair without a byte in either direction for the idle timeout is closed. An idle pair holds no buffers.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use kernel::{Clock, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read at once.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// At shutdown a pair is closed once it has been quiet for so long: what is under way gets through.
const QUIET: Duration = Duration::from_secs(1);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK_BYTES].into());
}

/// How a pair ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides closed.
    Closed,
    /// Nothing came for the idle timeout.
    Idle,
    /// The process stops.
    Stopped,
}

/// The bytes of a listener.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    /// From clients.
    pub(super) up: AtomicU64,
    /// To clients.
    pub(super) down: AtomicU64,
}

/// Copies both ways until both are closed.
pub(super) async fn pump<A, B>(
    client: A,
    server: B,
    idle: impl Fn() -> Duration,
    bytes: &Bytes,
    clock: &Clock,
    shutdown: &Shutdown,
) -> io::Result<End>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut client, mut server) = (client, server);
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let mut last = clock.monotonic();
    let mut timer = pin!(clock.sleep(idle()));
    let mut stop = pin!(shutdown.wait());
    let mut is_stopping = false;
    poll_fn(|cx| {
        let before = (up.count, down.count);
        let ended = (up.copy(cx, &mut client, &mut server), down.copy(cx, &mut server, &mut client));
        if before != (up.count, down.count) {
            bytes.up.fetch_add(up.count - before.0, Ordering::Relaxed);
            bytes.down.fetch_add(down.count - before.1, Ordering::Relaxed);
            last = clock.monotonic();
        }
        match ended {
            (Poll::Ready(Err(e)), _) | (_, Poll::Ready(Err(e))) => return Poll::Ready(Err(e)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(End::Closed)),
            _ => {}
        }
        if !is_stopping && stop.as_mut().poll(cx).is_ready() {
            is_stopping = true;
            timer.set(clock.sleep(Duration::ZERO));
        }
        // One timer a pair, set anew only when it fires.
        while timer.as_mut().poll(cx).is_ready() {
            let limit = if is_stopping { QUIET } else { idle() };
            let still = clock.monotonic().saturating_sub(last);
            if still >= limit {
                return Poll::Ready(Ok(if is_stopping { End::Stopped } else { End::Idle }));
            }
            timer.set(clock.sleep(limit.saturating_sub(still)));
        }
        Poll::Pending
    })
    .await
}

/// One way.
#[derive(Default)]
struct Direction {
    /// What was read and not taken.
    kept: Vec<u8>,
    taken: usize,
    count: u64,
    is_unflushed: bool,
    has_ended: bool,
    is_closed: bool,
}

impl Direction {
    fn copy<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while !self.is_closed {
            while self.taken < self.kept.len() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.kept[self.taken..]))?;
                self.wrote(written)?;
                self.taken += written;
            }
            if !self.kept.is_empty() {
                (self.kept, self.taken) = (Vec::new(), 0);
            }
            if self.has_ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.is_closed = true;
                break;
            }
            match self.pass(cx, from, to) {
                Poll::Ready(passed) => passed?,
                Poll::Pending => {
                    // Nothing more to read: what the writer holds (TLS does) goes out.
                    if self.is_unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.is_unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once into the thread's buffer and writes it at once; keeps what is not taken.
    fn pass<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
            let chunk = buffer.filled();
            if chunk.is_empty() {
                self.has_ended = true;
                return Poll::Ready(Ok(()));
            }
            let written = match Pin::new(to).poll_write(cx, chunk) {
                Poll::Ready(written) => {
                    let written = written?;
                    self.wrote(written)?;
                    written
                }
                Poll::Pending => 0,
            };
            if written < chunk.len() {
                self.kept = chunk[written..].to_vec();
            }
            Poll::Ready(Ok(()))
        })
    }

    fn wrote(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.count += count as u64;
        self.is_unflushed = true;
        Ok(())
    }
}
