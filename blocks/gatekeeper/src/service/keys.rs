//! The keys of issuers: read when needed, kept while they hold.
//!
//! - KEYS-1: keys that are older than twice `refresh` are read again before they are believed, unless reading fails; those that are older than
//!   `keep` are believed by nobody.
//! - KEYS-2: a server is asked at most once every [`BETWEEN_READS`], whatever tokens come: a token with an unknown key cannot make the
//!   gateway hammer its issuer.
//! - KEYS-3: while keys hold, a failure to read them again refuses nobody and delays only the request that noticed it first.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use kernel::{Clock, Tasks};
use tokio::sync::Mutex;

use super::discovery::{Discovery, check_url};
use crate::{Error, Fetch, FetchError, Limits, model::algorithm::KeySet};

/// The least time between two reads of one set.
pub(super) const BETWEEN_READS: Duration = Duration::from_secs(10);
/// Files are looked at so often.
const FILE_CHECK: Duration = Duration::from_secs(2);
/// How long an issuer is waited for.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest set.
pub(super) const MAX_SET_BYTES: usize = 256 * 1024;

/// Where keys come from. What is the same is read once for all policies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Url(String),
    File(PathBuf),
    /// Where the metadata of this issuer says.
    Issuer(String),
}

/// How long keys hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ages {
    pub(super) refresh: Duration,
    pub(super) keep: Duration,
}

impl Ages {
    pub(super) const DEFAULT: Self = Self { refresh: Duration::from_mins(10), keep: Duration::from_hours(24) };
}

pub(super) struct Keys {
    source: Source,
    ages: Ages,
    clock: Clock,
    tasks: Tasks,
    fetch: Arc<dyn Fetch>,
    discovery: Option<Arc<Discovery>>,
    known: ArcSwapOption<Known>,
    /// Whose turn it is to read, and when that was last done.
    reading: Mutex<Option<Duration>>,
    is_in_background: AtomicBool,
    is_failing: AtomicBool,
    /// `key_reads{outcome}`.
    counters: crate::telemetry::KeyReads,
}

/// A set, and when it was read.
pub(super) struct Known {
    pub(super) set: KeySet,
    read_at: Duration,
    /// Of a file.
    written_at: Option<std::time::SystemTime>,
}

impl Keys {
    pub(super) fn new(
        source: Source,
        ages: Ages,
        discovery: Option<Arc<Discovery>>,
        inner: &super::Inner,
    ) -> Arc<Self> {
        let deps = &inner.deps;
        Arc::new(Self {
            source,
            ages,
            clock: deps.clock.clone(),
            tasks: deps.tasks.clone(),
            fetch: deps.fetch.clone(),
            discovery,
            known: ArcSwapOption::empty(),
            reading: Mutex::new(None),
            is_in_background: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
            counters: inner.telemetry.key_reads.clone(),
        })
    }

    /// The keys as they are, KEYS-1.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<Known>, Error> {
        let now = self.clock.monotonic();
        let refresh = if matches!(self.source, Source::File(_)) { FILE_CHECK } else { self.ages.refresh };
        let Some(known) = self.known.load_full() else {
            self.read().await;
            return self.usable();
        };
        let age = now.saturating_sub(known.read_at);
        if age <= refresh {
            return Ok(known);
        }
        // Nobody waits for an issuer that did not answer a moment ago, as long as its keys hold.
        let may_lag = age <= refresh * 2 || self.is_failing.load(Ordering::Relaxed);
        if may_lag && age <= self.ages.keep {
            self.read_in_background();
            return Ok(known);
        }
        self.read().await;
        self.usable()
    }

    /// The keys after a look whether there are new ones, for a token whose key is unknown; `None` when they are the same as `known`.
    pub(super) async fn newer_than(self: &Arc<Self>, known: &Arc<Known>) -> Option<Arc<Known>> {
        self.read().await;
        self.known.load_full().filter(|now| !Arc::ptr_eq(now, known))
    }

    fn usable(&self) -> Result<Arc<Known>, Error> {
        let now = self.clock.monotonic();
        let known = self.known.load_full().filter(|known| now.saturating_sub(known.read_at) <= self.ages.keep);
        known.ok_or_else(|| Error::unavailable(format!("no keys from {}", self.source.text())))
    }

    fn read_in_background(self: &Arc<Self>) {
        if self.is_in_background.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = self.clone();
        self.tasks.spawn("gatekeeper_keys", async move {
            this.read().await;
            this.is_in_background.store(false, Ordering::Release);
        });
    }

    /// Reads them, unless that was done a moment ago (KEYS-2) or somebody else just does: then their outcome is waited for.
    async fn read(&self) {
        let came_at = self.clock.monotonic();
        let mut last = self.reading.lock().await;
        let between = if matches!(self.source, Source::File(_)) { FILE_CHECK } else { BETWEEN_READS };
        let now = self.clock.monotonic();
        if last.is_some_and(|last| last >= came_at || now.saturating_sub(last) < between) {
            return;
        }
        *last = Some(now);
        let before = self.known.load_full();
        let outcome = self.read_once(before.as_deref()).await;
        match outcome {
            Ok(known) => {
                self.counters.read.inc();
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(from = self.source.text(), "keys are read again");
                }
                if before.as_ref().is_none_or(|before| before.set != known.set) {
                    tracing::info!(from = self.source.text(), count = known.set.len(), "keys read");
                }
                self.known.store(Some(Arc::new(known)));
            }
            Err(why) => {
                self.counters.failed.inc();
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    let left = before.map(|known| {
                        self.ages.keep.saturating_sub(self.clock.monotonic().saturating_sub(known.read_at)).as_secs()
                    });
                    tracing::warn!(
                        from = self.source.text(),
                        why = why.0,
                        keys_hold_for_s = left,
                        "keys cannot be read"
                    );
                }
            }
        }
        // An issuer that takes long is not asked again as soon as it has failed.
        *last = Some(self.clock.monotonic());
    }

    async fn read_once(&self, before: Option<&Known>) -> Result<Known, FetchError> {
        let read_at = self.clock.monotonic();
        let url = match &self.source {
            Source::File(path) => return read_file(path.clone(), before, read_at).await,
            Source::Url(url) => url.clone(),
            Source::Issuer(_) => {
                let discovery = self.discovery.as_ref().ok_or_else(|| FetchError("no discovery".to_owned()))?;
                discovery.metadata().await?.0.jwks_uri.clone()
            }
        };
        let bytes = get_json(&*self.fetch, &url, MAX_SET_BYTES).await?;
        let set = KeySet::parse(&bytes).map_err(|why| FetchError(format!("{url}: {why}")))?;
        Ok(Known { set, read_at, written_at: None })
    }
}

impl Source {
    fn text(&self) -> String {
        match self {
            Self::Url(url) => url.clone(),
            Self::File(path) => path.display().to_string(),
            Self::Issuer(issuer) => issuer.clone(),
        }
    }

    /// A URL that keys may come from.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Url(url) | Self::Issuer(url) => check_url(url).map(drop),
            Self::File(path) => {
                let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
                KeySet::parse(&bytes).map(drop).map_err(|why| format!("{}: {why}", path.display()))
            }
        }
    }
}

/// Asks for a JSON document.
pub(super) async fn get_json(fetch: &dyn Fetch, url: &str, max_body_bytes: usize) -> Result<Bytes, FetchError> {
    let request = Request::get(url)
        .header(header::ACCEPT, "application/json")
        .body(Bytes::new())
        .map_err(|e| FetchError(format!("{url}: {e}")))?;
    let response = fetch.fetch(request, Limits { timeout: READ_TIMEOUT, max_body_bytes }).await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError(format!("{url} answered {}", response.status())));
    }
    Ok(response.into_body())
}

async fn read_file(path: PathBuf, before: Option<&Known>, read_at: Duration) -> Result<Known, FetchError> {
    let known = before.map(|known| (known.set.clone(), known.written_at));
    let read = move || -> Result<Known, String> {
        let written_at = written_at(&path);
        if let Some((set, _)) = known.filter(|(_, at)| at.is_some() && *at == written_at) {
            return Ok(Known { set, read_at, written_at });
        }
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let set = KeySet::parse(&bytes).map_err(|why| format!("{}: {why}", path.display()))?;
        Ok(Known { set, read_at, written_at })
    };
    tokio::task::spawn_blocking(read).await.map_err(|e| FetchError(e.to_string()))?.map_err(FetchError)
}

pub(super) fn written_at(path: &Path) -> Option<std::time::SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}
