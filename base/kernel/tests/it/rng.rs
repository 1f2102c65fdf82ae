use kernel::Rng;
use proptest::prelude::*;

#[test]
fn a_seed_replays() {
    let (a, b) = (Rng::seeded(7), Rng::seeded(7));
    assert_eq!(a.bytes::<64>(), b.bytes::<64>());
    assert_eq!(a.clone().next_u64(), b.next_u64(), "clones share one sequence");
    assert_eq!(a.next_u64(), b.next_u64());
    assert_ne!(Rng::seeded(7).next_u64(), Rng::seeded(8).next_u64());
}

#[test]
fn the_system_does_not_repeat() {
    assert_ne!(Rng::system().bytes::<32>(), Rng::system().bytes::<32>());
}

#[test]
fn small_bounds_are_even() {
    let rng = Rng::seeded(1);
    let mut counts = [0_u32; 10];
    for _ in 0..10_000 {
        counts[usize::try_from(rng.below(10)).unwrap()] += 1;
    }
    assert!(counts.iter().all(|n| (850..1_150).contains(n)), "{counts:?}");
}

proptest! {
    #[test]
    fn numbers_stay_in_their_range(seed in any::<u64>(), bound in any::<u64>()) {
        let rng = Rng::seeded(seed);
        let n = rng.below(bound);
        prop_assert!(n < bound || bound == 0 && n == 0);
        prop_assert!((0.0..1.0).contains(&rng.unit_f64()));
    }
}
