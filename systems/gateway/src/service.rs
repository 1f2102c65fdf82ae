//! The handle: one table for all requests, and the document it is made from.

mod apply;
mod drains;
mod explain;
mod file;
mod last_good;
mod versions;

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use access::Access;
use arc_swap::{ArcSwap, Guard};
use database::Db;
use gatekeeper::Gatekeeper;
use kernel::{Clock, CursorKey, Problem, Rng, Tasks, Timestamp};
use limiter::Limiter;
use tokio::sync::watch;

pub use self::{
    apply::Checked,
    drains::MAX_DRAINS,
    explain::Question,
    file::parse as parse_file,
    versions::{Current, Expected, MAX_DOCUMENT_BYTES, Version, Written},
};
use self::{file::ConfigFile, last_good::LastGood};
use crate::{
    config::GatewayConfig,
    error::Error,
    l4::{self, ListenerState, Listeners},
    model::{Document, Origin, Parts, Table, Upstreams, compile, told},
    proxy::{self, DataPath, Format},
    store,
    telemetry::Telemetry,
    tls::{AcmeDeps, Certificates},
};

/// What the gateway stands on.
pub struct Deps {
    /// Its section.
    pub config: GatewayConfig,
    /// Where the last document that held is kept.
    pub data_dir: PathBuf,
    /// Versions of the document.
    pub db: Db,
    /// Secrets and the audit log.
    pub access: Access,
    /// Rate limits.
    pub limiter: Limiter,
    /// Policies.
    pub gatekeeper: Gatekeeper,
    /// Back ends.
    pub upstreams: Upstreams,
    /// Mainstay's own systems that can be routes.
    pub services: &'static [&'static str],
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// Where its metrics go.
    pub metrics: ::telemetry::Metrics,
}

/// The gateway. Cheap to clone; shared by all workers.
#[derive(Clone)]
pub struct Gateway(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) db: Db,
    pub(crate) access: Access,
    pub(crate) limiter: Limiter,
    pub(crate) gatekeeper: Gatekeeper,
    pub(crate) upstreams: Upstreams,
    pub(crate) services: &'static [&'static str],
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
    pub(crate) telemetry: Telemetry,
    cursors: CursorKey,
    pub(crate) certificates: Certificates,
    pub(crate) listeners: OnceLock<Listeners>,
    table: Arc<ArcSwap<Table>>,
    changes: watch::Sender<Arc<Table>>,
    /// One document is taken at a time.
    applying: tokio::sync::Mutex<()>,
    file: ConfigFile,
    last_good: LastGood,
    state: Mutex<State>,
}

/// What is known of how the document came.
#[derive(Debug, Clone, Default)]
struct State {
    /// Since when the table holds.
    applied_at: Option<Timestamp>,
    /// Why the document that should hold does not.
    trouble: Option<String>,
    /// Endpoints that are drained by hand: upstream and address.
    drained: HashSet<(String, String)>,
    /// The version in the database that could not be taken: it is not tried again before there is another.
    refused_version: i64,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gateway")
    }
}

impl Gateway {
    /// Brings its tables up to date and takes the document: the file's, else the database's. Where that cannot be used, the one that held last
    /// on this machine goes on; without one, a file that cannot be used refuses the start.
    pub async fn open(deps: Deps) -> Result<Self, Problem> {
        let Deps { config, data_dir, db, access, limiter, gatekeeper, upstreams, services, clock, rng, metrics } = deps;
        db.migrate("gateway", store::MIGRATIONS).await?;
        let nothing = Parts { upstream: &|_| None, chain: &|_| unreachable_chain(), before: &|_| None };
        let table = compile(Arc::new(Document::built_in()), Origin::Default, 0, &nothing).map_err(Error::Invalid)?;
        let table = Arc::new(table);
        let acme = AcmeDeps { db: db.clone(), secret: access.secret("gateway.certificates"), rng: rng.clone() };
        let certificates = Certificates::new(&clock, Some(acme)).map_err(Problem::internal)?;
        let this = Self(Arc::new(Shared {
            certificates,
            listeners: OnceLock::new(),
            cursors: CursorKey::new(&access.secret("gateway.cursors")),
            telemetry: Telemetry::new(&metrics.registry("gateway")),
            table: Arc::new(ArcSwap::new(table.clone())),
            changes: watch::Sender::new(table),
            applying: tokio::sync::Mutex::new(()),
            file: ConfigFile::new(&config.config_file),
            last_good: LastGood::new(&data_dir),
            state: Mutex::default(),
            db,
            access,
            limiter,
            gatekeeper,
            upstreams,
            services,
            clock,
            rng,
        }));
        this.take_first().await?;
        Ok(this)
    }

    /// The table that holds now: one for a whole request.
    pub fn snapshot(&self) -> Guard<Arc<Table>> {
        self.0.table.load()
    }

    /// What answers requests: its workers follow the table. `tasks` runs the writer of the access log.
    pub fn data_path(&self, config: &GatewayConfig, tasks: &Tasks) -> Result<DataPath, String> {
        let access_log = match &*config.access_log {
            "" => None,
            path => {
                let format = Format::parse(&config.access_log_format)
                    .map_err(|why| format!("gateway.access_log_format: {why}"))?;
                Some((PathBuf::from(path), format))
            }
        };
        let [a, b, c, ..] = self.0.access.secret("gateway.via");
        Ok(DataPath::new(proxy::Deps {
            table: self.0.table.clone(),
            upstreams: self.0.upstreams.clone(),
            limiter: Some(self.0.limiter.clone()),
            clock: self.0.clock.clone(),
            rng: self.0.rng.clone(),
            secret: self.0.access.secret("gateway.sticky"),
            via: format!("mainstay-{a:02x}{b:02x}{c:02x}"),
            access_log,
            server_timing: config.server_timing,
            tasks: tasks.clone(),
        }))
    }

    /// Every table from now on, the one that holds first: for listeners and certificates, which follow it.
    pub fn tables(&self) -> watch::Receiver<Arc<Table>> {
        self.0.changes.subscribe()
    }

    /// Certificates by host.
    pub fn certificates(&self) -> &Certificates {
        &self.0.certificates
    }

    /// Listens where the document says, from now on, and looks after certificates. `tasks` are of the stage of listeners. A port that
    /// cannot be had is told as trouble, and tried again with the next document.
    pub fn listen(&self, tasks: &Tasks) {
        let listeners = Listeners::new(l4::Deps {
            upstreams: self.0.upstreams.clone(),
            certificates: self.0.certificates.clone(),
            clock: self.0.clock.clone(),
            tasks: tasks.clone(),
        });
        self.0.certificates.start(tasks);
        let applied = listeners.apply(&self.snapshot().document.listeners, "/listeners");
        drop(self.0.listeners.set(listeners));
        if let Err(faults) = applied {
            self.troubled(told(&faults));
        }
    }

    /// Listeners beside the public one.
    pub fn listeners(&self) -> Vec<ListenerState> {
        self.0.listeners.get().map(Listeners::states).unwrap_or_default()
    }

    /// Back ends.
    pub fn upstreams(&self) -> &Upstreams {
        &self.0.upstreams
    }

    /// Why the document that should hold does not; `None` when it does.
    pub fn trouble(&self) -> Option<String> {
        self.state(|state| state.trouble.clone())
    }

    /// Since when the table holds.
    pub fn applied_at(&self) -> Option<Timestamp> {
        self.state(|state| state.applied_at)
    }

    /// Whether the document stands in a file, and cannot be changed over the API.
    pub fn is_in_file(&self) -> bool {
        self.0.file.is_on()
    }

    fn state<T>(&self, of: impl FnOnce(&mut State) -> T) -> T {
        of(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The built-in document has no policies.
fn unreachable_chain() -> Result<Arc<crate::model::Chain>, kernel::FieldError> {
    Err(kernel::FieldError { field: String::new(), detail: "there are no policies".to_owned() })
}
