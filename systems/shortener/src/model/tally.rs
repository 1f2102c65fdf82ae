//! What people's clicks of a day have in common: counts by value of each dimension.

use std::collections::{BTreeMap, HashMap};

use super::varint;

/// The most values of one dimension that a day keeps; the clicks of the rest are counted together.
pub const MAX_VALUES: usize = 200;

/// By what clicks can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// The host of the page that led here.
    Referrer,
    /// The browser's family.
    Browser,
    /// The operating system's family.
    System,
    /// The kind of device.
    Device,
    /// The country of the address.
    Country,
    /// The language that is preferred.
    Language,
}

impl Dimension {
    /// Every one, in the order of their columns.
    pub const ALL: [Self; 6] =
        [Self::Referrer, Self::Browser, Self::System, Self::Device, Self::Country, Self::Language];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Referrer => "referrer",
            Self::Browser => "browser",
            Self::System => "system",
            Self::Device => "device",
            Self::Country => "country",
            Self::Language => "language",
        }
    }

    /// The dimension of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.as_str() == name)
    }
}

/// Counts by value. The empty value stands for clicks that did not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    values: BTreeMap<Box<str>, u64>,
    other: u64,
}

impl Tally {
    /// Adds clicks with a value.
    pub fn add(&mut self, value: &str, count: u64) {
        match self.values.get_mut(value) {
            Some(sum) => *sum = sum.saturating_add(count),
            None => {
                self.values.insert(value.into(), count);
            }
        }
    }

    /// Adds clicks whose value is not known any more.
    pub fn add_other(&mut self, count: u64) {
        self.other = self.other.saturating_add(count);
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        for (value, count) in &other.values {
            self.add(value, *count);
        }
        self.add_other(other.other);
    }

    /// Keeps the [`MAX_VALUES`] largest; what goes counts as other from then on.
    pub fn bound(&mut self) {
        if self.values.len() <= MAX_VALUES {
            return;
        }
        let mut counts: Vec<u64> = self.values.values().copied().collect();
        let (_, least, _) = counts.select_nth_unstable_by(MAX_VALUES - 1, |a, b| b.cmp(a));
        let least = *least;
        let mut ties = MAX_VALUES - self.values.values().filter(|n| **n > least).count();
        let mut gone = 0;
        self.values.retain(|_, count| {
            let stays = *count > least || (*count == least && ties > 0);
            if *count == least && stays {
                ties -= 1;
            }
            if !stays {
                gone += *count;
            }
            stays
        });
        self.other += gone;
    }

    /// The `limit` largest values and their clicks, the largest first, equals by name; and the clicks of all others.
    pub fn top(&self, limit: usize) -> (Vec<(Box<str>, u64)>, u64) {
        let mut all: Vec<(&Box<str>, u64)> = self.values.iter().map(|(value, count)| (value, *count)).collect();
        all.sort_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
        let rest: u64 = all.iter().skip(limit).map(|(_, count)| count).sum();
        (all.into_iter().take(limit).map(|(value, count)| (value.clone(), count)).collect(), rest + self.other)
    }

    /// All clicks.
    pub fn sum(&self) -> u64 {
        self.values.values().sum::<u64>() + self.other
    }

    /// For the database.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.values.len() * 12);
        varint::put(&mut out, self.other);
        for (value, count) in &self.values {
            varint::put_text(&mut out, value);
            varint::put(&mut out, *count);
        }
        out
    }

    /// The sum of many that [`Tally::to_bytes`] gave; `None` when one of them is anything else. A year of days has most of its values
    /// in common, so each name is copied once.
    pub fn sum_of(days: &[Vec<u8>]) -> Option<Self> {
        let mut sums: HashMap<&str, u64> = HashMap::new();
        let mut other = 0_u64;
        for mut bytes in days.iter().map(Vec::as_slice).filter(|bytes| !bytes.is_empty()) {
            other = other.saturating_add(varint::take(&mut bytes)?);
            while !bytes.is_empty() {
                let sum = sums.entry(varint::take_text(&mut bytes)?).or_default();
                *sum = sum.saturating_add(varint::take(&mut bytes)?);
            }
        }
        Some(Self { values: sums.into_iter().map(|(value, count)| (value.into(), count)).collect(), other })
    }

    /// Adds what [`Tally::to_bytes`] gave; `None`, with a part of it added, when it is anything else.
    pub fn merge_bytes(&mut self, mut bytes: &[u8]) -> Option<()> {
        if bytes.is_empty() {
            return Some(());
        }
        self.add_other(varint::take(&mut bytes)?);
        while !bytes.is_empty() {
            let value = varint::take_text(&mut bytes)?;
            self.add(value, varint::take(&mut bytes)?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tally(counts: &[(String, u64)], other: u64) -> Tally {
        let mut tally = Tally::default();
        for (value, count) in counts {
            tally.add(value, *count);
        }
        tally.add_other(other);
        tally
    }

    #[test]
    fn the_largest_stay() {
        let counts: Vec<(String, u64)> = (0..500).map(|i| (format!("v{i:03}"), i / 2)).collect();
        let mut bounded = tally(&counts, 7);
        let all = bounded.sum();
        bounded.bound();
        assert_eq!((bounded.values.len(), bounded.sum()), (MAX_VALUES, all));
        let (top, rest) = bounded.top(3);
        assert_eq!(top, [("v498".into(), 249), ("v499".into(), 249), ("v496".into(), 248)]);
        assert_eq!(rest, all - 249 - 249 - 248);
        assert_eq!(bounded.values.values().min(), Some(&150));
    }

    proptest! {
        #[test]
        fn bytes_come_back_and_no_click_is_lost(
            a in proptest::collection::vec(("[a-z.]{0,12}", 0_u64..1000), 0..400), other in 0_u64..1000,
            b in proptest::collection::vec(("[a-z.]{0,12}", 0_u64..1000), 0..400), limit in 0_usize..300,
        ) {
            let (one, two) = (tally(&a, other), tally(&b, 1));
            let mut read = Tally::default();
            read.merge_bytes(&one.to_bytes()).unwrap();
            prop_assert_eq!(&read, &one);
            read.merge(&two);
            prop_assert_eq!(&Tally::sum_of(&[one.to_bytes(), Vec::new(), two.to_bytes()]), &Some(read.clone()));
            let all = one.sum() + two.sum();
            prop_assert_eq!(read.sum(), all);
            read.bound();
            prop_assert_eq!(read.sum(), all);
            let (top, rest) = read.top(limit);
            prop_assert_eq!(top.iter().map(|(_, n)| n).sum::<u64>() + rest, all);
            prop_assert!(top.is_sorted_by(|(_, m), (_, n)| m >= n));
        }

        #[test]
        fn anything_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut tally = Tally::default();
            let whole = tally.merge_bytes(&bytes);
            prop_assert!(whole.is_some() || tally.values.len() <= bytes.len());
            prop_assert_eq!(Tally::sum_of(&[bytes]), whole.map(|()| tally));
        }
    }
}
