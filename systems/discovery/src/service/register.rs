//! Registrations and what changes them: each change is one transaction with its own revision.
//!
//! - REG-1: what was acknowledged is committed, and on every node within a second.
//! - REG-2: to register the same again changes nothing: no revision, no entry in the audit log.
//! - REG-3: a project never has more than `discovery.max_instances`.
//! - REG-4: what the operator decided (draining) stays when an instance registers again.

use std::{net::IpAddr, sync::Arc};

use identity::Principal;
use kernel::{FieldError, ProjectId};
use serde_json::json;

use super::Discovery;
use crate::{
    error::{Error, Result},
    model::{Drain, Health, Instance, InstanceSpec, Report, State, is_id},
    store,
};

/// The longest reason to drain, in characters.
const MAX_REASON: usize = 200;

/// What a registration came to.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The instance.
    pub instance: Arc<Instance>,
    /// Whether it is new.
    pub is_new: bool,
}

/// What a deregistration came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// The revision: whoever has seen it does not give the instance out any more.
    pub index: i64,
}

impl Discovery {
    /// Registers an instance, or changes how it is registered. A registration is a sign of life.
    pub async fn register(
        &self,
        who: &Principal,
        id: &str,
        mut spec: InstanceSpec,
        peer: Option<IpAddr>,
    ) -> Result<Registered> {
        spec.complete(id, peer);
        let mut faults = spec.faults();
        if !is_id(id) {
            let detail = "1 to 200 visible characters of ASCII".to_owned();
            faults.push(FieldError { field: "?id".to_owned(), detail });
        }
        if !faults.is_empty() {
            return Err(Error::InstanceInvalid(faults));
        }
        let project = who.project.clone();
        if let Some(known) = self.0.book.instance(&project, id).filter(|known| known.spec == spec) {
            self.keep_beats(&known).await;
            return Ok(Registered { instance: known, is_new: false });
        }
        let now = self.0.clock.now();
        let most = self.0.config.max_instances;
        // Before anybody can see it: whoever does finds its sign of life as well.
        let sketch = Instance {
            project: project.clone(),
            id: id.to_owned(),
            state: State::registered(&spec, None, now),
            spec: spec.clone(),
            created: 0,
            revision: 0,
            changed_at: now,
        };
        self.keep_beats(&sketch).await;
        let (access, who) = (self.0.access.clone(), who.clone());
        let bound = u32::try_from(most).unwrap_or(u32::MAX);
        let (instance, is_new) = self
            .0
            .db
            .tx(async move |tx| -> Result<(Instance, bool)> {
                // First of all: also what registrations at once wait for one another by, so that the limit holds.
                let revision = store::next_revision(tx).await?;
                let before = store::load(tx, &project, &sketch.id).await?.filter(|one| !one.is_gone);
                if before.is_none() && store::is_full(tx, &project, bound).await? {
                    return Err(Error::Full(most));
                }
                let before = before.map(|one| one.instance);
                let known = before.as_ref().map(|one| (&one.spec, &one.state));
                let instance = Instance {
                    state: State::registered(&sketch.spec, known, now),
                    created: before.as_ref().map_or(revision, |one| one.created),
                    revision,
                    ..sketch.clone()
                };
                store::put(tx, &instance, false).await?;
                let detail = json!({
                    "service": sketch.spec.service, "address": sketch.spec.address, "port": sketch.spec.port,
                });
                access.audit(tx, &who, "discovery.register", &sketch.id, &detail).await?;
                tx.notify(store::TOPIC, revision);
                Ok((instance, before.is_none()))
            })
            .await?;
        self.refresh_soon().await;
        Ok(Registered { instance: Arc::new(instance), is_new })
    }

    async fn keep_beats(&self, instance: &Instance) {
        for check in &instance.spec.checks {
            if let Some(ttl) = check.beat_within() {
                self.keep_beat(instance, (&check.id, ttl)).await;
            }
        }
    }

    /// Takes an instance out: it is not given out any more once this returns here, within a second on the other nodes.
    pub async fn deregister(&self, who: &Principal, id: &str) -> Result<Removed> {
        let (access, who, project, id) = (self.0.access.clone(), who.clone(), who.project.clone(), id.to_owned());
        let now = self.0.clock.now();
        let index = self
            .0
            .db
            .tx(async move |tx| -> Result<i64> {
                let revision = store::next_revision(tx).await?;
                let found = store::load(tx, &project, &id).await?.filter(|one| !one.is_gone);
                let mut instance = found.ok_or(Error::InstanceUnknown)?.instance;
                instance.revision = revision;
                instance.changed_at = now;
                store::put(tx, &instance, true).await?;
                let detail = json!({ "service": instance.spec.service });
                access.audit(tx, &who, "discovery.deregister", &id, &detail).await?;
                tx.notify(store::TOPIC, revision);
                Ok(revision)
            })
            .await?;
        self.refresh_soon().await;
        Ok(Removed { index })
    }

    /// Lets an instance take no more work (`reason`), or take work again (`None`).
    pub async fn drain(&self, who: &Principal, id: &str, reason: Option<&str>) -> Result<Arc<Instance>> {
        if reason.is_some_and(|reason| reason.chars().count() > MAX_REASON || reason.chars().any(char::is_control)) {
            let detail = "at most 200 characters, without control characters".to_owned();
            return Err(Error::InstanceInvalid(vec![FieldError { field: "/reason".to_owned(), detail }]));
        }
        let now = self.0.clock.now();
        let drain = reason.map(|reason| Drain { reason: reason.to_owned(), since: now.as_millis() });
        let (access, who, wanted) = (self.0.access.clone(), who.clone(), drain.is_some());
        let (project, id) = (who.project.clone(), id.to_owned());
        let instance = self
            .0
            .db
            .tx(async move |tx| -> Result<Instance> {
                let revision = store::next_revision(tx).await?;
                let found = store::load(tx, &project, &id).await?.filter(|one| !one.is_gone);
                let mut instance = found.ok_or(Error::InstanceUnknown)?.instance;
                if instance.is_draining() == wanted {
                    return Ok(instance);
                }
                instance.state.drain.clone_from(&drain);
                instance.revision = revision;
                instance.changed_at = now;
                store::put(tx, &instance, false).await?;
                let action = if wanted { "discovery.drain" } else { "discovery.undrain" };
                let detail = json!({ "reason": drain.as_ref().map(|drain| &drain.reason) });
                access.audit(tx, &who, action, &id, &detail).await?;
                tx.notify(store::TOPIC, revision);
                Ok(instance)
            })
            .await?;
        self.refresh_soon().await;
        Ok(Arc::new(instance))
    }

    /// Takes what checks of an instance found. No entry in the audit log: nobody did it.
    pub(crate) async fn report(
        &self,
        project: &ProjectId,
        id: &str,
        reports: Vec<(String, Health, String)>,
    ) -> Result<Arc<Instance>> {
        let (project, id) = (project.clone(), id.to_owned());
        let (now, damping) = (self.0.clock.now(), self.0.config.damping());
        let (instance, news, is_held) = self
            .0
            .db
            .tx(async move |tx| -> Result<(Instance, Vec<Health>, bool)> {
                let revision = store::next_revision(tx).await?;
                let found = store::load(tx, &project, &id).await?.filter(|one| !one.is_gone);
                let mut instance = found.ok_or(Error::InstanceUnknown)?.instance;
                let (mut news, was_held) = (Vec::new(), instance.state.damper.is_held);
                for (check, health, output) in &reports {
                    let report = Report { check, health: *health, output };
                    if instance.state.report(&report, now, damping) {
                        news.push(*health);
                    }
                }
                if !news.is_empty() {
                    instance.revision = revision;
                    instance.changed_at = now;
                    store::put(tx, &instance, false).await?;
                    tx.notify(store::TOPIC, revision);
                }
                let is_held = instance.state.damper.is_held && !was_held;
                Ok((instance, news, is_held))
            })
            .await?;
        for health in &news {
            self.0.telemetry.changed(*health);
        }
        self.0.telemetry.damped.inc_by(u64::from(is_held));
        if !news.is_empty() {
            self.refresh_soon().await;
        }
        Ok(Arc::new(instance))
    }

    /// This node has a change at once; when it cannot be read, in a moment.
    pub(crate) async fn refresh_soon(&self) {
        if let Err(error) = self.refresh().await {
            tracing::warn!(%error, "what changed is read again in a moment");
        }
    }
}
