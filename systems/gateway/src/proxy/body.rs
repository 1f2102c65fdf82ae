//! The body of an answer, wherever it comes from.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::exchange::Exchange;

/// What may go wrong in the middle of a body; it only ever reaches a log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer. Runs on the thread of the worker that made it.
pub struct Body {
    kind: Kind,
    exchange: Option<Box<Exchange>>,
}

enum Kind {
    Full(Bytes),
    Wire(wire::Body),
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError>>>),
}

impl Body {
    /// Nothing.
    pub fn empty() -> Self {
        Kind::Full(Bytes::new()).into()
    }

    /// Any other body.
    pub fn stream<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        Kind::Stream(Box::pin(http_body_util::BodyExt::map_err(body, Into::into))).into()
    }

    /// Counts what goes through it for a request, which ends with it.
    pub(super) fn of(mut self, exchange: Box<Exchange>) -> Self {
        self.exchange = Some(exchange);
        self
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, exchange: None }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Kind::Full(bytes).into()
    }
}

impl From<wire::Body> for Body {
    fn from(body: wire::Body) -> Self {
        Kind::Wire(body).into()
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if !self.kind.is_end_stream()
            && let Some(exchange) = &mut self.exchange
            && exchange.error.is_empty()
        {
            exchange.failed("client_gone", false);
        }
    }
}

impl Kind {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Wire(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Wire(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.kind.poll_frame(cx));
        if let Some(exchange) = &mut self.exchange {
            match &frame {
                Some(Ok(frame)) => exchange.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
                Some(Err(e)) => match e.downcast_ref::<wire::Error>() {
                    Some(e) => exchange.failed(e.label(), !e.is_of_client()),
                    None => exchange.failed("body", false),
                },
                // Counted now: whoever reads to the end does not let go of the body at once.
                None => self.exchange = None,
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.kind.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Wire(body) => body.size_hint(),
            Kind::Stream(body) => body.size_hint(),
        }
    }
}
