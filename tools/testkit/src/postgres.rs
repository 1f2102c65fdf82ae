use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;

use crate::{Process, Signal, Spec, binary, find::servant, free_port, wait_until};

const PATIENCE: Duration = Duration::from_mins(1);

/// How to run PostgreSQL.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `true` keeps `fsync`, `synchronous_commit` and full page writes, for crash tests and benchmarks; `false` is fast.
    pub durable: bool,
    /// More settings, as in postgresql.conf; the later wins.
    pub settings: Vec<(&'static str, String)>,
}

/// One PostgreSQL server with its own data folder. Dropping it stops it and removes the folder.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    folder: TempDir,
    port: u16,
    options: Options,
    database_count: AtomicU32,
}

/// The one server of this test process, with fast settings; ask it for a [`Postgres::fresh_database`].
pub fn shared_postgres() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(|| Postgres::start(Options::default()))
}

impl Postgres {
    /// Makes a data folder and starts a server over it.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not come up; with its log.
    pub fn start(options: Options) -> Self {
        let folder = tempfile::Builder::new().prefix("testkit-pg-").tempdir().expect("a temporary folder can be made");
        if let Some((uid, gid)) = servant() {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).expect("root can give a folder away");
        }
        let mut init = Command::new(binary("initdb"));
        init.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        init.arg("--pgdata").arg(folder.path().join("data"));
        run_as_servant(init, "initdb");
        let mut this = Self { process: None, folder, port: free_port(), options, database_count: AtomicU32::new(0) };
        this.launch();
        this
    }

    fn launch(&mut self) {
        let data = self.folder.path().join("data");
        let mut arguments: Vec<OsString> =
            vec!["-D".into(), data.clone().into(), "-p".into(), self.port.to_string().into()];
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", self.folder.path().display().to_string()),
            ("max_connections", "300".to_owned()),
            ("logging_collector", "off".to_owned()),
        ];
        if !self.options.durable {
            let fast = [
                ("fsync", "off"),
                ("synchronous_commit", "off"),
                ("full_page_writes", "off"),
                ("shared_buffers", "32MB"),
            ];
            settings.extend(fast.map(|(key, value)| (key, value.to_owned())));
        }
        settings.extend(self.options.settings.iter().cloned());
        for (key, value) in settings {
            arguments.extend(["-c".into(), format!("{key}={value}").into()]);
        }
        let mut spec = Spec::new(binary("postgres"), arguments, self.folder.path().join("log"));
        spec.user = servant();
        spec.end = Signal::SIGQUIT;
        spec.folder = Some(self.folder.path().to_path_buf());
        let mut process = Process::start(&spec);
        let pid = process.pid().to_string();
        process.await_ready("PostgreSQL", PATIENCE, || {
            // The postmaster states itself in the eighth line; the first tells whether the file is this one's.
            let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines.first() == Some(&pid.as_str()) && lines.get(7).is_some_and(|state| state.trim() == "ready")
        });
        self.process = Some(process);
    }

    /// The port on 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the database `postgres`.
    pub fn url(&self) -> String {
        self.database_url("postgres")
    }

    /// The URL of a database of this server.
    pub fn database_url(&self, name: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// Makes an empty database and returns its URL.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn fresh_database(&self) -> String {
        let name = format!("fresh_{}", self.database_count.fetch_add(1, Ordering::Relaxed));
        self.sql(&format!("CREATE DATABASE {name}"));
        self.database_url(&name)
    }

    /// Runs one statement as superuser in the database `postgres` and returns its rows, one a line, columns apart by `|`.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql(&self, statement: &str) -> String {
        let mut psql = Command::new(binary("psql"));
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set=ON_ERROR_STOP=1"]);
        psql.arg(format!("--command={statement}")).arg(self.url());
        let output = psql.output().expect("psql can be started");
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Ends every other connection to a database (given by name or URL), as an administrator would.
    pub fn terminate_backends(&self, database: &str) {
        let name = database.rsplit('/').next().unwrap_or(database);
        self.sql(&format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        ));
    }

    /// The process id of the postmaster; `None` while stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// Stops as `pg_ctl stop -m fast`: connections are ended, a checkpoint is written.
    pub fn stop(&mut self) {
        self.end(Signal::SIGINT);
    }

    /// Stops as `pg_ctl stop -m immediate`: no checkpoint, so the next start recovers from the log.
    pub fn stop_immediate(&mut self) {
        self.end(Signal::SIGQUIT);
    }

    /// Kills the postmaster with SIGKILL, by its id, and waits until its children noticed.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Starts again over the same data on the same port, stopping first if it runs.
    ///
    /// # Panics
    /// When it does not come up; with its log.
    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut process) = self.process.take() else { return };
        let children = children_of(process.pid());
        process.end(signal, PATIENCE);
        // A new postmaster refuses to start while one of them still has the shared memory.
        wait_until(PATIENCE, "the back ends to end", || {
            children.iter().all(|pid| !PathBuf::from(format!("/proc/{pid}")).exists())
        });
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end(Signal::SIGQUIT);
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // After the name in parentheses: state, then parent.
            let fields = stat.rsplit(')').next().unwrap_or_default();
            fields.split_whitespace().nth(1).and_then(|p| p.parse().ok()) == Some(parent)
        })
        .collect()
}

fn run_as_servant(mut command: Command, name: &str) {
    if let Some((uid, gid)) = servant() {
        command.uid(uid).gid(gid).current_dir("/");
    }
    let output = command.output().unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
    assert!(
        output.status.success(),
        "{name} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
