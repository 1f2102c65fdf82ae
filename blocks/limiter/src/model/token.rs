//! What a reservation remembers, as bytes: the token holds it all, so that no node has to.

use std::time::Duration;

use kernel::Timestamp;
use memory::{Moment, Rate};

use super::MAX_CELLS;

/// A reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reservation {
    /// Random; what makes settling happen once, and the holder of places.
    pub(crate) id: u128,
    /// Until when it can be settled.
    pub(crate) expires_at: Timestamp,
    /// What settling compares with.
    pub(crate) reserved: u64,
    /// Whether it was counted on one node alone, while the memory plane was away.
    pub(crate) is_local: bool,
    pub(crate) cells: Vec<Reserved>,
}

/// A cell that was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reserved {
    pub(crate) key: u128,
    pub(crate) rate: Rate,
    pub(crate) cost: u64,
    pub(crate) at: Moment,
    /// Whether the real cost takes the place of what was charged here; if not, the charge stands. Places are given back in any case.
    pub(crate) is_corrected: bool,
}

const FORMAT: u8 = 1;

impl Reservation {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.cells.len() * 48);
        out.push(FORMAT);
        out.extend_from_slice(&self.id.to_le_bytes());
        put(&mut out, millis(self.expires_at));
        put(&mut out, self.reserved);
        out.push(u8::from(self.is_local));
        for cell in &self.cells {
            out.extend_from_slice(&cell.key.to_le_bytes());
            out.push(u8::from(cell.is_corrected));
            put(&mut out, cell.cost);
            put(&mut out, cell.at.as_micros());
            put_rate(&mut out, &cell.rate);
        }
        out
    }

    /// `None` when the bytes are no reservation; they were signed, so then they are of another version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Bytes(bytes);
        if from.byte()? != FORMAT {
            return None;
        }
        let mut this = Self {
            id: from.wide()?,
            expires_at: Timestamp::from_millis(i64::try_from(from.number()?).ok()?),
            reserved: from.number()?,
            is_local: from.byte()? != 0,
            cells: Vec::new(),
        };
        while !from.0.is_empty() {
            if this.cells.len() == MAX_CELLS {
                return None;
            }
            let (key, is_corrected) = (from.wide()?, from.byte()? != 0);
            let (cost, at) = (from.number()?, Moment::from_micros(from.number()?));
            this.cells.push(Reserved { key, rate: from.rate()?, cost, at, is_corrected });
        }
        Some(this)
    }
}

fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(0)
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(u8::try_from(n & 0x7f).unwrap_or(0) | 0x80);
        n >>= 7;
    }
    out.push(u8::try_from(n).unwrap_or(0));
}

fn put_rate(out: &mut Vec<u8>, rate: &Rate) {
    let (tag, numbers) = match *rate {
        Rate::TokenBucket { capacity, refill, period } => (1, vec![capacity, refill, micros(period)]),
        Rate::Gcra { limit, period, burst } => (2, vec![limit, micros(period), burst]),
        Rate::FixedWindow { limit, window } => (3, vec![limit, micros(window)]),
        Rate::SlidingLog { limit, window } => (4, vec![limit, micros(window)]),
        Rate::SlidingCounter { limit, window } => (5, vec![limit, micros(window)]),
        Rate::Calendar { limit, bounds: [a, b, c] } => (6, vec![limit, millis(a), millis(b), millis(c)]),
        Rate::Concurrency { limit, lease } => (7, vec![limit, micros(lease)]),
    };
    out.push(tag);
    for n in numbers {
        put(out, n);
    }
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn wide(&mut self) -> Option<u128> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u128::from_le_bytes(*bytes))
    }

    fn number(&mut self) -> Option<u64> {
        let mut n = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(n);
            }
        }
        None
    }

    fn span(&mut self) -> Option<Duration> {
        self.number().map(Duration::from_micros)
    }

    fn instant(&mut self) -> Option<Timestamp> {
        i64::try_from(self.number()?).ok().map(Timestamp::from_millis)
    }

    fn rate(&mut self) -> Option<Rate> {
        Some(match self.byte()? {
            1 => Rate::TokenBucket { capacity: self.number()?, refill: self.number()?, period: self.span()? },
            2 => Rate::Gcra { limit: self.number()?, period: self.span()?, burst: self.number()? },
            3 => Rate::FixedWindow { limit: self.number()?, window: self.span()? },
            4 => Rate::SlidingLog { limit: self.number()?, window: self.span()? },
            5 => Rate::SlidingCounter { limit: self.number()?, window: self.span()? },
            6 => {
                let limit = self.number()?;
                Rate::Calendar { limit, bounds: [self.instant()?, self.instant()?, self.instant()?] }
            }
            7 => Rate::Concurrency { limit: self.number()?, lease: self.span()? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate() -> impl Strategy<Value = Rate> {
        (0..7, any::<u32>(), 0_u64..1 << 50, any::<u32>()).prop_map(|(kind, limit, us, burst)| {
            let (limit, span, burst) = (u64::from(limit), Duration::from_micros(us), u64::from(burst));
            let at = |n: u64| Timestamp::from_millis(i64::try_from(n).unwrap());
            match kind {
                0 => Rate::TokenBucket { capacity: burst, refill: limit, period: span },
                1 => Rate::Gcra { limit, period: span, burst },
                2 => Rate::FixedWindow { limit, window: span },
                3 => Rate::SlidingLog { limit, window: span },
                4 => Rate::SlidingCounter { limit, window: span },
                5 => Rate::Calendar { limit, bounds: [at(us), at(us + 1), at(us + burst)] },
                _ => Rate::Concurrency { limit, lease: span },
            }
        })
    }

    fn cell() -> impl Strategy<Value = Reserved> {
        (any::<u128>(), rate(), any::<u64>(), any::<u64>(), any::<bool>()).prop_map(
            |(key, rate, cost, at, corrected)| Reserved {
                key,
                rate,
                cost,
                at: Moment::from_micros(at),
                is_corrected: corrected,
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            id in any::<u128>(), at in 0_i64..1 << 50, reserved in any::<u64>(), is_local in any::<bool>(),
            cells in prop::collection::vec(cell(), 0..MAX_CELLS),
        ) {
            let one = Reservation { id, expires_at: Timestamp::from_millis(at), reserved, is_local, cells };
            prop_assert_eq!(Reservation::decode(&one.encode()), Some(one));
        }

        #[test]
        fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reservation::decode(&bytes);
        }
    }
}
