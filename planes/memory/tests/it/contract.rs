//! What every engine has to do, once for all of them.

use std::time::Duration;

use bytes::Bytes;
use memory::{Error, Event, Key, MAX_BATCH, MAX_MEMBER_BYTES, MAX_MESSAGE_BYTES, MAX_VALUE_BYTES, Order, Ttl};

use crate::support::{Engine, Soon};

/// Long enough that nothing expires while a test looks, short enough to be waited for.
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_hours(1);

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn sorted(mut members: Vec<Bytes>) -> Vec<Bytes> {
    members.sort();
    members
}

fn scored(members: &[(&str, f64)]) -> Vec<(Bytes, f64)> {
    members.iter().map(|(m, s)| (b(m), *s)).collect()
}

async fn values(e: Engine) {
    let (s, k) = (&e.space, e.key("v"));
    assert_eq!(s.get(&k).await.unwrap(), None);
    s.set(&k, "one", None).await.unwrap();
    assert_eq!(s.get(&k).await.unwrap(), Some(b("one")));
    assert_eq!(s.ttl(&k).await.unwrap(), Ttl::Never);
    // Any bytes, none included.
    for value in [&b"\0\r\n\xff"[..], b""] {
        s.set(&k, value, None).await.unwrap();
        assert_eq!(s.get(&k).await.unwrap(), Some(Bytes::copy_from_slice(value)));
    }
    assert!(!s.set_if_absent(&k, "two", None).await.unwrap());
    assert!(s.delete(&k).await.unwrap());
    assert!(!s.delete(&k).await.unwrap());
    assert!(s.set_if_absent(&k, "two", None).await.unwrap());
    assert_eq!(s.get(&k).await.unwrap(), Some(b("two")));
}

async fn expiry(e: Engine) {
    let (s, k) = (&e.space, e.key("x"));
    s.set(&k, "v", Some(LONG)).await.unwrap();
    assert!(matches!(s.ttl(&k).await.unwrap(), Ttl::Expires(d) if d <= LONG && d > LONG / 2));
    assert!(s.expire(&k, None).await.unwrap());
    // Whether there is a key, not whether it had an end.
    assert!(s.expire(&k, None).await.unwrap());
    assert_eq!(s.ttl(&k).await.unwrap(), Ttl::Never);
    assert!(s.expire(&k, Some(SHORT)).await.unwrap());
    e.until("the key expires", async || s.get(&k).await.unwrap().is_none()).await;
    assert_eq!(s.ttl(&k).await.unwrap(), Ttl::Absent);
    assert!(!s.expire(&k, Some(LONG)).await.unwrap());
    assert!(!s.expire(&k, None).await.unwrap());
    // A time to live is of the value: setting again without one takes it away.
    s.set(&k, "v", Some(SHORT)).await.unwrap();
    s.set(&k, "v", None).await.unwrap();
    assert_eq!(s.ttl(&k).await.unwrap(), Ttl::Never);
    // Absent means expired as well.
    s.set(&k, "v", Some(SHORT)).await.unwrap();
    e.until("absent again", async || s.set_if_absent(&k, "w", Some(LONG)).await.unwrap()).await;
    // Parts of a millisecond round up, so that they live at all.
    s.set(&k, "v", Some(Duration::from_nanos(1))).await.unwrap();
    e.until("a nanosecond passes", async || s.get(&k).await.unwrap().is_none()).await;
    assert!(matches!(s.set(&k, "v", Some(Duration::ZERO)).await, Err(Error::Invalid(_))));
    assert!(matches!(s.set(&k, "v", Some(Duration::MAX)).await, Err(Error::Invalid(_))));
}

async fn compare(e: Engine) {
    let (s, k) = (&e.space, e.key("c"));
    assert!(!s.compare_and_set(&k, Some(b("a")), "b", None).await.unwrap());
    assert!(s.compare_and_set(&k, None, "a", Some(LONG)).await.unwrap());
    assert!(matches!(s.ttl(&k).await.unwrap(), Ttl::Expires(_)));
    assert!(!s.compare_and_set(&k, None, "b", None).await.unwrap());
    assert!(s.compare_and_set(&k, Some(b("a")), "b", None).await.unwrap());
    assert_eq!(s.ttl(&k).await.unwrap(), Ttl::Never);
    assert!(!s.compare_and_set(&k, Some(b("a")), "c", None).await.unwrap());
    // Empty is a value, absent is none.
    s.set(&k, "", None).await.unwrap();
    assert!(!s.compare_and_set(&k, None, "x", None).await.unwrap());
    assert!(s.compare_and_set(&k, Some(Bytes::new()), "x", None).await.unwrap());
    assert!(!s.compare_and_delete(&k, "y").await.unwrap());
    assert!(s.compare_and_delete(&k, "x").await.unwrap());
    assert!(!s.compare_and_delete(&k, "x").await.unwrap());
}

async fn counters(e: Engine) {
    let (s, k) = (&e.space, e.key("n"));
    assert_eq!(s.increment(&k, 5, Some(LONG)).await.unwrap(), 5);
    assert_eq!(s.increment(&k, -7, Some(SHORT)).await.unwrap(), -2);
    assert!(matches!(s.ttl(&k).await.unwrap(), Ttl::Expires(d) if d > SHORT), "the window keeps its end");
    assert_eq!(s.get(&k).await.unwrap(), Some(b("-2")));
    // Exact to the last bit, and never past it.
    let big = (1_i64 << 53) + 1;
    let k2 = e.key("n2");
    assert_eq!(s.increment(&k2, big, Some(LONG)).await.unwrap(), big);
    assert_eq!(s.increment(&k2, i64::MAX - big, None).await.unwrap(), i64::MAX);
    assert_eq!(s.increment(&k2, 1, None).await, Err(Error::NotANumber));
    assert_eq!(s.increment(&k2, 1, Some(LONG)).await, Err(Error::NotANumber));
    assert_eq!(s.get(&k2).await.unwrap(), Some(b(&i64::MAX.to_string())));
    for (text, ok) in
        [("41", true), ("-0", false), ("007", false), ("+1", false), (" 1", false), ("x", false), ("", false)]
    {
        s.set(&k, text, None).await.unwrap();
        let sum = s.increment(&k, 1, None).await;
        assert_eq!(sum, if ok { Ok(42) } else { Err(Error::NotANumber) }, "{text:?}");
    }
    // A counter that ran out begins again, with a new end.
    let k3 = e.key("n3");
    s.increment(&k3, 10, Some(SHORT)).await.unwrap();
    e.until("the window ends", async || s.get(&k3).await.unwrap().is_none()).await;
    assert_eq!(s.increment(&k3, 1, Some(LONG)).await.unwrap(), 1);
    assert!(matches!(s.ttl(&k3).await.unwrap(), Ttl::Expires(_)));
}

async fn sets(e: Engine) {
    let (s, k) = (&e.space, e.key("s"));
    assert_eq!(s.set_members(&k).await.unwrap(), Vec::<Bytes>::new());
    assert_eq!(s.set_add(&k, Vec::<Bytes>::new(), None).await.unwrap(), 0);
    assert_eq!(s.set_add(&k, ["a", "b", "a"], None).await.unwrap(), 2);
    assert_eq!(s.set_add(&k, ["b", "c"], None).await.unwrap(), 1);
    assert_eq!(sorted(s.set_members(&k).await.unwrap()), [b("a"), b("b"), b("c")]);
    assert!(s.set_contains(&k, "a").await.unwrap());
    assert!(!s.set_contains(&k, "z").await.unwrap());
    assert_eq!(s.set_remove(&k, ["a", "z", "a"]).await.unwrap(), 1);
    assert_eq!(s.set_len(&k).await.unwrap(), 2);
    assert_eq!(s.ttl(&k).await.unwrap(), Ttl::Never);
    assert_eq!(s.set_add(&k, ["c"], Some(LONG)).await.unwrap(), 0);
    assert!(matches!(s.ttl(&k).await.unwrap(), Ttl::Expires(_)), "an add sets the end, whether or not it added");
    s.set_add(&k, ["d"], None).await.unwrap();
    assert!(matches!(s.ttl(&k).await.unwrap(), Ttl::Expires(_)), "an add without keeps it");
    // The last member takes the key with it.
    assert_eq!(s.set_remove(&k, ["b", "c", "d"]).await.unwrap(), 3);
    assert_eq!(s.ttl(&k).await.unwrap(), Ttl::Absent);
    s.set_add(&k, ["a"], Some(SHORT)).await.unwrap();
    e.until("the set expires", async || s.set_len(&k).await.unwrap() == 0).await;
}

async fn sorted_sets(e: Engine) {
    use Order::{Ascending, Descending};
    let (s, k) = (&e.space, e.key("z"));
    let all = scored(&[("a", -1.5), ("d", 0.0), ("b", 2.0), ("c", 2.0), ("e", 1e300)]);
    assert_eq!(s.sorted_add(&k, all.clone(), None).await.unwrap(), 5);
    assert_eq!(s.sorted_len(&k).await.unwrap(), 5);
    assert_eq!(s.sorted_range(&k, 0, 10, Ascending).await.unwrap(), all);
    let mut back = all.clone();
    back.reverse();
    assert_eq!(s.sorted_range(&k, 0, 10, Descending).await.unwrap(), back);
    for (start, count) in [(0, 0), (0, 2), (1, 3), (4, 5), (5, 5), (99, 1), (u64::MAX, 1)] {
        let (from, n) = (usize::try_from(start).unwrap_or(usize::MAX), usize::try_from(count).unwrap());
        let want = |list: &[(Bytes, f64)]| list.iter().skip(from).take(n).cloned().collect::<Vec<_>>();
        assert_eq!(s.sorted_range(&k, start, count, Ascending).await.unwrap(), want(&all), "{start} {count}");
        assert_eq!(s.sorted_range(&k, start, count, Descending).await.unwrap(), want(&back), "{start} {count}");
    }
    for (min, max) in [
        (-1.5, 2.0),
        (2.0, 2.0),
        (0.1, 1.9),
        (f64::NEG_INFINITY, f64::INFINITY),
        (3.0, f64::INFINITY),
        (2.0, -2.0),
        (-0.0, 0.0),
    ] {
        let want = |list: &[(Bytes, f64)]| {
            list.iter().filter(|(_, s)| *s >= min && *s <= max).take(3).cloned().collect::<Vec<_>>()
        };
        assert_eq!(s.sorted_range_by_score(&k, min, max, 3, Ascending).await.unwrap(), want(&all), "{min} {max}");
        assert_eq!(s.sorted_range_by_score(&k, min, max, 3, Descending).await.unwrap(), want(&back), "{min} {max}");
    }
    assert_eq!(s.sorted_score(&k, "a").await.unwrap(), Some(-1.5));
    assert_eq!(s.sorted_score(&k, "none").await.unwrap(), None);
    assert_eq!(s.sorted_rank(&k, "b", Ascending).await.unwrap(), Some(2));
    assert_eq!(s.sorted_rank(&k, "b", Descending).await.unwrap(), Some(2));
    assert_eq!(s.sorted_rank(&k, "a", Descending).await.unwrap(), Some(4));
    assert_eq!(s.sorted_rank(&k, "none", Ascending).await.unwrap(), None);
    // A move; twice in one call, the last counts.
    assert_eq!(s.sorted_add(&k, scored(&[("a", 7.0), ("a", 9.0), ("f", 0.1 + 0.2)]), None).await.unwrap(), 1);
    assert_eq!(s.sorted_score(&k, "a").await.unwrap(), Some(9.0));
    assert_eq!(s.sorted_score(&k, "f").await.unwrap(), Some(0.1 + 0.2), "to the last bit");
    assert_eq!(s.sorted_remove(&k, ["f", "none"]).await.unwrap(), 1);
    // d b c a e: keep the highest four, then the lowest two.
    assert_eq!(s.sorted_trim(&k, 4, Descending).await.unwrap(), 1);
    assert_eq!(s.sorted_trim(&k, 2, Ascending).await.unwrap(), 2);
    assert_eq!(s.sorted_range(&k, 0, 9, Ascending).await.unwrap(), scored(&[("b", 2.0), ("c", 2.0)]));
    assert_eq!(s.sorted_trim(&k, u64::MAX, Descending).await.unwrap(), 0);
    assert_eq!(s.sorted_trim(&k, 0, Descending).await.unwrap(), 2);
    assert_eq!(s.ttl(&k).await.unwrap(), Ttl::Absent);
    for bad in [f64::NAN, f64::INFINITY] {
        assert!(matches!(s.sorted_add(&k, [("m", bad)], None).await, Err(Error::Invalid(_))));
    }
    s.sorted_add(&k, scored(&[("a", 1.0)]), Some(SHORT)).await.unwrap();
    e.until("the sorted set expires", async || s.sorted_len(&k).await.unwrap() == 0).await;
}

async fn presence(e: Engine) {
    let (s, k) = (&e.space, e.key("p"));
    assert!(s.join(&k, "ann", LONG).await.unwrap());
    assert!(!s.join(&k, "ann", LONG).await.unwrap());
    assert!(s.join(&k, "bob", SHORT).await.unwrap());
    assert_eq!(s.present_len(&k).await.unwrap(), 2);
    assert_eq!(sorted(s.present(&k).await.unwrap()), [b("ann"), b("bob")]);
    // Each vanishes on their own.
    e.until("bob vanishes", async || s.present_len(&k).await.unwrap() == 1).await;
    assert_eq!(s.present(&k).await.unwrap(), [b("ann")]);
    assert!(!s.heartbeat(&k, "bob", LONG).await.unwrap(), "who vanished has to join again");
    assert!(s.join(&k, "bob", SHORT).await.unwrap());
    assert!(s.heartbeat(&k, "bob", LONG).await.unwrap());
    assert!(matches!(s.ttl(&k).await.unwrap(), Ttl::Expires(d) if d > SHORT));
    assert!(s.leave(&k, "ann").await.unwrap());
    assert!(!s.leave(&k, "ann").await.unwrap());
    assert_eq!(s.present(&k).await.unwrap(), [b("bob")]);
    // A heartbeat may shorten a stay as well.
    assert!(s.heartbeat(&k, "bob", SHORT).await.unwrap());
    e.until("nobody is there", async || s.present_len(&k).await.unwrap() == 0).await;
    assert!(!s.leave(&k, "bob").await.unwrap());
}

async fn types(e: Engine) {
    let s = &e.space;
    let (value, set, zset, count) = (e.key("tv"), e.key("ts"), e.key("tz"), e.key("tn"));
    s.set(&value, "text", None).await.unwrap();
    s.set_add(&set, ["m"], None).await.unwrap();
    s.sorted_add(&zset, [("m", 1.0)], None).await.unwrap();
    s.increment(&count, 1, None).await.unwrap();
    for k in [&set, &zset] {
        assert_eq!(s.get(k).await, Err(Error::WrongType));
        assert_eq!(s.increment(k, 1, None).await, Err(Error::WrongType));
        assert_eq!(s.compare_and_set(k, None, "x", None).await, Err(Error::WrongType));
        assert!(!s.set_if_absent(k, "x", None).await.unwrap());
    }
    for k in [&value, &zset, &count] {
        assert_eq!(s.set_add(k, ["x"], None).await, Err(Error::WrongType));
        assert_eq!(s.set_members(k).await, Err(Error::WrongType));
        assert_eq!(s.set_remove(k, ["x"]).await, Err(Error::WrongType));
    }
    for k in [&value, &set, &count] {
        assert_eq!(s.sorted_add(k, [("x", 1.0)], None).await, Err(Error::WrongType));
        assert_eq!(s.sorted_range(k, 0, 0, Order::Ascending).await, Err(Error::WrongType));
        assert_eq!(s.sorted_trim(k, 0, Order::Ascending).await, Err(Error::WrongType));
        assert_eq!(s.join(k, "x", LONG).await, Err(Error::WrongType));
    }
    // Nothing changed; and setting takes every type.
    assert_eq!(s.get(&value).await.unwrap(), Some(b("text")));
    assert_eq!(s.set_members(&set).await.unwrap(), [b("m")]);
    s.set(&set, "now a value", None).await.unwrap();
    assert_eq!(s.get(&set).await.unwrap(), Some(b("now a value")));
}

async fn limits(e: Engine) {
    let (s, k) = (&e.space, e.key("l"));
    let too_large = |r: Result<bool, Error>| assert!(matches!(r, Err(Error::TooLarge { .. })), "{r:?}");
    s.set(&k, vec![7; MAX_VALUE_BYTES], None).await.unwrap();
    assert_eq!(s.get(&k).await.unwrap().unwrap().len(), MAX_VALUE_BYTES);
    too_large(s.set(&k, vec![7; MAX_VALUE_BYTES + 1], None).await.map(|()| true));
    let set = e.key("ls");
    s.set_add(&set, [vec![7; MAX_MEMBER_BYTES]], None).await.unwrap();
    too_large(s.set_add(&set, [vec![7; MAX_MEMBER_BYTES + 1]], None).await.map(|_| true));
    too_large(s.set_contains(&set, vec![7; MAX_MEMBER_BYTES + 1]).await);
    too_large(s.publish(&k, vec![7; MAX_MESSAGE_BYTES + 1]).await.map(|()| true));
    too_large(s.get(&e.key(&"k".repeat(2000))).await.map(|_| true));
    let many = || (0..=MAX_BATCH).map(|i| i.to_string());
    too_large(s.set_add(&set, many(), None).await.map(|_| true));
    // As full as it gets, and not one more; but what is there already may be added again.
    let (full, sorted_full, room) = (e.key("full"), e.key("zfull"), e.key("room"));
    for chunk in (0..memory::MAX_MEMBERS).collect::<Vec<_>>().chunks(MAX_BATCH) {
        s.set_add(&full, chunk.iter().map(ToString::to_string), None).await.unwrap();
        s.sorted_add(&sorted_full, chunk.iter().map(|i| (i.to_string(), 1.0)), None).await.unwrap();
    }
    too_large(s.set_add(&full, ["1", "one more"], None).await.map(|_| true));
    assert_eq!(s.set_add(&full, ["1", "2"], None).await.unwrap(), 0);
    assert!(!s.set_contains(&full, "one more").await.unwrap());
    too_large(s.sorted_add(&sorted_full, [("one more", 0.0)], None).await.map(|_| true));
    assert_eq!(s.sorted_add(&sorted_full, [("1", 2.0)], None).await.unwrap(), 0);
    assert_eq!(s.sorted_len(&sorted_full).await.unwrap(), memory::MAX_MEMBERS as u64);
    assert_eq!(s.set_members(&full).await.unwrap().len(), memory::MAX_MEMBERS);
    assert!(s.join(&room, "x", LONG).await.unwrap());
    for k in [full, sorted_full, room] {
        s.delete(&k).await.unwrap();
    }
}

async fn publishing(e: Engine) {
    let s = &e.space;
    let (news, other) = (e.key("news"), e.key("other"));
    s.publish(&news, "nobody hears this").await.unwrap();
    let mut first = s.subscribe(&news).await.unwrap();
    let mut second = s.subscribe(&news).await.unwrap();
    let mut third = s.subscribe(&other).await.unwrap();
    assert!(first.is_live());
    for text in ["1", "2", "3"] {
        s.publish(&news, text).await.unwrap();
    }
    s.publish(&other, "elsewhere").await.unwrap();
    for reader in [&mut first, &mut second] {
        for text in ["1", "2", "3"] {
            assert_eq!(reader.soon().await, Some(Event::Message(b(text))));
        }
    }
    assert_eq!(third.soon().await, Some(Event::Message(b("elsewhere"))));
    // One leaves, the other stays; who comes anew hears from then on.
    drop(first);
    s.publish(&news, "4").await.unwrap();
    assert_eq!(second.soon().await, Some(Event::Message(b("4"))));
    drop(second);
    let mut later = s.subscribe(&news).await.unwrap();
    s.publish(&news, "5").await.unwrap();
    assert_eq!(later.soon().await, Some(Event::Message(b("5"))));
    // A channel is not a key.
    assert_eq!(s.get(&news).await.unwrap(), None);
    assert_eq!(e.memory.stats().pubsub.subscription_count, 2);
}

async fn slow_reader(e: Engine) {
    let (s, k) = (&e.space, e.key("slow"));
    let mut slow = s.subscribe(&k).await.unwrap();
    let mut marker = s.subscribe(&e.key("marker")).await.unwrap();
    for i in 0..3000 {
        s.publish(&k, i.to_string()).await.unwrap();
    }
    s.publish(&e.key("marker"), "done").await.unwrap();
    // One connection carries both channels in order: now all 3,000 were handed over.
    marker.soon().await.unwrap();
    assert_eq!(slow.soon().await, Some(Event::Gap), "told first, before anything newer");
    let Some(Event::Message(first)) = slow.soon().await else { panic!("messages follow") };
    let mut expected: u64 = std::str::from_utf8(&first).unwrap().parse().unwrap();
    assert!(expected >= 1024, "what waited was dropped with the gap");
    while expected < 2999 {
        expected += 1;
        assert_eq!(slow.soon().await, Some(Event::Message(b(&expected.to_string()))), "without a hole after the gap");
    }
    let stats = e.memory.stats().pubsub;
    assert_eq!(stats.gap_count, 1, "one gap stands for all that was missed until it is read");
    assert_eq!(stats.waiting_bytes, 0);
}

async fn many_at_once(e: Engine) {
    let (s, k) = (&e.space, e.key("hot"));
    let adders = (0..16).map(|_| async {
        for _ in 0..50 {
            s.increment(&k, 1, Some(LONG)).await.unwrap();
        }
    });
    futures_util::future::join_all(adders).await;
    assert_eq!(s.get(&k).await.unwrap(), Some(b("800")));
    // Of many who want it, one gets it.
    let lock = e.key("lock");
    let takers = (0..32).map(|i| {
        let lock = &lock;
        async move { s.set_if_absent(lock, i.to_string(), Some(LONG)).await.unwrap() }
    });
    let won = futures_util::future::join_all(takers).await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

async fn spread(e: Engine) {
    // Many keys, therefore all nodes of a cluster; and none sees another.
    let s = &e.space;
    let keys: Vec<Key> = (0..64).map(|i| e.key(&format!("spread{i}"))).collect();
    for (i, k) in keys.iter().enumerate() {
        s.set(k, i.to_string(), None).await.unwrap();
        s.increment(&e.key(&format!("spread-n{i}")), 1, Some(LONG)).await.unwrap();
        s.join(&e.key(&format!("spread-p{i}")), "x", LONG).await.unwrap();
    }
    for (i, k) in keys.iter().enumerate() {
        assert_eq!(s.get(k).await.unwrap(), Some(b(&i.to_string())));
    }
    e.memory.ping().await.unwrap();
    assert_eq!(e.memory.health(), memory::Health::Serving);
}

macro_rules! contract_suite {
    ($engine:ident: $($test:ident)+) => {
        mod $engine {
            use crate::support::Engine;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(Engine::$engine()).await;
                }
            )+
        }
    };
    ($engine:ident) => {
        contract_suite!($engine: values expiry compare counters sets sorted_sets presence types limits publishing slow_reader
            many_at_once spread);
    };
}

contract_suite!(local);
contract_suite!(redis);
contract_suite!(cluster);
