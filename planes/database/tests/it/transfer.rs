//! Backup, restore and copy, while work goes on.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use database::{Db, Error, Migration, Progress, Report, Result, SqliteOptions, copy, params, restore};
use kernel::{Clock, Stage};

use crate::support::{Fixture, MIGRATIONS, lifecycle, postgres, sqlite};

const INSERT: &str = "INSERT INTO things (id, name, amount, ratio, content, is_on) VALUES ($1, $2, $3, $4, $5, $6)";

fn open(path: &std::path::Path) -> Db {
    Db::open_sqlite(path, SqliteOptions::default(), Clock::system(), &lifecycle().tasks(Stage::Planes)).unwrap()
}

async fn number(db: &Db, sql: &'static str) -> i64 {
    db.get(sql, params![]).await.unwrap().unwrap().get(0).unwrap()
}

/// Moves amounts around between ten rows, adds parts and counts them in an eleventh row, until told to stop.
async fn work(db: Db, stop: Arc<AtomicBool>, done_count: Arc<AtomicI64>) {
    for n in 0_i64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let moved: Result<()> = db
            .tx(async move |tx| {
                tx.exec("UPDATE things SET amount = amount - 1 WHERE id = $1 AND amount > 0", params![n % 10]).await?;
                tx.exec("UPDATE things SET amount = amount + 1 WHERE id = $1", params![(n + 3) % 10]).await?;
                tx.exec("INSERT INTO parts (thing_id) VALUES ($1)", params![n % 10]).await?;
                tx.exec("UPDATE things SET amount = amount + 1 WHERE id = 10", params![]).await?;
                Ok(())
            })
            .await;
        moved.unwrap();
        done_count.store(n, Ordering::Relaxed);
    }
}

/// `beside`: the file, to be backed up as another process would; else through the handle.
async fn a_backup_while_writing_is_one_state(f: Fixture, beside: Option<std::path::PathBuf>) {
    let db = &f.db;
    for id in 0..10_i64 {
        let row = params![id, format!("thing {id}"), 1_000_000, 0.5, vec![7_u8; 20_000], true];
        db.exec(INSERT, row).await.unwrap();
    }
    db.exec(INSERT, params![10, "count of parts", 0, 0.5, b"", true]).await.unwrap();
    // More than the copy holds in flight, so that its first step is not its last.
    for id in 20..32_i64 {
        db.exec(INSERT, params![id, format!("large {id}"), 0, 0.5, vec![7_u8; 1_200_000], true]).await.unwrap();
    }
    let (stop, done_count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let worker = tokio::spawn(work(db.clone(), stop.clone(), done_count.clone()));
    testkit::eventually(std::time::Duration::from_secs(20), "some work", async || {
        number(db, "SELECT COUNT(*) FROM parts").await > 20
    })
    .await;
    let before = number(db, "SELECT COUNT(*) FROM parts").await;
    let file = f.folder.path().join("backup.db");
    let steps = Arc::new(std::sync::Mutex::new(Vec::<Progress>::new()));
    let seen = steps.clone();
    let record = move |p: &Progress| {
        let mut steps = seen.lock().unwrap();
        if steps.is_empty() {
            // The snapshot is taken and the copy is under way: some transactions commit before it goes on.
            let enough = done_count.load(Ordering::Relaxed) + 3;
            testkit::wait_until(std::time::Duration::from_secs(20), "commits during the backup", || {
                done_count.load(Ordering::Relaxed) >= enough
            });
        }
        steps.push(p.clone());
    };
    match beside {
        Some(source) => database::backup_file(&source, &file, record).await.unwrap(),
        None => db.backup(&file, record).await.unwrap(),
    }
    let after = number(db, "SELECT COUNT(*) FROM parts").await;
    stop.store(true, Ordering::Relaxed);
    worker.await.unwrap();

    let last = steps.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last.done_count, last.total_count);
    assert!(matches!(db.backup(&file, |_| {}).await, Err(Error::NotEmpty(_))), "a backup never replaces a file");

    let restored = f.folder.path().join("restored.db");
    restore(&file, &restored, |_| {}).await.unwrap();
    assert!(matches!(restore(&file, &restored, |_| {}).await, Err(Error::NotEmpty(_))));
    let copy = open(&restored);
    copy.migrate("test", MIGRATIONS).await.unwrap();
    assert_eq!(number(&copy, "SELECT CAST(SUM(amount) AS BIGINT) FROM things WHERE id < 10").await, 10_000_000);
    let parts = number(&copy, "SELECT COUNT(*) FROM parts").await;
    assert!((before..=after).contains(&parts), "{before} ≤ {parts} ≤ {after}");
    assert_eq!(parts, number(&copy, "SELECT amount FROM things WHERE id = 10").await, "two tables, one state");
    copy.exec("INSERT INTO parts (thing_id) VALUES (1)", params![]).await.unwrap();
    copy.close().await;
    let names: Vec<_> =
        std::fs::read_dir(f.folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|n| n.contains("partial")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_sqlite_while_writing_is_one_state() {
    a_backup_while_writing_is_one_state(sqlite().await, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_from_beside_the_writing_process_is_one_state() {
    let f = sqlite().await;
    let source = f.folder.path().join("test.db");
    a_backup_while_writing_is_one_state(f, Some(source)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_postgres_while_writing_is_one_state() {
    a_backup_while_writing_is_one_state(postgres().await, None).await;
}

#[tokio::test]
async fn a_damaged_backup_is_not_restored() {
    let f = sqlite().await;
    for id in 0..200_i64 {
        f.db.exec(INSERT, params![id, format!("{id}"), 1, 0.5, vec![7_u8; 2_000], true]).await.unwrap();
    }
    let (file, to) = (f.folder.path().join("backup.db"), f.folder.path().join("restored.db"));
    f.db.backup(&file, |_| {}).await.unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    for byte in bytes.iter_mut().skip(4096).step_by(4096) {
        *byte ^= 0xff;
    }
    std::fs::write(&file, bytes).unwrap();
    assert!(matches!(restore(&file, &to, |_| {}).await, Err(Error::Corrupt(_))));
    std::fs::write(&file, "not a database, but long enough to look at".repeat(100)).unwrap();
    assert!(matches!(restore(&file, &to, |_| {}).await, Err(Error::Corrupt(_))));
    assert!(!to.exists());
}

async fn fill(db: &Db) {
    let texts = ["", "plain", "tab\tnew\nline\r\\ back \\N \\.", "ünï 漢字 🦀", "'\"$1"];
    let ratios = [None, Some(0.1), Some(-0.0), Some(f64::INFINITY), Some(f64::MIN_POSITIVE), Some(1e300), Some(3.0)];
    for id in 0..1_234_i64 {
        let n = usize::try_from(id).unwrap();
        let name = format!("{id} {}", texts[n % texts.len()]);
        let content = (n % 3 > 0).then(|| (0..=255_u8).cycle().take(n % 600).collect::<Vec<u8>>());
        let row = params![id - 600, name, id * 7_919_111_333, ratios[n % ratios.len()], content, id % 2 == 0];
        db.exec(INSERT, row).await.unwrap();
    }
    let parts: Result<()> = db
        .tx(async |tx| {
            for id in 0..50_i64 {
                tx.exec("INSERT INTO parts (thing_id) VALUES ($1)", params![id]).await?;
            }
            Ok(())
        })
        .await;
    parts.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_moves_to_postgres_and_back() {
    let from = sqlite().await;
    fill(&from.db).await;
    let there = postgres().await;
    let mut steps = Vec::new();
    let report = copy(&from.db, &there.db, |p| steps.push(p.clone())).await.unwrap();
    let counts: Vec<(&str, u64)> = report.tables.iter().map(|t| (t.name.as_str(), t.row_count)).collect();
    assert_eq!(counts, [("things", 1234), ("parts", 50)], "what others refer to comes first");
    assert_eq!(steps.last().unwrap().done_count, report.row_count());

    // The generated ids go on after the copied ones.
    let generated = "INSERT INTO parts (thing_id) VALUES (1) RETURNING id";
    let id: i64 = there.db.exec_returning(generated, params![]).await.unwrap()[0].get(0).unwrap();
    assert_eq!(id, 51);
    there.db.exec("DELETE FROM parts WHERE id = 51", params![]).await.unwrap();

    let refused = copy(&from.db, &there.db, |_| {}).await;
    assert!(matches!(refused, Err(Error::NotEmpty(_))), "{refused:?}");

    // A fresh file that was never migrated: the copy brings the schema along.
    let back = open(&from.folder.path().join("back.db"));
    let returned: Report = copy(&there.db, &back, |_| {}).await.unwrap();
    assert_eq!(returned, report, "counts and checksums are the same on every engine");
    let read = "SELECT id, name, amount, ratio, content, is_on FROM things ORDER BY id";
    assert_eq!(from.db.query(read, params![]).await.unwrap(), back.query(read, params![]).await.unwrap());

    let again = postgres().await;
    assert_eq!(copy(&there.db, &again.db, |_| {}).await.unwrap(), report);
    back.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_differs_is_taken_back() {
    let from = sqlite().await;
    fill(&from.db).await;
    let meddle_sqlite = "CREATE TRIGGER meddle AFTER INSERT ON things WHEN NEW.id = 5 BEGIN
        UPDATE things SET amount = amount + 1 WHERE id = 5; END";
    let meddle_postgres = "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN IF NEW.id = 5 THEN RETURN NULL; END IF; RETURN NEW; END'";
    let hook = "CREATE TRIGGER meddle BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION meddle()";
    for to in [sqlite().await, postgres().await] {
        match to.db.engine() {
            database::Engine::Sqlite => drop(to.db.exec(meddle_sqlite, params![]).await.unwrap()),
            database::Engine::Postgres => {
                // Without the parts that would refer to the row that is missing.
                to.db.exec("ALTER TABLE parts DROP CONSTRAINT parts_thing_id_fkey", params![]).await.unwrap();
                to.db.exec(meddle_postgres, params![]).await.unwrap();
                to.db.exec(hook, params![]).await.unwrap();
            }
        }
        match copy(&from.db, &to.db, |_| {}).await {
            Err(Error::CopyDiffers(text)) => assert!(text.contains("table things"), "{text}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(number(&to.db, "SELECT COUNT(*) FROM things").await, 0);
    }
}

#[tokio::test]
async fn a_copy_needs_the_same_schema() {
    const EXTRA: &[Migration] = &[Migration { version: 1, name: "x", sql: "CREATE TABLE extra (id BIGINT)" }];
    let (from, to) = (sqlite().await, sqlite().await);
    to.db.migrate("extra", EXTRA).await.unwrap();
    match copy(&from.db, &to.db, |_| {}).await {
        Err(Error::Migration(text)) => assert!(text.contains("extra"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn files_are_for_their_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let db = open(&path("main.db"));
    db.migrate("test", MIGRATIONS).await.unwrap();
    db.exec(INSERT, params![1, "a thing", 1, 0.5, b"", true]).await.unwrap();
    db.backup(&path("backup.db"), |_| {}).await.unwrap();
    restore(&path("backup.db"), &path("restored.db"), |_| {}).await.unwrap();
    for name in ["main.db", "main.db-wal", "main.db-shm", "backup.db", "restored.db"] {
        let mode = std::fs::metadata(path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
