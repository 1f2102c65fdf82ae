//! Faults of the embedded engine.

use std::{process::Command, time::Duration};

use database::{DataLock, Db, Error, Result, SqliteOptions, params};
use kernel::{Clock, Stage};

use crate::support::{MIGRATIONS, lifecycle, sqlite, sqlite_with};

const INSERT: &str = "INSERT INTO things (id, name, content) VALUES ($1, $2, $3)";
const COUNT: &str = "SELECT COUNT(*) FROM things";

async fn count(db: &Db) -> i64 {
    db.get(COUNT, params![]).await.unwrap().unwrap().get(0).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_lock_is_busy_and_reads_go_on() {
    let f = sqlite_with(SqliteOptions { busy_timeout: Duration::from_millis(50), ..SqliteOptions::default() }).await;
    f.db.exec(INSERT, params![1, "a", b"x"]).await.unwrap();
    let foreign = rusqlite::Connection::open(f.folder.path().join("test.db")).unwrap();
    foreign.execute_batch("BEGIN IMMEDIATE").unwrap();
    let tx: Result<u64> = f.db.tx(async |tx| tx.exec(INSERT, params![2, "b", b"x"]).await).await;
    assert_eq!(tx, Err(Error::Busy));
    assert_eq!(f.db.exec(INSERT, params![2, "b", b"x"]).await, Err(Error::Busy));
    assert_eq!(count(&f.db).await, 1);
    foreign.execute_batch("COMMIT").unwrap();
    assert_eq!(f.db.exec(INSERT, params![2, "b", b"x"]).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_refused_after_a_bound() {
    let options = SqliteOptions {
        busy_timeout: Duration::from_secs(20),
        queue_capacity: 2,
        queue_wait: Duration::from_millis(20),
        ..SqliteOptions::default()
    };
    let f = sqlite_with(options).await;
    let foreign = rusqlite::Connection::open(f.folder.path().join("test.db")).unwrap();
    foreign.execute_batch("BEGIN IMMEDIATE").unwrap();
    // One is in the writer's hand (it waits for the lock), two wait in the queue, the others are refused.
    let writes: Vec<_> = (0..6_i64)
        .map(|id| {
            let db = f.db.clone();
            tokio::spawn(async move { db.exec(INSERT, params![id, format!("n{id}"), b"x"]).await })
        })
        .collect();
    testkit::eventually(Duration::from_secs(20), "refusals", async || {
        f.db.stats().errors.get("overloaded").is_some_and(|n| *n >= 3)
    })
    .await;
    foreign.execute_batch("COMMIT").unwrap();
    let mut done = 0;
    for write in writes {
        match write.await.unwrap() {
            Ok(1) => done += 1,
            Err(Error::Overloaded) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((done, count(&f.db).await), (3, 3), "what was queued is done, what was refused is not");
}

#[tokio::test]
async fn a_second_process_is_refused_by_name_of_the_folder() {
    let f = sqlite().await;
    let path = f.folder.path().join("test.db");
    let tasks = f.lifecycle.tasks(Stage::Planes);
    let second = Db::open_sqlite(&path, SqliteOptions::default(), Clock::system(), &tasks);
    let Err(e @ Error::InUse { .. }) = second else { panic!("{second:?}") };
    assert!(e.to_string().contains(&f.folder.path().display().to_string()), "{e}");
    assert!(e.to_string().contains(&std::process::id().to_string()), "{e}");
    f.db.close().await;
    let third = Db::open_sqlite(&path, SqliteOptions::default(), Clock::system(), &tasks).unwrap();
    third.migrate("test", MIGRATIONS).await.unwrap();

    let lock = DataLock::acquire(f.folder.path()).unwrap();
    assert!(matches!(DataLock::acquire(f.folder.path()), Err(Error::InUse { .. })));
    drop(lock);
    DataLock::acquire(f.folder.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_statement_is_stopped_and_its_neighbours_are_not_lost() {
    let options = SqliteOptions { statement_timeout: Duration::from_millis(50), ..SqliteOptions::default() };
    let f = sqlite_with(options).await;
    let endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT MAX(x) FROM n";
    assert_eq!(f.db.query(endless, params![]).await, Err(Error::Timeout));
    let slow = f.db.tx(async move |tx| -> Result<()> {
        tx.exec(INSERT, params![1000, "slow", b"x"]).await?;
        // It writes, so SQLite ends the whole transaction when it is interrupted, and with it the group.
        let write = "INSERT INTO things (id, name) WITH RECURSIVE n (x) AS (SELECT 2000 UNION ALL SELECT x + 1 FROM n)
            SELECT x, CAST(x AS TEXT) FROM n";
        tx.exec(write, params![]).await.map(drop)
    });
    let fast = (0..32_i64).map(|id| f.db.exec(INSERT, params![id, format!("n{id}"), b"x"]));
    let (before, after) = (f.db.exec(INSERT, params![500, "before", b"x"]), futures_util::future::join_all(fast));
    let (before, slow, after) = tokio::join!(before, slow, after);
    assert_eq!(slow, Err(Error::Timeout));
    assert_eq!(before, Ok(1));
    assert!(after.iter().all(|r| *r == Ok(1)), "{after:?}");
    assert_eq!(count(&f.db).await, 33);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_read_does_not_hold_its_caller() {
    let f = sqlite().await;
    let long = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 300000) SELECT MAX(x) FROM n";
    let row = f.db.get(long, params![]).await.unwrap().unwrap();
    assert_eq!(row.get::<i64>(0), Ok(300_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_transactions_share_a_commit() {
    for (group, is_shared) in [(true, true), (false, false)] {
        let group_time = Duration::from_mins(1);
        let f = sqlite_with(SqliteOptions { group, group_time, ..SqliteOptions::default() }).await;
        let before = f.db.stats();
        let foreign = rusqlite::Connection::open(f.folder.path().join("test.db")).unwrap();
        foreign.execute_batch("BEGIN IMMEDIATE").unwrap();
        let writes: Vec<_> = (0..40_i64)
            .map(|id| {
                let db = f.db.clone();
                tokio::spawn(async move { db.exec(INSERT, params![id, format!("n{id}"), b"x"]).await })
            })
            .collect();
        // The first is in the writer's hand and waits for the lock; the others gather.
        testkit::eventually(Duration::from_secs(20), "a queue", async || f.db.stats().queue_length == 39).await;
        foreign.execute_batch("COMMIT").unwrap();
        for write in writes {
            assert_eq!(write.await.unwrap(), Ok(1));
        }
        let groups = f.db.stats().group_count - before.group_count;
        assert_eq!(groups, if is_shared { 1 } else { 40 });
        assert_eq!(f.db.stats().queue_length, 0);
    }
}

const CHILD: &str = "DATABASE_TEST_FULL_DISK";

/// What happens when the storage takes no more: a child whose files may not grow beyond 2 MiB, first with small transactions
/// (COMMIT fails), then with one that is larger than the page cache (a statement fails and SQLite leaves the transaction).
#[test]
fn a_full_disk_in_mid_group_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    // The limit is set by the shell, where the signal that it sends (SIGXFSZ, 25) can be ignored; in blocks of 512 bytes.
    let output = Command::new("sh")
        .args(["-c", "trap '' 25; ulimit -S -f 4096; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "faults_sqlite::full_disk_child", "--nocapture", "--test-threads=1"])
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("saw the full disk"), "{text}{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_child() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use std::io::Write as _;
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let path = std::path::Path::new(&folder).join("test.db");
    let lifecycle = lifecycle();
    let options = SqliteOptions { cache_kib: 256, ..SqliteOptions::default() };
    let db = Db::open_sqlite(&path, options, Clock::system(), &lifecycle.tasks(Stage::Planes)).unwrap();
    db.migrate("test", MIGRATIONS).await.unwrap();

    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for round in 0..200_i64 {
        // One in sixteen is larger than the page cache.
        let writes = (0..16_i64).map(|n| {
            let id = round * 16 + n;
            let size = if n == 7 && round % 4 == 3 { 600_000 } else { 2_000 };
            let db = db.clone();
            async move {
                let done = db.tx(async move |tx| -> Result<u64> {
                    tx.exec(INSERT, params![-1 - id, format!("-{id}"), b"pair"]).await?;
                    tx.exec(INSERT, params![id, format!("{id}"), vec![7_u8; size]]).await
                });
                (id, done.await)
            }
        });
        for (id, outcome) in futures_util::future::join_all(writes).await {
            match outcome {
                Ok(1) => acknowledged.push(id),
                Err(Error::DiskFull | Error::Retry) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        if refused > 100 {
            break;
        }
    }
    assert!(refused > 0 && !acknowledged.is_empty(), "refused {refused}, acknowledged {}", acknowledged.len());
    let read = |sql: &'static str| {
        let db = db.clone();
        async move {
            let rows = db.query(sql, params![]).await.unwrap();
            rows.iter().map(|row| row.get::<i64>(0).unwrap()).collect::<Vec<_>>()
        }
    };
    acknowledged.sort_unstable();
    assert_eq!(read("SELECT id FROM things WHERE id >= 0 ORDER BY id").await, acknowledged);
    assert_eq!(read("SELECT -1 - id FROM things WHERE id < 0 ORDER BY 1").await, acknowledged, "both or neither");

    // Room is made: work goes on, in the same process and the same file.
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    assert_eq!(db.exec(INSERT, params![1_000_000, "more", vec![7_u8; 3_000_000]]).await, Ok(1));
    let errors = db.stats().errors;
    db.close().await;
    let again =
        Db::open_sqlite(&path, SqliteOptions::default(), Clock::system(), &lifecycle.tasks(Stage::Planes)).unwrap();
    assert_eq!(count(&again).await, i64::try_from(acknowledged.len()).unwrap() * 2 + 1);
    writeln!(std::io::stdout(), "saw the full disk: {refused} refused, {errors:?}").unwrap();
}
