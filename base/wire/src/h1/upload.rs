//! A message on its way out: its head and, as it comes, its body. (A request to a back end, or an answer to a client.)

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use tokio::io::AsyncWrite;

use super::chunked::is_trailer;
use crate::{BoxError, ErrorKind};

/// Frames up to this are copied behind what is staged, so that they leave in the same write.
const COPIED_BYTES: usize = 4 * 1024;
/// No more of the body is asked for while this much is staged.
const STAGED_BYTES: usize = 16 * 1024;

/// How a request's body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    /// This many bytes are still to come.
    Length(u64),
    Chunked,
}

impl Framing {
    pub(crate) fn of<B: http_body::Body>(body: Option<&B>) -> Self {
        body.map_or(Self::None, |body| body.size_hint().exact().map_or(Self::Chunked, Self::Length))
    }
}

/// A request on its way out.
pub(crate) struct Outgoing<B> {
    /// The head, sizes of chunks, small frames; sent from `at`.
    staged: Vec<u8>,
    at: usize,
    /// A large frame that follows what is staged, and what follows it.
    data: Bytes,
    tail: &'static [u8],
    /// `None`: all of it is staged.
    body: Option<Pin<Box<B>>>,
    framing: Framing,
    drops_trailers: bool,
    is_waiting_for_client: bool,
    has_moved: bool,
}

/// Why a request did not go out.
pub(crate) enum Failed {
    /// The back end takes no more; it may have answered all the same.
    Write(io::Error),
    /// The client's body is to blame.
    Body(BoxError),
}

impl From<Failed> for ErrorKind {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Write(e) => Self::Reset(e),
            Failed::Body(e) => Self::RequestBody(e),
        }
    }
}

/// An upload that goes on while the answer is read.
pub(crate) trait Upload<S> {
    /// Sends until it would wait or is done.
    fn poll(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Poll<Result<(), Failed>>;

    /// Whether all that came from the client is sent.
    fn is_waiting_for_client(&self) -> bool;

    /// Whether a byte came or went since this was asked.
    fn has_moved(&mut self) -> bool;
}

impl<B> Outgoing<B> {
    pub(crate) fn new(head: Vec<u8>, body: Option<B>, framing: Framing) -> Self {
        Self {
            staged: head,
            at: 0,
            data: Bytes::new(),
            tail: b"",
            body: body.map(Box::pin),
            framing,
            drops_trailers: false,
            is_waiting_for_client: false,
            has_moved: false,
        }
    }

    /// The same, for who did not say that trailers are understood.
    pub(crate) fn without_trailers(self) -> Self {
        Self { drops_trailers: true, ..self }
    }

    /// The buffer that it was made with, once it is done.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.staged
    }

    fn is_all_sent(&self) -> bool {
        self.at == self.staged.len() && self.data.is_empty() && self.tail.is_empty()
    }

    fn stage(&mut self, data: Bytes) -> Result<(), Failed> {
        if data.is_empty() {
            return Ok(());
        }
        let mut after: &'static [u8] = b"";
        match &mut self.framing {
            Framing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Failed::Body("longer than it said".into()))?;
            }
            Framing::Chunked | Framing::None => {
                self.staged.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                after = b"\r\n";
            }
        }
        if data.len() <= COPIED_BYTES {
            self.staged.extend_from_slice(&data);
            self.staged.extend_from_slice(after);
        } else {
            self.data = data;
            self.tail = after;
        }
        Ok(())
    }

    fn finish(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Failed> {
        self.body = None;
        match self.framing {
            Framing::Length(1..) => return Err(Failed::Body("shorter than it said".into())),
            Framing::Length(0) | Framing::None => {}
            Framing::Chunked => {
                self.staged.extend_from_slice(b"0\r\n");
                let trailers = trailers.filter(|_| !self.drops_trailers);
                for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| is_trailer(name)) {
                    for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                        self.staged.extend_from_slice(piece);
                    }
                }
                self.staged.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    fn poll_write<S>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Poll<Result<(), Failed>>
    where
        S: AsyncWrite + Unpin,
    {
        while !self.is_all_sent() {
            let staged = &self.staged[self.at..];
            let written = if self.data.is_empty() && self.tail.is_empty() {
                Pin::new(&mut *stream).poll_write(cx, staged)
            } else {
                let slices = [IoSlice::new(staged), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                Pin::new(&mut *stream).poll_write_vectored(cx, &slices)
            };
            let mut count = ready!(written).map_err(Failed::Write)?;
            if count == 0 {
                return Poll::Ready(Err(Failed::Write(io::ErrorKind::WriteZero.into())));
            }
            self.has_moved = true;
            let of_staged = count.min(self.staged.len() - self.at);
            self.at += of_staged;
            count -= of_staged;
            let of_data = count.min(self.data.len());
            self.data.advance(of_data);
            self.tail = &self.tail[count - of_data..];
        }
        self.staged.clear();
        self.at = 0;
        Poll::Ready(Ok(()))
    }
}

impl<B, S> Upload<S> for Outgoing<B>
where
    S: AsyncWrite + Unpin,
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    fn poll(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Poll<Result<(), Failed>> {
        loop {
            self.is_waiting_for_client = false;
            while self.data.is_empty()
                && self.tail.is_empty()
                && self.staged.len() < STAGED_BYTES
                && let Some(body) = &mut self.body
            {
                match body.as_mut().poll_frame(cx) {
                    Poll::Pending => {
                        self.is_waiting_for_client = true;
                        break;
                    }
                    Poll::Ready(None) => self.finish(None)?,
                    Poll::Ready(Some(Err(e))) => return Poll::Ready(Err(Failed::Body(e.into()))),
                    Poll::Ready(Some(Ok(frame))) => {
                        self.has_moved = true;
                        let is_last = body.is_end_stream();
                        match frame.into_data() {
                            Ok(data) => {
                                self.stage(data)?;
                                // What follows the last frame is put behind a large one only once that is sent.
                                if is_last && self.data.is_empty() {
                                    self.finish(None)?;
                                }
                            }
                            Err(frame) => self.finish(frame.trailers_ref())?,
                        }
                    }
                }
            }
            ready!(self.poll_write(cx, stream))?;
            if self.is_waiting_for_client || self.body.is_none() {
                ready!(Pin::new(&mut *stream).poll_flush(cx)).map_err(Failed::Write)?;
            }
            if self.body.is_none() {
                return Poll::Ready(Ok(()));
            }
            if self.is_waiting_for_client {
                return Poll::Pending;
            }
        }
    }

    fn is_waiting_for_client(&self) -> bool {
        self.is_waiting_for_client && self.is_all_sent()
    }

    fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }
}
