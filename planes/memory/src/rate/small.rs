//! The machines whose state is two numbers: buckets, windows, two weighted windows.
//!
//! Each is two functions of (state, now): [`admit`] says whether a cost fits and what the state would be then, [`report`] what is
//! left. `rests_at` is the instant from which on the state says nothing that no state does not say, whatever the machine; so a
//! sweep needs to know nothing else. `redis/lua/rate.lua` is the same, line by line.

use super::form::{Bucket, Form, Span};
use crate::{Error, Result};

/// What is kept. Bucket: the instant at which it is full, rounded up, and the part of its last microsecond. Window: its end, and the
/// count. Two windows: the end of the one after the present one, and both counts (last × 2³² + present).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Small {
    pub(crate) rests_at: u64,
    pub(crate) rest: u64,
}

/// Whether a cost fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admit {
    pub(crate) is_allowed: bool,
    /// Microseconds until it would; `None` is never.
    pub(crate) retry: Option<u64>,
}

impl Admit {
    pub(crate) const NEVER: Self = Self { is_allowed: false, retry: None };
    pub(crate) const YES: Self = Self { is_allowed: true, retry: Some(0) };

    pub(crate) fn after(us: u64) -> Self {
        Self { is_allowed: false, retry: Some(us) }
    }
}

/// What is left, and microseconds until the cell is at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) remaining: u64,
    pub(crate) reset: u64,
}

/// The window that holds `now`, and what it has counted. Where the clock went back by less than a window, the later window goes
/// on: a step of the clock gives nobody a second budget.
struct Window {
    end: u64,
    used: u64,
}

/// The present window of two, and what both have counted.
struct Pair {
    end: u64,
    last: u64,
    present: u64,
}

pub(crate) fn admit(form: &Form, state: Option<Small>, now: u64, cost: u64) -> Result<(Admit, Small)> {
    let same = state.unwrap_or_default();
    Ok(match *form {
        Form::Bucket(bucket) => {
            if cost > bucket.capacity {
                return Ok((Admit::NEVER, same));
            }
            let next = bucket.plus(full_at(&bucket, state, now), bucket.span(cost));
            let most = bucket.plus(Span { us: now, part: 0 }, bucket.span(bucket.capacity));
            if next <= most { (Admit::YES, full(next)) } else { (Admit::after(bucket.minus(next, most).ceil()), same) }
        }
        Form::Fixed { limit, .. } | Form::Calendar { limit, .. } => {
            let window = window(form, state, now)?;
            if cost > limit {
                (Admit::NEVER, same)
            } else if window.used + cost <= limit {
                (Admit::YES, Small { rests_at: window.end, rest: window.used + cost })
            } else {
                (Admit::after(window.end - now), same)
            }
        }
        Form::Counter { limit, window, grain, grains } => {
            let pair = pair(window, state, now);
            if cost > limit {
                return Ok((Admit::NEVER, same));
            }
            let (used, left) = estimate(&pair, window, grain, grains, now);
            if used + cost <= limit {
                return Ok((Admit::YES, kept(pair.end + window, pair.last, pair.present + cost)));
            }
            let room = limit - cost;
            let ahead = pair.end - left - now.min(pair.end - left);
            // Of the last window `weight` parts may still count: when is that so?
            let wait = if pair.present <= room {
                left.saturating_sub((room - pair.present) * grains / pair.last.max(1) * grain)
            } else {
                let weight = (room * grains / pair.present).min(grains);
                if weight == grains { left } else { left + window - weight * grain }
            };
            (Admit::after(ahead + wait), same)
        }
        Form::Log { .. } | Form::Holders { .. } => return Err(Error::Other("a ledger is not a small cell".to_owned())),
    })
}

pub(crate) fn report(form: &Form, state: Option<Small>, now: u64) -> Result<Report> {
    Ok(match *form {
        Form::Bucket(bucket) => {
            let full_at = full_at(&bucket, state, now);
            let most = bucket.plus(Span { us: now, part: 0 }, bucket.span(bucket.capacity));
            let reset = bucket.minus(full_at, Span { us: now, part: 0 }).ceil();
            Report { remaining: bucket.tokens(bucket.minus(most, full_at)), reset }
        }
        Form::Fixed { limit, .. } | Form::Calendar { limit, .. } => {
            let window = window(form, state, now)?;
            Report { remaining: limit.saturating_sub(window.used), reset: window.end - now }
        }
        Form::Counter { limit, window, grain, grains } => {
            let pair = pair(window, state, now);
            let (used, _) = estimate(&pair, window, grain, grains, now);
            let rest = if pair.present > 0 { window } else { 0 };
            Report { remaining: limit.saturating_sub(used), reset: pair.end - now + rest }
        }
        Form::Log { .. } | Form::Holders { .. } => return Err(Error::Other("a ledger is not a small cell".to_owned())),
    })
}

/// The state after a correction; `None` where it changes nothing.
pub(crate) fn adjust(form: &Form, state: Option<Small>, now: u64, at: u64, delta: i64) -> Option<Small> {
    let by = delta.unsigned_abs();
    if state.is_none() && delta < 0 {
        return None;
    }
    let corrected = |used: u64, limit: u64| {
        // What is owed is bounded: the limit once more.
        if delta < 0 { used.saturating_sub(by) } else { used.saturating_add(by).min(2 * limit) }
    };
    match *form {
        Form::Bucket(bucket) => {
            let before = full_at(&bucket, state, now);
            let span = bucket.span(by.min(bucket.capacity));
            let start = Span { us: now, part: 0 };
            let after = if delta < 0 {
                // What has been refilled since may have been used: a bucket without this charge could have been full all the time.
                let back = bucket.minus(span, Span { us: now.saturating_sub(at), part: 0 });
                bucket.minus(before, back).max(start)
            } else {
                bucket.plus(before, span).min(most_owed(&bucket, now))
            };
            Some(full(after))
        }
        Form::Fixed { limit, window } => {
            let end = (at / window + 1) * window;
            in_window(state, end, now, corrected, limit)
        }
        Form::Calendar { limit, bounds: [a, b, c] } => {
            let end = if (a..b).contains(&at) { b } else { c };
            if !(a..c).contains(&at) {
                return None;
            }
            in_window(state, end, now, corrected, limit)
        }
        Form::Counter { limit, window, .. } => {
            let pair = pair(window, state, now);
            let end = (at / window + 1) * window;
            if end == pair.end {
                Some(kept(pair.end + window, pair.last, corrected(pair.present, limit)))
            } else if end + window == pair.end {
                Some(kept(pair.end + window, corrected(pair.last, limit), pair.present))
            } else {
                None
            }
        }
        Form::Log { .. } | Form::Holders { .. } => None,
    }
}

fn in_window(
    state: Option<Small>,
    end: u64,
    now: u64,
    corrected: impl Fn(u64, u64) -> u64,
    limit: u64,
) -> Option<Small> {
    if now >= end {
        return None;
    }
    let used = match state {
        Some(state) if state.rests_at == end => state.rest,
        // Another window is counting (the clock stepped): leave it.
        Some(_) => return None,
        None => 0,
    };
    Some(Small { rests_at: end, rest: corrected(used, limit) })
}

fn full(at: Span) -> Small {
    Small { rests_at: at.ceil(), rest: at.part }
}

/// When the bucket is full; never before now, and never later than what may be owed (the clock may have gone back).
fn full_at(bucket: &Bucket, state: Option<Small>, now: u64) -> Span {
    let start = Span { us: now, part: 0 };
    let Some(state) = state else { return start };
    // A part of another size, from before a change of the rate, counts whole.
    let kept = match state.rest {
        part if part > 0 && part < bucket.parts => Span { us: state.rests_at - 1, part },
        _ => Span { us: state.rests_at, part: 0 },
    };
    if kept <= start { start } else { kept.min(most_owed(bucket, now)) }
}

fn most_owed(bucket: &Bucket, now: u64) -> Span {
    let full = bucket.span(bucket.capacity);
    bucket.plus(Span { us: now, part: 0 }, bucket.plus(full, full))
}

fn window(form: &Form, state: Option<Small>, now: u64) -> Result<Window> {
    let (end, next_end) = match *form {
        Form::Calendar { bounds: [a, b, c], .. } => match now {
            _ if (a..b).contains(&now) => (b, c),
            _ if (b..c).contains(&now) => (c, c),
            _ => return Err(Error::WindowPassed { at: super::Moment::from_micros(now) }),
        },
        Form::Fixed { window, .. } => {
            let end = (now / window + 1) * window;
            (end, end + window)
        }
        _ => return Err(Error::Other("not a window".to_owned())),
    };
    Ok(match state {
        Some(state) if state.rests_at == end || state.rests_at == next_end => {
            Window { end: state.rests_at, used: state.rest }
        }
        _ => Window { end, used: 0 },
    })
}

fn kept(rests_at: u64, last: u64, present: u64) -> Small {
    Small { rests_at, rest: last << 32 | present }
}

fn pair(window: u64, state: Option<Small>, now: u64) -> Pair {
    let end = (now / window + 1) * window;
    let Some(state) = state else { return Pair { end, last: 0, present: 0 } };
    let (kept_end, last, present) = (state.rests_at.saturating_sub(window), state.rest >> 32, state.rest & 0xffff_ffff);
    if kept_end == end || kept_end == end + window {
        Pair { end: kept_end, last, present }
    } else if state.rests_at == end {
        Pair { end, last: present, present: 0 }
    } else {
        Pair { end, last: 0, present: 0 }
    }
}

/// The estimate, rounded up, and what is left of the present window.
fn estimate(pair: &Pair, window: u64, grain: u64, grains: u64, now: u64) -> (u64, u64) {
    let left = (pair.end - now).min(window);
    let weight = left.div_ceil(grain).min(grains);
    (pair.present + (pair.last * weight).div_ceil(grains), left)
}
