//! The contract suite: every engine runs it whole.

use database::{Change, Db, Engine, Error, Migration, Result, Tx, Value, params};

use crate::support::{Fixture, MIGRATIONS};

const INSERT: &str = "INSERT INTO things (id, name) VALUES ($1, $2)";
const COUNT: &str = "SELECT COUNT(*) FROM things";

async fn count(db: &Db) -> i64 {
    db.get(COUNT, params![]).await.unwrap().unwrap().get(0).unwrap()
}

/// An error of a room.
#[derive(Debug, PartialEq)]
enum RoomError {
    Taken,
    Database(Error),
}

impl From<Error> for RoomError {
    fn from(e: Error) -> Self {
        Self::Database(e)
    }
}

pub(crate) async fn values_come_back_as_they_went_in(f: Fixture) {
    let db = &f.db;
    let bytes: Vec<u8> = (0..=255).collect();
    let insert = "INSERT INTO things (id, name, amount, ratio, content, is_on) VALUES ($1, $2, $3, $4, $5, $6)";
    db.exec(insert, params![i64::MIN, "ünï 漢字 ' \" \\ \n", i64::MAX, 0.1, bytes.clone(), true]).await.unwrap();
    db.exec(insert, params![2, "", 0, None::<f64>, None::<Vec<u8>>, false]).await.unwrap();
    let read = "SELECT id, name, amount, ratio, content, is_on FROM things ORDER BY id";
    let rows = db.query(read, params![]).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].get::<i64>(0), Ok(i64::MIN));
    assert_eq!(rows[0].get::<String>(1).unwrap(), "ünï 漢字 ' \" \\ \n");
    assert_eq!(rows[0].get::<i64>(2), Ok(i64::MAX));
    assert_eq!(rows[0].get::<f64>(3), Ok(0.1));
    assert_eq!(rows[0].get::<Vec<u8>>(4).unwrap(), bytes);
    assert_eq!(rows[0].get::<bool>(5), Ok(true));
    assert_eq!(rows[1].get::<Option<f64>>(3), Ok(None));
    assert_eq!(rows[1].get::<Option<Vec<u8>>>(4), Ok(None));
    assert_eq!(rows[1].get::<bool>(5), Ok(false));
    assert!(matches!(rows[1].get::<f64>(3), Err(Error::Decode(_))), "NULL is not a number");
    assert!(matches!(rows[0].get::<i64>(1), Err(Error::Decode(_))));
    assert!(matches!(rows[0].get::<i64>(6), Err(Error::Decode(_))));
}

pub(crate) async fn parameters_are_bound_by_number(f: Fixture) {
    let rows = f.db.query("SELECT $2, $1, $2 || '!', $10 + 0", params!["a", "b", 3, 4, 5, 6, 7, 8, 9, 10]).await;
    let rows = rows.unwrap();
    assert_eq!(rows[0].values()[..3], params!["b", "a", "b!"]);
    assert_eq!(rows[0].get::<i64>(3), Ok(10));
    let too_few = f.db.query("SELECT $1, $2", params!["a"]).await;
    assert!(matches!(too_few, Err(Error::Other(_))), "{too_few:?}");
}

pub(crate) async fn what_one_engine_cannot_store_both_refuse(f: Fixture) {
    for bad in [Value::from("a\0b"), Value::from(f64::NAN)] {
        assert!(matches!(f.db.query("SELECT $1", vec![bad.clone()]).await, Err(Error::Value(_))));
        assert!(matches!(f.db.exec(INSERT, params![1, bad.clone()]).await, Err(Error::Value(_))));
        let in_tx: Result<u64> = f.db.tx(async move |tx| tx.exec(INSERT, params![1, bad.clone()]).await).await;
        assert!(matches!(in_tx, Err(Error::Value(_))));
    }
    for reserved in ["COMMIT", "rollback", "SAVEPOINT x", "PRAGMA user_version"] {
        assert!(matches!(f.db.exec(reserved, params![]).await, Err(Error::Other(_))));
    }
}

pub(crate) async fn text_compares_alike(f: Fixture) {
    f.db.exec(INSERT, params![1, "Alpha"]).await.unwrap();
    let like = "SELECT COUNT(*) FROM things WHERE name LIKE $1";
    for (pattern, want) in [("Al%", 1_i64), ("al%", 0), ("%pha", 1), ("_lpha", 1)] {
        assert_eq!(f.db.get(like, params![pattern]).await.unwrap().unwrap().get::<i64>(0), Ok(want), "{pattern}");
    }
    let sum = "SELECT CAST(SUM(amount) AS BIGINT), is_on = TRUE FROM things GROUP BY is_on";
    let row = f.db.get(sum, params![]).await.unwrap().unwrap();
    assert_eq!((row.get::<i64>(0), row.get::<bool>(1)), (Ok(0), Ok(false)));
    assert!(f.db.query("SELECT \"nonsense\" FROM things", params![]).await.is_err(), "a quoted word is a name");
}

pub(crate) async fn constraints_are_typed(f: Fixture) {
    let db = &f.db;
    db.exec(INSERT, params![1, "a"]).await.unwrap();
    assert_eq!(db.exec(INSERT, params![1, "b"]).await, Err(Error::Unique));
    assert_eq!(db.exec(INSERT, params![2, "a"]).await, Err(Error::Unique));
    assert_eq!(db.exec(INSERT, params![2, None::<String>]).await, Err(Error::Check));
    assert_eq!(db.exec("UPDATE things SET amount = amount - 1", params![]).await, Err(Error::Check));
    assert_eq!(db.exec("INSERT INTO parts (thing_id) VALUES ($1)", params![9]).await, Err(Error::ForeignKey));
    assert!(matches!(db.exec("INSERT INTO nowhere VALUES (1)", params![]).await, Err(Error::Other(_))));
    assert_eq!(count(db).await, 1);
    let returned = db.exec_returning("INSERT INTO parts (thing_id) VALUES (1), (1) RETURNING id", params![]).await;
    let ids: Vec<i64> = returned.unwrap().iter().map(|r| r.get(0).unwrap()).collect();
    assert_eq!(ids.len(), 2);
    assert!(ids[0] != ids[1]);
    assert_eq!(db.exec("UPDATE things SET amount = 5", params![]).await, Ok(1));
    assert_eq!(db.exec("UPDATE things SET amount = 5 WHERE id = 77", params![]).await, Ok(0));
    assert_eq!(db.get("SELECT id FROM things WHERE id = $1", params![77]).await, Ok(None));
    let errors = db.stats().errors;
    assert_eq!(errors.get("unique"), Some(&2), "{errors:?}");
}

pub(crate) async fn a_transaction_is_whole_or_nothing(f: Fixture) {
    let db = &f.db;
    let sum: i64 = db
        .tx(async |tx| -> Result<i64> {
            tx.exec(INSERT, params![1, "a"]).await?;
            tx.exec(INSERT, params![2, "b"]).await?;
            let rows = tx.query("SELECT id FROM things ORDER BY id", params![]).await?;
            rows.iter().map(|row| row.get::<i64>(0)).sum()
        })
        .await
        .unwrap();
    assert_eq!((sum, count(db).await), (3, 2));

    let aborted = db
        .tx(async |tx| -> Result<(), RoomError> {
            tx.exec(INSERT, params![3, "c"]).await?;
            Err(RoomError::Taken)
        })
        .await;
    assert_eq!((aborted, count(db).await), (Err(RoomError::Taken), 2));

    let conflict = db
        .tx(async |tx| -> Result<(), RoomError> {
            tx.exec(INSERT, params![4, "d"]).await?;
            tx.exec(INSERT, params![1, "again"]).await?;
            Ok(())
        })
        .await;
    assert_eq!((conflict, count(db).await), (Err(RoomError::Database(Error::Unique)), 2));
}

pub(crate) async fn a_failed_statement_ends_its_transaction(f: Fixture) {
    let swallowed =
        f.db.tx(async |tx| -> Result<()> {
            tx.exec(INSERT, params![1, "a"]).await?;
            assert_eq!(tx.exec(INSERT, params![1, "b"]).await, Err(Error::Unique));
            assert_eq!(tx.query(COUNT, params![]).await, Err(Error::Unique));
            Ok(())
        })
        .await;
    assert_eq!((swallowed, count(&f.db).await), (Err(Error::Unique), 0));
}

pub(crate) async fn many_rows_are_one_call(f: Fixture) {
    const ADD: &str = "INSERT INTO things (id, name, amount) VALUES ($1, $2, $3) \
         ON CONFLICT (id) DO UPDATE SET amount = things.amount + excluded.amount, name = excluded.name";
    let db = &f.db;
    let done: Result<(u64, u64)> = db
        .tx(async |tx| {
            let none = tx.exec_many(ADD, Vec::new()).await?;
            // Ids come again, so later rows find what earlier ones of the same call wrote, in their order.
            let rows = (0..1000_i64).map(|i| params![i % 300, format!("n{i}"), i]).collect();
            Ok((none, tx.exec_many(ADD, rows).await?))
        })
        .await;
    assert_eq!(done, Ok((0, 1000)));
    let row = db.get("SELECT amount, name FROM things WHERE id = 99", params![]).await.unwrap().unwrap();
    assert_eq!((row.get::<i64>(0), row.get::<String>(1)), (Ok(99 + 399 + 699 + 999), Ok("n999".to_owned())));
    // NULL has another type than what stands there in other rows.
    let done: Result<u64> = db
        .tx(async |tx| {
            let rows = (0..3_i64).map(|i| params![i, (i != 1).then_some(0.5)]).collect();
            tx.exec_many("UPDATE things SET ratio = $2 WHERE id = $1 OR id = $1 + 100", rows).await
        })
        .await;
    assert_eq!(done, Ok(6));

    // One that fails takes all with it, wherever it stands.
    for bad in [0, 150, 499] {
        let failed: Result<u64> = db
            .tx(async move |tx| {
                let rows = (0..500_i64).map(|i| params![5000 + i, format!("m{i}"), if i == bad { -1 } else { 1 }]);
                let first = tx.exec_many(ADD, rows.collect()).await;
                assert_eq!(first, Err(Error::Check));
                // What follows fails alike, even when the body goes on.
                assert_eq!(tx.exec_many(ADD, vec![params![9000, "late", 1]]).await, Err(Error::Check));
                Ok(0)
            })
            .await;
        assert_eq!(failed, Err(Error::Check));
        assert_eq!(count(db).await, 300);
    }
    let missing: Result<u64> = db.tx(async |tx| tx.exec_many(ADD, vec![params![1, "a"]]).await).await;
    assert!(matches!(missing, Err(Error::Other(_))), "{missing:?}");
    let many: Result<u64> =
        db.tx(async |tx| tx.exec_many(ADD, vec![Vec::new(); database::MAX_MANY_ROWS + 1]).await).await;
    assert!(matches!(many, Err(Error::Value(_))), "{many:?}");
    assert_eq!(count(db).await, 300);
}

pub(crate) async fn a_panic_rolls_back_and_poisons_nothing(f: Fixture) {
    let db = &f.db;
    for round in 0..20_i64 {
        let panicking = db.tx(async move |tx: &mut Tx<'_>| -> Result<()> {
            tx.exec(INSERT, params![1000 + round, format!("p{round}")]).await?;
            assert!(round < 0, "the body gives up");
            Ok(())
        });
        let healthy = db.tx(async move |tx| tx.exec(INSERT, params![round, format!("h{round}")]).await);
        let (panicked, fine): (Result<()>, Result<u64>) = tokio::join!(panicking, healthy);
        assert_eq!(panicked, Err(Error::Panicked("the body gives up".to_owned())));
        assert_eq!(fine, Ok(1));
    }
    assert_eq!(count(db).await, 20);
}

pub(crate) async fn a_body_that_awaits_something_else_is_refused(f: Fixture) {
    let db = &f.db;
    let pending: Result<()> = db
        .tx(async |tx| {
            tx.exec(INSERT, params![1, "a"]).await?;
            std::future::pending().await
        })
        .await;
    assert_eq!(pending, Err(Error::BodyPending));
    let yielding: Result<()> = db
        .tx(async |tx| {
            tx.exec(INSERT, params![1, "a"]).await?;
            tokio::task::yield_now().await;
            Ok(())
        })
        .await;
    assert_eq!((yielding, count(db).await), (Err(Error::BodyPending), 0));
    assert_eq!(db.exec(INSERT, params![1, "a"]).await, Ok(1));
}

pub(crate) async fn concurrent_increments_are_not_lost(f: Fixture) {
    let db = &f.db;
    db.exec(INSERT, params![1, "counter"]).await.unwrap();
    let add = |db: Db| async move {
        for _ in 0..20 {
            let done: Result<()> = db
                .tx(async |tx| {
                    let row = tx.get("SELECT amount FROM things WHERE id = 1 /*pg FOR UPDATE */", params![]).await?;
                    let amount: i64 = row.map_or(Ok(0), |row| row.get(0))?;
                    tx.exec("UPDATE things SET amount = $1 WHERE id = 1", params![amount + 1]).await?;
                    Ok(())
                })
                .await;
            done.unwrap();
        }
    };
    futures_util::future::join_all((0..16).map(|_| add(db.clone()))).await;
    let row = db.get("SELECT amount FROM things", params![]).await.unwrap().unwrap();
    assert_eq!(row.get::<i64>(0), Ok(320));
}

pub(crate) async fn serializable_bodies_run_as_one_after_another(f: Fixture) {
    // Write skew: each body may insert only while there is none; without serializability several would.
    let db = &f.db;
    let claim = |id: i64| {
        db.tx_serializable(async move |tx| -> Result<bool> {
            let row = tx.get(COUNT, params![]).await?;
            if row.map_or(Ok(0), |row| row.get::<i64>(0))? > 0 {
                return Ok(false);
            }
            tx.exec(INSERT, params![id, format!("n{id}")]).await?;
            Ok(true)
        })
    };
    let outcomes = futures_util::future::join_all((0..8).map(claim)).await;
    let won = outcomes.iter().filter(|o| matches!(o, Ok(true))).count();
    assert!(outcomes.iter().all(|o| matches!(o, Ok(_) | Err(Error::Retry))), "{outcomes:?}");
    assert_eq!((won, count(db).await), (1, 1));
}

pub(crate) async fn wake_ups_follow_the_commit(f: Fixture) {
    let db = &f.db;
    let mut things = db.watch("things");
    let mut other = db.watch("other");
    let aborted: Result<(), RoomError> = db
        .tx(async |tx| {
            tx.notify("things", 13);
            Err(RoomError::Taken)
        })
        .await;
    assert_eq!(aborted, Err(RoomError::Taken));
    let done: Result<()> = db
        .tx(async |tx| {
            tx.exec(INSERT, params![1, "a"]).await?;
            tx.notify("things", 7);
            Ok(())
        })
        .await;
    done.unwrap();
    loop {
        match things.recv().await.unwrap() {
            Change::Key(7) => break,
            Change::Resync => {}
            Change::Key(other) => panic!("woken for {other}, which was rolled back"),
        }
    }
    assert_eq!(count(db).await, 1, "what a wake-up tells of is there to be read");
    assert!(!matches!(other.try_recv(), Ok(Change::Key(_))));
}

pub(crate) async fn migrations_run_once_and_never_change(f: Fixture) {
    const FIRST: Migration = Migration { version: 1, name: "one", sql: "CREATE TABLE one (id BIGINT PRIMARY KEY)" };
    const SECOND: Migration = Migration {
        version: 2,
        name: "two",
        sql: "CREATE TABLE two (id BIGINT PRIMARY KEY);\nALTER TABLE one ADD COLUMN note TEXT",
    };
    const CHANGED: Migration = Migration { version: 1, name: "one", sql: "CREATE TABLE one (id BIGINT)" };
    const BROKEN: Migration =
        Migration { version: 3, name: "three", sql: "CREATE TABLE three (id BIGINT); INSERT INTO nowhere VALUES (1)" };
    const FIXED: Migration = Migration { version: 3, name: "three", sql: "CREATE TABLE three (id BIGINT)" };
    let db = &f.db;
    db.migrate("test", MIGRATIONS).await.unwrap();
    db.migrate("sys", &[FIRST]).await.unwrap();
    // Several nodes start at once.
    let nodes = (0..4).map(|_| db.migrate("sys", &[FIRST, SECOND]));
    for outcome in futures_util::future::join_all(nodes).await {
        outcome.unwrap();
    }
    let text = |r: Result<()>| match r {
        Err(Error::Migration(text)) => text,
        other => panic!("{other:?}"),
    };
    let changed = text(db.migrate("sys", &[CHANGED, SECOND]).await);
    assert!(changed.contains("migration 1 of sys (one) was changed"), "{changed}");
    let newer = text(db.migrate("sys", &[FIRST]).await);
    assert!(newer.contains("newer than this binary"), "{newer}");
    let gap = text(db.migrate("sys", &[SECOND]).await);
    assert!(gap.contains("not numbered"), "{gap}");
    let broken = text(db.migrate("sys", &[FIRST, SECOND, BROKEN]).await);
    assert!(broken.contains("migration 3 of sys (three) failed"), "{broken}");
    db.migrate("sys", &[FIRST, SECOND, FIXED]).await.unwrap();
    assert_eq!(db.exec("INSERT INTO one (id, note) VALUES (1, 'x')", params![]).await, Ok(1));
}

pub(crate) async fn a_closed_handle_says_so(f: Fixture) {
    let before: Vec<Result<u64>> =
        futures_util::future::join_all((0..50_i64).map(|i| f.db.exec(INSERT, params![i, format!("n{i}")]))).await;
    assert!(before.iter().all(Result::is_ok));
    f.db.ping().await.unwrap();
    f.db.close().await;
    assert_eq!(f.db.ping().await, Err(Error::Closed));
    assert_eq!(f.db.exec(INSERT, params![99, "x"]).await, Err(Error::Closed));
    let tx: Result<()> = f.db.tx(async |_| Ok(())).await;
    assert_eq!(tx, Err(Error::Closed));
}

pub(crate) async fn a_huge_result_is_refused(f: Fixture) {
    let megabyte = vec![7_u8; 1 << 20];
    let insert = "INSERT INTO things (id, name, content) VALUES ($1, $2, $3)";
    for id in 0..4_i64 {
        f.db.exec(insert, params![id, format!("n{id}"), megabyte.clone()]).await.unwrap();
    }
    let many = "SELECT a.content FROM things a, things b, things c, things d";
    assert_eq!(f.db.query(many, params![]).await, Err(Error::TooLarge));
    assert_eq!(count(&f.db).await, 4);
}

pub(crate) async fn dialect_comments_reach_their_engine(f: Fixture) {
    let sql = "SELECT /*pg 'pg' || */ /*sqlite 'sqlite' || */ '' -- /*pg no */";
    let row = f.db.get(sql, params![]).await.unwrap().unwrap();
    let want = match f.db.engine() {
        Engine::Sqlite => "sqlite",
        Engine::Postgres => "pg",
    };
    assert_eq!(row.get::<String>(0).unwrap(), want);
}

macro_rules! contract_suite {
    ($engine:ident: $($case:ident)*) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(crate::support::$engine().await).await;
                }
            )*
        }
    };
    ($engine:ident) => {
        contract_suite! { $engine:
            values_come_back_as_they_went_in
            parameters_are_bound_by_number
            what_one_engine_cannot_store_both_refuse
            text_compares_alike
            constraints_are_typed
            a_transaction_is_whole_or_nothing
            a_failed_statement_ends_its_transaction
            many_rows_are_one_call
            a_panic_rolls_back_and_poisons_nothing
            a_body_that_awaits_something_else_is_refused
            concurrent_increments_are_not_lost
            serializable_bodies_run_as_one_after_another
            wake_ups_follow_the_commit
            migrations_run_once_and_never_change
            a_closed_handle_says_so
            a_huge_result_is_refused
            dialect_comments_reach_their_engine
        }
    };
}

contract_suite!(sqlite);
contract_suite!(postgres);
contract_suite!(postgres_unprepared);
