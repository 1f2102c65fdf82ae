//! Faults of PostgreSQL: lost back ends, lost answers, conflicts, lost LISTEN, TLS.

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use database::{Change, Db, Error, PostgresOptions, Result, Tx, params};
use futures_util::FutureExt as _;
use kernel::{Clock, Rng, Secret, Stage};
use tokio::sync::broadcast;

use crate::support::{MIGRATIONS, connect, lifecycle, postgres, postgres_options, postgres_with};

const INSERT: &str = "INSERT INTO things (id, name) VALUES ($1, $2)";
const COUNT: &str = "SELECT COUNT(*) FROM things";
/// The signal is acted on at the next look for interrupts, which the sleep makes sure is inside the statement.
const SUICIDE: &str = "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)";

async fn count(db: &Db) -> i64 {
    db.get(COUNT, params![]).await.unwrap().unwrap().get(0).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_back_end_that_ends_inside_a_transaction_is_conn() {
    let f = postgres().await;
    let lost: Result<()> =
        f.db.tx(async |tx| {
            tx.exec(INSERT, params![1, "a"]).await?;
            tx.query(SUICIDE, params![]).await.map(drop)
        })
        .await;
    assert!(matches!(lost, Err(Error::Conn(_))), "{lost:?}");
    assert_eq!(count(&f.db).await, 0);
    // Between statements, unseen by the body: noticed at the next.
    let url = f.url.clone();
    let ended = Arc::new(AtomicBool::new(false));
    let lost: Result<()> =
        f.db.tx(async move |tx| {
            tx.exec(INSERT, params![1, "a"]).await?;
            if !ended.swap(true, Ordering::Relaxed) {
                testkit::shared_postgres().terminate_backends(&url);
            }
            tx.exec(INSERT, params![2, "b"]).await.map(drop)
        })
        .await;
    assert!(matches!(lost, Err(Error::Conn(_))), "{lost:?}");
    testkit::eventually(Duration::from_secs(20), "new connections", async || f.db.ping().await.is_ok()).await;
    assert_eq!(count(&f.db).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_back_end_that_ends_at_commit_is_unknown() {
    let f = postgres().await;
    let suicide = "CREATE FUNCTION suicide() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(60); RETURN NULL; END'";
    let at_commit = "CREATE CONSTRAINT TRIGGER suicide AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.id = 13) EXECUTE FUNCTION suicide()";
    f.db.exec(suicide, params![]).await.unwrap();
    f.db.exec(at_commit, params![]).await.unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let outcome: Result<u64> =
        f.db.tx(async move |tx| {
            counted.fetch_add(1, Ordering::Relaxed);
            tx.exec(INSERT, params![13, "at commit"]).await
        })
        .await;
    assert_eq!((outcome, runs.load(Ordering::Relaxed)), (Err(Error::Unknown), 1));
    // A single statement carries its COMMIT.
    assert_eq!(f.db.exec(INSERT, params![13, "alone"]).await, Err(Error::Unknown));
    assert_eq!(f.db.exec(INSERT, params![14, "fine"]).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_lost_during_commit_is_unknown_and_never_run_again() {
    let server = testkit::shared_postgres();
    let (f, proxy) = (postgres().await, testkit::CutProxy::to_port(server.port()));
    let url = f.url.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
    let through = connect(postgres_options(&url), &f.lifecycle).await;
    for (id, was_committed) in [(1_i64, true), (2, false)] {
        if was_committed {
            proxy.cut_after(b"COMMIT\0");
        } else {
            proxy.cut_before(b"COMMIT\0");
        }
        let runs = Arc::new(AtomicU32::new(0));
        let counted = runs.clone();
        let outcome: Result<u64> = through
            .tx(async move |tx| {
                counted.fetch_add(1, Ordering::Relaxed);
                tx.exec(INSERT, params![id, format!("n{id}")]).await
            })
            .await;
        assert_eq!((outcome, runs.load(Ordering::Relaxed)), (Err(Error::Unknown), 1));
        let there = f.db.get("SELECT 1 FROM things WHERE id = $1", params![id]).await.unwrap().is_some();
        assert_eq!(there, was_committed);
    }
    assert_eq!(proxy.trap_count(), 2);
    assert_eq!(through.stats().errors.get("unknown"), Some(&2));
    // Cut before COMMIT: nothing was sent that could have kept it.
    proxy.cut_before(b"pg_sleep(0)");
    let outcome: Result<()> = through
        .tx(async |tx| {
            tx.exec(INSERT, params![3, "c"]).await?;
            tx.query("SELECT pg_sleep(0)", params![]).await.map(drop)
        })
        .await;
    assert!(matches!(outcome, Err(Error::Conn(_))), "{outcome:?}");
    assert_eq!(count(&f.db).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_runs_one_body_again() {
    let f = postgres().await;
    f.db.exec(INSERT, params![1, "a"]).await.unwrap();
    f.db.exec(INSERT, params![2, "b"]).await.unwrap();
    let has_locked = [Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false))];
    let lock = |own: usize, first: i64, second: i64| {
        let (mine, other) = (has_locked[own].clone(), has_locked[1 - own].clone());
        f.db.tx(async move |tx: &mut Tx<'_>| -> Result<()> {
            let update = "UPDATE things SET amount = amount + 1 WHERE id = $1";
            tx.exec(update, params![first]).await?;
            mine.store(true, Ordering::Relaxed);
            // Both hold their first row before either asks for its second.
            while !other.load(Ordering::Relaxed) {
                tx.query("SELECT 1", params![]).await?;
            }
            tx.exec(update, params![second]).await.map(drop)
        })
    };
    let (one, two) = tokio::join!(lock(0, 1, 2), lock(1, 2, 1));
    assert_eq!((one, two), (Ok(()), Ok(())));
    assert!(f.db.stats().rerun_count >= 1);
    let rows = f.db.query("SELECT amount FROM things", params![]).await.unwrap();
    assert!(rows.iter().all(|row| row.get::<i64>(0) == Ok(2)), "each ran once: {rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_that_stays_ends_after_five_reruns() {
    let f = postgres().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let outcome: Result<()> =
        f.db.tx(async move |tx| {
            counted.fetch_add(1, Ordering::Relaxed);
            tx.exec(INSERT, params![1, "a"]).await?;
            let conflict = "DO 'BEGIN RAISE EXCEPTION USING ERRCODE = ''40001''; END'";
            tx.exec(conflict, params![]).await.map(drop)
        })
        .await;
    assert_eq!(outcome, Err(Error::Retry));
    assert_eq!(runs.load(Ordering::Relaxed), 1 + database::MAX_RERUNS);
    assert_eq!(count(&f.db).await, 0);
}

/// With one connection, whatever an earlier transaction left behind would be met by the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_goes_back_with_an_open_transaction() {
    let f = postgres_with(|options| options.pool_size = 1).await;
    let is_outside = async || {
        let in_progress = "SELECT COUNT(*) FROM pg_stat_activity
            WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        testkit::eventually(Duration::from_secs(20), "no open transaction", async || {
            f.db.get(in_progress, params![]).await.unwrap().unwrap().get::<i64>(0) == Ok(0)
        })
        .await;
        assert_eq!(count(&f.db).await, 0);
    };
    let panicked: Result<()> =
        f.db.tx(async |tx| {
            tx.exec(INSERT, params![1, "a"]).await?;
            panic!("in the middle");
        })
        .await;
    assert!(matches!(panicked, Err(Error::Panicked(_))));
    is_outside().await;
    let early: Result<()> =
        f.db.tx(async |tx| {
            tx.exec(INSERT, params![1, "a"]).await?;
            Err(Error::Other("early".to_owned()))
        })
        .await;
    assert!(early.is_err());
    is_outside().await;
    // A statement that is dropped before its answer came.
    let dropped: Result<()> =
        f.db.tx(async |tx| {
            tx.exec(INSERT, params![1, "a"]).await?;
            assert!(tx.query("SELECT pg_sleep(0.01)", params![]).now_or_never().is_none());
            Ok(())
        })
        .await;
    assert_eq!(dropped, Err(Error::BodyPending));
    is_outside().await;
    // A caller that goes away: the body has begun, so it ends by itself, and the connection comes back clean.
    let begun = Arc::new(AtomicBool::new(false));
    let seen = begun.clone();
    let mut call = f.db.tx(async move |tx| -> Result<()> {
        tx.exec(INSERT, params![1, "a"]).await?;
        seen.store(true, Ordering::Relaxed);
        Err(Error::Other("rolled back".to_owned()))
    });
    while !begun.load(Ordering::Relaxed) {
        assert!((&mut call).now_or_never().is_none() || begun.load(Ordering::Relaxed));
        tokio::task::yield_now().await;
    }
    drop(call);
    is_outside().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_statement_is_stopped_on_the_server_too() {
    let f = postgres_with(|options| options.statement_timeout = Duration::from_millis(100)).await;
    let slow: Result<()> =
        f.db.tx(async |tx| {
            tx.exec(INSERT, params![1, "a"]).await?;
            tx.query("SELECT pg_sleep(600)", params![]).await.map(drop)
        })
        .await;
    assert_eq!(slow, Err(Error::Timeout));
    assert_eq!(f.db.query("SELECT pg_sleep(600)", params![]).await, Err(Error::Timeout));
    let running = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
        AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()";
    testkit::eventually(Duration::from_secs(20), "the server to stop", async || {
        f.db.get(running, params![]).await.unwrap().unwrap().get::<i64>(0) == Ok(0)
    })
    .await;
    assert_eq!(count(&f.db).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_is_refused_after_a_bound() {
    let f = postgres_with(|options| {
        options.pool_size = 1;
        options.queue_wait = Duration::from_millis(50);
    })
    .await;
    let release = Arc::new(AtomicBool::new(false));
    let (held, begun) = (release.clone(), Arc::new(AtomicBool::new(false)));
    let seen = begun.clone();
    let holder = tokio::spawn(f.db.tx(async move |tx| -> Result<()> {
        while !held.load(Ordering::Relaxed) {
            tx.query("SELECT 1", params![]).await?;
            seen.store(true, Ordering::Relaxed);
        }
        Ok(())
    }));
    testkit::eventually(Duration::from_secs(20), "the pool to be taken", async || begun.load(Ordering::Relaxed)).await;
    assert_eq!(f.db.exec(INSERT, params![1, "a"]).await, Err(Error::Overloaded));
    let stats = f.db.stats();
    assert_eq!((stats.pool_size, stats.pool_in_use), (1, 1));
    release.store(true, Ordering::Relaxed);
    assert_eq!(holder.await.unwrap(), Ok(()));
    assert_eq!(f.db.exec(INSERT, params![1, "a"]).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_table_does_not_break_prepared_statements() {
    let f = postgres_with(|options| options.pool_size = 1).await;
    let all = "SELECT * FROM things";
    f.db.query(all, params![]).await.unwrap();
    f.db.exec("ALTER TABLE things ADD COLUMN more BIGINT", params![]).await.unwrap();
    f.db.query(all, params![]).await.unwrap();
    f.db.exec("ALTER TABLE things DROP COLUMN more", params![]).await.unwrap();
    let in_tx: Result<()> = f.db.tx(async |tx| tx.query(all, params![]).await.map(drop)).await;
    in_tx.unwrap();
}

async fn next_of(watch: &mut broadcast::Receiver<Change>, wanted: Change) {
    let wait = async { while watch.recv().await.unwrap() != wanted {} };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("no {wanted:?} came"));
}

async fn tell(db: &Db, key: i64) {
    let told: Result<()> = db
        .tx(async move |tx| {
            tx.notify("things", key);
            Ok(())
        })
        .await;
    told.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wake_ups_reach_other_nodes_and_a_lost_listen_resyncs() {
    let one = postgres().await;
    let two = connect(postgres_options(&one.url), &one.lifecycle).await;
    let mut watch = two.watch("things");
    tell(&one.db, 7).await;
    next_of(&mut watch, Change::Key(7)).await;

    let ended = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'mainstay listen'";
    let row = one.db.get(ended, params![]).await.unwrap().unwrap();
    assert_eq!(row.get::<i64>(0), Ok(2));
    next_of(&mut watch, Change::Resync).await;
    assert_eq!(two.stats().listen_lost_count, 1);
    tell(&one.db, 8).await;
    next_of(&mut watch, Change::Key(8)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_notification_is_noticed_in_the_end() {
    // A node that dies between commit and NOTIFY tells nobody; the slow polling beneath does.
    let f = postgres_with(|options| options.resync_interval = Duration::from_millis(20)).await;
    let mut watch = f.db.watch("things");
    next_of(&mut watch, Change::Resync).await;
    next_of(&mut watch, Change::Resync).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_typed_and_comes_back() {
    let mut server = testkit::Postgres::start(testkit::Options::default());
    let url = server.fresh_database();
    let lifecycle = lifecycle();
    let db = connect(postgres_options(&url), &lifecycle).await;
    db.migrate("test", MIGRATIONS).await.unwrap();
    let mut watch = db.watch("things");
    server.stop();
    let away = db.exec(INSERT, params![1, "a"]).await;
    assert!(matches!(away, Err(Error::Conn(_) | Error::Unknown)), "{away:?}");
    let away: Result<u64> = db.tx(async |tx| tx.exec(INSERT, params![1, "a"]).await).await;
    assert!(matches!(away, Err(Error::Conn(_))), "{away:?}");
    let tasks = lifecycle.tasks(Stage::Planes);
    let refused = Db::connect_postgres(postgres_options(&url), Clock::system(), Rng::system(), &tasks).await;
    assert!(matches!(refused, Err(Error::Conn(_))), "{refused:?}");
    server.restart();
    next_of(&mut watch, Change::Resync).await;
    assert_eq!(db.exec(INSERT, params![1, "a"]).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_verified_when_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    // The server's user has to own its key.
    let owner = std::fs::metadata(testkit::shared_postgres().sql("SHOW data_directory")).unwrap();
    std::os::unix::fs::chown(&key, Some(owner.uid()), Some(owner.gid())).unwrap();
    let settings = vec![
        ("ssl", "on".to_owned()),
        ("ssl_cert_file", certificate.display().to_string()),
        ("ssl_key_file", key.display().to_string()),
    ];
    let server = testkit::Postgres::start(testkit::Options { durable: false, settings });
    let url = format!("{}?sslmode=verify-full", server.url()).replace("127.0.0.1", "localhost");
    let lifecycle = lifecycle();
    let options = |ca_file| PostgresOptions { url: Secret::new(&url), ca_file, ..postgres_options(&url) };
    let db = connect(options(Some(certificate)), &lifecycle).await;
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let row = db.get(encrypted, params![]).await.unwrap().unwrap();
    assert_eq!(row.get::<bool>(0), Ok(true));
    let tasks = lifecycle.tasks(Stage::Planes);
    let unknown_authority = Db::connect_postgres(options(None), Clock::system(), Rng::system(), &tasks).await;
    assert!(matches!(unknown_authority, Err(Error::Conn(_))), "{unknown_authority:?}");
}
