//! Smooth weighted round robin, laid out beforehand.

/// The longest schedule; beyond it weights are scaled down, which changes a share by at most one slot of so many.
const MAX_SLOTS: u64 = 4_096;

/// Whose turn it is, for as many turns as it takes until all begins anew.
///
/// nginx keeps a number for each back end and changes all of them with each request, under a lock. The sequence that comes out is
/// periodic, so here it is worked out once and read with one counter.
///
/// - UPSTREAM-3: in each period a back end has exactly as many turns as its weight says, and they are spread: the sequence is that of
///   nginx's algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Box<[u16]>);

impl Schedule {
    /// For members of these weights, of which at least one is above 0; at most 65,536 members.
    pub fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
        let mut weights: Vec<u64> = weights.iter().map(|weight| u64::from(weight / divisor)).collect();
        let total: u64 = weights.iter().sum();
        // Whoever has a weight keeps a turn, so more members than slots make it longer.
        if total > MAX_SLOTS {
            for weight in weights.iter_mut().filter(|weight| **weight > 0) {
                *weight = ((*weight * MAX_SLOTS + total / 2) / total).max(1);
            }
        }
        Self(smooth(&weights))
    }

    /// The member whose turn number `turn` is.
    pub fn at(&self, turn: usize) -> usize {
        // Never divides by nothing: without slots there is no member that could be asked for.
        usize::from(self.0.get(turn % self.0.len().max(1)).copied().unwrap_or_default())
    }

    /// How many turns there are until it begins anew.
    pub fn period(&self) -> usize {
        self.0.len()
    }
}

/// nginx's algorithm: each turn everyone gains its weight, the one with most is taken and pays the total.
fn smooth(weights: &[u64]) -> Box<[u16]> {
    let total: u64 = weights.iter().sum();
    if weights.iter().all(|weight| *weight == 1) {
        return (0..weights.len()).map(narrow).collect();
    }
    let mut current = vec![0_i64; weights.len()];
    let total_signed = i64::try_from(total).unwrap_or(i64::MAX);
    (0..total)
        .map(|_| {
            let mut best = 0;
            for (at, weight) in weights.iter().enumerate() {
                current[at] += i64::try_from(*weight).unwrap_or(i64::MAX);
                if current[at] > current[best] {
                    best = at;
                }
            }
            current[best] -= total_signed;
            narrow(best)
        })
        .collect()
}

fn narrow(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sequences_that_nginx_publishes() {
        let sequence = |weights: &[u32]| {
            let schedule = Schedule::new(weights);
            (0..schedule.period()).map(|turn| char::from(b'a' + u8::try_from(schedule.at(turn)).unwrap())).collect()
        };
        for (weights, expected) in [
            (&[5, 1, 1][..], "aabacaa"),
            (&[10, 2, 2], "aabacaa"),
            (&[1, 1, 1], "abc"),
            (&[2, 0, 1], "aca"),
            (&[7], "a"),
            (&[0, 3], "b"),
        ] {
            let seen: String = sequence(weights);
            assert_eq!(seen, expected, "{weights:?}");
        }
    }

    proptest! {
        #[test]
        fn each_has_its_share_and_turns_are_spread(weights in prop::collection::vec(0_u32..60, 1..20)) {
            prop_assume!(weights.iter().any(|w| *w > 0));
            let schedule = Schedule::new(&weights);
            let total: u32 = weights.iter().sum();
            let period = schedule.period();
            prop_assert_eq!(total as usize % period, 0);
            let rounds = total as usize / period;
            let mut counts = vec![0_usize; weights.len()];
            for turn in 0..period {
                counts[schedule.at(turn)] += rounds;
                // Smooth: at no time is anyone ahead of its share or behind it by as much as all the others are many.
                for (at, weight) in weights.iter().enumerate() {
                    let due = f64::from(*weight) / f64::from(total) * (turn + 1) as f64;
                    let had = (counts[at] / rounds) as f64;
                    prop_assert!((had - due).abs() < weights.len() as f64, "{} turns, {} had {} of {}", turn + 1, at, had, due);
                }
            }
            prop_assert_eq!(counts, weights.iter().map(|w| *w as usize).collect::<Vec<_>>());
        }

        #[test]
        fn large_weights_are_scaled_and_nobody_is_forgotten(weights in prop::collection::vec(0_u32..100_000, 1..50)) {
            prop_assume!(weights.iter().any(|w| *w > 0));
            let schedule = Schedule::new(&weights);
            prop_assert!(schedule.period() <= 4_096 + weights.len());
            let mut counts = vec![0_u32; weights.len()];
            (0..schedule.period()).for_each(|turn| counts[schedule.at(turn)] += 1);
            let total: u32 = weights.iter().sum();
            for (at, weight) in weights.iter().enumerate() {
                prop_assert_eq!(counts[at] > 0, *weight > 0);
                let off = f64::from(counts[at]) / schedule.period() as f64 - f64::from(*weight) / f64::from(total);
                prop_assert!(off.abs() < 0.02, "{} of {}: off by {}", weight, total, off);
            }
        }
    }
}
