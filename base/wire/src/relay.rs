//! Requests and answers on their way through hyper's connections: how far they have come, and what holds them up.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap,
    header::{CONTENT_LENGTH, EXPECT, HOST},
    request::Parts,
};
use http_body::{Body as _, Frame, SizeHint};

use crate::{BoxError, Error, ErrorKind, SendOptions, hop::is_hop_by_hop, watch::Place};

pub(crate) fn error(e: hyper::Error, progress: &Progress) -> Error {
    if let Some(body) = progress.error.take() {
        return ErrorKind::RequestBody(body).into();
    }
    let is_untouched = e.is_canceled() || {
        let h2 = std::error::Error::source(&e).and_then(|source| source.downcast_ref::<h2::Error>());
        h2.is_some_and(|h2| {
            let reason = h2.reason();
            // Streams above the last one that a GOAWAY names were not looked at (RFC 9113, 6.8).
            reason == Some(h2::Reason::REFUSED_STREAM)
                || (h2.is_go_away() && h2.is_remote() && reason == Some(h2::Reason::NO_ERROR))
        })
    };
    let kind = ErrorKind::Reset(io::Error::other(e));
    if is_untouched { Error::untouched(kind) } else { kind.into() }
}

/// How far a request's body has come; shared between the stream that sends it and who waits for the answer.
#[derive(Default)]
pub(crate) struct Progress {
    is_sent: Cell<bool>,
    is_waiting_for_client: Cell<bool>,
    /// Frames that were handed on since somebody looked.
    moved: Cell<bool>,
    deadline: Cell<Option<Duration>>,
    error: RefCell<Option<BoxError>>,
}

impl Progress {
    pub(crate) fn is_sent(&self) -> bool {
        self.is_sent.get()
    }

    /// Waits for the answer; ready when that takes too long.
    pub(crate) fn wait(&self, place: &Place, options: &SendOptions<'_>, cx: &mut Context<'_>) -> Poll<ErrorKind> {
        let moved = self.moved.replace(false);
        let deadline = match self.deadline.get() {
            Some(deadline) if !moved => deadline,
            _ if self.is_sent.get() => place.now().saturating_add(options.first_byte),
            _ => place.now().saturating_add(options.idle),
        };
        self.deadline.set(Some(deadline));
        if place.has_expired() && !moved {
            return Poll::Ready(match (self.is_sent.get(), self.is_waiting_for_client.get()) {
                (true, _) => ErrorKind::FirstByteTimeout,
                (false, true) => ErrorKind::RequestTimeout,
                (false, false) => ErrorKind::IdleTimeout,
            });
        }
        place.arm(deadline, cx.waker());
        Poll::Pending
    }
}

type DynBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError>>>;

/// A request's body on its way out.
pub(crate) struct Outgoing {
    inner: Option<DynBody>,
    progress: Rc<Progress>,
}

impl Outgoing {
    pub(crate) fn new<B>(body: Option<B>, progress: &Rc<Progress>) -> Self
    where
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        progress.is_sent.set(body.is_none());
        let inner = body.map(|body| Box::pin(MapError(Box::pin(body))) as DynBody);
        Self { inner, progress: progress.clone() }
    }
}

/// The same body, with its error boxed.
struct MapError<B>(Pin<Box<B>>);

impl<B> http_body::Body for MapError<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.as_mut().poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.inner else { return Poll::Ready(None) };
        let polled = body.as_mut().poll_frame(cx);
        this.progress.is_waiting_for_client.set(polled.is_pending());
        this.progress.moved.set(this.progress.moved.get() || polled.is_ready());
        let is_over = match &polled {
            Poll::Ready(None) => true,
            Poll::Ready(Some(_)) => body.is_end_stream(),
            Poll::Pending => false,
        };
        this.progress.is_sent.set(is_over);
        polled.map_err(|e| {
            let text = io::Error::other(e.to_string());
            this.progress.error.replace(Some(e));
            text
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

/// What a body holds on to until its end.
pub(crate) enum Guard {
    Http2(crate::h2::Stream),
    Http1(crate::hyper1::Connection),
}

impl Guard {
    fn place(&self) -> &Place {
        match self {
            Self::Http2(stream) => &stream.place,
            Self::Http1(connection) => &connection.place,
        }
    }
}

/// The body of an answer. Dropped before its end, it resets its stream or closes its connection.
pub(crate) struct Incoming {
    /// `None`: over, or failed.
    inner: Option<(hyper::body::Incoming, Guard)>,
    idle: Duration,
    /// When something has to have moved.
    deadline: Option<Duration>,
    progress: Rc<Progress>,
}

impl Incoming {
    pub(crate) fn new(incoming: hyper::body::Incoming, guard: Guard, idle: Duration, progress: Rc<Progress>) -> Self {
        Self { inner: Some((incoming, guard)), idle, deadline: None, progress }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some((incoming, guard)) = &mut self.inner else { return Poll::Ready(None) };
        let place = guard.place();
        let next = match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Pending => {
                let has_moved = self.progress.moved.replace(false);
                if place.has_expired() && !has_moved {
                    Some(Err(ErrorKind::IdleTimeout.into()))
                } else {
                    let deadline = match self.deadline {
                        Some(deadline) if !has_moved => deadline,
                        _ => place.now().saturating_add(self.idle),
                    };
                    self.deadline = Some(deadline);
                    place.arm(deadline, cx.waker());
                    return Poll::Pending;
                }
            }
            Poll::Ready(next) => next.map(|frame| frame.map_err(|e| error(e, &self.progress))),
        };
        place.disarm();
        self.deadline = None;
        let (is_over, has_failed) = match &next {
            None => (true, false),
            Some(Err(_)) => (true, true),
            Some(Ok(_)) => (incoming.is_end_stream(), false),
        };
        if is_over
            && let Some((_, Guard::Http1(connection))) = self.inner.take_if(|_| is_over)
            && !has_failed
            && self.progress.is_sent()
        {
            connection.give_back();
        }
        Poll::Ready(next)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.inner.as_ref().is_none_or(|(incoming, _)| incoming.is_end_stream())
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), |(incoming, _)| incoming.size_hint())
    }
}

/// What of a request's fields is passed on; how its body is framed is not among them.
pub(crate) fn fields(parts: &Parts) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(parts.headers.len());
    for (name, value) in &parts.headers {
        let is_ours = *name == CONTENT_LENGTH || *name == EXPECT || is_hop_by_hop(name.as_str());
        if !(is_ours || *name == HOST && headers.contains_key(HOST)) {
            headers.append(name, value.clone());
        }
    }
    headers
}
