//! An installation for a test: a database, a clock that the test moves, and as many nodes as it wants.

use bytes::Bytes;
use coordination::{
    Answer, Coordination, CoordinationConfig, Deps, Result,
    model::{Compare, Delete, KeyRange, KeyValue, Op, OpResult, Put, Range, RangeResult, Relation, Subject, Txn},
};
use database::{Db, Durability, PostgresOptions, SqliteOptions};
use kernel::{Clock, Lifecycle, ProjectId, Rng, Secret, SimClock, Stage, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// 2026-11-24T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_478_400_000);

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) sim: SimClock,
    pub(crate) config: CoordinationConfig,
    url: String,
    folder: tempfile::TempDir,
    engine: Engine,
    lifecycle: Lifecycle,
}

impl World {
    pub(crate) fn new(engine: Engine) -> Self {
        let (clock, sim) = Clock::simulated(START);
        let url = if engine == Engine::Postgres { testkit::shared_postgres().fresh_database() } else { String::new() };
        let lifecycle = Lifecycle::new(Clock::system(), Rng::seeded(1));
        let folder = tempfile::tempdir().unwrap();
        Self { clock, sim, config: CoordinationConfig::default(), url, folder, engine, lifecycle }
    }

    /// A node of its own; on SQLite there is one at a time.
    pub(crate) async fn node(&self) -> Node {
        let lifecycle = Lifecycle::new(Clock::system(), Rng::seeded(1));
        let db = self.db().await;
        let deps = Deps { config: self.config.clone(), db: db.clone(), clock: self.clock.clone(), rng: Rng::system() };
        let coordination = Coordination::open(deps).await.unwrap();
        coordination.start(&lifecycle.tasks(Stage::Blocks));
        Node { coordination, db, lifecycle, project: ProjectId::default_project() }
    }

    pub(crate) async fn db(&self) -> Db {
        let planes = self.lifecycle.tasks(Stage::Planes);
        match self.engine {
            Engine::Sqlite => {
                let options = SqliteOptions { durability: Durability::Normal, ..SqliteOptions::default() };
                Db::open_sqlite(&self.folder.path().join("test.db"), options, Clock::system(), &planes).unwrap()
            }
            Engine::Postgres => {
                let options = PostgresOptions { url: Secret::new(self.url.clone()), ..PostgresOptions::default() };
                Db::connect_postgres(options, Clock::system(), Rng::seeded(2), &planes).await.unwrap()
            }
        }
    }
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) coordination: Coordination,
    pub(crate) db: Db,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) project: ProjectId,
}

impl Node {
    pub(crate) async fn write(&self, op: Op) -> Result<Answer<OpResult>> {
        self.coordination.write(&self.project, op).await
    }

    pub(crate) async fn put(&self, key: &str, value: &str) -> i64 {
        self.write(put(key, value)).await.unwrap().revision
    }

    pub(crate) async fn put_with(&self, key: &str, lease: i64) -> Result<i64> {
        let op = Put { key: key.to_owned().into(), value: Some("x".into()), lease: Some(lease), wants_previous: false };
        self.write(Op::Put(op)).await.map(|answer| answer.revision)
    }

    pub(crate) async fn delete(&self, key: &str) -> i64 {
        self.write(delete(key, "")).await.unwrap().revision
    }

    pub(crate) async fn range(&self, range: &Range) -> Result<Answer<RangeResult>> {
        self.coordination.range(&self.project, range, false).await
    }

    pub(crate) async fn get(&self, key: &str) -> Option<KeyValue> {
        let range = Range::of(KeyRange::One(key.to_owned().into()));
        self.range(&range).await.unwrap().result.kvs.first().map(|kv| KeyValue::clone(kv))
    }

    /// Every key with its value, at a revision.
    pub(crate) async fn all(&self, revision: i64) -> Result<Vec<(String, String)>> {
        let range = Range { revision, ..Range::of(KeyRange::From(Bytes::new())) };
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        Ok(self.range(&range).await?.result.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect())
    }

    pub(crate) async fn stop(self) {
        self.lifecycle.stop("the test");
        self.lifecycle.shutdown(std::time::Duration::from_secs(10)).await;
        self.db.close().await;
    }
}

pub(crate) fn put(key: &str, value: &str) -> Op {
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
    Op::Put(Put { key, value: Some(value), lease: Some(0), wants_previous: true })
}

pub(crate) fn delete(key: &str, end: &str) -> Op {
    Op::Delete(Delete { keys: KeyRange::of(key.to_owned(), end.to_owned()), wants_previous: true })
}

pub(crate) fn get(key: &str) -> Op {
    Op::Range(Range::of(KeyRange::One(key.to_owned().into())))
}

/// Sets a key that is not there.
pub(crate) fn create(key: &str, value: &str) -> Op {
    let is_absent = Compare {
        keys: KeyRange::One(key.to_owned().into()),
        subject: Subject::CreateRevision(0),
        relation: Relation::Equal,
    };
    Op::Txn(Txn { compares: vec![is_absent], success: vec![put(key, value)], failure: vec![get(key)] })
}

macro_rules! on_both_engines {
    ($($name:ident)*) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                super::$name($crate::world::World::new($crate::world::Engine::Sqlite)).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                super::$name($crate::world::World::new($crate::world::Engine::Postgres)).await;
            }
        }
    )*};
}
pub(crate) use on_both_engines;
