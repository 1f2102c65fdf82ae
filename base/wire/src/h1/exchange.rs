//! One request and the head of its answer on one connection.

use std::{
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Method, Response, request::Parts};

use super::{
    chunked::{Chunked, Piece},
    encode::encode,
    incoming::{Decoder, Incoming},
    parse::{Asked, Head, Length, parse},
    upload::{Failed, Framing, Outgoing, Upload},
};
use crate::{
    Body, BoxError, ErrorKind, SendOptions, Upgraded,
    conn::{Connection, Peer},
    stream::Stream,
};

/// The most interim answers before the one that counts.
const MAX_INTERIM: usize = 16;

/// An exchange that came to nothing.
pub(crate) struct Lost {
    pub(crate) kind: ErrorKind,
    /// Whether the connection ended before a byte of an answer.
    pub(crate) is_silent: bool,
}

/// Sends a request on `connection` and gives the answer; its body reads on from the connection, which goes back to `peer` as soon
/// as the answer is here whole.
pub(crate) async fn exchange<B>(
    peer: &Rc<Peer>,
    connection: Box<Connection>,
    parts: &Parts,
    body: Option<B>,
    options: &SendOptions<'_>,
    now: Duration,
) -> Result<Response<Body>, Lost>
where
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let framing = Framing::of(body.as_ref());
    let mut head = peer.shared.take_output();
    encode(&mut head, parts, framing, &peer.target, options.upgrade);
    let mut exchange = Exchange {
        peer,
        connection,
        outgoing: Some(Outgoing::new(head, body, framing)),
        write_error: None,
        options,
        asked: Asked {
            is_head: parts.method == Method::HEAD,
            is_connect: parts.method == Method::CONNECT,
            is_upgrade: options.upgrade.is_some(),
            max_fields: peer.shared.limits.max_fields,
        },
        input: BytesMut::new(),
        interim_count: 0,
        deadline: now.saturating_add(if framing == Framing::None { options.first_byte } else { options.idle }),
        has_body: framing != Framing::None,
    };
    match poll_fn(|cx| exchange.poll(cx)).await {
        Ok((head, rest)) => Ok(exchange.answer(head, rest, now)),
        Err(lost) => Err(lost),
    }
}

struct Exchange<'a, B> {
    peer: &'a Rc<Peer>,
    connection: Box<Connection>,
    outgoing: Option<Outgoing<B>>,
    write_error: Option<io::Error>,
    options: &'a SendOptions<'a>,
    asked: Asked,
    /// A part of a head.
    input: BytesMut,
    interim_count: usize,
    /// When something has to have moved, or the answer to have begun. A poll alone moves nothing: whoever waits may be polled for any
    /// reason.
    deadline: Duration,
    has_body: bool,
}

impl<B> Exchange<'_, B>
where
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    /// Sends and reads until the head is here; gives it and what came with it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Head, Bytes), Lost>> {
        self.poll_send(cx)?;
        loop {
            let read = self.peer.shared.poll_read(cx, &mut self.connection.stream);
            match read {
                Poll::Pending => break,
                Poll::Ready(Ok(bytes)) if bytes.is_empty() => return self.reset(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(Err(e)) => return self.reset(e),
                Poll::Ready(Ok(bytes)) => match self.read(bytes) {
                    Ok(None) => {}
                    Ok(Some(done)) => return Poll::Ready(Ok(done)),
                    Err(kind) => return Poll::Ready(Err(Lost { kind, is_silent: false })),
                },
            }
        }
        let place = &self.connection.place;
        if self.outgoing.as_mut().is_some_and(Upload::<Stream>::has_moved) {
            self.deadline = place.now().saturating_add(self.options.idle);
        } else if place.has_expired() {
            let kind = match &self.outgoing {
                None => ErrorKind::FirstByteTimeout,
                Some(outgoing) if Upload::<Stream>::is_waiting_for_client(outgoing) => ErrorKind::RequestTimeout,
                Some(_) => ErrorKind::IdleTimeout,
            };
            return Poll::Ready(Err(Lost { kind, is_silent: false }));
        }
        place.arm(self.deadline, cx.waker());
        Poll::Pending
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        let Some(outgoing) = &mut self.outgoing else { return Ok(()) };
        match outgoing.poll(cx, &mut self.connection.stream) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(())) => {}
            // A server may refuse a body and close before it took all: its answer counts.
            Poll::Ready(Err(Failed::Write(e))) => self.write_error = Some(e),
            Poll::Ready(Err(failed)) => return Err(Lost { kind: failed.into(), is_silent: false }),
        }
        if let Some(outgoing) = self.outgoing.take() {
            self.peer.shared.put_output(outgoing.into_buffer());
        }
        if self.has_body {
            self.deadline = self.connection.place.now().saturating_add(self.options.first_byte);
        }
        Ok(())
    }

    fn reset<T>(&mut self, e: io::Error) -> Poll<Result<T, Lost>> {
        let e = self.write_error.take().unwrap_or(e);
        let is_silent = self.input.is_empty() && self.interim_count == 0;
        Poll::Ready(Err(Lost { kind: ErrorKind::Reset(e), is_silent }))
    }

    /// Takes in what was read.
    fn read(&mut self, bytes: Bytes) -> Result<Option<(Head, Bytes)>, ErrorKind> {
        // Parsed when it begins and when it may be whole, so that one that trickles in costs no more than one that does not.
        let mut bytes = if self.input.is_empty() {
            bytes
        } else {
            let from = self.input.len().saturating_sub(2);
            self.input.extend_from_slice(&bytes);
            if !has_blank_line(&self.input[from..]) {
                return self.is_short_enough().map(|()| None);
            }
            self.input.split().freeze()
        };
        loop {
            let Some((head, len)) = parse(&bytes, self.asked)? else {
                self.input.extend_from_slice(&bytes);
                return self.is_short_enough().map(|()| None);
            };
            if len > self.peer.shared.limits.max_head_bytes {
                return Err(ErrorKind::TooLarge("its head is"));
            }
            let rest = bytes.slice(len..);
            if !head.status.is_informational() || head.length == Length::Switched {
                return Ok(Some((head, rest)));
            }
            self.interim_count += 1;
            if self.interim_count > MAX_INTERIM {
                return Err(ErrorKind::Malformed("too many interim answers"));
            }
            if let Some(on_interim) = self.options.on_interim {
                on_interim(head.status, head.headers);
            }
            if rest.is_empty() {
                return Ok(None);
            }
            bytes = rest;
        }
    }

    fn is_short_enough(&self) -> Result<(), ErrorKind> {
        let is_long = self.input.len() > self.peer.shared.limits.max_head_bytes;
        if is_long { Err(ErrorKind::TooLarge("its head is")) } else { Ok(()) }
    }

    /// The answer, and where its body comes from. A body that is here whole leaves the connection free at once.
    fn answer(self, head: Head, mut rest: Bytes, now: Duration) -> Response<Body> {
        let Self { peer, connection, outgoing, write_error, .. } = self;
        connection.place.disarm();
        let is_sent = outgoing.is_none() && write_error.is_none();
        let is_reusable = head.is_reusable && write_error.is_none();
        let free = |connection, rest: &Bytes| {
            // What came beyond the answer belongs to no request.
            if is_reusable && is_sent && rest.is_empty() {
                peer.give_back(connection, now, head.keep_alive);
            }
        };
        let decoder = match head.length {
            Length::Switched => {
                let body = Body::upgraded(Upgraded::new(rest, Box::new(connection.stream)));
                return response(head.status, head.headers, body);
            }
            Length::Exactly(length) => match usize::try_from(length).ok().filter(|l| *l <= rest.len()) {
                Some(length) => {
                    let body = rest.split_to(length);
                    free(connection, &rest);
                    return response(head.status, head.headers, Body::full(body));
                }
                None => Decoder::Length(length),
            },
            Length::Chunked => match whole(&rest) {
                Some((body, rest)) => {
                    free(connection, &rest);
                    return response(head.status, head.headers, Body::full(body));
                }
                None => Decoder::Chunked(Chunked::new()),
            },
            Length::UntilClose => Decoder::UntilClose,
        };
        let incoming = Incoming {
            peer: peer.clone(),
            connection: Some(connection),
            decoder,
            buffered: rest,
            upload: outgoing.map(|outgoing| Box::new(outgoing) as Box<dyn Upload<Stream>>),
            idle: self.options.idle,
            deadline: None,
            keep_alive: head.keep_alive,
            is_reusable,
        };
        response(head.status, head.headers, Body::http1(incoming))
    }
}

fn response(status: http::StatusCode, headers: http::HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A chunked body that is here whole, in one chunk and without trailers; and what follows it.
fn whole(input: &Bytes) -> Option<(Bytes, Bytes)> {
    let mut rest = input.clone();
    let mut chunked = Chunked::new();
    let mut body = Bytes::new();
    loop {
        match chunked.next(&mut rest) {
            Ok(Piece::Data(data)) if body.is_empty() => body = data,
            Ok(Piece::End(trailers)) if trailers.is_empty() => return Some((body, rest)),
            _ => return None,
        }
    }
}

/// Whether a head may end here.
pub(crate) fn has_blank_line(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|w| w == b"\n\n") || bytes.windows(3).any(|w| w == b"\n\r\n")
}
