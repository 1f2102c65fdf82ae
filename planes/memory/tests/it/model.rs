//! The engine in process against a model that is as plain as can be, over random operations and passing time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use kernel::{Clock, Rng, Timestamp};
use memory::{Error, LocalOptions, Memory, Order, Space, Ttl};
use proptest::prelude::*;

use crate::support::{CONTRACT, key};

#[derive(Debug, Clone)]
enum Op {
    Get,
    Set(u8, Option<u64>),
    SetIfAbsent(u8, Option<u64>),
    CompareAndSet(Option<u8>, u8, Option<u64>),
    CompareAndDelete(u8),
    Delete,
    Expire(Option<u64>),
    Ttl,
    Increment(i64, Option<u64>),
    SetAdd(Vec<u8>, Option<u64>),
    SetRemove(u8),
    SetMembers,
    SortedAdd(Vec<(u8, i8)>, Option<u64>),
    SortedRemove(u8),
    SortedRank(u8, bool),
    SortedRange(u8, u8, bool),
    SortedByScore(i8, i8, u8, bool),
    SortedTrim(u8, bool),
    Join(u8, u64),
    Heartbeat(u8, u64),
    Leave(u8),
    Present,
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let ttl = || prop::option::of(1_u64..40);
    let small = || 0_u8..5;
    prop_oneof![
        Just(Op::Get),
        (small(), ttl()).prop_map(|(v, t)| Op::Set(v, t)),
        (small(), ttl()).prop_map(|(v, t)| Op::SetIfAbsent(v, t)),
        (prop::option::of(small()), small(), ttl()).prop_map(|(e, v, t)| Op::CompareAndSet(e, v, t)),
        small().prop_map(Op::CompareAndDelete),
        Just(Op::Delete),
        ttl().prop_map(Op::Expire),
        Just(Op::Ttl),
        (-9_i64..9, ttl()).prop_map(|(n, t)| Op::Increment(n, t)),
        (prop::collection::vec(small(), 1..4), ttl()).prop_map(|(m, t)| Op::SetAdd(m, t)),
        small().prop_map(Op::SetRemove),
        Just(Op::SetMembers),
        (prop::collection::vec((small(), -3_i8..3), 1..4), ttl()).prop_map(|(m, t)| Op::SortedAdd(m, t)),
        small().prop_map(Op::SortedRemove),
        (small(), any::<bool>()).prop_map(|(m, d)| Op::SortedRank(m, d)),
        (small(), small(), any::<bool>()).prop_map(|(s, n, d)| Op::SortedRange(s, n, d)),
        (-4_i8..4, -4_i8..4, small(), any::<bool>()).prop_map(|(a, b, n, d)| Op::SortedByScore(a, b, n, d)),
        (small(), any::<bool>()).prop_map(|(n, d)| Op::SortedTrim(n, d)),
        (small(), 1_u64..40).prop_map(|(m, t)| Op::Join(m, t)),
        (small(), 1_u64..40).prop_map(|(m, t)| Op::Heartbeat(m, t)),
        small().prop_map(Op::Leave),
        Just(Op::Present),
        (1_u64..20).prop_map(Op::Advance),
    ]
}

#[derive(Debug, Clone)]
enum Held {
    Value(String),
    Set(BTreeSet<String>),
    Sorted(BTreeMap<String, i8>),
    Present(BTreeMap<String, u64>),
}

/// What a key of the model holds, and until when.
type Cell = Option<(Held, Option<u64>)>;

fn name(n: u8) -> String {
    n.to_string()
}

fn order(descending: bool) -> Order {
    if descending { Order::Descending } else { Order::Ascending }
}

/// Members in order; the naive way.
fn line(members: &BTreeMap<String, i8>, descending: bool) -> Vec<(String, i8)> {
    let mut all: Vec<(String, i8)> = members.iter().map(|(m, s)| (m.clone(), *s)).collect();
    all.sort_by(|a, b| a.1.cmp(&b.1).then(a.0.cmp(&b.0)));
    if descending {
        all.reverse();
    }
    all
}

/// Answers as text, so that the two sides compare whatever their types.
fn modelled(op: &Op, cell: &mut Cell, now: u64) -> String {
    let wrong = || format!("{:?}", Err::<(), _>(Error::WrongType));
    let ok = |text: String| format!("Ok({text})");
    let at = |ttl: &Option<u64>| ttl.map(|t| now + t);
    if let Some((Held::Present(p), _)) = cell {
        p.retain(|_, until| *until > now);
    }
    let dead = |(held, until): &(Held, Option<u64>)| {
        until.is_some_and(|u| u <= now) || matches!(held, Held::Present(p) if p.is_empty())
    };
    if cell.as_ref().is_some_and(dead) {
        *cell = None;
    }
    macro_rules! need {
        ($variant:ident) => {
            match cell {
                None => None,
                Some((Held::$variant(x), _)) => Some(x),
                Some(_) => return wrong(),
            }
        };
    }
    let text = match op {
        Op::Get => ok(format!("{:?}", need!(Value))),
        Op::Set(v, ttl) => {
            *cell = Some((Held::Value(name(*v)), at(ttl)));
            ok("()".into())
        }
        Op::SetIfAbsent(v, ttl) => {
            let absent = cell.is_none();
            if absent {
                *cell = Some((Held::Value(name(*v)), at(ttl)));
            }
            ok(absent.to_string())
        }
        Op::CompareAndSet(expected, v, ttl) => {
            let same = need!(Value).cloned() == expected.map(name);
            if same {
                *cell = Some((Held::Value(name(*v)), at(ttl)));
            }
            ok(same.to_string())
        }
        Op::CompareAndDelete(v) => {
            let same = need!(Value).cloned() == Some(name(*v));
            if same {
                *cell = None;
            }
            ok(same.to_string())
        }
        Op::Delete => ok(cell.take().is_some().to_string()),
        Op::Expire(ttl) => {
            if let Some((_, until)) = cell {
                *until = at(ttl);
            }
            ok(cell.is_some().to_string())
        }
        Op::Ttl => ok(match cell {
            None => "Absent".into(),
            Some((_, None)) => "Never".into(),
            Some((_, Some(until))) => format!("{:?}", Ttl::Expires(Duration::from_millis(*until - now))),
        }),
        Op::Increment(by, ttl) => {
            let old: i64 = need!(Value).map_or(0, |v| v.parse().unwrap());
            let until = cell.as_ref().map_or(at(ttl), |(_, until)| *until);
            *cell = Some((Held::Value((old + by).to_string()), until));
            ok((old + by).to_string())
        }
        Op::SetAdd(members, ttl) => {
            need!(Set);
            let (held, until) = cell.get_or_insert((Held::Set(BTreeSet::new()), None));
            *until = at(ttl).or(*until);
            let Held::Set(set) = held else { unreachable!() };
            ok(members.iter().filter(|m| set.insert(name(**m))).count().to_string())
        }
        Op::SetRemove(m) => ok(u8::from(need!(Set).is_some_and(|s| s.remove(&name(*m)))).to_string()),
        Op::SetMembers => {
            ok(format!("{:?}", need!(Set).map(|s| s.iter().cloned().collect::<Vec<_>>()).unwrap_or_default()))
        }
        Op::SortedAdd(members, ttl) => {
            need!(Sorted);
            let (held, until) = cell.get_or_insert((Held::Sorted(BTreeMap::new()), None));
            *until = at(ttl).or(*until);
            let Held::Sorted(map) = held else { unreachable!() };
            ok(members.iter().filter(|(m, s)| map.insert(name(*m), *s).is_none()).count().to_string())
        }
        Op::SortedRemove(m) => ok(u8::from(need!(Sorted).is_some_and(|s| s.remove(&name(*m)).is_some())).to_string()),
        Op::SortedRank(m, desc) => {
            ok(format!("{:?}", need!(Sorted).and_then(|s| line(s, *desc).iter().position(|(x, _)| *x == name(*m)))))
        }
        Op::SortedRange(start, n, desc) => {
            let all = need!(Sorted).map(|s| line(s, *desc)).unwrap_or_default();
            ok(format!("{:?}", all.into_iter().skip((*start).into()).take((*n).into()).collect::<Vec<_>>()))
        }
        Op::SortedByScore(min, max, n, desc) => {
            let all = need!(Sorted).map(|s| line(s, *desc)).unwrap_or_default();
            let hit = all.into_iter().filter(|(_, s)| s >= min && s <= max);
            ok(format!("{:?}", hit.take((*n).into()).collect::<Vec<_>>()))
        }
        Op::SortedTrim(keep, desc) => {
            let gone: Vec<String> = need!(Sorted)
                .map(|s| line(s, *desc).into_iter().skip((*keep).into()).map(|(m, _)| m).collect())
                .unwrap_or_default();
            if let Some((Held::Sorted(s), _)) = cell {
                s.retain(|m, _| !gone.contains(m));
            }
            ok(gone.len().to_string())
        }
        Op::Join(m, ttl) | Op::Heartbeat(m, ttl) => {
            let was = need!(Present).is_some_and(|p| p.contains_key(&name(*m)));
            let is_join = matches!(op, Op::Join(..));
            if was || is_join {
                let (held, until) = cell.get_or_insert((Held::Present(BTreeMap::new()), None));
                let Held::Present(p) = held else { unreachable!() };
                p.insert(name(*m), now + ttl);
                *until = Some(until.unwrap_or(0).max(now + ttl));
            }
            ok((was != is_join).to_string())
        }
        Op::Leave(m) => ok(need!(Present).is_some_and(|p| p.remove(&name(*m)).is_some()).to_string()),
        Op::Present => {
            ok(format!("{:?}", need!(Present).map(|p| p.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()))
        }
        Op::Advance(_) => unreachable!("not an operation on a key"),
    };
    let is_empty = match cell {
        Some((Held::Set(s), _)) => s.is_empty(),
        Some((Held::Sorted(s), _)) => s.is_empty(),
        Some((Held::Present(p), _)) => p.is_empty(),
        _ => false,
    };
    if is_empty {
        *cell = None;
    }
    text
}

async fn real(op: &Op, space: &Space, k: &memory::Key) -> String {
    let ms = |ttl: &Option<u64>| ttl.map(Duration::from_millis);
    let text = |b: Bytes| String::from_utf8(b.to_vec()).unwrap();
    let list = |r: memory::Result<Vec<Bytes>>| {
        r.map(|l| l.into_iter().map(text).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>())
    };
    #[allow(clippy::cast_possible_truncation, reason = "scores of the model are small whole numbers")]
    let scored = |r: memory::Result<Vec<(Bytes, f64)>>| {
        r.map(|l| l.into_iter().map(|(m, s)| (text(m), s as i8)).collect::<Vec<_>>())
    };
    match op {
        Op::Get => format!("{:?}", space.get(k).await.map(|v| v.map(text))),
        Op::Set(v, t) => format!("{:?}", space.set(k, name(*v), ms(t)).await),
        Op::SetIfAbsent(v, t) => format!("{:?}", space.set_if_absent(k, name(*v), ms(t)).await),
        Op::CompareAndSet(e, v, t) => {
            format!("{:?}", space.compare_and_set(k, e.map(|e| name(e).into()), name(*v), ms(t)).await)
        }
        Op::CompareAndDelete(v) => format!("{:?}", space.compare_and_delete(k, name(*v)).await),
        Op::Delete => format!("{:?}", space.delete(k).await),
        Op::Expire(t) => format!("{:?}", space.expire(k, ms(t)).await),
        Op::Ttl => format!("{:?}", space.ttl(k).await),
        Op::Increment(by, t) => format!("{:?}", space.increment(k, *by, ms(t)).await),
        Op::SetAdd(m, t) => format!("{:?}", space.set_add(k, m.iter().map(|m| name(*m)), ms(t)).await),
        Op::SetRemove(m) => format!("{:?}", space.set_remove(k, [name(*m)]).await),
        Op::SetMembers => format!("{:?}", list(space.set_members(k).await)),
        Op::SortedAdd(m, t) => {
            let members = m.iter().map(|(m, s)| (name(*m), f64::from(*s)));
            format!("{:?}", space.sorted_add(k, members, ms(t)).await)
        }
        Op::SortedRemove(m) => format!("{:?}", space.sorted_remove(k, [name(*m)]).await),
        Op::SortedRank(m, d) => format!("{:?}", space.sorted_rank(k, name(*m), order(*d)).await),
        Op::SortedRange(s, n, d) => {
            format!("{:?}", scored(space.sorted_range(k, (*s).into(), (*n).into(), order(*d)).await))
        }
        Op::SortedByScore(min, max, count, desc) => {
            let found =
                space.sorted_range_by_score(k, (*min).into(), (*max).into(), (*count).into(), order(*desc)).await;
            format!("{:?}", scored(found))
        }
        Op::SortedTrim(n, d) => format!("{:?}", space.sorted_trim(k, (*n).into(), order(*d)).await),
        Op::Join(m, t) => format!("{:?}", space.join(k, name(*m), Duration::from_millis(*t)).await),
        Op::Heartbeat(m, t) => format!("{:?}", space.heartbeat(k, name(*m), Duration::from_millis(*t)).await),
        Op::Leave(m) => format!("{:?}", space.leave(k, name(*m)).await),
        Op::Present => format!("{:?}", list(space.present(k).await)),
        Op::Advance(_) => unreachable!("not an operation on a key"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_in_process_answers_as_the_model_does(ops in prop::collection::vec((0_usize..3, op()), 1..120)) {
        let (clock, sim) = Clock::simulated(Timestamp::EPOCH);
        let memory = Memory::local(LocalOptions::default(), clock, Rng::seeded(7));
        let space = memory.with(CONTRACT);
        let keys = ["a", "b", "c", "presence"].map(|k| key(&[k]));
        let mut cells: [Cell; 4] = [None, None, None, None];
        let mut now = 0;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (i, (at, op)) in ops.iter().enumerate() {
            if let Op::Advance(ms) = op {
                now += ms;
                sim.advance(Duration::from_millis(*ms));
                continue;
            }
            // Presence has a key of its own.
            let is_presence = matches!(op, Op::Join(..) | Op::Heartbeat(..) | Op::Leave(_) | Op::Present);
            let at = if is_presence { &3 } else { at };
            let got = runtime.block_on(real(op, &space, &keys[*at]));
            let want = modelled(op, &mut cells[*at], now);
            prop_assert_eq!(got, want, "operation {}: {:?} on {}", i, op, at);
        }
    }
}
