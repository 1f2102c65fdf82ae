//! A [`Rate`] as the numbers that its machine works with; checked, so that no arithmetic after this can overflow.

use std::time::Duration;

use super::{MAX_LEDGER, MAX_LIMIT, Rate};
use crate::{Error, MAX_TTL, Result};

/// Integers up to here are exact in a double, with room for a sum of two.
const EXACT: u64 = 1 << 52;

/// A span of time: whole microseconds and `part / parts` of one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Span {
    pub(crate) us: u64,
    pub(crate) part: u64,
}

/// A bucket in time: one token is `whole + part / parts` microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) whole: u64,
    pub(crate) part: u64,
    pub(crate) parts: u64,
    pub(crate) capacity: u64,
}

/// What the machines take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Bucket(Bucket),
    Fixed {
        limit: u64,
        window: u64,
    },
    Calendar {
        limit: u64,
        bounds: [u64; 3],
    },
    /// The weight of the last window is counted in `grains` of `grain` microseconds.
    Counter {
        limit: u64,
        window: u64,
        grain: u64,
        grains: u64,
    },
    Log {
        limit: u64,
        horizon: u64,
    },
    Holders {
        limit: u64,
        horizon: u64,
    },
}

/// Which machine a cell belongs to; part of its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bucket = 1,
    Window = 2,
    Counter = 3,
    Log = 4,
    Holders = 5,
    Once = 6,
}

impl Kind {
    /// What follows the key on Redis.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::Bucket => 'b',
            Self::Window => 'w',
            Self::Counter => 'c',
            Self::Log => 'l',
            Self::Holders => 'h',
            Self::Once => 'o',
        }
    }
}

impl Form {
    pub(crate) fn new(rate: &Rate) -> Result<Self> {
        Ok(match *rate {
            Rate::TokenBucket { capacity, refill, period } => Self::Bucket(Bucket::new(capacity, refill, period)?),
            Rate::Gcra { limit, period, burst } => Self::Bucket(Bucket::new(burst, limit, period)?),
            Rate::FixedWindow { limit, window } => {
                Self::Fixed { limit: at_most(limit, MAX_LIMIT)?, window: us(window)? }
            }
            Rate::SlidingCounter { limit, window } => Self::counter(at_most(limit, MAX_LIMIT)?, us(window)?),
            Rate::SlidingLog { limit, window } => {
                Self::Log { limit: at_most(limit, MAX_LEDGER)?, horizon: us(window)? }
            }
            Rate::Concurrency { limit, lease } => {
                Self::Holders { limit: at_most(limit, MAX_LEDGER)?, horizon: us(lease)? }
            }
            Rate::Calendar { limit, bounds } => {
                let bounds = bounds.map(|at| u64::try_from(at.as_millis()).ok().and_then(|ms| ms.checked_mul(1000)));
                let [Some(a), Some(b), Some(c)] = bounds else {
                    return Err(Error::Invalid("a bound of a window before 1970"));
                };
                if a >= b || b >= c || c > EXACT {
                    return Err(Error::Invalid("the bounds of the windows do not rise"));
                }
                Self::Calendar { limit: at_most(limit, MAX_LIMIT)?, bounds: [a, b, c] }
            }
        })
    }

    fn counter(limit: u64, window: u64) -> Self {
        // A count can be up to twice the limit, and is multiplied by the parts of the window. Where that would not be exact,
        // the parts are coarser; weights round up, so the estimate is never too low.
        let most = u128::from(2 * limit) * u128::from(window);
        let grain = u64::try_from(most.div_ceil(u128::from(EXACT))).unwrap_or(u64::MAX).max(1);
        Self::Counter { limit, window, grain, grains: (window / grain).max(1) }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Bucket(_) => Kind::Bucket,
            Self::Fixed { .. } | Self::Calendar { .. } => Kind::Window,
            Self::Counter { .. } => Kind::Counter,
            Self::Log { .. } => Kind::Log,
            Self::Holders { .. } => Kind::Holders,
        }
    }
}

impl Bucket {
    fn new(capacity: u64, refill: u64, period: Duration) -> Result<Self> {
        at_most(capacity, MAX_LIMIT)?;
        at_most(refill, MAX_LIMIT)?;
        let period = us(period)?;
        let fit = |period: u64, parts: u64| Self { whole: period / parts, part: period % parts, parts, capacity };
        let mut bucket = fit(period, refill);
        if bucket.is_too_fine() {
            let divisor = gcd(period, refill);
            bucket = fit(period / divisor, refill / divisor);
            if bucket.is_too_fine() {
                return Err(Error::Invalid("a bucket whose numbers are too fine to be counted exactly"));
            }
        }
        // The parts round this up by less than 1 µs.
        let full = u128::from(bucket.capacity) * u128::from(period) / u128::from(refill);
        if full > MAX_TTL.as_micros() {
            return Err(Error::Invalid("a bucket that takes more than 10 years to fill"));
        }
        Ok(bucket)
    }

    fn is_too_fine(&self) -> bool {
        self.capacity.saturating_mul(self.part) > EXACT
    }

    /// What `n` tokens take to refill; exact.
    pub(crate) fn span(&self, n: u64) -> Span {
        debug_assert!(n <= self.capacity);
        if self.part == 0 {
            return Span { us: n * self.whole, part: 0 };
        }
        let parts = n * self.part;
        Span { us: n * self.whole + parts / self.parts, part: parts % self.parts }
    }

    pub(crate) fn plus(&self, a: Span, b: Span) -> Span {
        let part = a.part + b.part;
        if part >= self.parts {
            Span { us: a.us + b.us + 1, part: part - self.parts }
        } else {
            Span { us: a.us + b.us, part }
        }
    }

    /// `a - b`, zero where `b` is longer.
    pub(crate) fn minus(&self, a: Span, b: Span) -> Span {
        if a <= b {
            Span::default()
        } else if a.part >= b.part {
            Span { us: a.us - b.us, part: a.part - b.part }
        } else {
            Span { us: a.us - b.us - 1, part: a.part + self.parts - b.part }
        }
    }

    /// How many whole tokens refill in `span`, at most the capacity.
    pub(crate) fn tokens(&self, span: Span) -> u64 {
        let tokens = if self.part == 0 {
            span.us / self.whole
        } else {
            // In parts of a microsecond; in 64 bits for any limit that one meets.
            match (span.us.checked_mul(self.parts), self.whole.checked_mul(self.parts)) {
                (Some(have), Some(one)) if have <= u64::MAX / 2 && one <= u64::MAX / 2 => {
                    (have + span.part) / (one + self.part)
                }
                _ => {
                    let parts = u128::from(self.parts);
                    let have = u128::from(span.us) * parts + u128::from(span.part);
                    let one = u128::from(self.whole) * parts + u128::from(self.part);
                    u64::try_from(have / one).unwrap_or(u64::MAX)
                }
            }
        };
        tokens.min(self.capacity)
    }
}

impl Span {
    /// In whole microseconds, rounded up.
    pub(crate) fn ceil(self) -> u64 {
        self.us + u64::from(self.part > 0)
    }
}

fn at_most(limit: u64, most: u64) -> Result<u64> {
    match limit {
        0 => Err(Error::Invalid("a limit of zero")),
        _ if limit > most => Err(Error::Invalid("a limit that is too high")),
        _ => Ok(limit),
    }
}

/// A length in whole microseconds (parts are left out), as integers that a double holds.
fn us(length: Duration) -> Result<u64> {
    if length > MAX_TTL {
        return Err(Error::Invalid("a window of more than 10 years"));
    }
    match length.as_secs() * 1_000_000 + u64::from(length.subsec_micros()) {
        0 => Err(Error::Invalid("a window of less than a microsecond")),
        us => Ok(us),
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
