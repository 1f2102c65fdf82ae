//! Bodies of answers.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::{Error, Upgraded};

/// The body of an answer. Belongs to the thread of its pool. Dropped in the middle it closes its connection.
#[derive(Debug, Default)]
pub struct Body(Kind);

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
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

    /// The whole body when all of it is here already.
    pub fn as_full(&self) -> Option<&[u8]> {
        match &self.0 {
            Kind::Empty => Some(&[]),
            Kind::Full(bytes) => Some(bytes),
            Kind::Upgraded(_) => None,
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

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match std::mem::take(&mut self.0) {
            Kind::Empty | Kind::Upgraded(_) => Poll::Ready(None),
            Kind::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Kind::Empty | Kind::Upgraded(_))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty | Kind::Upgraded(_) => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
