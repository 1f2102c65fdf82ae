//! Each protection in simulated time, against its invariants.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod adaptive;
mod breaker;
mod bulkhead;
mod deadline;
mod flight;
mod hedge;
mod http;
mod outlier;
mod retry;

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

/// Polls once, with nobody to wake.
fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}
