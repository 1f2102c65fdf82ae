use std::{net::IpAddr, time::Duration};

use identity::{
    KeyId, Subject, Throttle,
    throttle::{Core, Policy},
};
use kernel::{Clock, Timestamp};
use proptest::prelude::*;

const POLICY: Policy = Policy {
    free_count: 2,
    first_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(8),
    forget_after: Duration::from_mins(1),
    capacity: 3,
};

fn address(text: &str) -> Subject {
    Subject::of_address(text.parse::<IpAddr>().unwrap())
}

#[test]
fn delays_double_up_to_the_bound_and_are_forgotten() {
    let (clock, time) = Clock::simulated(Timestamp::EPOCH);
    let throttle = Throttle::new(POLICY, clock);
    let subject = address("192.0.2.1");
    for want_s in [0, 0, 1, 2, 4, 8, 8, 8] {
        throttle.failed(&[subject]);
        let wait = throttle.wait(&[subject]).unwrap_or_default();
        assert_eq!(wait, Duration::from_secs(want_s));
        time.advance(wait);
        assert_eq!(throttle.wait(&[subject]), None, "open again after {want_s} s");
    }
    time.advance(POLICY.forget_after);
    throttle.failed(&[subject]);
    assert_eq!(throttle.wait(&[subject]), None);
}

#[test]
fn the_longer_wait_of_two_is_told() {
    let (clock, _time) = Clock::simulated(Timestamp::EPOCH);
    let throttle = Throttle::new(POLICY, clock);
    let (peer, key) = (address("192.0.2.1"), Subject::Key(KeyId::from_bytes([7; 16])));
    (0..3).for_each(|_| throttle.failed(&[peer]));
    (0..4).for_each(|_| throttle.failed(&[key]));
    assert_eq!(throttle.wait(&[peer, key]), Some(Duration::from_secs(2)));
    throttle.succeeded(&key);
    assert_eq!(throttle.wait(&[peer, key]), Some(Duration::from_secs(1)));
}

#[test]
fn addresses() {
    assert_eq!(address("2001:db8:1:2:3:4:5:6"), address("2001:db8:1:2::1"), "one /64 is one host");
    assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
    assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
}

#[test]
fn past_the_capacity_the_oldest_goes() {
    let mut core = Core::new(POLICY);
    let at = Duration::from_secs;
    let subjects: Vec<Subject> = (0..5).map(|n| address(&format!("192.0.2.{n}"))).collect();
    for (second, subject) in subjects.iter().take(3).enumerate() {
        (0..3).for_each(|_| core.failed(*subject, at(second as u64)));
    }
    // The first fails again, so the second is now the oldest.
    core.failed(subjects[0], at(3));
    core.failed(subjects[3], at(4));
    assert_eq!(core.len(), 3);
    assert!(core.wait(&subjects[0], at(4)).is_some());
    assert_eq!(core.wait(&subjects[1], at(1)), None, "the oldest was let go");
    assert!(core.wait(&subjects[2], at(2)).is_some());
}

proptest! {
    /// THROTTLE-1, -2 and -3 against a model that keeps everything.
    #[test]
    fn bounded_and_separate(steps in prop::collection::vec((0_u8..6, 0_u64..20, any::<bool>()), 1..200)) {
        let mut core = Core::new(POLICY);
        let mut roomy = Core::new(Policy { capacity: usize::MAX, ..POLICY });
        let mut now = Duration::ZERO;
        for (who, wait_s, good) in steps {
            now += Duration::from_secs(wait_s);
            let subject = address(&format!("192.0.2.{who}"));
            if good {
                core.succeeded(&subject);
                roomy.succeeded(&subject);
            } else {
                core.failed(subject, now);
                roomy.failed(subject, now);
            }
            prop_assert!(core.len() <= POLICY.capacity);
            for other in 0..6 {
                let other = address(&format!("192.0.2.{other}"));
                let told = core.wait(&other, now).unwrap_or_default();
                prop_assert!(told <= POLICY.max_delay);
                prop_assert!(told <= roomy.wait(&other, now).unwrap_or_default(), "more than its own failures earn");
            }
            prop_assert!(!good || core.wait(&subject, now).is_none());
        }
    }
}
