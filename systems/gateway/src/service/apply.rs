//! From a document to the table that holds.
//!
//! - APPLY-1: a document that cannot hold changes nothing: not the table, not an upstream.
//! - APPLY-2: a request sees one table, and what it names exists until the request is over.
//! - APPLY-3: routes, upstreams and endpoints that did not change keep their numbers, budgets, health and connections.
//! - APPLY-4: versions of the database are taken in rising order, whoever reads them at the same moment.

use std::sync::Arc;

use kernel::{FieldError, Problem};

use super::Gateway;
use crate::{
    error::{Error, Result},
    model::{Changes, Document, Origin, Parts, Table, check, compile, told},
    store,
};

/// What a document would do.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What cannot hold, by JSON pointer; empty: it can.
    pub errors: Vec<FieldError>,
    /// What is hardly meant.
    pub warnings: Vec<FieldError>,
    /// What would differ from what holds now.
    pub changes: Changes,
}

impl Gateway {
    /// Looks at a document as [`Gateway::put`] would, and changes nothing.
    pub fn check(&self, document: &Document) -> Checked {
        let mut found = check(document, self.0.services);
        if found.errors.is_empty() {
            // Reads the files that policies name.
            found.errors.extend(self.0.gatekeeper.compile(&document.policies).err().unwrap_or_default());
            found.errors.extend(self.0.certificates.check(&document.certificates, "/certificates"));
            let listeners = self.0.listeners.get().map(|l| l.check(&document.listeners, "/listeners"));
            found.errors.extend(listeners.unwrap_or_default());
        }
        let changes = Changes::new(&self.snapshot().document, document);
        Checked { errors: found.errors, warnings: found.warnings, changes }
    }

    /// Makes a document the one that holds.
    pub(super) async fn apply(&self, document: Document, origin: Origin, version: i64) -> Result<(), Vec<FieldError>> {
        let _one = self.0.applying.lock().await;
        let before = self.0.table.load_full();
        let is_stored = |origin: Origin| origin == Origin::Database;
        if is_stored(origin) && is_stored(before.origin) && version <= before.version {
            return Ok(());
        }
        let found = check(&document, self.0.services);
        if !found.errors.is_empty() {
            return Err(found.errors);
        }
        let policies = self.0.gatekeeper.compile(&document.policies)?;
        let faults = self.0.certificates.check(&document.certificates, "/certificates");
        if !faults.is_empty() {
            return Err(faults);
        }
        // Those that the table before names live on in it until its last request is over.
        self.0.upstreams.apply(&document.upstreams)?;
        let document = Arc::new(document);
        let compiled = compile(
            document.clone(),
            origin,
            version,
            &Parts {
                upstream: &|name| self.0.upstreams.get(name),
                chain: &|names| policies.chain(names),
                before: &|name| before.route(name).cloned(),
            },
        );
        let table = match compiled.and_then(|table| self.apply_edges(&document).map(|()| Arc::new(table))) {
            Ok(table) => table,
            Err(faults) => {
                self.go_back_to(&before.document);
                return Err(faults);
            }
        };
        self.0.table.store(table.clone());
        self.state(|state| {
            state.applied_at = Some(self.0.clock.now());
            state.trouble = None;
            state.refused_version = 0;
        });
        self.0.telemetry.applied(&table);
        tracing::info!(
            origin = origin.as_str(),
            version,
            routes = table.routes().len(),
            upstreams = document.upstreams.len(),
            "the gateway's document holds"
        );
        if matches!(origin, Origin::File | Origin::Database) {
            self.0.last_good.save(&document, origin, version).await;
        }
        self.0.changes.send_replace(table);
        Ok(())
    }

    /// What stands before and beside routes: certificates, and ports, which somebody else may have taken.
    fn apply_edges(&self, document: &Document) -> Result<(), Vec<FieldError>> {
        self.0.certificates.apply(&document.certificates, "/certificates")?;
        match self.0.listeners.get() {
            Some(listeners) => listeners.apply(&document.listeners, "/listeners"),
            None => Ok(()),
        }
    }

    /// Upstreams and certificates as they were; listeners did not change.
    fn go_back_to(&self, before: &Document) {
        let upstreams = self.0.upstreams.apply(&before.upstreams);
        let certificates = self.0.certificates.apply(&before.certificates, "/certificates");
        for faults in [upstreams, certificates].into_iter().filter_map(Result::err) {
            tracing::error!(faults = told(&faults), "the gateway cannot go back to what held");
        }
    }

    /// The document at the start.
    pub(super) async fn take_first(&self) -> Result<(), Problem> {
        let trouble = if self.is_in_file() {
            self.refresh_file().await;
            let Some(why) = self.trouble() else { return Ok(()) };
            why
        } else {
            match self.refresh().await {
                Ok(()) => match self.trouble() {
                    None => return Ok(()),
                    Some(why) => why,
                },
                Err(error) => error.to_string(),
            }
        };
        match self.0.last_good.load().await {
            Some((document, version)) => {
                if let Err(faults) = self.apply(document, Origin::LastGood, version).await {
                    self.troubled(format!("{trouble}; nor what held last: {}", told(&faults)));
                } else {
                    tracing::warn!(trouble, "the gateway starts with what held last on this machine");
                    self.troubled(trouble);
                }
                Ok(())
            }
            None if self.is_in_file() => Err(Error::File(trouble).into()),
            None => Ok(()),
        }
    }

    /// Looks at the file now, as the background does every second; gives whether there is a new document.
    pub async fn refresh_file(&self) -> bool {
        let Some(read) = self.0.file.read_if_changed().await else { return false };
        let path = self.0.file.shown();
        let taken = match read {
            Ok(document) => self.apply(document, Origin::File, 0).await.map_err(|faults| told(&faults)),
            Err(why) => Err(why),
        };
        if let Err(why) = &taken {
            self.troubled(format!("gateway.config_file: {path}: {why}"));
        }
        taken.is_ok()
    }

    /// Takes what other nodes have written, as the background does several times a second.
    pub async fn refresh(&self) -> Result<()> {
        if self.is_in_file() {
            return Ok(());
        }
        let head = store::head(&self.0.db).await?;
        let (version, origin) = (self.snapshot().version, self.snapshot().origin);
        let is_here = version == head && origin != Origin::LastGood;
        if head == 0 || is_here || self.state(|state| state.refused_version == head) {
            return Ok(());
        }
        let Some(stored) = store::version(&self.0.db, head).await? else { return Ok(()) };
        let taken = match serde_json::from_str::<Document>(&stored.document) {
            Ok(document) => self.apply(document, Origin::Database, head).await.map_err(|faults| told(&faults)),
            Err(e) => Err(e.to_string()),
        };
        if let Err(why) = taken {
            // What was checked on the node that wrote it: a file is missing here, or another version of this program wrote it.
            self.state(|state| state.refused_version = head);
            self.troubled(format!("version {head} cannot hold on this node: {why}"));
        }
        Ok(())
    }

    pub(super) fn troubled(&self, why: String) {
        let is_new = self.state(|state| state.trouble.as_ref() != Some(&why));
        if is_new {
            tracing::warn!(why, "the gateway's document cannot be used; the one before stays");
        }
        self.0.telemetry.is_stale(true);
        self.state(|state| state.trouble = Some(why));
    }

    /// The table that holds, to be kept.
    pub fn table(&self) -> Arc<Table> {
        self.0.table.load_full()
    }
}
