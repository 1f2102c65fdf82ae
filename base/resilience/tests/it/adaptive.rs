use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use kernel::{Clock, Rng, Timestamp};
use proptest::prelude::*;
use resilience::{AdaptiveConfig, AdaptiveCore, AdaptiveLimit, Admitted, Ending, Priority, Shed};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn small() -> AdaptiveConfig {
    AdaptiveConfig { min: 4, max: 64, critical_reserve: 2, kinds: 2, ..AdaptiveConfig::default() }
}

#[test]
fn the_less_important_is_refused_first() {
    let (clock, _sim) = Clock::simulated(Timestamp::EPOCH);
    let limit = AdaptiveLimit::new(&clock, AdaptiveConfig { min: 100, max: 100, ..small() });
    let mut places = vec![];
    for (class, room) in [(Priority::Low, 50), (Priority::Normal, 75), (Priority::High, 90), (Priority::Critical, 100)]
    {
        places.extend((0..200).map_while(|_| limit.try_enter(Some(0), class).ok()));
        assert_eq!(places.len(), room, "{class:?}");
    }
    assert_eq!(limit.stats().refused_counts, [1, 1, 1, 1]);
    places.truncate(89);
    assert_eq!(limit.try_enter(Some(0), Priority::Normal).unwrap_err(), Shed);
    assert!(limit.try_enter(Some(0), Priority::High).is_ok());
    drop(places);
    assert_eq!(limit.stats().in_flight_count, 0);
}

#[test]
fn the_operator_gets_in_when_everything_hangs() {
    let mut core = AdaptiveCore::new(small());
    let mut now = Duration::ZERO;
    assert!((0..200).any(|_| core.enter(now, Some(0), Priority::High).is_none()));
    let hung = core.in_flight();
    // Nothing ends, and those who come are refused: the limit falls all the same.
    for _ in 0..100 {
        now += ms(250);
        assert!(core.enter(now, Some(0), Priority::High).is_none());
    }
    assert_eq!(core.limit(), 4);
    assert!(core.enter(now, Some(0), Priority::Critical).is_some());
    assert!(core.enter(now, Some(0), Priority::Critical).is_some());
    assert!(core.enter(now, Some(0), Priority::Critical).is_none(), "the reserve is two");
    assert_eq!(core.in_flight(), hung + 2);
}

/// ADAPT-2: a slow dependency is not made faster by doing less than four things at once.
#[test]
fn few_that_are_slow_do_not_lower_it() {
    let mut core = AdaptiveCore::new(small());
    let mut now = Duration::ZERO;
    for (takes, rounds) in [(ms(1), 100), (ms(2_000), 100)] {
        for _ in 0..rounds {
            let work: Vec<_> = (0..4).map(|_| core.enter(now, Some(0), Priority::Normal).unwrap()).collect();
            now += takes;
            for w in work {
                core.leave(w, now, Ending::Done);
            }
            assert_eq!(core.limit(), 64);
        }
    }
    let learnt = core.baseline(0).unwrap();
    assert!(learnt > ms(1_900), "{learnt:?}");
}

#[test]
fn each_kind_is_judged_by_its_own_baseline() {
    let mut core = AdaptiveCore::new(small());
    let mut now = Duration::ZERO;
    // Kind 1 takes a second, always; kind 0 takes a millisecond.
    for _ in 0..50 {
        let slow: Vec<_> = (0..4).map(|_| core.enter(now, Some(1), Priority::Normal).unwrap()).collect();
        now += Duration::from_secs(1);
        for w in slow {
            core.leave(w, now, Ending::Done);
        }
    }
    for _ in 0..50 {
        let slow: Vec<_> = (0..20).map(|_| core.enter(now, Some(1), Priority::Normal).unwrap()).collect();
        now += Duration::from_secs(1);
        for w in slow {
            core.leave(w, now, Ending::Done);
        }
    }
    assert_eq!(core.limit(), 64, "twenty at once took no longer than four");
    let fast: Vec<_> = (0..20).map(|_| core.enter(now, Some(0), Priority::Normal).unwrap()).collect();
    now += Duration::from_secs(1);
    for w in fast {
        core.leave(w, now, Ending::Done);
    }
    core.enter(now + ms(250), Some(0), Priority::Normal).unwrap();
    assert!(core.limit() <= 10, "for kind 0 a second is too long: {}", core.limit());
}

#[test]
fn a_caller_that_leaves_early_tells_nothing_and_one_that_waited_does() {
    for (waits, expected) in [(ms(99), 64), (ms(400), 9)] {
        let mut core = AdaptiveCore::new(small());
        let work: Vec<_> = (0..19).map(|_| core.enter(Duration::ZERO, Some(0), Priority::Normal).unwrap()).collect();
        for w in work {
            core.leave(w, waits, Ending::Abandoned);
        }
        core.enter(Duration::from_secs(9), Some(0), Priority::Normal).unwrap();
        assert_eq!(core.limit(), expected, "{waits:?}");
        assert_eq!(core.baseline(0), None);
    }
}

#[test]
fn neither_those_who_leave_nor_one_that_took_for_ever_decide_for_the_rest() {
    let enter = |core: &mut AdaptiveCore| -> Vec<_> {
        (0..20).map(|_| core.enter(Duration::ZERO, Some(0), Priority::Normal).unwrap()).collect()
    };
    // Ten leave at once, ten wait for long: those who left do not make up for it.
    let mut core = AdaptiveCore::new(small());
    for (n, w) in enter(&mut core).into_iter().enumerate() {
        let (at, ending) = if n < 10 { (ms(1), Ending::Abandoned) } else { (ms(400), Ending::Done) };
        core.leave(w, at, ending);
    }
    assert!(core.limit() < 64);
    // One in twenty took six minutes.
    let mut core = AdaptiveCore::new(small());
    for (n, w) in enter(&mut core).into_iter().enumerate() {
        core.leave(w, if n < 19 { ms(10) } else { Duration::from_secs(400) }, Ending::Done);
    }
    assert_eq!(core.limit(), 64);
    // What waits for its own caller neither counts nor looks as if everything hung.
    let mut core = AdaptiveCore::new(small());
    let uploads: Vec<_> = (0..20).map(|_| core.enter(Duration::ZERO, None, Priority::Normal).unwrap()).collect();
    core.enter(Duration::from_secs(100), None, Priority::Normal).unwrap();
    for w in uploads {
        core.leave(w, Duration::from_secs(400), Ending::Done);
    }
    assert_eq!((core.limit(), core.in_flight(), core.baseline(0)), (64, 1, None));
}

/// A server of `workers` with one queue, in simulated time: what comes through the limit, and what of it was of use.
struct Server {
    core: AdaptiveCore,
    workers: usize,
    service: Duration,
    /// Longest that a caller waits.
    patience: Duration,
    busy: BinaryHeap<Reverse<(Duration, u64)>>,
    queue: VecDeque<(u64, Duration)>,
    work: std::collections::HashMap<u64, Admitted>,
    next: u64,
    rng: Rng,
}

#[derive(Debug, Default)]
struct Report {
    offered: u64,
    in_time: u64,
    latencies: Vec<Duration>,
    limits: Vec<u32>,
    refused: [u64; 4],
    offered_by: [u64; 4],
}

impl Report {
    fn p50(&mut self) -> Duration {
        self.latencies.sort_unstable();
        self.latencies[self.latencies.len() / 2]
    }
}

impl Server {
    fn new(config: AdaptiveConfig, workers: usize, service: Duration) -> Self {
        Self {
            core: AdaptiveCore::new(config),
            workers,
            service,
            patience: Duration::from_secs(2),
            busy: BinaryHeap::new(),
            queue: VecDeque::new(),
            work: std::collections::HashMap::new(),
            next: 0,
            rng: Rng::seeded(7),
        }
    }

    /// Runs from `from` to `to` with `rate` arrivals a second.
    fn run(&mut self, from: Duration, to: Duration, rate: f64) -> Report {
        let mut report = Report::default();
        let mut now = from;
        loop {
            // Arrivals are Poisson, as those of many independent callers are.
            let gap = -(1.0 - self.rng.unit_f64()).ln() / rate;
            let next = now + Duration::from_secs_f64(gap);
            self.finish_until(next.min(to), &mut report);
            if next >= to {
                return report;
            }
            now = next;
            let class = Priority::ALL[usize::try_from(self.rng.below(4)).unwrap()];
            report.offered += 1;
            report.offered_by[class as usize] += 1;
            report.limits.push(self.core.limit());
            match self.core.enter(now, Some(0), class) {
                None => report.refused[class as usize] += 1,
                Some(admitted) => {
                    self.next += 1;
                    self.work.insert(self.next, admitted);
                    self.queue.push_back((self.next, now));
                    self.start(now);
                }
            }
        }
    }

    fn start(&mut self, now: Duration) {
        while self.busy.len() < self.workers
            && let Some((id, _)) = self.queue.pop_front()
        {
            let jitter = 0.5 + self.rng.unit_f64();
            self.busy.push(Reverse((now + self.service.mul_f64(jitter), id)));
        }
    }

    fn finish_until(&mut self, until: Duration, report: &mut Report) {
        while let Some(Reverse((at, id))) = self.busy.peek().copied() {
            if at > until {
                return;
            }
            self.busy.pop();
            let admitted = self.work.remove(&id).unwrap();
            let took = at.saturating_sub(admitted.began());
            report.latencies.push(took);
            report.in_time += u64::from(took <= self.patience);
            self.core.leave(admitted, at, Ending::Done);
            self.start(at);
        }
    }
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// Two workers of 10 ms: 200 a second is what it can do.
#[test]
fn under_three_times_its_load_a_server_still_does_what_it_can_and_in_time() {
    let config = AdaptiveConfig { min: 8, max: 4_096, ..AdaptiveConfig::default() };
    let mut server = Server::new(config, 2, ms(10));
    let mut calm = server.run(secs(0), secs(20), 100.0);
    assert_eq!(calm.refused, [0; 4], "nothing is refused without need");
    assert!(calm.p50() < ms(20));

    server.run(secs(20), secs(40), 600.0);
    let mut overload = server.run(secs(40), secs(60), 600.0);
    assert!(overload.in_time > 3_700, "{} of the 4,000 that can be done in 20 s", overload.in_time);
    assert!(overload.p50() < ms(150), "{:?}", overload.p50());

    // ADAPT-3: ten minutes on, it has not crept up.
    server.run(secs(60), secs(640), 600.0);
    let mut later = server.run(secs(640), secs(660), 600.0);
    let p50 = later.p50();
    assert!(later.in_time > 3_700 && p50 < ms(150), "{} {p50:?}", later.in_time);

    // And when the rush is over, nothing is refused.
    server.run(secs(660), secs(690), 100.0);
    let mut after = server.run(secs(690), secs(710), 100.0);
    assert_eq!(after.refused, [0; 4]);
    assert!(after.p50() < ms(20));

    // The same without: everybody waits longer than anybody is patient.
    let open = AdaptiveConfig { min: 100_000, max: 100_000, ..config };
    let mut without = Server::new(open, 2, ms(10));
    without.run(secs(0), secs(20), 600.0);
    assert_eq!(without.run(secs(20), secs(40), 600.0).in_time, 0);
}

#[test]
fn the_important_is_served_while_the_rest_is_shed() {
    let mut server = Server::new(AdaptiveConfig { min: 8, ..AdaptiveConfig::default() }, 2, ms(10));
    server.run(secs(0), secs(20), 400.0);
    let report = server.run(secs(20), secs(80), 400.0);
    let refused = |n: usize| report.refused[n] * 100 / report.offered_by[n];
    // Twice of what it can do, in four equal parts: it can do two of them.
    assert!(refused(0) <= 2 && refused(1) <= 20, "critical {}%, high {}%", refused(0), refused(1));
    assert!(refused(3) >= 75, "low {}%", refused(3));
    assert!(refused(0) <= refused(1) && refused(1) <= refused(2) && refused(2) <= refused(3));
}

#[test]
fn a_server_that_became_slower_for_good_is_learnt_anew() {
    let config = AdaptiveConfig { min: 8, acceptable: ms(1), ..AdaptiveConfig::default() };
    let mut server = Server::new(config, 4, ms(10));
    server.run(secs(0), secs(30), 300.0);
    assert!(server.core.baseline(0).unwrap() < ms(25), "{:?}", server.core.baseline(0));
    // Ten times slower: 40 a second is what it can do now, and 60 are asked for.
    server.service = ms(100);
    server.run(secs(30), secs(150), 60.0);
    let report = server.run(secs(150), secs(210), 60.0);
    assert!(server.core.baseline(0).unwrap() > ms(80), "{:?}", server.core.baseline(0));
    assert!(report.in_time > 2_200, "{} of the 2,400 that can be done in a minute", report.in_time);
}

#[derive(Debug, Clone)]
enum Step {
    Enter(Option<usize>, Priority),
    Leave(usize, Ending),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let priority = prop::sample::select(Priority::ALL.to_vec());
    let ending = prop::sample::select(vec![Ending::Done, Ending::Abandoned]);
    prop_oneof![
        6 => (prop::option::weighted(0.8, 0_usize..3), priority).prop_map(|(kind, priority)| Step::Enter(kind, priority)),
        4 => (0_usize..20, ending).prop_map(|(n, ending)| Step::Leave(n, ending)),
        2 => prop_oneof![0_u64..50, 0_u64..500].prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn bounds_and_order_hold_over_any_history(
        min in 1_u32..10,
        more in 0_u32..60,
        reserve in 0_u32..4,
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let config = AdaptiveConfig {
            min,
            max: min + more,
            critical_reserve: reserve,
            acceptable: ms(20),
            window: ms(50),
            window_samples: 3,
            kinds: 2,
            ..AdaptiveConfig::default()
        };
        let mut core = AdaptiveCore::new(config);
        let mut now = Duration::ZERO;
        // Under way: whether it is critical, when it began, its kind.
        let mut out: Vec<(Admitted, bool, Duration, Option<usize>)> = vec![];
        let mut crowded_at = None;
        let mut moved_at: Option<Duration> = None;
        for step in steps {
            let (before, most) = (core.limit(), out.len() + 1);
            let baselines = [core.baseline(0), core.baseline(1)];
            if out.len() > min as usize {
                crowded_at = Some(now);
            }
            match step {
                Step::Enter(kind, priority) => {
                    let critical = out.iter().filter(|o| o.1).count();
                    // What each class would get, asked of copies.
                    let would: Vec<bool> =
                        Priority::ALL.iter().map(|p| core.clone().enter(now, kind, *p).is_some()).collect();
                    prop_assert!(would.windows(2).all(|w| w[0] || !w[1]), "SHED-2: {:?}", would);
                    let got = core.enter(now, kind, priority);
                    prop_assert_eq!(got.is_some(), would[priority as usize]);
                    let is_critical = priority == Priority::Critical;
                    let has_share = out.len() < core.room(priority) as usize;
                    let has_reserve = is_critical && critical < reserve as usize;
                    prop_assert_eq!(got.is_some(), has_share || has_reserve, "SHED-1");
                    if let Some(admitted) = got {
                        out.push((admitted, is_critical, now, kind.map(|kind| kind % 2)));
                    }
                }
                Step::Leave(n, ending) if n < out.len() => {
                    let (admitted, _, began, kind) = out.remove(n);
                    core.leave(admitted, now, ending);
                    let learns = kind.is_some() && crowded_at.is_none_or(|at| at < began) && ending == Ending::Done;
                    let now_known = [core.baseline(0), core.baseline(1)];
                    prop_assert!(now_known == baselines || learns, "ADAPT-3");
                    if let Some(kind) = kind.filter(|kind| learns && baselines[*kind].is_none()) {
                        prop_assert_eq!(core.baseline(kind), Some(now.saturating_sub(began)), "ADAPT-3");
                    }
                }
                Step::Leave(..) => {}
                Step::Pass(n) => now += ms(n),
            }
            if out.len() > min as usize {
                crowded_at = Some(now);
            }
            prop_assert_eq!(core.in_flight() as usize, out.len(), "ADAPT-4");
            prop_assert!(out.len() <= (config.max + reserve) as usize, "SHED-3");
            let limit = core.limit();
            prop_assert!((config.min..=config.max).contains(&limit), "ADAPT-1");
            if limit != before {
                prop_assert!(moved_at.is_none_or(|at| now >= at + config.window), "ADAPT-1: twice in a window");
                moved_at = Some(now);
                let up = f64::from(before + 1) + f64::from(before + 1).sqrt();
                prop_assert!(f64::from(limit) <= up, "ADAPT-1: {} to {}", before, limit);
                prop_assert!(limit > before || most > min as usize || before.min(64) > min, "ADAPT-2");
            }
        }
        for (admitted, ..) in out {
            core.leave(admitted, now, Ending::Abandoned);
        }
        prop_assert_eq!(core.in_flight(), 0, "ADAPT-4");
    }
}
