//! What destinations are refused: private hosts, this installation's own, and those of two block lists.
//!
//! One list is a file of each node, read anew when it changes; the other is kept by moderators in the database, for all nodes.
//!
//! - SAFETY-1: a link is made or changed only when none of its destinations is refused.
//! - SAFETY-2: a link that one of its destinations is blocked for leads nowhere, from the moment on that its node has the list: the
//!   list takes its place first, then everything in memory is forgotten, and what is being loaded is not kept (NEAR-2).
//! - SAFETY-3: a file that cannot be read never makes a list shorter: the one before stays.

use std::{
    fs::{File, Metadata},
    io::Read as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use database::Db;
use kernel::{Clock, Problem, Shutdown};
use tokio::sync::Notify;
use url::Url;

use super::{Shortener, near::Near};
use crate::{
    config::ShortenerConfig,
    error::{BLOCK_LIST_UNREADABLE, Error},
    model::{
        DestinationError, Invalid, Link, LinkSettings,
        block_list::{BlockList, Entry},
        safety,
    },
    store,
    telemetry::Telemetry,
};

/// How often the file and the database are looked at.
const TICK: Duration = Duration::from_secs(5);
/// The largest file.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// The most entries that moderators keep.
pub(crate) const MAX_MANAGED: u32 = 10_000;
/// How many of those are read by one statement.
const PAGE: u32 = 1000;

/// By what a change of the file is noticed.
type Seen = Option<(Option<SystemTime>, u64)>;

#[derive(Debug)]
pub(crate) struct BlockLists {
    file: ArcSwap<BlockList>,
    managed: ArcSwap<BlockList>,
    path: Option<PathBuf>,
    limit: usize,
    seen: Mutex<Seen>,
    /// Why the file could not be read the last time.
    trouble: Mutex<Option<String>>,
    /// Which state of the database's entries is in `managed`.
    version: AtomicI64,
    stale: Notify,
    telemetry: Telemetry,
}

impl BlockLists {
    /// Reads both lists. A file that cannot be read refuses the start: there is no list before it that could stay.
    pub(crate) async fn open(config: &ShortenerConfig, db: &Db, telemetry: Telemetry) -> Result<Self, Problem> {
        let lists = Self {
            file: ArcSwap::default(),
            managed: ArcSwap::default(),
            path: (!config.block_list.is_empty()).then(|| PathBuf::from(&config.block_list)),
            limit: config.block_list_entries,
            seen: Mutex::default(),
            trouble: Mutex::default(),
            version: AtomicI64::new(-1),
            stale: Notify::new(),
            telemetry,
        };
        lists.read_file().await;
        if let Some(trouble) = lists.trouble() {
            return Err(Problem::new(&BLOCK_LIST_UNREADABLE, trouble));
        }
        lists.read_managed(db).await?;
        Ok(lists)
    }

    /// Why the file's list is not the file's content; `None` when it is.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The entry that blocks a URL.
    pub(crate) fn find(&self, url: &Url) -> Option<String> {
        self.file.load().find(url).or_else(|| self.managed.load().find(url))
    }

    /// Has the database's entries read again soon.
    pub(crate) fn read_anew(&self) {
        self.version.store(-1, Ordering::SeqCst);
        self.stale.notify_one();
    }

    /// Reads the file when it changed; gives whether there is a new list.
    pub(crate) async fn read_file(&self) -> bool {
        let Some(path) = self.path.clone() else { return false };
        let (seen, limit) = (*self.seen.lock().unwrap_or_else(PoisonError::into_inner), self.limit);
        // A thread that may wait for the disk.
        let read = tokio::task::spawn_blocking(move || read(&path, seen, limit)).await;
        let (now, list) = match read {
            Ok(Some(read)) => read,
            Ok(None) => return false,
            Err(e) => (seen, Err(format!("reading it ended early: {e}"))),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
        let (trouble, is_new) = match list {
            Ok(list) => {
                tracing::info!(entries = list.len(), "the block list was read");
                self.telemetry.block_entries_file.set(i64::try_from(list.len()).unwrap_or(i64::MAX));
                self.file.store(Arc::new(list));
                (None, true)
            }
            Err(why) => {
                let path = self.path.as_deref().unwrap_or(Path::new("")).display().to_string();
                tracing::warn!(path, why, "the block list cannot be read; the one before stays");
                (Some(format!("shortener.block_list: {path}: {why}")), false)
            }
        };
        self.telemetry.block_list_stale.set(i64::from(trouble.is_some()));
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        is_new
    }

    /// Reads the database's entries when they changed; gives whether there is a new list.
    pub(crate) async fn read_managed(&self, db: &Db) -> Result<bool, Problem> {
        let version = store::block_version(db).await?;
        if self.version.load(Ordering::SeqCst) == version {
            return Ok(false);
        }
        let (mut entries, mut after) = (Vec::new(), String::new());
        loop {
            let page = store::blocks_after(db, &after, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            for block in page {
                after = block.id.to_string();
                match Entry::parse(&block.entry) {
                    Ok(entry) => entries.push(entry),
                    Err(why) => tracing::warn!(id = after, why, "an entry of the block list was left out"),
                }
            }
            if is_last || entries.len() > MAX_MANAGED as usize {
                break;
            }
        }
        let list = BlockList::of(&entries, MAX_MANAGED as usize * 2).map_err(Problem::internal)?;
        self.telemetry.block_entries_managed.set(i64::try_from(list.len()).unwrap_or(i64::MAX));
        self.managed.store(Arc::new(list));
        // The version was read first: what came in between is read once more.
        self.version.store(version, Ordering::SeqCst);
        Ok(true)
    }

    /// Keeps both true until shutdown.
    pub(crate) async fn keep(&self, near: &Near, db: &Db, clock: &Clock, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                () = self.stale.notified() => {}
                () = clock.sleep(TICK) => {}
                () = shutdown.wait() => return,
            }
            self.refresh(near, db).await;
        }
    }

    pub(crate) async fn refresh(&self, near: &Near, db: &Db) {
        let is_file_new = self.read_file().await;
        let is_managed_new = self.read_managed(db).await.unwrap_or_else(|problem| {
            tracing::warn!(%problem, "the blocks of moderators could not be read; those known stay");
            false
        });
        if is_file_new || is_managed_new {
            // SAFETY-2: the lists stand already.
            near.forget_all();
        }
    }
}

/// The file's content unless it is as it was `seen`.
fn read(path: &Path, seen: Seen, limit: usize) -> Option<(Seen, Result<BlockList, String>)> {
    let of = |m: &Metadata| (m.modified().ok(), m.len());
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) => return Some((None, Err(e.to_string()))),
    };
    // Looked at before it is read: a change while it is read is seen the next time.
    let now = Some(of(&metadata));
    if now == seen {
        return None;
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Some((now, Err("larger than 1 GiB".to_owned())));
    }
    let mut text = String::new();
    let list = File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
        .map_err(|e| e.to_string())
        .and_then(|_| {
            let hint = "shortener.block_list_entries allows";
            BlockList::parse(&text, limit).map_err(|e| match e {
                crate::model::block_list::ListError::TooMany(_) => format!("{e}, which is what {hint}"),
                line @ crate::model::block_list::ListError::Line { .. } => line.to_string(),
            })
        });
    Some((now, list))
}

impl Shortener {
    /// Refuses a destination that no link may lead to (SAFETY-1). It was parsed before.
    pub(crate) fn check_destination(&self, url: &str) -> Result<(), DestinationError> {
        let url = Url::parse(url).map_err(|_| DestinationError::NotAUrl)?;
        let host = url.host().ok_or(DestinationError::NotAUrl)?;
        let is_private = safety::is_private(&host);
        // On a machine's own addresses other ports are other services.
        let is_own = safety::host_of(&url).is_some_and(|host| self.0.domains.is_ours(host));
        if is_own && (!is_private || url.port_or_known_default() == self.0.own_port) {
            return Err(DestinationError::Own);
        }
        if is_private && !self.0.config.allow_private_destinations {
            return Err(DestinationError::Private);
        }
        match self.0.block_lists.find(&url) {
            Some(_) => Err(DestinationError::Blocked),
            None => Ok(()),
        }
    }

    /// Refuses a link for any of its destinations, and says which.
    pub(crate) fn check_link(&self, link: &Link) -> Result<(), Error> {
        self.check_destinations(&link.url, &link.settings)
    }

    /// The same for a link that is not made yet.
    pub(crate) fn check_destinations(&self, url: &str, settings: &LinkSettings) -> Result<(), Error> {
        self.check_destination(url).map_err(Error::InvalidUrl)?;
        let rules = settings.rules.iter().enumerate();
        let places = rules
            .flat_map(|(i, rule)| rule.to.iter().enumerate().map(move |(j, to)| (format!("/rules/{i}/to/{j}/url"), to)))
            .chain(settings.split.iter().enumerate().map(|(i, to)| (format!("/split/{i}/url"), to)));
        for (place, to) in places {
            self.check_destination(&to.url)
                .map_err(|why| Error::Field(Invalid { url: Some(why), ..Invalid::new(place, why.detail()) }))?;
        }
        Ok(())
    }

    /// Refuses a page of a domain.
    pub(crate) fn check_page(&self, url: Option<&str>, field: &'static str) -> Result<(), Error> {
        let Some(url) = url else { return Ok(()) };
        self.check_destination(url)
            .map_err(|why| Error::Field(Invalid { url: Some(why), ..Invalid::new(field, why.detail()) }))
    }

    /// Whether one of a link's destinations is on a block list now; visitors then get a page that says so.
    pub fn is_blocked(&self, link: &Link) -> bool {
        self.0.is_blocked(link)
    }

    /// Why the list in `shortener.block_list` is not what the file holds; `None` when it is.
    pub fn block_list_trouble(&self) -> Option<String> {
        self.0.block_lists.trouble()
    }

    /// Looks at both block lists now, as the background does every few seconds.
    pub async fn refresh_block_lists(&self) {
        self.0.block_lists.refresh(&self.0.near, &self.0.db).await;
    }

    /// Keeps the block lists true until shutdown.
    pub(crate) async fn keep_block_lists(&self, shutdown: &Shutdown) {
        self.0.block_lists.keep(&self.0.near, &self.0.db, &self.0.clock, shutdown).await;
    }
}

impl super::Shared {
    pub(super) fn is_blocked(&self, link: &Link) -> bool {
        std::iter::once(link.url.as_str())
            .chain(link.settings.destinations())
            .any(|url| Url::parse(url).is_ok_and(|url| self.block_lists.find(&url).is_some()))
    }
}
