//! The body of a request on its way to a back end: as it comes, bounded, or made anew.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::{
    body::BoxError,
    refuse::TooLong,
    replay::{Replay, Try},
};

/// The body as a client sends it, or what was made of it.
pub(super) enum RequestBody<B> {
    /// As it comes; no more than so many bytes.
    Client { body: B, left: u64 },
    /// Whole.
    Full(Bytes),
}

impl<B> RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// The client's, of at most so many bytes.
    pub(super) fn new(body: B, max: Option<u64>) -> Self {
        Self::Client { body, left: max.unwrap_or(u64::MAX) }
    }

    /// All of it, if it is at most `max` bytes; trailers are let go.
    pub(super) async fn whole(self, max: usize) -> Result<Bytes, BoxError> {
        match self {
            Self::Full(bytes) => Ok(bytes),
            Self::Client { body, left } => {
                let left = left.min(max as u64);
                Ok(Self::Client { body, left }.collect().await?.to_bytes())
            }
        }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Client { body, left } => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                if let Some(Ok(frame)) = &frame
                    && let Some(data) = frame.data_ref()
                {
                    match left.checked_sub(data.len() as u64) {
                        Some(rest) => *left = rest,
                        None => return Poll::Ready(Some(Err(TooLong.into()))),
                    }
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Client { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Client { body, .. } => body.size_hint(),
        }
    }
}

/// What tries send.
pub(super) enum Source<B> {
    /// Nothing, however often.
    Empty,
    /// The same bytes as long as there are few.
    Replay(Replay<RequestBody<B>>),
}

impl<B> Source<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(body: RequestBody<B>) -> Self {
        if body.is_end_stream() { Self::Empty } else { Self::Replay(Replay::new(body)) }
    }

    /// Whether another try would send the same.
    pub(super) fn can_repeat(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Replay(replay) => replay.can_repeat(),
        }
    }

    /// The bytes, when all of them went through and were kept.
    pub(super) fn kept(&self) -> Option<Bytes> {
        match self {
            Self::Empty => Some(Bytes::new()),
            Self::Replay(replay) => replay.kept(),
        }
    }

    /// The body of the next try.
    pub(super) fn again(&self) -> Sending<B> {
        match self {
            Self::Empty => Sending::Empty,
            Self::Replay(replay) => Sending::Try(replay.again()),
        }
    }
}

/// The body of one try.
pub(super) enum Sending<B> {
    Empty,
    Try(Try<RequestBody<B>>),
}

impl<B> Body for Sending<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Try(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Try(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Try(body) => body.size_hint(),
        }
    }
}

/// Says how long a body is that was made here.
pub(super) fn set_length(headers: &mut HeaderMap, bytes: &Bytes) {
    headers.remove(http::header::TRANSFER_ENCODING);
    headers.insert(http::header::CONTENT_LENGTH, http::HeaderValue::from(bytes.len()));
}
