//! Rate limits as plainly as they can be written: what was charged, and arithmetic on it in 128 bits.

use std::{collections::BTreeMap, time::Duration};

use memory::{Charged, Moment, Rate};

/// What was charged, in microseconds; corrections are entries too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    events: Vec<(u64, i128)>,
    /// Buckets: what is missing, in tokens × period, and when that was so.
    missing: (u128, u64),
    holders: BTreeMap<u128, (u64, u64)>,
}

fn us(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap()
}

/// Numerators of a bucket: capacity × period, period, refill.
fn bucket(rate: &Rate) -> Option<(u128, u128, u128)> {
    let (capacity, refill, period) = match *rate {
        Rate::TokenBucket { capacity, refill, period } => (capacity, refill, period),
        Rate::Gcra { limit, period, burst } => (burst, limit, period),
        _ => return None,
    };
    Some((u128::from(capacity) * period.as_micros(), period.as_micros(), u128::from(refill)))
}

impl Cell {
    fn missing_at(&self, refill: u128, now: u64) -> u128 {
        self.missing.0.saturating_sub(u128::from(now.saturating_sub(self.missing.1)) * refill)
    }

    fn between(&self, from: u64, to: u64) -> u64 {
        let sum: i128 = self.events.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, n)| n).sum();
        u64::try_from(sum).unwrap()
    }

    /// What counts against the limit at an instant.
    pub(crate) fn used(&self, rate: &Rate, now: u64, holder: Option<u128>) -> u64 {
        match *rate {
            Rate::TokenBucket { .. } | Rate::Gcra { .. } => {
                let (_, period, refill) = bucket(rate).unwrap();
                u64::try_from(self.missing_at(refill, now).div_ceil(period)).unwrap()
            }
            Rate::FixedWindow { window, .. } => {
                let start = now - now % us(window);
                self.between(start, start + us(window))
            }
            Rate::Calendar { bounds, .. } => {
                let [a, b, c] = bounds.map(|b| u64::try_from(b.as_millis()).unwrap() * 1000);
                match now {
                    _ if now < b => self.between(a, b),
                    _ if now < c => self.between(b, c),
                    _ => 0,
                }
            }
            Rate::SlidingLog { window, .. } => self.between((now + 1).saturating_sub(us(window)), u64::MAX),
            Rate::SlidingCounter { window, .. } => {
                let w = us(window);
                let start = now - now % w;
                let last = u128::from(self.between(start - w, start));
                let weighted = (last * u128::from(start + w - now)).div_ceil(u128::from(w));
                self.between(start, start + w) + u64::try_from(weighted).unwrap()
            }
            Rate::Concurrency { lease, .. } => {
                let live = self.holders.iter().filter(|(_, (at, _))| at + us(lease) > now);
                live.filter(|(id, _)| Some(**id) != holder).map(|(_, (_, n))| n).sum()
            }
        }
    }

    fn fits(&self, rate: &Rate, now: u64, cost: u64, holder: Option<u128>) -> bool {
        if let Some((capacity, period, refill)) = bucket(rate) {
            return self.missing_at(refill, now) + u128::from(cost) * period <= capacity;
        }
        self.used(rate, now, holder) + cost <= rate.limit()
    }

    /// Whether the windows of the caller hold this instant.
    pub(crate) fn is_passed(rate: &Rate, now: u64) -> bool {
        match rate {
            Rate::Calendar { bounds, .. } => {
                let now = Moment::from_micros(now).timestamp();
                now < bounds[0] || now >= bounds[2]
            }
            _ => false,
        }
    }

    /// The first instant from now on at which it fits: looked for, not computed.
    fn retry(&self, rate: &Rate, now: u64, cost: u64, holder: Option<u128>) -> Option<Duration> {
        if cost > rate.limit() {
            return None;
        }
        let (mut low, mut high) = (0, 200_000_000);
        assert!(self.fits(rate, now + high, cost, holder), "{rate:?} never has room for {cost}");
        while low < high {
            let middle = low.midpoint(high);
            if self.fits(rate, now + middle, cost, holder) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(Duration::from_micros(low))
    }

    pub(crate) fn look(&self, rate: &Rate, now: u64, cost: u64, holder: Option<u128>) -> (bool, Option<Duration>) {
        (self.fits(rate, now, cost, holder), self.retry(rate, now, cost, holder))
    }

    pub(crate) fn charge(&mut self, rate: &Rate, now: u64, cost: u64, holder: Option<u128>) {
        if cost == 0 {
            return;
        }
        match (bucket(rate), rate) {
            (Some((_, period, refill)), _) => {
                self.missing = (self.missing_at(refill, now) + u128::from(cost) * period, now);
            }
            (_, Rate::Concurrency { .. }) => {
                self.holders.insert(holder.unwrap(), (now, cost));
            }
            _ => self.events.push((now, i128::from(cost))),
        }
    }

    pub(crate) fn answer(&self, rate: &Rate, now: u64, (is_allowed, retry_after): (bool, Option<Duration>)) -> Charged {
        let limit = rate.limit();
        let (remaining, reset) = match (bucket(rate), rate) {
            (Some((capacity, period, refill)), _) => {
                let missing = self.missing_at(refill, now);
                let reset = u64::try_from(missing.div_ceil(refill)).unwrap();
                (u64::try_from(capacity.saturating_sub(missing) / period).unwrap(), reset)
            }
            (_, Rate::FixedWindow { window, .. }) => {
                (limit.saturating_sub(self.used(rate, now, None)), us(*window) - now % us(*window))
            }
            (_, Rate::Calendar { bounds, .. }) => {
                let end = bounds.iter().map(|b| u64::try_from(b.as_millis()).unwrap() * 1000).find(|b| *b > now);
                (limit.saturating_sub(self.used(rate, now, None)), end.unwrap() - now)
            }
            (_, Rate::SlidingCounter { window, .. }) => {
                let w = us(*window);
                let start = now - now % w;
                let rest = if self.between(start, start + w) > 0 { w } else { 0 };
                (limit.saturating_sub(self.used(rate, now, None)), start + w - now + rest)
            }
            (_, Rate::SlidingLog { window, .. }) => {
                let mut sums: BTreeMap<u64, i128> = BTreeMap::new();
                for (at, n) in &self.events {
                    *sums.entry(*at).or_default() += n;
                }
                let newest = sums.iter().filter(|(_, n)| **n > 0).map(|(at, _)| at + us(*window)).max().unwrap_or(0);
                (limit.saturating_sub(self.used(rate, now, None)), newest.saturating_sub(now))
            }
            (_, Rate::Concurrency { lease, .. }) => {
                let newest = self.holders.values().map(|(at, _)| at + us(*lease)).max().unwrap_or(0);
                (limit.saturating_sub(self.used(rate, now, None)), newest.saturating_sub(now))
            }
            _ => unreachable!(),
        };
        Charged {
            is_allowed,
            remaining,
            retry_after,
            reset_after: Duration::from_micros(reset),
            at: Moment::from_micros(now),
        }
    }

    pub(crate) fn adjust(&mut self, rate: &Rate, now: u64, at: u64, delta: i64, holder: Option<u128>) {
        let (by, limit) = (delta.unsigned_abs(), rate.limit());
        if let Some((capacity, period, refill)) = bucket(rate) {
            let missing = self.missing_at(refill, now);
            let amount = u128::from(by.min(limit)) * period;
            let after = if delta < 0 {
                // What this charge alone can still be missing.
                missing.saturating_sub(amount.saturating_sub(u128::from(now - at) * refill))
            } else {
                (missing + amount).min(2 * capacity)
            };
            self.missing = (after, now);
            return;
        }
        if let Rate::Concurrency { lease, .. } = rate {
            let used = self.used(rate, now, None);
            let Some((since, places)) = self.holders.get_mut(&holder.unwrap()) else { return };
            if *since + us(*lease) <= now {
                return;
            }
            if delta < 0 {
                *places = places.saturating_sub(by);
            } else {
                *places += by.min((2 * limit).saturating_sub(used));
            }
            self.holders.retain(|_, (_, places)| *places > 0);
            return;
        }
        // Every other rate: the window that the charge is in, as long as it counts.
        let (from, to, until) = match *rate {
            Rate::FixedWindow { window, .. } => {
                let start = at - at % us(window);
                (start, start + us(window), start + us(window))
            }
            Rate::SlidingCounter { window, .. } => {
                let start = at - at % us(window);
                (start, start + us(window), start + 2 * us(window))
            }
            Rate::SlidingLog { window, .. } if delta < 0 => (at, at + 1, at + us(window)),
            Rate::SlidingLog { window, .. } => ((now + 1).saturating_sub(us(window)), u64::MAX, at + us(window)),
            Rate::Calendar { bounds, .. } => {
                let [a, b, c] = bounds.map(|b| u64::try_from(b.as_millis()).unwrap() * 1000);
                match at {
                    _ if (a..b).contains(&at) => (a, b, b),
                    _ if (b..c).contains(&at) => (b, c, c),
                    _ => return,
                }
            }
            _ => unreachable!(),
        };
        if now >= until {
            return;
        }
        let used = self.between(from, to);
        let change =
            if delta < 0 { -i128::from(by.min(used)) } else { i128::from(by.min((2 * limit).saturating_sub(used))) };
        self.events.push((at, change));
    }
}
