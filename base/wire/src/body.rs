//! Bodies of answers.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::{Error, Upgraded, h1, relay};

/// The body of an answer. Belongs to the thread of its pool. Dropped in the middle it closes its connection (HTTP/1) or resets its
/// stream (HTTP/2).
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Http1(Box<h1::Incoming>),
    Relayed(Box<relay::Incoming>),
    Upgraded(Box<Upgraded>),
}

impl Body {
    /// A body without a byte.
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// A body that is here whole.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self(Kind::Full(bytes)) }
    }

    pub(crate) fn http1(incoming: h1::Incoming) -> Self {
        Self(Kind::Http1(Box::new(incoming)))
    }

    pub(crate) fn relayed(incoming: relay::Incoming) -> Self {
        Self(Kind::Relayed(Box::new(incoming)))
    }

    pub(crate) fn upgraded(upgraded: Upgraded) -> Self {
        Self(Kind::Upgraded(Box::new(upgraded)))
    }

    /// The whole body when all of it is here already.
    pub fn as_full(&self) -> Option<&[u8]> {
        match &self.0 {
            Kind::Empty => Some(&[]),
            Kind::Full(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The connection, when the answer switched protocols: 101, or 2xx to CONNECT.
    pub fn take_upgraded(&mut self) -> Option<Upgraded> {
        match std::mem::take(&mut self.0) {
            Kind::Upgraded(upgraded) => Some(*upgraded),
            other => {
                self.0 = other;
                None
            }
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Empty => "Body::Empty",
            Kind::Full(_) => "Body::Full",
            Kind::Http1(_) => "Body::Http1",
            Kind::Relayed(_) => "Body::Relayed",
            Kind::Upgraded(_) => "Body::Upgraded",
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.0 {
            Kind::Empty | Kind::Upgraded(_) => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Http1(incoming) => incoming.poll_frame(cx),
            Kind::Relayed(incoming) => incoming.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty | Kind::Upgraded(_) => true,
            Kind::Full(_) => false,
            Kind::Http1(incoming) => incoming.is_over(),
            Kind::Relayed(incoming) => incoming.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty | Kind::Upgraded(_) => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Http1(incoming) => incoming.size_hint(),
            Kind::Relayed(incoming) => incoming.size_hint(),
        }
    }
}
