//! What the commands share that open the data themselves, beside or instead of a server.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::Duration,
};

use database::{Db, PostgresOptions, Progress, SQLITE_FILE_NAME};
use kernel::{Clock, Lifecycle, Rng, Secret, Stage};

use super::serve::Failed;
use crate::{
    cli::ConfigArgs,
    config::{Config, settings},
    output::note,
    rooms::MIGRATIONS,
};

/// Longest wait for planes to let go.
const CLOSE_BOUND: Duration = Duration::from_secs(10);

/// A configuration and what it takes to open planes.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
    pub(crate) lifecycle: Lifecycle,
}

impl State {
    pub(crate) fn load(args: &ConfigArgs) -> Result<Self, Failed> {
        let config = Config::load(&settings(args)?)?;
        let (clock, rng) = (Clock::system(), Rng::system());
        let lifecycle = Lifecycle::new(clock.clone(), rng.clone());
        Ok(Self { config, clock, rng, lifecycle })
    }

    /// The file of the embedded engine.
    pub(crate) fn sqlite_file(&self) -> PathBuf {
        self.config.server.data_dir.join(SQLITE_FILE_NAME)
    }

    /// Whether state is kept in PostgreSQL.
    pub(crate) fn is_postgres(&self) -> bool {
        !self.config.database.url.is_empty()
    }

    /// What the configuration names, with every schema up to date.
    pub(crate) async fn open(&self) -> Result<Db, Failed> {
        let tasks = self.lifecycle.tasks(Stage::Planes);
        let (clock, rng) = (self.clock.clone(), self.rng.clone());
        migrated(Db::open(&self.config.database, &self.config.server.data_dir, clock, rng, &tasks).await).await
    }

    /// An SQLite file, with every schema up to date.
    pub(crate) async fn open_file(&self, file: &Path) -> Result<Db, Failed> {
        let tasks = self.lifecycle.tasks(Stage::Planes);
        let options = database::SqliteOptions::from(&self.config.database);
        migrated(Db::open_sqlite(file, options, self.clock.clone(), &tasks)).await
    }

    /// Another PostgreSQL database than the configured one, with every schema up to date.
    pub(crate) async fn open_postgres(&self, url: &str) -> Result<Db, Failed> {
        let tasks = self.lifecycle.tasks(Stage::Planes);
        let options = PostgresOptions { url: Secret::new(url), ..PostgresOptions::from(&self.config.database) };
        migrated(Db::connect_postgres(options, self.clock.clone(), self.rng.clone(), &tasks).await).await
    }

    /// Lets go of every file and connection.
    pub(crate) async fn close(&self) {
        self.lifecycle.shutdown(CLOSE_BOUND).await;
    }
}

async fn migrated(opened: database::Result<Db>) -> Result<Db, Failed> {
    let db = opened.map_err(failed)?;
    for (system, migrations) in MIGRATIONS {
        db.migrate(system, migrations).await.map_err(failed)?;
    }
    Ok(db)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn failed(e: database::Error) -> Failed {
    Failed::from(e.to_string())
}

/// Shows how far long work has come, on a terminal as one line that is written over, else as a line every tenth.
pub(crate) fn progress(what: &'static str) -> impl FnMut(&Progress) + Send + 'static {
    let terminal = std::io::stderr().is_terminal();
    let mut told = 0;
    move |p| {
        let percent = p.done_count * 100 / p.total_count.max(1);
        if terminal {
            use std::io::Write as _;
            drop(write!(std::io::stderr(), "\r\x1b[K{what} {percent} % {}", p.table));
            if p.done_count == p.total_count {
                drop(writeln!(std::io::stderr()));
            }
        } else if percent / 10 > told {
            told = percent / 10;
            note(format!("{what} {percent} %"));
        }
    }
}
