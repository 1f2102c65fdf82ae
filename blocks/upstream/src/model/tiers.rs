//! How load is shared out over tiers of back ends: those of lower priority, or of other zones, take over bit by bit.

/// How much of a tier must be missing before others take part of its load: a tier that is 1/1.4 = 71% well still takes all of it.
const OVERPROVISION_PERCENT: u64 = 140;

/// What a tier has, counted in weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Of those that are well.
    pub well: u64,
    /// Of all.
    pub total: u64,
}

impl Capacity {
    fn percent(self) -> u64 {
        // Rounded up: one well back end of a thousand is not nobody.
        if self.total == 0 { 0 } else { (self.well * OVERPROVISION_PERCENT).div_ceil(self.total).min(100) }
    }
}

/// Whether all tiers together are enough for all of the load; if not, a panic is to be considered.
pub fn is_enough(tiers: &[Capacity]) -> bool {
    tiers.iter().map(|tier| tier.percent()).sum::<u64>() >= 100
}

/// The percentage of load for each tier, first to last; sums up to 100 unless nobody is well (then all are 0). After Envoy's priority
/// levels.
///
/// - UPSTREAM-6: a tier takes load only as far as those before it are not well enough for it.
pub fn share_out(tiers: &[Capacity]) -> Vec<u32> {
    let available = tiers.iter().map(|tier| tier.percent()).sum::<u64>().min(100);
    let mut left = 100;
    let mut shares: Vec<u32> = tiers
        .iter()
        .map(|tier| {
            let share = (tier.percent() * 100).checked_div(available).unwrap_or(0).min(left);
            left -= share;
            u32::try_from(share).unwrap_or(0)
        })
        .collect();
    // What rounding left over.
    if let Some(first) = shares.iter_mut().find(|share| **share > 0) {
        *first += u32::try_from(left).unwrap_or(0);
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_takes_what() {
        for (tiers, shares, enough) in [
            (&[(10, 10)][..], &[100][..], true),
            (&[(1, 10)], &[100], false),
            (&[(0, 10)], &[0], false),
            (&[(10, 10), (10, 10)], &[100, 0], true),
            (&[(8, 10), (10, 10)], &[100, 0], true),
            (&[(5, 10), (10, 10)], &[70, 30], true),
            (&[(0, 10), (1, 1)], &[0, 100], true),
            (&[(2, 10), (2, 10), (10, 10)], &[28, 28, 44], true),
            (&[(1, 10), (1, 10)], &[50, 50], false),
            (&[(0, 0), (3, 3)], &[0, 100], true),
            (&[], &[], false),
        ] {
            let capacities: Vec<_> =
                tiers.iter().map(|(well, total)| Capacity { well: *well, total: *total }).collect();
            assert_eq!(share_out(&capacities), shares, "{tiers:?}");
            assert_eq!(is_enough(&capacities), enough, "{tiers:?}");
        }
    }

    proptest! {
        #[test]
        fn all_of_it_is_shared_out(tiers in prop::collection::vec((0_u64..50, 0_u64..50), 0..6)) {
            let tiers: Vec<_> = tiers.iter().map(|(a, b)| Capacity { well: *a.min(b), total: *b.max(a) }).collect();
            let shares = share_out(&tiers);
            let sum: u32 = shares.iter().sum();
            prop_assert_eq!(sum, if tiers.iter().any(|tier| tier.percent() > 0) { 100 } else { 0 });
            for (tier, share) in tiers.iter().zip(&shares) {
                prop_assert!(tier.well > 0 || *share == 0);
            }
        }
    }
}
