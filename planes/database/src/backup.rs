//! Online backup into one SQLite file, and restore from it.
//!
//! A backup of SQLite is a copy of its pages at one snapshot. A backup of PostgreSQL is a SQLite database that was migrated by
//! the same steps and holds one snapshot's rows: either can be opened as it is, restored, or copied to PostgreSQL.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};

use crate::{
    DataLock, Db, Durability, Error, Result, SqliteOptions,
    db::On,
    sqlite::{Sqlite, beside, blocking, create_private, sqlite_error},
    topics::Topics,
    transfer::{Progress, copy},
};

/// Pages between two looks at the progress: 1 MiB.
const PAGES_PER_STEP: i32 = 256;

impl Db {
    /// Writes a consistent backup into the new file `to` while work goes on. All or nothing: `to` appears when it is complete,
    /// checked and on disk. [`Error::NotEmpty`] when it exists.
    ///
    /// On PostgreSQL every system has to have been migrated through this handle, since the backup is made by the same steps.
    pub async fn backup(&self, to: &Path, mut progress: impl FnMut(&Progress) + Send + 'static) -> Result<()> {
        let place = Place::take(to)?;
        match self.on() {
            On::Sqlite(db) => {
                let source = db.open_reader()?;
                blocking(move || snapshot(source.raw(), &place, &mut progress)).await
            }
            On::Postgres(db) => {
                let options = SqliteOptions { durability: Durability::Normal, ..SqliteOptions::default() };
                let topics = Arc::new(Topics::default());
                let file = Sqlite::open(&place.partial, options, db.clock().clone(), &topics)?;
                let target = Self::detached(On::Sqlite(Arc::new(file)), topics);
                let copied = copy(self, &target, progress).await;
                target.close().await;
                copied?;
                blocking(move || place.complete()).await
            }
        }
    }
}

/// The same as [`Db::backup`] from beside the process that holds the SQLite file `from`: it only reads, so it needs no lock.
pub async fn backup_file(from: &Path, to: &Path, mut progress: impl FnMut(&Progress) + Send + 'static) -> Result<()> {
    let place = Place::take(to)?;
    let from = from.to_path_buf();
    blocking(move || {
        let source = open_existing(&from)?;
        snapshot(&source, &place, &mut progress)
    })
    .await
}

/// One snapshot for all steps: without it, every write in between would start the copy over.
fn snapshot(source: &Connection, place: &Place, progress: &mut impl FnMut(&Progress)) -> Result<()> {
    source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema").map_err(|e| sqlite_error(&e))?;
    copy_pages(source, &place.partial, progress)?;
    place.complete()
}

fn open_existing(file: &Path) -> Result<Connection> {
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| sqlite_error(&e))
}

/// Puts the backup `from` at the new place `to` (a SQLite file), after checking that it is whole. [`Error::NotEmpty`] when
/// there is a file, [`Error::Corrupt`] when the backup is damaged; then nothing was done.
///
/// To restore into PostgreSQL, open the backup with [`Db::open_sqlite`], migrate both, and [`copy`].
pub async fn restore(from: &Path, to: &Path, mut progress: impl FnMut(&Progress) + Send + 'static) -> Result<()> {
    let place = Place::take(to)?;
    let from = from.to_path_buf();
    blocking(move || {
        let source = open_existing(&from)?;
        check(&source)?;
        let known = source
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = '_migrations'", [], |row| row.get::<_, i64>(0))
            .map_err(|e| sqlite_error(&e))?;
        if known == 0 {
            return Err(Error::Corrupt(format!("{} is not a backup of Mainstay", from.display())));
        }
        copy_pages(&source, &place.partial, &mut progress)?;
        place.complete()
    })
    .await
}

/// A place where a file will appear at once or not at all.
struct Place {
    to: PathBuf,
    partial: PathBuf,
    /// Two of these at once would write the same partial file.
    _busy: DataLock,
}

impl Place {
    fn take(to: &Path) -> Result<Self> {
        for taken in [to.to_path_buf(), beside(to, "-wal")] {
            if taken.exists() {
                return Err(Error::NotEmpty(format!("{} exists already", taken.display())));
            }
        }
        let partial = beside(to, ".partial");
        let busy = DataLock::acquire_file(folder_of(to), &beside(&partial, ".busy"))?;
        let place = Self { to: to.to_path_buf(), partial, _busy: busy };
        // What an attempt that was killed left behind.
        place.clean();
        Ok(place)
    }

    fn clean(&self) {
        for suffix in ["", "-wal", "-shm", "-journal", ".lock"] {
            // What is not there need not be removed; what cannot be is reported when the file is opened.
            drop(fs::remove_file(beside(&self.partial, suffix)));
        }
    }

    /// Checks what was written, and gives it its name.
    fn complete(&self) -> Result<()> {
        let fail = |e: std::io::Error| match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::DiskFull,
            ErrorKind::AlreadyExists => Error::NotEmpty(format!("{} exists already", self.to.display())),
            _ => Error::Other(format!("{}: {e}", self.to.display())),
        };
        let written = Connection::open(&self.partial).map_err(|e| sqlite_error(&e))?;
        // One file without companions.
        written.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(())).map_err(|e| sqlite_error(&e))?;
        check(&written)?;
        written.close().map_err(|(_, e)| sqlite_error(&e))?;
        File::open(&self.partial).and_then(|f| f.sync_all()).map_err(fail)?;
        // Unlike a rename, a second name never replaces what somebody else put there meanwhile.
        match fs::hard_link(&self.partial, &self.to) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => fs::rename(&self.partial, &self.to).map_err(fail)?,
            linked => linked.map_err(fail)?,
        }
        File::open(folder_of(&self.to)).and_then(|f| f.sync_all()).map_err(fail)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clean();
        drop(fs::remove_file(beside(&self.partial, ".busy")));
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn copy_pages(from: &Connection, to: &Path, progress: &mut impl FnMut(&Progress)) -> Result<()> {
    create_private(to)?;
    let mut target = Connection::open(to).map_err(|e| sqlite_error(&e))?;
    let backup = Backup::new(from, &mut target).map_err(|e| sqlite_error(&e))?;
    loop {
        let step = backup.step(PAGES_PER_STEP).map_err(|e| sqlite_error(&e))?;
        let pages = backup.progress();
        let total = u64::try_from(pages.pagecount).unwrap_or(0);
        let left = u64::try_from(pages.remaining).unwrap_or(0);
        progress(&Progress { table: String::new(), done_count: total.saturating_sub(left), total_count: total });
        match step {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            _ => return Err(Error::Busy),
        }
    }
}

fn check(conn: &Connection) -> Result<()> {
    let verdict = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
    match verdict.map_err(|e| sqlite_error(&e))?.as_str() {
        "ok" => Ok(()),
        found => Err(Error::Corrupt(found.to_owned())),
    }
}
