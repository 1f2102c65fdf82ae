//! Who gets how much: each algorithm, weights, zones, warming up, panic, the breaker.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use upstream::{Algorithm, KeyParts, Lease, NoEndpoint, Outcome, Pick, Upstream, UpstreamState};

use crate::world::{World, count, endpoints, id, number, one};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn state(world: &World) -> UpstreamState {
    world.upstreams.states().remove(0)
}

fn end(lease: Lease, is_success: bool, took: Duration) {
    lease.report(Outcome { is_success, took });
}

fn share(counts: &BTreeMap<u8, usize>, n: u8) -> usize {
    counts.get(&n).copied().unwrap_or_default()
}

/// Within a tenth.
#[track_caller]
fn about(seen: usize, expected: usize) {
    assert!(seen.abs_diff(expected) * 10 <= expected, "{seen} is not about {expected}");
}

fn balanced(algorithm: Algorithm, more: &str) -> String {
    format!("balance = {{ algorithm = \"{}\"{more} }}\n", algorithm.as_str())
}

#[test]
fn shares_of_each_algorithm() {
    let text = endpoints([(1, ", weight = 1"), (2, ", weight = 2"), (3, ", weight = 5")]);
    // Expected of 8,000 when each request ends before the next comes.
    for (algorithm, expected) in [
        (Algorithm::RoundRobin, [2_667, 2_667, 2_666]),
        (Algorithm::WeightedRoundRobin, [1_000, 2_000, 5_000]),
        (Algorithm::Random, [1_000, 2_000, 5_000]),
        (Algorithm::Maglev, [1_000, 2_000, 5_000]),
        (Algorithm::First, [8_000, 0, 0]),
    ] {
        let world = World::new();
        let hash_on = if algorithm.is_hashing() { ", hash_on = \"path\"" } else { "" };
        let shop = world.apply(&format!("{}{text}", balanced(algorithm, hash_on)));
        let counts = count(&shop, 8_000);
        for (n, expected) in (1..).zip(expected) {
            about(share(&counts, n), expected);
        }
    }
}

#[test]
fn least_requests_keeps_them_level_for_their_weight() {
    let world = World::new();
    let text = balanced(Algorithm::LeastRequests, "") + &endpoints([(1, ""), (2, ", weight = 2"), (3, ", weight = 5")]);
    let shop = world.apply(&text);
    let held: Vec<_> = (0..800).map(|_| shop.pick(&Pick::default()).unwrap()).collect();
    let mut counts = BTreeMap::new();
    for lease in &held {
        *counts.entry(number(lease)).or_default() += 1;
    }
    assert_eq!(counts, [(1, 100), (2, 200), (3, 500)].into());
    // When one of them drains its work, the next go there.
    let rest: Vec<_> = held.into_iter().filter(|lease| number(lease) != 1).collect();
    let next: Vec<_> = (0..50).map(|_| shop.pick(&Pick::default()).unwrap()).collect();
    assert!(next.iter().all(|lease| number(lease) == 1));
    drop(rest);
}

/// Endpoints of which one is slow, in rounds: all of a round are under way together, and end after their time.
fn p2c_rounds(
    world: &World,
    shop: &Upstream,
    rounds: u32,
    slow: u8,
    is_well: bool,
    took: Duration,
) -> BTreeMap<u8, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..rounds {
        let leases: Vec<_> = (0..8).map(|_| shop.pick(&Pick::default()).unwrap()).collect();
        world.time.advance(Duration::from_millis(10));
        for lease in leases {
            let n = number(&lease);
            *counts.entry(n).or_default() += 1;
            let is_slow = n == slow;
            end(lease, !is_slow || is_well, if is_slow { took } else { Duration::from_millis(10) });
        }
    }
    counts
}

#[test]
fn p2c_leaves_the_slow_and_the_failing_one_alone() {
    let ten = endpoints((1..=10).map(|n| (n, "")));
    for (what, is_well, took) in
        [("slow", true, Duration::from_millis(500)), ("failing at once", false, Duration::from_micros(10))]
    {
        let world = World::new();
        let shop = world.apply(&(balanced(Algorithm::P2c, "") + &ten));
        let counts = p2c_rounds(&world, &shop, 500, 4, is_well, took);
        let fair = 400;
        assert!(share(&counts, 4) < fair / 10, "{what}: {counts:?}");
        for n in (1..=10).filter(|n| *n != 4) {
            assert!((fair / 2..fair * 2).contains(&share(&counts, n)), "{what}: {n} of {counts:?}");
        }
        // It is tried again, and when it is quick again it has its share back.
        world.time.advance(secs(120));
        let counts = p2c_rounds(&world, &shop, 2_000, 4, true, Duration::from_millis(10));
        assert!(share(&counts, 4) > 800, "{what}: {counts:?}");
    }
}

#[test]
fn p2c_asks_one_that_never_answered_once_at_a_time() {
    let world = World::new();
    let shop = world.apply(&(balanced(Algorithm::P2c, "") + &endpoints([(1, ""), (2, "")])));
    for _ in 0..20 {
        let lease = shop.pick(&Pick { exclude: &[id(2)], ..Pick::default() }).unwrap();
        end(lease, true, Duration::from_millis(10));
    }
    let held: Vec<_> = (0..100).map(|_| shop.pick(&Pick::default()).unwrap()).collect();
    assert_eq!(held.iter().filter(|lease| number(lease) == 2).count(), 1);
}

fn by_user<'a>(headers: &'a mut http::HeaderMap, user: &str) -> KeyParts<'a> {
    headers.insert("x-user", user.parse().unwrap());
    KeyParts { headers: Some(headers), path: "/", query: None, client: [192, 0, 2, 1].into() }
}

fn home(shop: &Upstream, user: u32) -> Lease {
    let hash = shop.hash_key(&by_user(&mut http::HeaderMap::new(), &user.to_string()));
    assert!(hash.is_some());
    shop.pick(&Pick { hash, ..Pick::default() }).unwrap()
}

#[test]
fn keys_keep_their_home_and_only_those_of_who_leaves_move() {
    for (algorithm, most_moved) in [(Algorithm::RingHash, 0), (Algorithm::Maglev, 100)] {
        let world = World::new();
        let balance = balanced(algorithm, ", hash_on = { header = \"x-user\" }");
        let shop = world.apply(&format!("{balance}{}", endpoints((1..=10).map(|n| (n, "")))));
        let homes = || (0..2_000).map(|user| number(&home(&shop, user))).collect::<Vec<_>>();
        let before = homes();
        assert_eq!(homes(), before, "the same key, the same home");
        let mut homes_of: BTreeMap<u8, usize> = BTreeMap::new();
        for home in &before {
            *homes_of.entry(*home).or_default() += 1;
        }
        assert!(homes_of.len() == 10 && homes_of.values().all(|has| (130..270).contains(has)), "{homes_of:?}");
        world.apply(&format!("{balance}{}", endpoints((1..=10).filter(|n| *n != 7).map(|n| (n, "")))));
        let after = homes();
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b && **a != 7).count();
        assert!(moved <= most_moved, "{}: {moved} of others moved", algorithm.as_str());
        assert!(after.iter().all(|home| *home != 7));
        // And all are back where they were.
        world.apply(&format!("{balance}{}", endpoints((1..=10).map(|n| (n, "")))));
        assert_eq!(homes(), before);
        // One that is drained keeps its place for when it is back: its keys alone move, also with Maglev.
        shop.set_drained(id(3), true);
        assert!(homes().iter().all(|home| *home != 3));
        shop.set_drained(id(3), false);
        assert_eq!(homes(), before);
    }
}

#[test]
fn every_kind_of_key() {
    let world = World::new();
    let mut headers = http::HeaderMap::new();
    headers.insert("x-user", "ann".parse().unwrap());
    headers.append("cookie", "a=b; session=s1".parse().unwrap());
    headers.append("cookie", "z=1".parse().unwrap());
    let parts =
        KeyParts { headers: Some(&headers), path: "/a", query: Some("q=1&user=ann"), client: [192, 0, 2, 7].into() };
    let hash = |on: &str, parts: &KeyParts<'_>| {
        let balance = balanced(Algorithm::RingHash, &format!(", hash_on = {on}"));
        world.apply(&(balance + &endpoints([(1, "")]))).hash_key(parts)
    };
    let same = |a: &str, b: &str| assert_eq!(hash(a, &parts), hash(b, &parts), "{a} {b}");
    same("{ header = \"X-User\" }", "{ query = \"user\" }");
    assert!(hash("{ cookie = \"session\" }", &parts).is_some());
    assert!(hash("{ cookie = \"z\" }", &parts).is_some());
    assert!(hash("\"path\"", &parts).is_some());
    for (none, key) in [("{ header = \"x-other\" }", "h"), ("{ cookie = \"sess\" }", "c"), ("{ query = \"use\" }", "q")]
    {
        assert_eq!(hash(none, &parts), None, "{key}");
    }
    // One client over IPv4 and over the same address mapped into IPv6 is one.
    let mapped = KeyParts { client: "::ffff:192.0.2.7".parse().unwrap(), ..parts };
    assert_eq!(hash("\"address\"", &parts), hash("\"address\"", &mapped));
    assert_eq!(hash("\"address\"", &parts), hash("\"address\"", &KeyParts::of_client([192, 0, 2, 7].into())));
    let plain = world.apply(&endpoints([(1, "")]));
    assert_eq!(plain.hash_key(&parts), None, "nothing is hashed for an algorithm that does not");
}

#[test]
fn bounded_load_moves_what_is_too_much_and_no_more() {
    for algorithm in [Algorithm::RingHash, Algorithm::Maglev] {
        let world = World::new();
        let more = ", hash_on = { header = \"x-user\" }, load_bound_percent = 125";
        let shop = world.apply(&(balanced(algorithm, more) + &endpoints((1..=10).map(|n| (n, "")))));
        // Everybody has the same key.
        let mut held: Vec<Lease> = Vec::new();
        let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
        for total in 1..=200_usize {
            let lease = home(&shop, 1);
            let count = counts.entry(number(&lease)).or_default();
            *count += 1;
            assert!(*count <= (total * 125).div_ceil(1_000), "{}: {count} of {total}", algorithm.as_str());
            held.push(lease);
        }
        assert!(counts.len() >= 8, "{counts:?}");
        drop(held);
        // At rest the key is at home.
        let homes: Vec<_> = (0..20).map(|_| number(&home(&shop, 1))).collect();
        assert!(homes.iter().all(|home| *home == homes[0]));
    }
}

#[test]
fn who_comes_late_grows_to_its_weight() {
    for algorithm in [Algorithm::WeightedRoundRobin, Algorithm::Random, Algorithm::RoundRobin] {
        let world = World::new();
        let balance = balanced(algorithm, ", slow_start = \"100s\"");
        world.apply(&format!("{balance}{}", endpoints([(1, ""), (2, "")])));
        let shop = world.apply(&format!("{balance}{}", endpoints([(1, ""), (2, ""), (3, "")])));
        // Its weight is 10, 50 and 100 percent of theirs.
        about(share(&count(&shop, 6_300), 3), 300);
        world.time.advance(secs(50));
        assert_eq!(state(&world).endpoints[2].warmth_percent, 50);
        about(share(&count(&shop, 6_250), 3), 1_250);
        world.time.advance(secs(50));
        about(share(&count(&shop, 6_000), 3), 2_000);
        assert!(state(&world).endpoints.iter().all(|endpoint| endpoint.warmth_percent == 100));
    }
}

#[test]
fn the_own_zone_first_and_others_as_it_fails() {
    let world = World::with(Some("a"), None);
    let text = format!(
        "balance = {{ prefer_zone = true }}\noutlier = {{ consecutive_failures = 1, max_ejected_percent = 100, panic_percent = 0 }}\n{}",
        endpoints([(1, ", zone = \"a\""), (2, ", zone = \"a\""), (3, ", zone = \"b\""), (4, "")])
    );
    let shop = world.apply(&text);
    assert_eq!(count(&shop, 100), [(1, 50), (2, 50)].into());
    let fail = |n: u8| end(shop.pick(&Pick { sticky: Some(id(n)), ..Pick::default() }).unwrap(), false, secs(0));
    fail(2);
    // Half of it is well: 70% of the load stays, the rest goes to the others.
    let counts = count(&shop, 10_000);
    about(share(&counts, 1), 7_000);
    about(share(&counts, 3), 1_500);
    about(share(&counts, 4), 1_500);
    assert_eq!(share(&counts, 2), 0);
    fail(1);
    assert_eq!(count(&shop, 100), [(3, 50), (4, 50)].into());
}

#[test]
fn standbys_take_over_by_priority_and_full_ones_are_passed_over() {
    let world = World::new();
    let shop = world.apply(&format!(
        "limits = {{ max_in_flight_per_endpoint = 2 }}\n{}",
        endpoints([(1, ""), (2, ", priority = 1"), (3, ", priority = 2")])
    ));
    let held: Vec<_> = (0..6).map(|_| shop.pick(&Pick::default()).unwrap()).collect();
    assert_eq!(held.iter().map(number).collect::<Vec<_>>(), [1, 1, 2, 2, 3, 3]);
    assert_eq!(shop.pick(&Pick::default()).unwrap_err(), NoEndpoint::Full);
    assert_eq!(state(&world).refused_full_count, 1);
}

#[test]
fn when_few_are_well_all_are_used_and_it_is_told() {
    let world = World::new();
    let text = format!(
        "outlier = {{ consecutive_failures = 1, max_ejected_percent = 100 }}\n{}",
        endpoints([(1, ""), (2, ""), (3, ""), (4, "")])
    );
    let shop = world.apply(&text);
    let fail = |n: u8| end(shop.pick(&Pick { sticky: Some(id(n)), ..Pick::default() }).unwrap(), false, secs(0));
    fail(1);
    fail(2);
    assert_eq!(count(&shop, 10).into_keys().collect::<Vec<_>>(), [3, 4], "a half is not less than a half");
    assert!(!state(&world).is_panic);
    fail(3);
    assert_eq!(count(&shop, 40), [(1, 10), (2, 10), (3, 10), (4, 10)].into());
    assert!(state(&world).is_panic);
    world.time.advance(secs(30));
    assert_eq!(count(&shop, 40), [(1, 10), (2, 10), (3, 10), (4, 10)].into());
    assert!(!state(&world).is_panic);
}

#[test]
fn an_active_one_and_its_standby_know_no_panic() {
    let world = World::new();
    let text = format!(
        "{}outlier = {{ consecutive_failures = 1, max_ejected_percent = 100 }}\n{}",
        balanced(Algorithm::First, ""),
        endpoints([(1, ""), (2, ""), (3, "")])
    );
    let shop = world.apply(&text);
    for n in [1, 2] {
        let lease = shop.pick(&Pick::default()).unwrap();
        assert_eq!(number(&lease), n);
        end(lease, false, secs(0));
    }
    assert!((0..10).all(|_| one(&shop, &Pick::default()) == 3));
}

#[test]
fn the_breaker_opens_for_the_whole_upstream() {
    let world = World::new();
    let shop = world.apply(&format!(
        "breaker = {{ minimum_calls = 4, failure_percent = 50, open_for = \"10s\", probes = 1 }}\n{}",
        endpoints([(1, ""), (2, "")])
    ));
    for n in 0..4 {
        end(shop.pick(&Pick::default()).unwrap(), n < 2, secs(0));
    }
    assert_eq!(shop.pick(&Pick::default()).unwrap_err(), NoEndpoint::BreakerOpen { retry_after: secs(10) });
    assert_eq!(state(&world).breaker.unwrap().state, "open");
    assert_eq!(state(&world).in_flight, 0, "who is refused holds no place");
    // A document that leaves it as it is leaves it open.
    world.apply(&format!(
        "breaker = {{ minimum_calls = 4, failure_percent = 50, open_for = \"10s\", probes = 1 }}\n{}",
        endpoints([(1, ""), (2, ""), (3, "")])
    ));
    assert!(shop.pick(&Pick::default()).is_err());
    world.time.advance(secs(10));
    end(shop.pick(&Pick::default()).unwrap(), true, secs(0));
    assert!(shop.pick(&Pick::default()).is_ok());
    // A lease that nobody reports tells nothing.
    (0..20).for_each(|_| drop(shop.pick(&Pick::default()).unwrap()));
    assert_eq!(state(&world).breaker.unwrap().state, "closed");
}

#[test]
fn the_sick_one_among_many_is_found_by_its_rate() {
    let world = World::new();
    let shop = world.apply(&format!(
        "outlier = {{ consecutive_failures = 0, min_calls = 50, min_hosts = 5 }}\n{}",
        endpoints((1..=8).map(|n| (n, "")))
    ));
    // Number 5 fails one of three; the others one of a hundred.
    for n in 0..2_400_u32 {
        let lease = shop.pick(&Pick::default()).unwrap();
        let is_success = if number(&lease) == 5 { n % 3 != 0 } else { n % 100 != 0 };
        end(lease, is_success, secs(0));
    }
    assert_eq!(state(&world).ejection_count, 0, "not before the interval is over");
    world.time.advance(secs(10));
    let counts = count(&shop, 70);
    assert_eq!(share(&counts, 5), 0, "{counts:?}");
    assert_eq!(state(&world).endpoints.iter().filter(|endpoint| endpoint.is_ejected).count(), 1);
}

#[test]
fn bounds_hold_while_threads_race() {
    let world = World::new();
    let shop = world.apply(&format!(
        "{}limits = {{ max_in_flight = 20, max_in_flight_per_endpoint = 6 }}\n{}",
        balanced(Algorithm::LeastRequests, ""),
        endpoints([(1, ""), (2, ""), (3, ""), (4, "")])
    ));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let held: Vec<_> = (0..4).filter_map(|_| shop.pick(&Pick::default()).ok()).collect();
                    for lease in held {
                        end(lease, true, Duration::from_micros(5));
                    }
                }
            });
        }
        for _ in 0..200 {
            let state = state(&world);
            // A refused one is counted for a moment: at most one for each thread.
            assert!(state.in_flight <= 20 + 8, "{}", state.in_flight);
            assert!(state.endpoints.iter().all(|endpoint| endpoint.in_flight <= 6 + 8));
        }
    });
    let state = state(&world);
    assert_eq!(state.in_flight, 0);
    assert!(state.endpoints.iter().all(|endpoint| endpoint.in_flight == 0));
    let counted: u64 = state.endpoints.iter().map(|endpoint| endpoint.success_count).sum();
    assert_eq!(counted, state.endpoints.iter().map(|endpoint| endpoint.pick_count).sum::<u64>());
    assert_eq!(counted + state.refused_full_count, 8 * 2_000 * 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// UPSTREAM-1, UPSTREAM-2 and UPSTREAM-7, whatever the algorithm.
    #[test]
    fn an_excluded_full_or_ejected_one_is_never_given_while_another_is_well(
        algorithm in prop::sample::select(Algorithm::ALL.to_vec()),
        weights in prop::collection::vec(0_u32..4, 1..8),
        priorities in prop::collection::vec(0_u8..3, 8),
        ejected in prop::collection::vec(any::<bool>(), 8),
        excluded in prop::collection::vec(any::<bool>(), 8),
        full in prop::collection::vec(any::<bool>(), 8),
        hash in any::<Option<u64>>(),
    ) {
        let world = World::new();
        let list: Vec<_> = weights.iter().zip(&priorities).zip(1_u8..)
            .map(|((weight, priority), n)| format!("{{ address = \"10.0.0.{n}:80\", weight = {weight}, priority = {priority} }}"))
            .collect();
        let hash_on = if algorithm.is_hashing() { ", hash_on = \"path\"" } else { "" };
        let shop = world.apply(&format!(
            "{}endpoints = [{}]\noutlier = {{ consecutive_failures = 1, max_ejected_percent = 100, panic_percent = 0 }}\nlimits = {{ max_in_flight_per_endpoint = 1 }}",
            balanced(algorithm, hash_on), list.join(", "),
        ));
        let of = |flags: &[bool]| (1..=u8::try_from(weights.len()).unwrap()).filter(|n| flags[usize::from(*n) - 1]).collect::<Vec<_>>();
        let mut held = Vec::new();
        for n in of(&ejected) {
            if let Ok(lease) = shop.pick(&Pick { sticky: Some(id(n)), ..Pick::default() }) && number(&lease) == n {
                end(lease, false, secs(0));
            }
        }
        for n in of(&full) {
            if let Ok(lease) = shop.pick(&Pick { sticky: Some(id(n)), ..Pick::default() }) {
                held.push(lease);
            }
        }
        let exclude: Vec<_> = of(&excluded).into_iter().map(id).collect();
        let usable: Vec<_> = state(&world).endpoints.into_iter().filter(|e| e.is_usable).collect();
        let free: Vec<_> = usable.iter().filter(|e| e.in_flight == 0).map(|e| e.id).collect();
        let fresh: Vec<_> = free.iter().filter(|id| !exclude.contains(id)).copied().collect();
        match shop.pick(&Pick { hash, exclude: &exclude, sticky: None }) {
            Ok(lease) if fresh.is_empty() => prop_assert!(free.contains(&lease.endpoint())),
            Ok(lease) => prop_assert!(fresh.contains(&lease.endpoint())),
            Err(why) => {
                prop_assert!(free.is_empty());
                let is_nobody = weights.iter().all(|weight| *weight == 0);
                prop_assert_eq!(why, if is_nobody { NoEndpoint::Empty } else { NoEndpoint::Full });
            }
        }
    }
}
