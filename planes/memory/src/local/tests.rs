//! MEMORY-1 to MEMORY-4, seen from inside.

use std::{sync::atomic::AtomicBool, time::Duration};

use bytes::Bytes;
use kernel::{ProjectId, SimClock, Timestamp};

use super::*;

fn local(max_bytes: usize) -> (Local, SimClock) {
    let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
    (Local::new(max_bytes, 1000, clock, &Rng::seeded(3)), sim)
}

fn project(name: &str) -> ProjectId {
    ProjectId::parse(name).unwrap()
}

fn key(project: &ProjectId, n: u64) -> Key {
    Key::new(project, "test", [n.to_string()])
}

fn set(bytes: usize) -> Verb {
    Verb::Set { value: Bytes::from(vec![1; bytes]), ttl: None }
}

fn recount(local: &Local) -> (usize, usize) {
    local.shards.iter().map(|s| lock(s).recount()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

/// A random operation that makes, grows, shrinks or removes.
fn random_verb(rng: &Rng) -> Verb {
    let size = usize::try_from(rng.below(2_000)).unwrap();
    let ttl = (rng.below(3) == 0).then(|| Duration::from_millis(1 + rng.below(50)));
    let member = || Bytes::from(vec![u8::try_from(rng.below(250)).unwrap(); size / 10 + 1]);
    let members = || (0..=rng.below(20)).map(|_| member()).collect::<Vec<_>>();
    match rng.below(12) {
        0..=2 => Verb::Set { value: Bytes::from(vec![1; size]), ttl },
        3 => Verb::SetIfAbsent { value: Bytes::from(vec![2; size]), ttl },
        4 => Verb::CompareAndSet { expected: None, value: Bytes::from(vec![3; size]), ttl },
        5 => Verb::Increment { by: 1, ttl },
        6 => Verb::SetAdd { members: members(), ttl },
        7 => Verb::SetRemove { members: members() },
        8 => Verb::SortedAdd { members: members().into_iter().map(|m| (m, 1.0)).collect(), ttl },
        9 => Verb::SortedTrim { keep: rng.below(9), order: crate::Order::Ascending },
        10 => Verb::Join { member: member(), ttl: Duration::from_millis(20) },
        _ => Verb::Delete,
    }
}

#[test]
fn the_limit_holds_after_every_operation_and_the_count_is_the_sum() {
    let (local, sim) = local(64 << 10);
    let rng = Rng::seeded(11);
    let projects = ["a", "bb", "ccc"].map(project);
    for i in 0..20_000 {
        let project = &projects[usize::try_from(rng.below(3)).unwrap()];
        drop(local.apply(&key(project, rng.below(200)), &random_verb(&rng)));
        let stats = local.stats();
        assert!(stats.used_bytes <= stats.max_bytes && stats.high_water_bytes <= stats.max_bytes, "{stats:?}");
        if i % 50 == 0 {
            assert_eq!(recount(&local), (stats.used_bytes, stats.entry_count));
        }
        sim.advance(Duration::from_millis(1));
    }
    let stats = local.stats();
    assert!(stats.evicted_count > 100 && stats.evicted_bytes > 0 && stats.expired_count > 100, "{stats:?}");
    assert!(stats.used_bytes > stats.max_bytes / 2, "and it is used: {stats:?}");
    local.clear();
    assert_eq!((local.stats().used_bytes, local.is_empty()), (0, true));
}

#[test]
fn the_limit_holds_at_every_moment_under_threads() {
    let local = Local::new(256 << 10, 1000, Clock::system(), &Rng::system());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|seed| {
                let local = &local;
                scope.spawn(move || {
                    let (rng, project) = (Rng::seeded(seed), project("p"));
                    for _ in 0..5_000 {
                        drop(local.apply(&key(&project, rng.below(500)), &random_verb(&rng)));
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Relaxed) {
                assert!(local.used_bytes.load(Relaxed) <= local.max_bytes);
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Relaxed);
    });
    let stats = local.stats();
    assert!(stats.high_water_bytes <= stats.max_bytes, "{stats:?}");
    assert_eq!(recount(&local), (stats.used_bytes, stats.entry_count));
}

#[test]
fn nothing_goes_uncounted() {
    let (local, _sim) = local(128 << 10);
    let p = project("p");
    for n in 0..5_000 {
        local.apply(&key(&p, n), &set(100)).unwrap();
    }
    let stats = local.stats();
    assert_eq!(u64::try_from(stats.entry_count).unwrap() + stats.evicted_count, 5_000, "held or counted as evicted");
    assert!(matches!(local.apply(&key(&p, 0), &set(200 << 10)), Err(Error::TooLarge { .. })));
    assert_eq!(local.stats().entry_count, stats.entry_count, "what can never fit evicts nobody");
}

#[test]
fn what_is_used_stays_and_what_is_not_goes() {
    let (local, sim) = local(256 << 10);
    let p = project("p");
    let hot: Vec<Key> = (0..20).map(|n| key(&p, 1_000_000 + n)).collect();
    for k in &hot {
        local.apply(k, &set(100)).unwrap();
    }
    for n in 0..20_000 {
        local.apply(&key(&p, n), &set(100)).unwrap();
        sim.advance(Duration::from_millis(1));
        local.apply(&hot[usize::try_from(n).unwrap() % hot.len()], &Verb::Get).unwrap();
    }
    let alive = hot.iter().filter(|k| local.apply(k, &Verb::Get).unwrap() != Reply::Value(None)).count();
    // Sampling errs now and then; with random eviction none of them would be left after 40 times the capacity.
    assert!(alive >= hot.len() * 3 / 4, "{alive} of {}, {:?}", hot.len(), local.stats());
}

#[test]
fn one_project_cannot_push_another_out() {
    let (local, sim) = local(512 << 10);
    let (quiet, noisy) = (project("quiet"), project("noisy"));
    // Never looked at again, so that age alone would send it away first.
    for n in 0..100 {
        local.apply(&key(&quiet, n), &set(100)).unwrap();
    }
    for n in 0..50_000 {
        sim.advance(Duration::from_millis(1));
        local.apply(&key(&noisy, n), &set(100)).unwrap();
    }
    let alive = (0..100).filter(|n| local.apply(&key(&quiet, *n), &Verb::Get).unwrap() != Reply::Value(None)).count();
    assert_eq!(alive, 100, "{:?}", local.stats());
}

#[test]
fn expired_keys_are_swept_in_passing_and_never_seen() {
    let (local, sim) = local(1 << 20);
    let p = project("p");
    let short = Verb::Set { value: Bytes::from("v"), ttl: Some(Duration::from_millis(10)) };
    for n in 0..1_000 {
        local.apply(&key(&p, n), &short).unwrap();
    }
    sim.advance(Duration::from_millis(10));
    assert_eq!(local.apply(&key(&p, 1), &Verb::Get).unwrap(), Reply::Value(None));
    // Reads of other keys are enough: each looks at a few more.
    for n in 0..2_000 {
        local.apply(&key(&p, 5_000 + n), &Verb::Get).unwrap();
    }
    let stats = local.stats();
    assert_eq!((stats.entry_count, stats.used_bytes, stats.expired_count), (0, 0, 1_000));
}

/// What is counted is what the operating system sees, within a fifth. In a process of its own: what other tests take meanwhile would be seen
/// too.
#[cfg(target_os = "linux")]
#[test]
fn the_count_covers_what_the_process_really_takes() {
    const ALONE: &str = "MAINSTAY_TEST_ALONE";
    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    }
    if std::env::var_os(ALONE).is_none() {
        let name = "local::tests::the_count_covers_what_the_process_really_takes";
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args([name, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && told.contains("1 passed"),
            "{told}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let max = 64 << 20;
    let (local, _sim) = local(max);
    let p = project("p");
    let before = resident();
    for n in 0..400_000 {
        local.apply(&key(&p, n), &set(10)).unwrap();
    }
    let grown = resident().saturating_sub(before);
    let stats = local.stats();
    println!(
        "limit {max}, counted {}, resident memory grew by {grown}, {} entries",
        stats.used_bytes, stats.entry_count
    );
    assert!(grown < max + max / 5, "resident memory grew by {grown}");
}
