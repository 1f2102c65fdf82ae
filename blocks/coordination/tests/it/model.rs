//! Random operations beside a model that is as simple as can be: every state kept whole.

use std::collections::BTreeMap;

use bytes::Bytes;
use coordination::model::{Delete, KeyRange, Op, OpResult, Put, Txn};
use proptest::prelude::*;

use crate::world::{Engine, World};

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8, u8),
    Both(u8, u8, u8),
    Compact(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..8_u8, any::<u8>()).prop_map(|(k, v)| Step::Put(k, v)),
        2 => (0..8_u8, 0..8_u8).prop_map(|(a, b)| Step::Delete(a, b)),
        2 => (0..4_u8, any::<u8>(), 4..8_u8).prop_map(|(k, v, d)| Step::Both(k, v, d)),
        1 => any::<u8>().prop_map(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

type Keys = BTreeMap<Bytes, (u8, i64, i64, i64)>;

fn key(k: u8) -> Bytes {
    Bytes::from(vec![b'a' + k])
}

fn put(k: u8, v: u8) -> Op {
    Op::Put(Put { key: key(k), value: Some(vec![v].into()), lease: Some(0), wants_previous: false })
}

fn set(keys: &mut Keys, k: u8, v: u8, revision: i64) {
    let entry = keys.entry(key(k)).or_insert((v, revision, revision, 0));
    *entry = (v, entry.1, revision, entry.3 + 1);
}

async fn run(engine: Engine, steps: Vec<Step>) {
    let world = World::new(engine);
    let mut node = world.node().await;
    // The state at each revision, from 1.
    let mut states: Vec<Keys> = vec![Keys::new()];
    let mut compacted = 0;
    for step in steps {
        let mut now = states.last().unwrap().clone();
        let newest = i64::try_from(states.len()).unwrap();
        match step {
            Step::Put(k, v) => {
                set(&mut now, k, v, newest + 1);
                states.push(now);
                assert_eq!(node.write(put(k, v)).await.unwrap().revision, newest + 1);
            }
            Step::Delete(a, b) => {
                let keys = KeyRange::of(key(a), key(b));
                let before = now.len();
                now.retain(|k, _| !keys.contains(k));
                let gone = before - now.len();
                let answer = node.write(Op::Delete(Delete { keys, wants_previous: false })).await.unwrap();
                assert!(matches!(answer.result, OpResult::Delete { count, .. } if count == gone));
                if gone > 0 {
                    states.push(now);
                }
                assert_eq!(answer.revision, i64::try_from(states.len()).unwrap());
            }
            Step::Both(k, v, d) => {
                set(&mut now, k, v, newest + 1);
                now.remove(&key(d));
                states.push(now);
                let delete = Op::Delete(Delete { keys: KeyRange::One(key(d)), wants_previous: false });
                let txn = Txn { success: vec![put(k, v), delete], ..Txn::default() };
                assert_eq!(node.write(Op::Txn(txn)).await.unwrap().revision, newest + 1);
            }
            Step::Compact(part) => {
                let revision = 1 + i64::from(part) * newest / 256;
                if revision > compacted {
                    node.coordination.compact(&node.project, revision).await.unwrap();
                    compacted = revision;
                    node.coordination.sweep().await;
                }
            }
            Step::Restart => {
                node.stop().await;
                node = world.node().await;
            }
        }
        let newest = i64::try_from(states.len()).unwrap();
        for revision in [newest, compacted.max(1), i64::midpoint(compacted.max(1), newest)] {
            let range =
                coordination::model::Range { revision, ..coordination::model::Range::of(KeyRange::From(Bytes::new())) };
            let found = node.range(&range).await.unwrap().result.kvs;
            let found: Keys = found
                .iter()
                .map(|kv| (kv.key.clone(), (kv.value[0], kv.create_revision, kv.mod_revision, kv.version)))
                .collect();
            assert_eq!(
                found,
                states[usize::try_from(revision - 1).unwrap()],
                "at {revision} of {newest}, compacted {compacted}"
            );
        }
    }
    node.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_is_as_the_model(steps in prop::collection::vec(step(), 1..60)) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(run(Engine::Sqlite, steps));
    }

    #[test]
    fn postgres_is_as_the_model(steps in prop::collection::vec(step(), 1..40)) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(run(Engine::Postgres, steps));
    }
}
