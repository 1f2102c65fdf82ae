//! What both engines keep.

use std::time::Duration;

use bytes::Bytes;
use coordination::{
    Error, Filter,
    model::{Compare, KeyRange, Op, OpResult, Order, Put, Range, Relation, SortBy, Subject, Txn},
};

use crate::world::{World, create, delete, get, on_both_engines, put};

on_both_engines! {
    a_key_has_its_revisions
    a_range_is_cut_sorted_and_counted
    a_transaction_is_one_revision_or_nothing
    the_past_stays_readable_until_it_is_compacted
    a_lease_takes_its_keys_with_it
    a_watcher_gets_everything_once_in_order
    a_watcher_reads_what_was_before_it
    bad_input_changes_nothing
    what_was_written_is_there_after_a_restart
    the_room_of_a_project_is_bounded
    history_is_given_up_by_itself
}

async fn a_key_has_its_revisions(world: World) {
    let node = world.node().await;
    assert_eq!(node.get("a").await, None);
    assert_eq!(node.put("a", "1").await, 2, "the first change of a project has revision 2, as in etcd");
    let answer = node.write(put("a", "2")).await.unwrap();
    let OpResult::Put(Some(before)) = answer.result else { panic!("{answer:?}") };
    assert_eq!((&before.value[..], answer.revision), (&b"1"[..], 3));
    let kv = node.get("a").await.unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
    assert_eq!(node.delete("a").await, 4);
    assert_eq!(node.delete("a").await, 4, "nothing changed");
    node.put("a", "3").await;
    let kv = node.get("a").await.unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
    // Another project has keys and revisions of its own.
    let mut other = node.clone();
    other.project = kernel::ProjectId::parse("other").unwrap();
    assert_eq!(other.get("a").await, None);
    assert_eq!(other.put("a", "x").await, 2);
    assert_eq!(&node.get("a").await.unwrap().value[..], b"3");
}

async fn a_range_is_cut_sorted_and_counted(world: World) {
    let node = world.node().await;
    for (key, value) in [("b", "1"), ("a", "3"), ("c", "2"), ("d", "0")] {
        node.put(key, value).await;
    }
    let base = Range::of(KeyRange::of("a", "d"));
    let keys = async |range: Range| {
        let result = node.range(&range).await.unwrap().result;
        let keys: Vec<u8> = result.kvs.iter().map(|kv| kv.key[0]).collect();
        (String::from_utf8(keys).unwrap(), result.has_more, result.count)
    };
    let rows = [
        (base.clone(), ("abc", false, 3)),
        (Range { limit: 2, ..base.clone() }, ("ab", true, 3)),
        (Range { order: Order::Descending, limit: 2, ..base.clone() }, ("cb", true, 3)),
        (Range { sort_by: SortBy::Value, ..base.clone() }, ("bca", false, 3)),
        (Range { sort_by: SortBy::ModRevision, order: Order::Descending, ..base.clone() }, ("cab", false, 3)),
        (Range { is_count_only: true, ..base.clone() }, ("", false, 3)),
        (Range { min_mod_revision: 3, max_mod_revision: 3, ..base.clone() }, ("a", false, 3)),
        (Range { max_create_revision: 2, ..base.clone() }, ("b", false, 3)),
        (Range { revision: 3, ..base.clone() }, ("ab", false, 2)),
        (Range::of(KeyRange::of("c", "\0")), ("cd", false, 2)),
        (Range::of(KeyRange::of("\0", "\0")), ("abcd", false, 4)),
        (Range::of(KeyRange::of("z", "a")), ("", false, 0)),
    ];
    for (range, (expected, has_more, count)) in rows {
        assert_eq!(keys(range.clone()).await, (expected.to_owned(), has_more, count), "{range:?}");
    }
    let bare = node.range(&Range { is_keys_only: true, ..base }).await.unwrap().result;
    assert!(bare.kvs.iter().all(|kv| kv.value.is_empty()));
}

async fn a_transaction_is_one_revision_or_nothing(world: World) {
    let node = world.node().await;
    let answer = node.write(create("a", "1")).await.unwrap();
    assert!(matches!(answer.result, OpResult::Txn { succeeded: true, .. }));
    let answer = node.write(create("a", "2")).await.unwrap();
    let OpResult::Txn { succeeded: false, results } = answer.result else { panic!() };
    let OpResult::Range(found) = &results[0] else { panic!() };
    assert_eq!((&found.kvs[0].value[..], answer.revision), (&b"1"[..], 2));

    // An operation sees those before it.
    let txn = Txn { success: vec![put("b", "1"), get("b"), delete("a", "b\0"), get("a")], ..Txn::default() };
    assert_eq!(node.write(Op::Txn(txn)).await.unwrap_err(), Error::DuplicateKey);
    let txn = Txn { success: vec![put("b", "1"), get("b"), delete("a", ""), get("a")], ..Txn::default() };
    let answer = node.write(Op::Txn(txn)).await.unwrap();
    let OpResult::Txn { results, .. } = answer.result else { panic!() };
    let (OpResult::Range(b), OpResult::Range(a)) = (&results[1], &results[3]) else { panic!() };
    assert_eq!((b.kvs[0].mod_revision, a.kvs.len(), answer.revision), (3, 0, 3));

    // The second operation fails: the first did nothing.
    let keep = Op::Put(Put { key: "none".into(), value: None, lease: Some(0), wants_previous: false });
    let txn = Txn { success: vec![put("c", "1"), keep], ..Txn::default() };
    assert_eq!(node.write(Op::Txn(txn)).await.unwrap_err(), Error::KeyNotFound);
    assert_eq!((node.get("c").await, node.put("d", "1").await), (None, 4));

    // A condition on a range holds when it holds for all of it; one on a key that is not there as if it had zeros.
    for (keys, subject, relation, expected) in [
        (KeyRange::of("b", "e"), Subject::Version(1), Relation::Equal, true),
        (KeyRange::of("b", "e"), Subject::ModRevision(3), Relation::Greater, false),
        (KeyRange::of("x", ""), Subject::ModRevision(0), Relation::Equal, true),
        (KeyRange::of("x", ""), Subject::Version(1), Relation::Less, true),
        (KeyRange::of("x", ""), Subject::Value("".into()), Relation::Equal, false),
        (KeyRange::of("x", ""), Subject::Value("".into()), Relation::NotEqual, false),
        (KeyRange::of("b", ""), Subject::Value("0".into()), Relation::Greater, true),
        (KeyRange::of("b", ""), Subject::Lease(0), Relation::NotEqual, false),
    ] {
        let compares = vec![Compare { keys, subject, relation }];
        let answer = node.write(Op::Txn(Txn { compares: compares.clone(), ..Txn::default() })).await.unwrap();
        assert!(matches!(answer.result, OpResult::Txn { succeeded, .. } if succeeded == expected), "{compares:?}");
    }
}

async fn the_past_stays_readable_until_it_is_compacted(world: World) {
    let node = world.node().await;
    for (key, value) in [("a", "1"), ("b", "1"), ("a", "2")] {
        node.put(key, value).await;
    }
    node.delete("b").await;
    node.put("c", "1").await;
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let states = [
        pairs(&[]),
        pairs(&[("a", "1")]),
        pairs(&[("a", "1"), ("b", "1")]),
        pairs(&[("a", "2"), ("b", "1")]),
        pairs(&[("a", "2")]),
    ];
    for (revision, expected) in (1..).zip(&states) {
        assert_eq!(&node.all(revision).await.unwrap(), expected, "at {revision}");
    }
    assert_eq!(node.all(7).await.unwrap_err(), Error::FutureRevision);
    let compact = async |revision| node.coordination.compact(&node.project, revision).await;
    assert_eq!(compact(7).await.unwrap_err(), Error::FutureRevision);
    compact(5).await.unwrap();
    assert_eq!(compact(3).await.unwrap_err(), Error::Compacted(5));
    swept(&world, &node).await;
    for (revision, expected) in (1..).zip(&states) {
        let expected = if revision < 5 { Err(Error::Compacted(5)) } else { Ok(expected.clone()) };
        assert_eq!(node.all(revision).await, expected, "at {revision}");
    }
    node.clone().stop().await;
    let node = world.node().await;
    assert_eq!(node.all(0).await.unwrap(), pairs(&[("a", "2"), ("c", "1")]), "what is current stays");
    let mut early = node.coordination.watch(&node.project, KeyRange::prefix(""), 4, Filter::default()).await.unwrap();
    assert_eq!(early.next().await.unwrap_err(), Error::Compacted(5));
    let mut late = node.coordination.watch(&node.project, KeyRange::prefix(""), 5, Filter::default()).await.unwrap();
    let batches = late.next().await.unwrap();
    assert_eq!(
        batches.iter().map(|b| (b.revision, b.events[0].is_delete)).collect::<Vec<_>>(),
        [(5, true), (6, false)]
    );
}

/// Waits until what was compacted is gone.
async fn swept(world: &World, node: &crate::world::Node) {
    testkit::eventually(Duration::from_secs(30), "history is swept", async || {
        world.sim.advance(Duration::from_secs(400));
        let row = node.db.get("SELECT 1 FROM coordination_heads WHERE swept < compacted", Vec::new()).await.unwrap();
        row.is_none()
    })
    .await;
}

async fn a_lease_takes_its_keys_with_it(world: World) {
    let node = world.node().await;
    let (coordination, project) = (&node.coordination, &node.project);
    let lease = coordination.grant(project, 0, 10).await.unwrap().result;
    assert!(lease.id > 0 && lease.ttl == Duration::from_secs(10));
    assert_eq!(coordination.grant(project, lease.id, 10).await.unwrap_err(), Error::LeaseExists);
    assert_eq!(coordination.grant(project, 0, 9_000_000_001).await.unwrap_err(), Error::LeaseTooLong);
    assert_eq!(node.put_with("x", 12345).await.unwrap_err(), Error::LeaseNotFound);
    node.put_with("a", lease.id).await.unwrap();
    node.put_with("b", lease.id).await.unwrap();
    node.put_with("c", lease.id).await.unwrap();
    // Put again without it: it does not end with the lease any more.
    node.put("c", "1").await;
    let (_, keys) = coordination.get_lease(project, lease.id).await.unwrap().result.unwrap();
    assert_eq!(keys, [Bytes::from("a"), Bytes::from("b")]);

    world.sim.advance(Duration::from_secs(9));
    let kept = coordination.keep_alive(project, lease.id).await.unwrap();
    assert_eq!(kept.revision, 5, "keeping alive writes no revision");
    world.sim.advance(Duration::from_secs(9));
    assert!(node.get("a").await.is_some());
    world.sim.advance(Duration::from_secs(1));
    assert_eq!(coordination.keep_alive(project, lease.id).await.unwrap_err(), Error::LeaseNotFound, "it ran out");
    assert_eq!(node.put_with("d", lease.id).await.unwrap_err(), Error::LeaseNotFound);
    testkit::eventually(Duration::from_secs(30), "its keys go", async || {
        world.sim.advance(Duration::from_millis(250));
        node.get("a").await.is_none()
    })
    .await;
    assert!(node.get("b").await.is_none() && node.get("c").await.is_some());
    assert_eq!(coordination.status(project).await.unwrap().revision, 6, "both at one revision");

    let lease = coordination.grant(project, 77, 10).await.unwrap().result;
    node.put_with("a", lease.id).await.unwrap();
    coordination.revoke(project, 77).await.unwrap();
    assert_eq!(node.get("a").await, None);
    assert_eq!(coordination.revoke(project, 77).await.unwrap_err(), Error::LeaseNotFound);
    assert!(coordination.leases(project, 0, 10).await.unwrap().is_empty());
}

async fn a_watcher_gets_everything_once_in_order(world: World) {
    let node = world.node().await;
    node.put("k1", "before").await;
    let keys = || KeyRange::prefix("k");
    let with_previous = Filter { wants_previous: true, ..Filter::default() };
    let mut all = node.coordination.watch(&node.project, keys(), 0, with_previous).await.unwrap();
    let only_deletes = Filter { no_puts: true, ..Filter::default() };
    let mut deletes = node.coordination.watch(&node.project, keys(), 0, only_deletes).await.unwrap();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let node = node.clone();
            tokio::spawn(async move {
                for n in 0..25 {
                    node.put(&format!("k{writer}"), &n.to_string()).await;
                    node.put("other", "").await;
                }
                node.delete(&format!("k{writer}")).await;
            })
        })
        .collect();
    let mut last: std::collections::HashMap<Bytes, coordination::model::KeyValue> = std::collections::HashMap::new();
    last.insert(
        "k1".into(),
        node.coordination
            .range(&node.project, &Range { revision: 2, ..Range::of(keys()) }, false)
            .await
            .unwrap()
            .result
            .kvs[0]
            .as_ref()
            .clone(),
    );
    let (mut revision, mut count) = (2, 0);
    while count < 8 * 26 {
        for batch in all.next().await.unwrap() {
            assert!(batch.revision > revision, "{} after {revision}", batch.revision);
            revision = batch.revision;
            for event in batch.events {
                assert_eq!(event.previous.as_deref(), last.get(&event.kv.key), "{event:?}");
                if event.is_delete {
                    last.remove(&event.kv.key);
                } else {
                    last.insert(event.kv.key.clone(), event.kv.as_ref().clone());
                }
                count += 1;
            }
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(last.is_empty());
    let mut gone = 0;
    while gone < 8 {
        let batches = deletes.next().await.unwrap();
        assert!(batches.iter().flat_map(|b| &b.events).all(|e| e.is_delete && e.previous.is_none()));
        gone += batches.len();
    }
}

async fn a_watcher_reads_what_was_before_it(world: World) {
    let node = world.node().await;
    for n in 0..100 {
        node.put(&format!("k{}", n % 7), &n.to_string()).await;
    }
    let collect = async |node: &crate::world::Node, from| {
        let filter = Filter { wants_previous: true, ..Filter::default() };
        let mut watcher = node.coordination.watch(&node.project, KeyRange::prefix("k"), from, filter).await.unwrap();
        let mut batches = Vec::new();
        while watcher.progress() < 101 {
            batches.extend(watcher.next().await.unwrap());
        }
        batches
    };
    let from_memory = collect(&node, 2).await;
    assert_eq!(from_memory.len(), 100);
    node.stop().await;
    let node = world.node().await;
    assert_eq!(collect(&node, 2).await, from_memory, "from the log it is the same");
    assert_eq!(collect(&node, 50).await, from_memory[48..]);
}

async fn bad_input_changes_nothing(world: World) {
    let node = world.node().await;
    let large =
        Op::Put(Put { key: "k".into(), value: Some(vec![0; 2 << 20].into()), lease: Some(0), wants_previous: false });
    for (op, expected) in [
        (put("", ""), Error::EmptyKey),
        (put(&"k".repeat(5000), ""), Error::TooLarge),
        (large, Error::TooLarge),
        (Op::Txn(Txn { success: vec![put("a", ""), put("a", "")], ..Txn::default() }), Error::DuplicateKey),
        (Op::Txn(Txn { success: vec![get("a"); 129], ..Txn::default() }), Error::TooManyOps),
        (Op::Range(Range { revision: 9, ..Range::of(KeyRange::One("a".into())) }), Error::FutureRevision),
    ] {
        assert_eq!(node.write(op).await.unwrap_err(), expected);
    }
    assert_eq!(node.put("a", "").await, 2);
}

async fn what_was_written_is_there_after_a_restart(world: World) {
    let node = world.node().await;
    node.put("a", "1").await;
    node.put("b", "1").await;
    node.delete("a").await;
    node.put("b", "2").await;
    let lease = node.coordination.grant(&node.project, 0, 60).await.unwrap().result;
    node.put_with("l", lease.id).await.unwrap();
    let (before, b) = (node.all(0).await.unwrap(), node.get("b").await);
    node.stop().await;
    let node = world.node().await;
    assert_eq!((node.all(0).await.unwrap(), node.get("b").await), (before, b));
    let (found, keys) = node.coordination.get_lease(&node.project, lease.id).await.unwrap().result.unwrap();
    assert_eq!((found, keys), (lease, vec![Bytes::from("l")]));
    assert_eq!(node.put("c", "").await, 7);
}

async fn the_room_of_a_project_is_bounded(mut world: World) {
    world.config.max_bytes = kernel::ByteSize(1000);
    let node = world.node().await;
    node.put("a", &"x".repeat(600)).await;
    assert_eq!(node.write(put("b", &"x".repeat(600))).await.unwrap_err(), Error::NoSpace);
    node.put("a", &"x".repeat(900)).await;
    node.delete("a").await;
    assert_eq!(node.put("b", &"x".repeat(600)).await, 5);
}

async fn history_is_given_up_by_itself(world: World) {
    let node = world.node().await;
    for n in 0..50 {
        node.put("k", &n.to_string()).await;
    }
    testkit::eventually(Duration::from_mins(1), "one row is left", async || {
        world.sim.advance(Duration::from_mins(6));
        let row = node.db.get("SELECT COUNT(*) FROM coordination_log", Vec::new()).await.unwrap().unwrap();
        row.get::<i64>(0).unwrap() == 1
    })
    .await;
    assert_eq!(&node.get("k").await.unwrap().value[..], b"49");
    assert_eq!(node.all(20).await.unwrap_err(), Error::Compacted(51));
}
