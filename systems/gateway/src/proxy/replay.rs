//! A request body that can be sent again as long as little of it was read.
//!
//! Frames go to the first try as they come: nothing waits for a body to be whole. What went through is kept until it is more than
//! [`MAX_BYTES`]; from then on there is no other try. The next try gets what was kept and goes on with the body where the one
//! before left it.
//!
//! - REPLAY-1: every try sees the same bytes from the first on, or is refused beforehand ([`Replay::can_repeat`]).
//! - REPLAY-2: no more than [`MAX_BYTES`] of a body are kept.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// The most that is kept of a body.
pub(crate) const MAX_BYTES: usize = 64 * 1024;

/// The body of one request and what went through of it.
pub(super) struct Replay<B>(Rc<RefCell<State<B>>>);

struct State<B> {
    source: B,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    trailers: Option<HeaderMap>,
    is_over: bool,
    /// Too much went through, or it failed.
    is_lost: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Replay<B> {
    pub(super) fn new(source: B) -> Self {
        let is_over = source.is_end_stream();
        let state = State { source, kept: Vec::new(), kept_bytes: 0, trailers: None, is_over, is_lost: false };
        Self(Rc::new(RefCell::new(state)))
    }

    /// Whether another try would see the same bytes.
    pub(super) fn can_repeat(&self) -> bool {
        !self.0.borrow().is_lost
    }

    /// All of it, when all went through and was kept.
    pub(super) fn kept(&self) -> Option<Bytes> {
        let state = self.0.borrow();
        if !state.is_over || state.is_lost {
            return None;
        }
        Some(match &*state.kept {
            [one] => one.clone(),
            several => several.concat().into(),
        })
    }

    /// The body of one more try. Only the latest may be read.
    pub(super) fn again(&self) -> Try<B> {
        Try { state: self.0.clone(), at: 0, gave_trailers: false }
    }
}

/// The body as one try sends it.
pub(super) struct Try<B> {
    state: Rc<RefCell<State<B>>>,
    at: usize,
    gave_trailers: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Try<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let state = &mut *this.state.borrow_mut();
        if let Some(kept) = state.kept.get(this.at) {
            this.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(kept.clone()))));
        }
        if state.is_over {
            let trailers = if this.gave_trailers { None } else { state.trailers.clone() };
            this.gave_trailers = true;
            return Poll::Ready(trailers.map(|t| Ok(Frame::trailers(t))));
        }
        match ready!(Pin::new(&mut state.source).poll_frame(cx)) {
            None => {
                state.is_over = true;
                Poll::Ready(None)
            }
            Some(Err(e)) => {
                state.is_lost = true;
                Poll::Ready(Some(Err(e)))
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    if !state.is_lost && state.kept_bytes + data.len() <= MAX_BYTES {
                        state.kept_bytes += data.len();
                        state.kept.push(data.clone());
                        this.at += 1;
                    } else {
                        state.is_lost = true;
                        state.kept = Vec::new();
                        this.at = 0;
                    }
                    // A body of known length needs no look at what comes after its last byte.
                    state.is_over = state.source.is_end_stream();
                } else if let Some(trailers) = frame.trailers_ref() {
                    state.trailers = Some(trailers.clone());
                    state.is_over = true;
                    this.gave_trailers = true;
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.state.borrow();
        state.is_over && self.at >= state.kept.len() && (self.gave_trailers || state.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.state.borrow();
        let rest = state.source.size_hint();
        let kept: u64 = state.kept[self.at.min(state.kept.len())..].iter().map(|k| k.len() as u64).sum();
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(kept + rest),
            None if state.is_over => SizeHint::with_exact(kept),
            None => {
                let mut hint = SizeHint::new();
                hint.set_lower(kept + rest.lower());
                hint
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    type Source =
        StreamBody<futures_util::stream::Iter<std::collections::vec_deque::IntoIter<Result<Frame<Bytes>, String>>>>;

    fn source(pieces: &[&'static [u8]]) -> Source {
        let frames: VecDeque<_> = pieces.iter().map(|p| Ok(Frame::data(Bytes::from_static(p)))).collect();
        StreamBody::new(futures_util::stream::iter(frames))
    }

    async fn whole(body: Try<Source>) -> Vec<u8> {
        body.collect().await.unwrap().to_bytes().to_vec()
    }

    #[tokio::test]
    async fn every_try_sees_the_same_bytes() {
        let replay = Replay::new(source(&[b"ab", b"cd", b"ef"]));
        let mut first = replay.again();
        first.frame().await.unwrap().unwrap();
        drop(first);
        assert_eq!(whole(replay.again()).await, b"abcdef");
        assert_eq!(whole(replay.again()).await, b"abcdef");
        assert!(replay.can_repeat());
    }

    #[tokio::test]
    async fn a_long_body_cannot_be_repeated_but_goes_through() {
        static LONG: [u8; MAX_BYTES] = [b'x'; MAX_BYTES];
        let replay = Replay::new(source(&[b"a", &LONG]));
        assert_eq!(whole(replay.again()).await.len(), MAX_BYTES + 1);
        assert!(!replay.can_repeat());
        let exact = Replay::new(source(&[&LONG]));
        assert_eq!(whole(exact.again()).await.len(), MAX_BYTES);
        assert!(exact.can_repeat());
    }

    #[tokio::test]
    async fn trailers_are_sent_again() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("1"));
        let frames: VecDeque<Result<_, String>> =
            [Ok(Frame::data(Bytes::from_static(b"a"))), Ok(Frame::trailers(trailers))].into();
        let replay = Replay::new(StreamBody::new(futures_util::stream::iter(frames)));
        for _ in 0..2 {
            let collected = replay.again().collect().await.unwrap();
            assert_eq!(collected.trailers().unwrap().len(), 1);
        }
    }
}
