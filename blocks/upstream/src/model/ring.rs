//! Consistent hashing on a ring of points (Karger et al., STOC 1997), with points as Ketama has them.

use super::hash::mix;

/// Points of the member with the largest weight.
const POINTS: u64 = 256;

/// A ring: each member owns the arcs that end at its points.
///
/// - UPSTREAM-4: when a member leaves, only keys that were its own move; when one comes, keys move only to it (as long as the largest
///   weight stays what it was: points are counted in parts of it).
#[derive(Debug)]
pub struct Ring {
    points: Box<[u64]>,
    owners: Box<[u16]>,
}

impl Ring {
    /// From members: a hash that tells them apart, and their weight. The order plays no part. At most 65,536 members.
    pub fn new(members: &[(u64, u32)]) -> Self {
        let largest = members.iter().map(|(_, weight)| u64::from(*weight)).max().unwrap_or(0).max(1);
        let mut all: Vec<(u64, u64, u16)> = Vec::new();
        for (at, (id, weight)) in members.iter().enumerate().filter(|(_, (_, weight))| *weight > 0) {
            let count = ((POINTS * u64::from(*weight) + largest / 2) / largest).max(1);
            let Ok(at) = u16::try_from(at) else { break };
            all.extend((0..count).map(|n| (mix(id ^ mix(n)), *id, at)));
        }
        // Should two points fall together, the id decides, not the order of members.
        all.sort_unstable();
        let (points, owners) = all.into_iter().map(|(point, _, at)| (point, at)).unzip::<u64, u16, Vec<_>, Vec<_>>();
        Self { points: points.into(), owners: owners.into() }
    }

    /// The owner of a key, then those whose points follow: whoever takes over when it cannot. Each point once.
    pub fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let start = self.points.partition_point(|point| *point < key);
        let (before, after) = self.owners.split_at(start);
        after.iter().chain(before).map(|at| usize::from(*at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::hash::of_key;

    fn keys() -> impl Iterator<Item = u64> {
        (0..5_000_u32).map(|n| of_key(&n.to_le_bytes()))
    }

    fn owner(ring: &Ring, members: &[(u64, u32)], key: u64) -> u64 {
        members[ring.walk(key).next().unwrap()].0
    }

    fn members(count: u32) -> Vec<(u64, u32)> {
        (0..count).map(|n| (of_key(format!("10.0.0.{n}:80").as_bytes()), 1)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn only_keys_of_who_leaves_move(count in 2_u32..24, gone in any::<prop::sample::Index>()) {
            let all = members(count);
            let mut less = all.clone();
            let gone = less.remove(gone.index(all.len())).0;
            // Another order changes nothing either.
            less.reverse();
            let (full, rest) = (Ring::new(&all), Ring::new(&less));
            for key in keys() {
                let (before, after) = (owner(&full, &all, key), owner(&rest, &less, key));
                if before == gone {
                    // It goes where the walk of the full ring would have gone on to.
                    let next = full.walk(key).map(|at| all[at].0).find(|id| *id != gone).unwrap();
                    prop_assert_eq!(after, next);
                } else {
                    prop_assert_eq!(after, before);
                }
            }
        }
    }

    #[test]
    fn shares_follow_weights() {
        let mut all = members(10);
        for (at, member) in all.iter_mut().enumerate() {
            member.1 = if at < 5 { 10 } else { 20 };
        }
        let ring = Ring::new(&all);
        let mut counts = [0_u32; 10];
        for key in (0..100_000_u32).map(|n| of_key(&n.to_le_bytes())) {
            counts[ring.walk(key).next().unwrap()] += 1;
        }
        for (at, count) in counts.iter().enumerate() {
            let share = if at < 5 { 100_000.0 / 15.0 } else { 200_000.0 / 15.0 };
            assert!((f64::from(*count) / share - 1.0).abs() < 0.4, "{at} has {count} of {share}");
        }
        let light: u32 = counts[..5].iter().sum();
        assert!((f64::from(light) / 100_000.0 - 1.0 / 3.0).abs() < 0.04, "the light half has {light}");
    }

    #[test]
    fn a_walk_sees_everyone_once_a_point() {
        let all = members(3);
        let ring = Ring::new(&all);
        for key in [0, 1 << 63, u64::MAX] {
            let mut counts = [0; 3];
            ring.walk(key).for_each(|at| counts[at] += 1);
            assert_eq!(counts, [256, 256, 256]);
        }
        assert_eq!(Ring::new(&[]).walk(7).next(), None);
        assert_eq!(Ring::new(&[(1, 0)]).walk(7).next(), None);
    }
}
