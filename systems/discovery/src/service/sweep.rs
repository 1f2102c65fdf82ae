//! What time brings: instances that were not heard of, that are let back, that are removed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kernel::{ProjectId, Timestamp};

use super::Discovery;
use crate::{
    error::{Error, Result},
    model::{Health, Instance, Report, Service},
    store,
};

/// How many instances are changed in one transaction.
const BATCH: usize = 200;
/// How long it is kept that an instance left. A node that sleeps for longer reads everything anew.
const GONE_KEPT: Duration = Duration::from_hours(1);
/// How many of those are forgotten with each sweep.
const FORGET: u32 = 500;

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Checks that were not heard of in time.
    pub expired: usize,
    /// Instances that are not held for flapping any more.
    pub let_back: usize,
    /// Instances that were critical for too long.
    pub removed: usize,
}

/// What is to be done with an instance.
#[derive(Debug, Default, Clone)]
struct Todo {
    /// Checks that are dead.
    dead: Vec<(String, String)>,
    let_back: bool,
    remove: bool,
}

impl Discovery {
    /// Looks after the services that are this node's to look after, as the background does every second.
    pub async fn sweep(&self) -> Result<Swept> {
        let mut todo: BTreeMap<(ProjectId, String), Todo> = BTreeMap::new();
        for (project, service) in self.0.book.all() {
            if self.looks_after(project.as_str(), &["service", &crate::model::fold(&service.name)]) {
                self.look_at(&project, &service, &mut todo).await;
            }
        }
        let mut swept = Swept::default();
        let mut all: Vec<_> = todo.into_iter().collect();
        while !all.is_empty() {
            let batch = all.split_off(all.len().saturating_sub(BATCH));
            let done = self.carry_out(batch).await?;
            swept.expired += done.expired;
            swept.let_back += done.let_back;
            swept.removed += done.removed;
        }
        if swept != Swept::default() {
            self.refresh_soon().await;
        }
        self.0.telemetry.removed.inc_by(swept.removed as u64);
        if self.looks_after("", &["forget"]) {
            let before = self.0.clock.now().minus(GONE_KEPT);
            self.0.db.tx(async move |tx| -> Result<u64> { Ok(store::forget(tx, before, FORGET).await?) }).await?;
        }
        Ok(swept)
    }

    async fn look_at(&self, project: &ProjectId, service: &Service, todo: &mut BTreeMap<(ProjectId, String), Todo>) {
        let (now, damping) = (self.0.clock.now(), self.0.config.damping());
        for one in &service.instances {
            let key = || (project.clone(), one.id.clone());
            let mut damper = one.state.damper;
            if damper.let_back(now, damping) {
                todo.entry(key()).or_default().let_back = true;
            }
            if is_zombie(one, self.0.config.remove_after, now) {
                todo.entry(key()).or_default().remove = true;
            }
        }
        let is_due = |one: &Arc<Instance>| one.spec.checks.iter().any(|check| check.beat_within().is_some());
        if !service.instances.iter().any(is_due) {
            return;
        }
        let watched_for = self.watched_for();
        let Some(heard) = self.heard(project, &service.name).await else { return };
        for one in &service.instances {
            for check in &one.spec.checks {
                let Some(ttl) = check.beat_within() else { continue };
                let is_alive = one.state.checks.get(&check.id).is_some_and(|state| state.health != Health::Critical);
                if is_alive && heard.is_dead(&one.id, &check.id, ttl, watched_for, now) {
                    let told = format!("no sign of life for {}", kernel::limits::format_duration(ttl));
                    let entry = todo.entry((project.clone(), one.id.clone())).or_default();
                    entry.dead.push((check.id.clone(), told));
                }
            }
        }
    }

    async fn carry_out(&self, batch: Vec<((ProjectId, String), Todo)>) -> Result<Swept> {
        let (now, damping) = (self.0.clock.now(), self.0.config.damping());
        let remove_after = self.0.config.remove_after;
        let (swept, held) = self
            .0
            .db
            .tx(async move |tx| -> Result<(Swept, u64), Error> {
                let (mut swept, mut held) = (Swept::default(), 0);
                for ((project, id), todo) in &batch {
                    let revision = store::next_revision(tx).await?;
                    let Some(found) = store::load(tx, project, id).await?.filter(|one| !one.is_gone) else { continue };
                    let mut one = found.instance;
                    let mut is_changed = false;
                    let was_held = one.state.damper.is_held;
                    for (check, output) in &todo.dead {
                        let report = Report { check, health: Health::Critical, output };
                        let is_news = one.state.report(&report, now, damping);
                        swept.expired += usize::from(is_news);
                        is_changed |= is_news;
                    }
                    held += u64::from(one.state.damper.is_held && !was_held);
                    if todo.let_back && one.state.let_back(now, damping) {
                        swept.let_back += 1;
                        is_changed = true;
                    }
                    // It may have come back since it was looked at.
                    let is_removed = todo.remove && is_zombie(&one, remove_after, now);
                    swept.removed += usize::from(is_removed);
                    if is_changed || is_removed {
                        one.revision = revision;
                        one.changed_at = now;
                        store::put(tx, &one, is_removed).await?;
                        tx.notify(store::TOPIC, revision);
                    }
                }
                Ok((swept, held))
            })
            .await?;
        for _ in 0..swept.expired {
            self.0.telemetry.changed(Health::Critical);
        }
        self.0.telemetry.damped.inc_by(held);
        Ok(swept)
    }
}

/// Whether an instance has been critical for so long that nobody will come back for it. One that is held for flapping is not.
fn is_zombie(one: &Instance, remove_after: Duration, now: Timestamp) -> bool {
    let Some(since) = one.state.critical_since.map(Timestamp::from_millis) else { return false };
    if one.state.reported() != Health::Critical {
        return false;
    }
    let critical = one
        .spec
        .checks
        .iter()
        .filter(|check| one.state.checks.get(&check.id).is_some_and(|state| state.health == Health::Critical));
    let after = critical.filter_map(|check| check.remove_after).map(|span| span.0).min().unwrap_or(remove_after);
    now.since(since) >= after
}
