//! Maglev's lookup table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4).

use super::hash::mix;

/// Slots of a table; prime, as in the paper.
const SLOTS: usize = 65_537;
/// Marks a slot that nobody has yet.
const FREE: u16 = u16::MAX;

/// A table from hashes of keys to members.
///
/// - UPSTREAM-5: slots are shared as weights say, to one slot in a hundred of a member's share; when one of N members leaves, its keys
///   move and few others do (about as many as the paper measured).
#[derive(Debug)]
pub struct Maglev(Box<[u16]>);

impl Maglev {
    /// From members: a hash that tells them apart, and their weight. The order plays no part. At most 65,535 members.
    pub fn new(members: &[(u64, u32)]) -> Self {
        let mut turns: Vec<Turn> = members
            .iter()
            .enumerate()
            .filter(|(_, (_, weight))| *weight > 0)
            .map_while(|(at, (id, weight))| {
                Some(Turn::new(*id, *weight, u16::try_from(at).ok().filter(|at| *at != FREE)?))
            })
            .collect();
        if turns.is_empty() {
            return Self(Box::default());
        }
        turns.sort_unstable_by_key(|turn| turn.id);
        let largest = turns.iter().map(|turn| u64::from(turn.weight)).max().unwrap_or(1);
        let mut slots = vec![FREE; SLOTS];
        let (mut filled, mut round) = (0, 0_u64);
        while filled < SLOTS {
            round += 1;
            for turn in &mut turns {
                // A member takes its n-th slot in the first round that owes it one: the heaviest each round, half its weight each
                // second.
                if round * u64::from(turn.weight) < (turn.taken + 1) * largest {
                    continue;
                }
                turn.taken += 1;
                while slots[turn.next] != FREE {
                    turn.advance();
                }
                slots[turn.next] = turn.at;
                filled += 1;
                if filled == SLOTS {
                    break;
                }
            }
        }
        Self(slots.into())
    }

    /// The owner of a key, then the owners of the slots after it: whoever takes over when it cannot.
    pub fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let start = slot(key, self.0.len());
        let (before, after) = self.0.split_at(start);
        after.iter().chain(before).map(|at| usize::from(*at))
    }
}

#[allow(clippy::cast_possible_truncation, reason = "less than a length")]
fn slot(key: u64, slots: usize) -> usize {
    if slots == 0 { 0 } else { (key % slots as u64) as usize }
}

/// Where a member is in its own order of the slots.
struct Turn {
    id: u64,
    weight: u32,
    at: u16,
    next: usize,
    skip: usize,
    taken: u64,
}

impl Turn {
    fn new(id: u64, weight: u32, at: u16) -> Self {
        let (next, skip) = (slot(mix(id), SLOTS), slot(mix(!id), SLOTS - 1) + 1);
        Self { id, weight, at, next, skip, taken: 0 }
    }

    fn advance(&mut self) {
        self.next = (self.next + self.skip) % SLOTS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash::of_key;

    fn members(count: u32) -> Vec<(u64, u32)> {
        (0..count).map(|n| (of_key(format!("10.0.0.{n}:80").as_bytes()), 1)).collect()
    }

    #[test]
    fn slots_are_shared_evenly_and_as_weights_say() {
        let mut all = members(50);
        for (at, member) in all.iter_mut().enumerate() {
            member.1 = if at < 25 { 3 } else { 1 };
        }
        let table = Maglev::new(&all);
        let mut counts = [0_u32; 50];
        table.0.iter().for_each(|at| counts[usize::from(*at)] += 1);
        for (at, count) in counts.iter().enumerate() {
            let share = f64::from(65_537_u32) * f64::from(all[at].1) / 100.0;
            assert!((f64::from(*count) - share).abs() <= (share / 100.0).max(2.0), "{at} has {count} of {share}");
        }
    }

    #[test]
    fn few_keys_move_when_one_leaves_and_none_for_the_order() {
        let all = members(20);
        let table = Maglev::new(&all);
        let mut turned = all.clone();
        turned.rotate_left(7);
        let same = Maglev::new(&turned);
        let mut less = all.clone();
        let gone = less.remove(11).0;
        let rest = Maglev::new(&less);
        let mut moved = 0;
        for key in 0..65_537_u64 {
            let owner = |table: &Maglev, of: &[(u64, u32)]| of[table.walk(key).next().unwrap()].0;
            let before = owner(&table, &all);
            assert_eq!(owner(&same, &turned), before);
            let after = owner(&rest, &less);
            assert_ne!(after, gone);
            moved += u32::from(before != gone && before != after);
        }
        // 5% are keys of the one that left; beyond it, the paper's figure 12 shows a few in a hundred at this size.
        assert!(moved < 65_537 / 20, "{moved} keys of others moved");
    }

    #[test]
    fn none_or_one() {
        assert_eq!(Maglev::new(&[]).walk(7).next(), None);
        assert_eq!(Maglev::new(&[(9, 0)]).walk(7).next(), None);
        assert_eq!(Maglev::new(&[(9, 5)]).walk(u64::MAX).next(), Some(0));
    }
}
