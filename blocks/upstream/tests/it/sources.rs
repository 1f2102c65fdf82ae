//! Where back ends come from, while time is simulated and the network is real.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hickory_resolver::proto::rr::RecordType::{A, AAAA, CNAME, SRV};
use tokio::sync::watch;
use upstream::{Health, RegisteredEndpoint, Registry, UpstreamState};

use crate::{
    servers::{Backend, NameServer, eventually, nobody, tasks},
    world::World,
};

fn state(world: &World) -> UpstreamState {
    world.upstreams.states().remove(0)
}

fn addresses(world: &World) -> Vec<String> {
    state(world).endpoints.into_iter().filter(|e| !e.is_retired).map(|e| e.address).collect()
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Moves time on, a second at a time, until something holds: nothing depends on whether background work waits already.
async fn in_time(world: &World, what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        world.time.advance(secs(1));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came true: {what}");
}

/// Gives background work the time to do what it must not.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

#[tokio::test]
async fn dns_addresses_by_their_time_to_live() {
    let (dns, world) = (NameServer::start().await, World::new());
    dns.set("shop.internal.", A, 20, &["127.0.0.2", "127.0.0.1"]);
    world.apply(&format!("dns = {{ name = \"shop.internal.\", port = 9001, servers = [\"{}\"] }}", dns.address));
    world.upstreams.start(&tasks());
    eventually("the first answer", || addresses(&world) == ["127.0.0.1:9001", "127.0.0.2:9001"]).await;

    // DNS-1: not asked again before its time.
    dns.set("shop.internal.", A, 5, &["127.0.0.3"]);
    let questions = dns.questions();
    for _ in 0..19 {
        world.time.advance(secs(1));
        settle().await;
    }
    assert_eq!(dns.questions(), questions);
    in_time(&world, "the second answer", || addresses(&world) == ["127.0.0.3:9001"]).await;

    // An alias that lives for a shorter time than its target.
    dns.set("shop.internal.", A, 5, &[]);
    dns.set("shop.internal.", CNAME, 2, &["other.internal."]);
    dns.set("other.internal.", A, 3_600, &["127.0.0.4"]);
    in_time(&world, "the alias", || addresses(&world) == ["127.0.0.4:9001"]).await;
    dns.set("other.internal.", A, 3_600, &["127.0.0.5"]);
    in_time(&world, "what the alias means now", || addresses(&world) == ["127.0.0.5:9001"]).await;
}

#[tokio::test]
async fn dns_that_is_away_or_says_nothing_changes_nothing() {
    let (dns, world) = (NameServer::start().await, World::new());
    dns.set("shop.internal.", A, 1, &["127.0.0.1"]);
    world.apply(&format!("dns = {{ name = \"shop.internal.\", port = 9001, servers = [\"{}\"] }}", dns.address));
    world.upstreams.start(&tasks());
    eventually("the first answer", || addresses(&world) == ["127.0.0.1:9001"]).await;

    let breakdowns: [(&str, &dyn Fn(bool)); 4] = [
        ("there is no such name", &|is| {
            // NXDOMAIN, and back.
            dns.set("shop.internal.", A, 1, if is { &[] } else { &["127.0.0.1"] });
        }),
        ("SERVFAIL", &|is| dns.set_failing(is)),
        ("silence", &|is| dns.set_silent(is)),
        ("truncation", &|is| dns.set_truncating(is)),
    ];
    for (what, set) in breakdowns {
        set(true);
        if what == "truncation" {
            // No breakdown: it is asked again over TCP.
            let before = dns.over_tcp();
            in_time(&world, "two answers over TCP", || dns.over_tcp() > before + 1).await;
            assert_eq!(state(&world).source.error, None);
            continue;
        }
        in_time(&world, what, || state(&world).source.error.is_some()).await;
        assert_eq!(addresses(&world), ["127.0.0.1:9001"], "{what}");
        set(false);
        in_time(&world, "it answers again", || state(&world).source.error.is_none()).await;
    }
}

#[tokio::test]
async fn srv_tells_port_weight_and_priority() {
    let (dns, world) = (NameServer::start().await, World::new());
    dns.set(
        "_http._tcp.shop.internal.",
        SRV,
        9,
        &["10 3 9001 a.internal.", "10 1 9002 b.internal.", "20 0 9003 c.internal."],
    );
    dns.set("a.internal.", A, 9, &["127.0.0.1"]);
    dns.set("b.internal.", AAAA, 9, &["::1"]);
    dns.set("c.internal.", A, 9, &["127.0.0.3"]);
    world.apply(&format!(
        "dns = {{ name = \"_http._tcp.shop.internal.\", kind = \"srv\", servers = [\"{}\"] }}",
        dns.address
    ));
    world.upstreams.start(&tasks());
    eventually("three back ends", || addresses(&world).len() == 3).await;
    let seen: BTreeMap<_, _> =
        state(&world).endpoints.into_iter().map(|e| (e.address, (e.priority, e.weight))).collect();
    let expected = [("127.0.0.1:9001", (0, 3)), ("[::1]:9002", (0, 1)), ("127.0.0.3:9003", (1, 1))]
        .map(|(a, b)| (a.to_owned(), b));
    assert_eq!(seen, expected.into());

    // A target that cannot be asked for keeps its address, while what is told of others is taken.
    dns.set_failing_name(Some("b.internal."));
    dns.set("a.internal.", A, 9, &["127.0.0.9"]);
    in_time(&world, "a is elsewhere", || addresses(&world).contains(&"127.0.0.9:9001".to_owned())).await;
    assert!(addresses(&world).contains(&"[::1]:9002".to_owned()));
    dns.set_failing_name(None);
    dns.set("a.internal.", A, 9, &["127.0.0.1"]);
    // One that is gone is left out.
    dns.set("_http._tcp.shop.internal.", SRV, 9, &["10 3 9001 a.internal.", "10 1 9002 gone.internal."]);
    in_time(&world, "one of them", || addresses(&world) == ["127.0.0.1:9001"]).await;
    // A service that is not offered is an answer without an address: what was there is kept.
    dns.set("_http._tcp.shop.internal.", SRV, 9, &["0 0 0 ."]);
    in_time(&world, "no service", || state(&world).source.error.is_some()).await;
    assert_eq!(addresses(&world), ["127.0.0.1:9001"]);
}

#[tokio::test]
async fn checks_take_out_and_bring_back() {
    let (one, two, world) = (Backend::start().await, Backend::start().await, World::new());
    let shop = world.apply(&format!(
        "endpoints = [{{ address = \"{}\" }}, {{ address = \"{}\" }}]\nhealth = {{ path = \"/\", interval = \"10s\", expect = [200] }}",
        one.address, two.address
    ));
    world.upstreams.start(&tasks());
    let health = |at: usize| state(&world).endpoints[at].health;
    in_time(&world, "both are well", || health(0) == Health::Healthy && health(1) == Health::Healthy).await;

    // Each is checked at least once more. Whoever is checked twice has the same outcome twice, so what is counted is failures seen.
    let round = async || {
        let before = (one.checks(), two.checks());
        in_time(&world, "both are checked", || one.checks() > before.0 && two.checks() > before.1).await;
        settle().await;
        one.checks() - before.0
    };
    let picked = || {
        let lease = shop.pick(&upstream::Pick::default()).unwrap();
        lease.target().address
    };
    one.set_status(503);
    let mut failures = 0;
    while failures < 3 {
        assert_eq!(health(0), Health::Healthy, "{failures} failures are not three");
        failures += round().await;
    }
    eventually("three are", || health(0) == Health::Unhealthy).await;
    assert_eq!(state(&world).endpoints[0].check_error.as_deref(), Some("status 503"));
    assert!((0..10).all(|_| picked() == two.address));
    one.set_status(200);
    let mut successes = 0;
    while successes < 2 {
        assert_eq!(health(0), Health::Unhealthy, "{successes} successes are not two");
        successes += round().await;
    }
    eventually("two are", || health(0) == Health::Healthy).await;
    assert!((0..10).any(|_| picked() == one.address));
}

#[tokio::test]
async fn a_new_one_that_is_not_ready_is_not_asked() {
    let (well, world) = (Backend::start().await, World::new());
    let dead = nobody().await;
    let health = "health = { path = \"/\", interval = \"1s\" }";
    let text = |more: &str| format!("endpoints = [{{ address = \"{}\" }}{more}]\n{health}", well.address);
    let shop = world.apply(&text(""));
    world.upstreams.start(&tasks());
    in_time(&world, "it is well", || state(&world).endpoints[0].health == Health::Healthy).await;
    // One that comes later is not asked before a check said that it is well.
    world.apply(&text(&format!(", {{ address = \"{dead}\" }}")));
    let pick = || shop.pick(&upstream::Pick::default()).unwrap().target().address;
    assert!((0..10).all(|_| pick() == well.address));
    in_time(&world, "it was checked", || state(&world).endpoints[1].health == Health::Unhealthy).await;
    assert!((0..10).all(|_| pick() == well.address));

    // Without checks everyone is taken for well again.
    world.apply(&format!("endpoints = [{{ address = \"{}\" }}, {{ address = \"{dead}\" }}]", well.address));
    eventually("nothing is known", || state(&world).endpoints.iter().all(|e| e.health == Health::Unknown)).await;
    assert!((0..10).any(|_| pick() == dead));
}

struct FakeRegistry(watch::Sender<Arc<[RegisteredEndpoint]>>);

impl Registry for FakeRegistry {
    fn watch(&self, service: &str, tag: Option<&str>) -> watch::Receiver<Arc<[RegisteredEndpoint]>> {
        assert_eq!((service, tag), ("shop", Some("v2")));
        self.0.subscribe()
    }
}

fn registered(n: u8, change: impl Fn(&mut RegisteredEndpoint)) -> RegisteredEndpoint {
    let mut endpoint = RegisteredEndpoint {
        address: ([10, 0, 0, n], 80).into(),
        weight: 1,
        zone: None,
        is_healthy: true,
        is_draining: false,
        metadata: BTreeMap::new(),
    };
    change(&mut endpoint);
    endpoint
}

#[tokio::test]
async fn the_registry_tells_who_is_there_who_is_well_and_who_leaves() {
    let registry = Arc::new(FakeRegistry(watch::Sender::new([registered(1, |_| {}), registered(2, |_| {})].into())));
    let world = World::with(None, Some(registry.clone()));
    let shop = world.apply("service = { name = \"shop\", tag = \"v2\" }");
    assert!(shop.pick(&upstream::Pick::default()).is_err(), "nobody is known before it answers");
    world.upstreams.start(&tasks());
    eventually("two", || addresses(&world).len() == 2).await;
    let seen = || crate::world::count(&shop, 60).into_keys().collect::<Vec<_>>();
    assert_eq!(seen(), [1, 2]);

    let held = shop.pick(&upstream::Pick { sticky: Some(crate::world::id(2)), ..Default::default() }).unwrap();
    for (list, expected) in [
        (vec![registered(1, |e| e.is_healthy = false), registered(2, |_| {})], vec![2]),
        (vec![registered(1, |_| {}), registered(2, |e| e.is_draining = true)], vec![1]),
        (vec![registered(1, |_| {}), registered(2, |e| e.weight = 0)], vec![1]),
        (vec![registered(1, |_| {}), registered(3, |_| {})], vec![1, 3]),
    ] {
        registry.0.send_replace(list.into());
        eventually(&format!("{expected:?}"), || seen() == expected).await;
    }
    // Number two left and finishes what it has.
    let two = || state(&world).endpoints.into_iter().find(|e| e.address == "10.0.0.2:80");
    assert!(two().is_some_and(|e| e.is_retired && e.in_flight == 1));
    assert!(held.is_retired());
    drop(held);
    assert!(two().is_none());
}

#[tokio::test]
async fn a_registry_that_is_gone_is_told_and_its_last_list_kept() {
    struct Once;
    impl Registry for Once {
        fn watch(&self, _: &str, _: Option<&str>) -> watch::Receiver<Arc<[RegisteredEndpoint]>> {
            watch::Sender::new([registered(1, |_| {})].into()).subscribe()
        }
    }
    let world = World::with(None, Some(Arc::new(Once)));
    world.apply("service = { name = \"shop\" }");
    world.upstreams.start(&tasks());
    eventually("it is told", || state(&world).source.error.is_some()).await;
    assert_eq!(addresses(&world), ["10.0.0.1:80"]);
    // And without any registry the document is refused.
    let faults = World::new().upstreams.apply(&[crate::world::spec("service = { name = \"shop\" }")]).unwrap_err();
    assert_eq!(faults[0].field, "/upstreams/0/service");
}
