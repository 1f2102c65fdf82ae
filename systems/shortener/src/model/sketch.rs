//! How many different visitors there were, without knowing which: HyperLogLog.
//!
//! Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm", AofA 2007,
//! with hashes of 64 bits, which need no correction for large numbers. 2¹¹ registers: the standard error is
//! 1.04 / √2048 = 2.3 %; below about 5,000 visitors, linear counting makes it smaller.

/// How many registers there are.
const REGISTERS: usize = 1 << REGISTER_BITS;
const REGISTER_BITS: u32 = 11;
const RANK_BITS: u32 = 6;
/// From so many registers on all of them are written down: 512 × 3 bytes are 2048 × 6 bits.
const MAX_SPARSE: usize = 512;
const SPARSE: u8 = 1;
const DENSE: u8 = 2;

/// Where a visitor falls: a register and a rank, 17 bits. It is all that is stored of a visitor; thousands share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u32);

impl Position {
    /// Of a well mixed hash.
    pub fn of_hash(hash: u64) -> Self {
        let register = u32::try_from(hash >> (64 - REGISTER_BITS)).unwrap_or(0);
        // A bit that is always set ends the count of zeros: ranks are 1 to 54.
        let rest = (hash << REGISTER_BITS) | (1 << (REGISTER_BITS - 1));
        Self(register << RANK_BITS | (rest.leading_zeros() + 1))
    }

    /// Its three bytes.
    pub fn to_bytes(self) -> [u8; 3] {
        let [a, b, c, _] = self.0.to_le_bytes();
        [a, b, c]
    }

    /// From three bytes; `None` for what [`Position::to_bytes`] does not give.
    pub fn of_bytes([a, b, c]: [u8; 3]) -> Option<Self> {
        let this = Self(u32::from_le_bytes([a, b, c, 0]));
        (this.register() < REGISTERS && (1..=54).contains(&this.rank())).then_some(this)
    }

    fn register(self) -> usize {
        self.0 as usize >> RANK_BITS
    }

    fn rank(self) -> u8 {
        u8::try_from(self.0 & ((1 << RANK_BITS) - 1)).unwrap_or(0)
    }
}

/// A set of visitors, of which only the size can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch(Registers);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Registers {
    /// In order, one for a register.
    Sparse(Vec<Position>),
    Dense(Box<[u8; REGISTERS]>),
}

impl Default for Sketch {
    fn default() -> Self {
        Self(Registers::Sparse(Vec::new()))
    }
}

impl Sketch {
    /// Adds visitors, in any order, any number of times.
    pub fn add(&mut self, positions: &[Position]) {
        if let Registers::Sparse(known) = &mut self.0 {
            known.extend_from_slice(positions);
            // By register, the highest rank of each last, which is the one that stays.
            known.sort_unstable();
            known.reverse();
            known.dedup_by_key(|p| p.register());
            known.reverse();
            if known.len() >= MAX_SPARSE {
                let mut registers = Box::new([0; REGISTERS]);
                raise(&mut registers, known);
                self.0 = Registers::Dense(registers);
            }
        } else if let Registers::Dense(registers) = &mut self.0 {
            raise(registers, positions);
        }
    }

    /// Adds the visitors of another.
    pub fn merge(&mut self, other: &Self) {
        match &other.0 {
            Registers::Sparse(positions) => self.add(positions),
            Registers::Dense(theirs) => {
                if let Registers::Sparse(mine) = &self.0 {
                    let mut registers = Box::new([0; REGISTERS]);
                    raise(&mut registers, mine);
                    self.0 = Registers::Dense(registers);
                }
                if let Registers::Dense(mine) = &mut self.0 {
                    for (mine, theirs) in mine.iter_mut().zip(theirs.iter()) {
                        *mine = (*mine).max(*theirs);
                    }
                }
            }
        }
    }

    /// About how many visitors there were.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate: positive, and far below 2^53"
    )]
    pub fn count(&self) -> u64 {
        const M: f64 = REGISTERS as f64;
        let (empty, sum) = match &self.0 {
            Registers::Sparse(known) => {
                let empty = REGISTERS - known.len();
                (empty, known.iter().map(|p| exp2_minus(p.rank())).sum::<f64>() + empty as f64)
            }
            Registers::Dense(registers) => {
                let empty: usize = registers.iter().map(|r| usize::from(*r == 0)).sum();
                (empty, registers.iter().map(|r| exp2_minus(*r)).sum())
            }
        };
        let raw = 0.7213 / (1.0 + 1.079 / M) * M * M / sum;
        let estimate = if raw <= 2.5 * M && empty > 0 { M * (M / empty as f64).ln() } else { raw };
        estimate.round() as u64
    }

    /// For the database: at most 1537 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.0 {
            Registers::Sparse(known) => {
                let mut out = Vec::with_capacity(1 + known.len() * 3);
                out.push(SPARSE);
                out.extend(known.iter().flat_map(|p| p.to_bytes()));
                out
            }
            Registers::Dense(registers) => {
                let mut out = Vec::with_capacity(1 + REGISTERS * 6 / 8);
                out.push(DENSE);
                // Four ranks of six bits in three bytes.
                for four in registers.chunks_exact(4) {
                    let bits = four.iter().rev().fold(0_u32, |bits, rank| bits << RANK_BITS | u32::from(*rank));
                    out.extend_from_slice(&bits.to_le_bytes()[..3]);
                }
                out
            }
        }
    }

    /// What [`Sketch::to_bytes`] gave; `None` for anything else.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (threes, []) = rest.as_chunks::<3>() else { return None };
        match *kind {
            SPARSE => {
                let known: Option<Vec<_>> = threes.iter().map(|three| Position::of_bytes(*three)).collect();
                let known = known?;
                (known.len() < MAX_SPARSE && known.is_sorted_by(|a, b| a.register() < b.register()))
                    .then_some(Self(Registers::Sparse(known)))
            }
            DENSE if threes.len() == REGISTERS / 4 => {
                let mut registers = Box::new([0; REGISTERS]);
                for (four, [a, b, c]) in registers.chunks_exact_mut(4).zip(threes) {
                    let mut bits = u32::from_le_bytes([*a, *b, *c, 0]);
                    for rank in four {
                        *rank = u8::try_from(bits & 0x3f).ok().filter(|rank| *rank <= 54)?;
                        bits >>= RANK_BITS;
                    }
                }
                Some(Self(Registers::Dense(registers)))
            }
            _ => None,
        }
    }
}

fn raise(registers: &mut [u8; REGISTERS], positions: &[Position]) {
    for position in positions {
        let register = &mut registers[position.register()];
        *register = (*register).max(position.rank());
    }
}

/// 2⁻ʳᵃⁿᵏ.
fn exp2_minus(rank: u8) -> f64 {
    f64::from_bits((1023 - u64::from(rank.min(64))) << 52)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// SplitMix64, so that the test has no luck.
    fn mixed(n: u64) -> u64 {
        let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn of(range: std::ops::Range<u64>) -> Sketch {
        let mut sketch = Sketch::default();
        let positions: Vec<Position> = range.map(|n| Position::of_hash(mixed(n))).collect();
        for some in positions.chunks(1000) {
            sketch.add(some);
        }
        sketch
    }

    #[test]
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    fn counts_are_right_within_the_stated_error() {
        assert_eq!(Sketch::default().count(), 0);
        for n in 1..=20 {
            assert_eq!(of(0..n).count(), n, "few are counted exactly");
        }
        let mut squares = 0.0;
        let mut trials = 0.0;
        for n in [100_u64, 1000, 3000, 5000, 8000, 20_000, 100_000, 1_000_000] {
            for trial in 0..8_u64 {
                let start = trial << 32;
                let error = of(start..start + n).count() as f64 / n as f64 - 1.0;
                assert!(error.abs() < 4.0 * 0.023, "{n}: off by {error}");
                squares += error * error;
                trials += 1.0;
            }
        }
        let standard = f64::sqrt(squares / trials);
        assert!(standard < 0.023 * 1.3, "standard error {standard}");
    }

    #[test]
    fn ranks_cover_every_hash() {
        for (hash, register, rank) in
            [(0, 0, 54), (u64::MAX, 2047, 1), (1 << 52, 0, 1), (1 << 51, 0, 2), (1 << 53, 1, 54), (1, 0, 53)]
        {
            let position = Position::of_hash(hash);
            assert_eq!((position.register(), position.rank()), (register, rank), "{hash:x}");
        }
    }

    proptest! {
        #[test]
        fn merging_is_adding(
            a in proptest::collection::vec(any::<u64>(), 0..1500), b in proptest::collection::vec(any::<u64>(), 0..1500),
        ) {
            let sketch = |hashes: &[u64]| {
                let mut sketch = Sketch::default();
                sketch.add(&hashes.iter().map(|h| Position::of_hash(*h)).collect::<Vec<_>>());
                sketch
            };
            let (one, two, both) = (sketch(&a), sketch(&b), sketch(&[&a[..], &b[..]].concat()));
            let mut merged = one.clone();
            merged.merge(&two);
            prop_assert_eq!(merged.count(), both.count());
            // Again changes nothing, and the other way round is the same.
            let mut again = two.clone();
            again.merge(&one);
            again.merge(&two);
            prop_assert_eq!(again.count(), both.count());
            for sketch in [one, two, both, merged] {
                let bytes = sketch.to_bytes();
                prop_assert!(bytes.len() <= 1537);
                prop_assert_eq!(Sketch::of_bytes(&bytes), Some(sketch));
            }
        }

        #[test]
        fn anything_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..1600)) {
            if let Some(sketch) = Sketch::of_bytes(&bytes) {
                prop_assert_eq!(sketch.to_bytes(), bytes);
            }
        }
    }
}
