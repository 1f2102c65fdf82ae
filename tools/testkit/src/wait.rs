#![allow(clippy::disallowed_methods, reason = "real servers run on real time; this polls a condition, with a bound")]

use std::{
    thread,
    time::{Duration, Instant},
};

const STEP: Duration = Duration::from_millis(5);

/// Polls `condition` until it holds.
///
/// # Panics
/// When it still does not after `within`; the message says `what` was awaited.
pub fn wait_until(within: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(poll(within, condition), "waited {within:?} in vain for: {what}");
}

/// Polls `condition`; whether it held within the time.
pub(crate) fn poll(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() >= within {
            return false;
        }
        thread::sleep(STEP);
    }
}

/// Like [`wait_until`] for asynchronous tests: awaits `condition` again and again.
///
/// # Panics
/// When it still does not hold after `within`; the message says `what` was awaited.
pub async fn eventually(within: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < within, "waited {within:?} in vain for: {what}");
        tokio::time::sleep(STEP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_returns_as_soon_as_the_condition_holds_and_else_says_what_was_awaited() {
        let mut calls = 0;
        wait_until(Duration::from_secs(5), "three calls", || {
            calls += 1;
            calls == 3
        });
        assert_eq!(calls, 3);
        let error = std::panic::catch_unwind(|| wait_until(Duration::ZERO, "the moon", || false)).unwrap_err();
        assert!(error.downcast_ref::<String>().unwrap().contains("the moon"));
    }
}
