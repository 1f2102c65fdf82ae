use std::time::Duration;

use kernel::{Clock, Timestamp};
use proptest::prelude::*;
use resilience::{OutlierConfig, OutlierCore, Outliers, Usable};

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "any key comes by reference")]
fn all_well(_: &u32) -> bool {
    true
}

#[test]
fn a_host_that_fails_again_and_again_is_out_for_longer_each_time() {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    let outliers = Outliers::new(&clock, OutlierConfig { interval: secs(100_000), ..OutlierConfig::default() });
    outliers.set_hosts(0..10);
    for out_for in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300] {
        (0..4).for_each(|_| outliers.report(&3, false));
        outliers.report(&3, true);
        (0..4).for_each(|_| outliers.report(&3, false));
        assert!(!outliers.is_ejected(&3), "not in a row");
        outliers.report(&3, false);
        assert_eq!(outliers.usable(all_well), Usable { hosts: vec![0, 1, 2, 4, 5, 6, 7, 8, 9], is_panic: false });
        sim.advance(Duration::from_millis(out_for * 1_000 - 1));
        assert!(outliers.is_ejected(&3), "{out_for}");
        sim.advance(Duration::from_millis(1));
        assert!(!outliers.is_ejected(&3), "{out_for}");
    }
    assert_eq!(outliers.stats().ejection_count, 11);
}

#[test]
fn good_conduct_is_remembered() {
    let mut core = OutlierCore::new(OutlierConfig { interval: secs(10), ..OutlierConfig::default() });
    core.set_hosts(0..10);
    (0..5).for_each(|_| core.report(Duration::ZERO, &3, false));
    let mut now = secs(30);
    assert!(!core.is_ejected(now, &3));
    // It was in when an interval ended: the next ejection is again a first.
    now += secs(10);
    assert!(!core.is_ejected(now, &3));
    (0..5).for_each(|_| core.report(now, &3, false));
    assert!(core.is_ejected(now + secs(29), &3));
    assert!(!core.is_ejected(now + secs(30), &3));
}

#[test]
fn a_host_worse_than_its_peers_is_found_though_it_never_fails_in_a_row() {
    let mut core = OutlierCore::new(OutlierConfig::default());
    core.set_hosts(0..10);
    let report = |core: &mut OutlierCore<u32>, bad: u32| {
        for n in 0..200 {
            for host in 0..10 {
                core.report(Duration::ZERO, &host, !(host == bad && n % 4 == 0 || n % 50 == 0));
            }
        }
    };
    report(&mut core, 7);
    assert_eq!(core.usable(secs(9), all_well).hosts.len(), 10, "the interval has not ended");
    assert_eq!(core.usable(secs(10), all_well).hosts, [0, 1, 2, 3, 4, 5, 6, 8, 9]);
    // What ends late at a host that is out already does not count: its rate would hide the others'.
    let mut core = OutlierCore::new(OutlierConfig { max_ejected_percent: 50, ..OutlierConfig::default() });
    core.set_hosts(0..10);
    (0..5).for_each(|_| core.report(Duration::ZERO, &0, false));
    report(&mut core, 7);
    (0..2_000).for_each(|_| core.report(Duration::ZERO, &0, false));
    assert_eq!(core.usable(secs(10), all_well).hosts, [1, 2, 3, 4, 5, 6, 8, 9]);
    // All equally bad: nobody is an outlier.
    let mut core = OutlierCore::new(OutlierConfig::default());
    core.set_hosts(0..10);
    report(&mut core, 99);
    assert_eq!(core.ejected_count(secs(10)), 0);
    // Too few to compare.
    let mut core = OutlierCore::new(OutlierConfig { min_hosts: 11, ..OutlierConfig::default() });
    core.set_hosts(0..10);
    report(&mut core, 7);
    assert_eq!(core.ejected_count(secs(10)), 0);
    let mut core = OutlierCore::new(OutlierConfig { min_calls: 201, ..OutlierConfig::default() });
    core.set_hosts(0..10);
    report(&mut core, 7);
    assert_eq!(core.ejected_count(secs(10)), 0);
}

#[test]
fn when_few_are_well_all_are_used() {
    let (clock, _sim) = Clock::simulated(Timestamp::EPOCH);
    let outliers = Outliers::new(&clock, OutlierConfig { max_ejected_percent: 100, ..OutlierConfig::default() });
    outliers.set_hosts(0..4);
    for down in 0..2 {
        (0..5).for_each(|_| outliers.report(&down, false));
    }
    assert_eq!(outliers.usable(all_well), Usable { hosts: vec![2, 3], is_panic: false });
    assert_eq!(outliers.usable(|host| *host != 3), Usable { hosts: vec![0, 1, 2, 3], is_panic: true });
    outliers.set_hosts([]);
    assert_eq!(outliers.usable(all_well), Usable { hosts: vec![], is_panic: false });
}

#[test]
fn a_change_of_hosts_keeps_what_is_known() {
    let mut core = OutlierCore::new(OutlierConfig::default());
    core.set_hosts([1, 2, 3, 2]);
    (0..5).for_each(|_| core.report(Duration::ZERO, &2, false));
    core.set_hosts([9, 2, 1]);
    assert_eq!(core.usable(Duration::ZERO, all_well).hosts, [9, 1]);
    core.set_hosts([9, 1]);
    core.set_hosts([9, 1, 2]);
    assert!(!core.is_ejected(Duration::ZERO, &2), "it left and came anew");
    core.report(Duration::ZERO, &77, false);
}

#[derive(Debug, Clone)]
enum Step {
    Report(u32, bool),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u32..6, prop::bool::weighted(0.4)).prop_map(|(host, ok)| Step::Report(host, ok)),
        1 => (0_u64..40).prop_map(Step::Pass),
    ]
}

/// One host as the definition has it.
#[derive(Debug, Clone, Default)]
struct Naive {
    calls: Vec<bool>,
    row: u32,
    times: u32,
    out: Option<(u64, u64)>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn ejections_are_what_the_definition_says(
        hosts in 1_u32..6,
        percent in 0_u32..=100,
        panic_percent in 0_u32..=100,
        consecutive in 0_u32..4,
        min_hosts in 0_u32..4,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let config = OutlierConfig {
            consecutive_failures: consecutive,
            interval: secs(15),
            min_hosts,
            min_calls: 4,
            deviation_thousandths: 700,
            base_ejection: secs(7),
            max_ejection: secs(20),
            max_ejected_percent: percent,
            panic_percent,
        };
        let mut core = OutlierCore::new(config);
        core.set_hosts(0..hosts);
        let mut model = vec![Naive::default(); hosts as usize];
        let most = ((hosts * percent / 100).max(1)).min(hosts - 1) as usize;
        let (mut now, mut interval_end) = (0_u64, 15_u64);
        for step in steps {
            if let Step::Pass(n) = step { now += n; }
            // What time alone does.
            for host in &mut model {
                if host.out.is_some_and(|(at, out_for)| now >= at + out_for) {
                    host.out = None;
                    host.row = 0;
                }
            }
            let mut to_eject: Vec<usize> = vec![];
            if now >= interval_end {
                interval_end = now + 15;
                for host in model.iter_mut().filter(|h| h.out.is_none()) {
                    host.times = host.times.saturating_sub(1);
                }
                let rate = |h: &Naive| {
                    f64::from(u32::try_from(h.calls.iter().filter(|ok| **ok).count()).unwrap())
                        / f64::from(u32::try_from(h.calls.len()).unwrap())
                };
                let judged: Vec<_> =
                    (0..model.len()).filter(|n| model[*n].calls.len() >= 4 && model[*n].out.is_none()).collect();
                if min_hosts > 0 && judged.len() >= min_hosts as usize {
                    let count = f64::from(u32::try_from(judged.len()).unwrap());
                    let mean = judged.iter().map(|n| rate(&model[*n])).sum::<f64>() / count;
                    let deviation =
                        (judged.iter().map(|n| (rate(&model[*n]) - mean).powi(2)).sum::<f64>() / count).sqrt();
                    to_eject = judged.iter().copied().filter(|n| rate(&model[*n]) < mean - deviation * 700.0 / 1_000.0).collect();
                    to_eject.sort_by(|a, b| rate(&model[*a]).total_cmp(&rate(&model[*b])));
                }
                for host in &mut model {
 host.calls.clear();
}
            }
            let eject = |model: &mut Vec<Naive>, n: usize| {
                let out = model.iter().filter(|h| h.out.is_some()).count();
                if model[n].out.is_none() && out < most {
                    model[n].times += 1;
                    model[n].row = 0;
                    model[n].out = Some((now, (7 * u64::from(model[n].times)).min(20)));
                }
            };
            for n in to_eject {
 eject(&mut model, n);
}
            if let Step::Report(host, ok) = step {
                core.report(secs(now), &host, ok);
                if let Some(h) = model.get_mut(host as usize) {
                    h.calls.push(ok);
                    h.row = if ok { 0 } else { h.row + 1 };
                    if consecutive > 0 && h.row >= consecutive {
                        eject(&mut model, host as usize);
                    }
                }
            }
            // OUTLIER-1, and with the model OUTLIER-2 and 3.
            let ejected = core.ejected_count(secs(now));
            prop_assert!(ejected <= most && ejected < hosts as usize, "OUTLIER-1");
            for (n, host) in (0..).zip(&model) {
                prop_assert_eq!(core.is_ejected(secs(now), &n), host.out.is_some(), "host {} at {}", n, now);
            }
            // OUTLIER-4, with an active check that takes the odd ones for sick.
            let usable = core.usable(secs(now), |n| n % 2 == 0);
            let well: Vec<u32> = (0..hosts).filter(|n| n % 2 == 0 && model[*n as usize].out.is_none()).collect();
            let is_panic = well.is_empty() || well.len() * 100 < (hosts * panic_percent) as usize;
            prop_assert_eq!(usable.is_panic, is_panic, "OUTLIER-4");
            prop_assert_eq!(usable.hosts, if is_panic { (0..hosts).collect() } else { well }, "OUTLIER-4");
        }
    }
}
