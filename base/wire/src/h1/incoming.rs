//! The body of an answer while it is read.

use std::{
    io,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{
    chunked::{Chunked, Piece},
    upload::{Failed, Upload},
};
use crate::{
    Error, ErrorKind,
    conn::{Connection, Peer},
    stream::Stream,
};

/// How a body is read.
pub(super) enum Decoder {
    /// This many bytes are still to come.
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// A body that is being read. Dropped before its end, it closes the connection.
pub(crate) struct Incoming {
    pub(super) peer: Rc<Peer>,
    /// `None`: the body is over, or failed.
    pub(super) connection: Option<Box<Connection>>,
    pub(super) decoder: Decoder,
    pub(super) buffered: Bytes,
    pub(super) upload: Option<Box<dyn Upload<Stream>>>,
    pub(super) idle: Duration,
    /// When something has to have moved.
    pub(super) deadline: Option<Duration>,
    pub(super) keep_alive: Option<Duration>,
    pub(super) is_reusable: bool,
}

impl Incoming {
    pub(crate) fn is_over(&self) -> bool {
        self.connection.is_none()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match &self.decoder {
            _ if self.is_over() => SizeHint::with_exact(0),
            Decoder::Length(left) => SizeHint::with_exact(*left),
            Decoder::Chunked(_) | Decoder::UntilClose => SizeHint::new(),
        }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let outcome = self.poll_next(cx);
        if matches!(outcome, Poll::Ready(Some(Err(_)))) {
            self.connection = None;
        }
        outcome.map(|next| next.map(|next| next.map_err(Error::new)))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ErrorKind>>> {
        if self.connection.is_none() {
            return Poll::Ready(None);
        }
        loop {
            match self.decode()? {
                Decoded::Frame(frame) => {
                    // Nothing is due from the back end until more is asked for.
                    self.deadline = None;
                    if let Some(connection) = &self.connection {
                        connection.place.disarm();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Decoded::End => return Poll::Ready(None),
                Decoded::More => {}
            }
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            if let Some(upload) = &mut self.upload {
                match upload.poll(cx, &mut connection.stream) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => self.upload = None,
                    // The answer may come to its end all the same.
                    Poll::Ready(Err(Failed::Write(_))) => (self.upload, self.is_reusable) = (None, false),
                    Poll::Ready(Err(failed)) => return Poll::Ready(Some(Err(failed.into()))),
                }
            }
            match self.peer.shared.poll_read(cx, &mut connection.stream) {
                Poll::Ready(Ok(bytes)) if !bytes.is_empty() => (self.buffered, self.deadline) = (bytes, None),
                Poll::Ready(Ok(_)) if matches!(self.decoder, Decoder::UntilClose) => {
                    self.connection = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(_)) => {
                    let e = io::Error::new(io::ErrorKind::UnexpectedEof, "in the middle of the body");
                    return Poll::Ready(Some(Err(ErrorKind::Reset(e))));
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Some(Err(ErrorKind::Reset(e)))),
                Poll::Pending => {
                    let has_moved = self.upload.as_mut().is_some_and(|upload| upload.has_moved());
                    if connection.place.has_expired() && !has_moved {
                        let is_of_client = self.upload.as_ref().is_some_and(|u| u.is_waiting_for_client());
                        let kind = if is_of_client { ErrorKind::RequestTimeout } else { ErrorKind::IdleTimeout };
                        return Poll::Ready(Some(Err(kind)));
                    }
                    let deadline = match self.deadline {
                        Some(deadline) if !has_moved => deadline,
                        _ => connection.place.now().saturating_add(self.idle),
                    };
                    self.deadline = Some(deadline);
                    connection.place.arm(deadline, cx.waker());
                    return Poll::Pending;
                }
            }
        }
    }

    /// Takes the next frame from what was read.
    fn decode(&mut self) -> Result<Decoded, ErrorKind> {
        match &mut self.decoder {
            Decoder::UntilClose | Decoder::Length(_) if self.buffered.is_empty() => Ok(Decoded::More),
            Decoder::UntilClose => Ok(Decoded::Frame(Frame::data(std::mem::take(&mut self.buffered)))),
            Decoder::Length(left) => {
                let count = self.buffered.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                let is_over = *left == 0;
                let data = self.buffered.split_to(count);
                if is_over {
                    self.finish();
                }
                Ok(Decoded::Frame(Frame::data(data)))
            }
            Decoder::Chunked(chunked) => match chunked.next(&mut self.buffered).map_err(ErrorKind::Malformed)? {
                Piece::More => Ok(Decoded::More),
                Piece::Data(data) => Ok(Decoded::Frame(Frame::data(data))),
                Piece::End(trailers) => {
                    self.finish();
                    Ok(if trailers.is_empty() { Decoded::End } else { Decoded::Frame(Frame::trailers(trailers)) })
                }
            },
        }
    }

    /// The body is here: the connection is free before the rest of it is passed on.
    fn finish(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if self.is_reusable && self.upload.is_none() && self.buffered.is_empty() {
            let now = connection.place.now();
            self.peer.give_back(connection, now, self.keep_alive);
        }
    }
}

enum Decoded {
    Frame(Frame<Bytes>),
    End,
    More,
}
