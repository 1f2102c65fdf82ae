//! What this node knows: every instance, by project and service, read without waiting for anything.
//!
//! - BOOK-1: a service is replaced whole: a reader sees it before a change or after it.
//! - BOOK-2: the index of a service never falls while this node runs, unless the database was replaced by an older one.
//! - BOOK-3: whoever waits for a change of a service after an index is woken by it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use kernel::ProjectId;
use tokio::sync::watch;

use crate::{
    error::Error,
    model::{Instance, Service, fold},
    store::Changed,
};

/// What a watcher waits for: a service of a project, or any.
type Topic = (ProjectId, Option<String>);

/// Counts over everything that a node knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) instances: usize,
    pub(crate) well: usize,
    pub(crate) services: usize,
    pub(crate) guarded: usize,
}

#[derive(Debug, Default)]
struct Project {
    /// Of the last change to any of its instances.
    index: i64,
    /// By the folded name. Those without instances stay for their index.
    services: BTreeMap<String, Arc<Service>>,
    instances: HashMap<String, Arc<Instance>>,
    /// Which instance has a check of this id.
    checks: HashMap<String, String>,
}

/// What changes of a service.
#[derive(Debug, Default)]
struct Touched {
    index: i64,
    /// `None`: it is not one of this service any more.
    instances: BTreeMap<String, Option<Arc<Instance>>>,
}

#[derive(Debug, Default)]
struct Known {
    revision: i64,
    projects: HashMap<ProjectId, Project>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Book {
    panic_percent: u32,
    known: RwLock<Known>,
    watchers: Arc<Watchers>,
}

impl Book {
    pub(crate) fn new(panic_percent: u32, max_watchers: usize) -> Self {
        let watchers = Watchers { most: max_watchers, count: AtomicUsize::new(0), topics: Mutex::default() };
        Self { panic_percent, known: RwLock::default(), watchers: Arc::new(watchers) }
    }

    /// Up to which change it knows.
    pub(crate) fn revision(&self) -> i64 {
        self.read().revision
    }

    /// A service; one that was never heard of is empty, at the index of the project.
    pub(crate) fn service(&self, project: &ProjectId, name: &str) -> Arc<Service> {
        let known = self.read();
        let Some(project) = known.projects.get(project) else {
            return Arc::new(Service { name: name.to_owned(), ..Service::default() });
        };
        let found = project.services.get(&fold(name)).cloned();
        found.unwrap_or_else(|| Arc::new(Service { name: name.to_owned(), index: project.index, ..Service::default() }))
    }

    /// The services of a project that have instances, by their folded names from after `after`; and the project's index.
    pub(crate) fn services(&self, project: &ProjectId, after: Option<&str>, limit: usize) -> (Vec<Arc<Service>>, i64) {
        let known = self.read();
        let Some(project) = known.projects.get(project) else { return (Vec::new(), 0) };
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let range = project.services.range::<str, _>((from, std::ops::Bound::Unbounded));
        let found = range.map(|(_, service)| service).filter(|service| !service.instances.is_empty());
        (found.take(limit).cloned().collect(), project.index)
    }

    /// Every service with instances, for work in the background.
    pub(crate) fn all(&self) -> Vec<(ProjectId, Arc<Service>)> {
        let known = self.read();
        let of = |(id, project): (&ProjectId, &Project)| -> Vec<_> {
            let services = project.services.values().filter(|service| !service.instances.is_empty());
            services.map(|service| (id.clone(), service.clone())).collect()
        };
        known.projects.iter().flat_map(of).collect()
    }

    pub(crate) fn instance(&self, project: &ProjectId, id: &str) -> Option<Arc<Instance>> {
        self.read().projects.get(project)?.instances.get(id).cloned()
    }

    /// The instance with a check of this id.
    pub(crate) fn of_check(&self, project: &ProjectId, check: &str) -> Option<Arc<Instance>> {
        let known = self.read();
        let project = known.projects.get(project)?;
        project.instances.get(project.checks.get(check)?).cloned()
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (_, service) in self.all() {
            counts.services += 1;
            counts.instances += service.instances.len();
            counts.well += service.well_count;
            counts.guarded += usize::from(service.guard != crate::model::Guard::None);
        }
        counts
    }

    /// Takes changes, and up to which one everything is known now.
    pub(crate) fn apply(&self, changes: Vec<Changed>, revision: i64) {
        if changes.is_empty() && revision <= self.revision() {
            return;
        }
        let mut known = self.write();
        // By service: its newest change, and what became of the instances that changed.
        let mut touched: BTreeMap<(ProjectId, String), Touched> = BTreeMap::new();
        for Changed { instance: one, is_gone } in changes {
            let project = known.projects.entry(one.project.clone()).or_default();
            let old = project.instances.get(&one.id).cloned();
            // A slower reader must not bring back what was.
            if old.as_ref().is_some_and(|old| old.revision >= one.revision) {
                continue;
            }
            project.index = project.index.max(one.revision);
            let mut touch = |service: &str, now: Option<Arc<Instance>>| {
                let touched = touched.entry((one.project.clone(), fold(service))).or_default();
                touched.index = one.revision.max(touched.index);
                touched.instances.insert(one.id.clone(), now);
            };
            touch(&one.spec.service, None);
            if let Some(old) = old {
                touch(&old.spec.service, None);
                project.instances.remove(&one.id);
                for check in &old.spec.checks {
                    if project.checks.get(&check.id).is_some_and(|owner| *owner == one.id) {
                        project.checks.remove(&check.id);
                    }
                }
            }
            if !is_gone {
                for check in &one.spec.checks {
                    project.checks.insert(check.id.clone(), one.id.clone());
                }
                let one = Arc::new(one.clone());
                touch(&one.spec.service, Some(one.clone()));
                project.instances.insert(one.id.clone(), one);
            }
        }
        for ((id, name), touched) in &touched {
            let Some(project) = known.projects.get_mut(id) else { continue };
            let before = project.services.get(name);
            let kept = before.into_iter().flat_map(|service| &service.instances);
            let mut instances: Vec<_> = kept.filter(|one| !touched.instances.contains_key(&one.id)).cloned().collect();
            instances.extend(touched.instances.values().flatten().cloned());
            instances.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            let newest = instances.iter().max_by_key(|one| one.created).map(|one| one.spec.service.clone());
            let spelled = newest.or_else(|| before.map(|service| service.name.clone())).unwrap_or_else(|| name.clone());
            let index = before.map_or(0, |service| service.index).max(touched.index);
            project
                .services
                .insert(name.clone(), Arc::new(Service::new(spelled, index, instances, self.panic_percent)));
        }
        known.revision = known.revision.max(revision);
        drop(known);
        self.watchers.wake(touched.into_keys());
    }

    /// Takes what the database has in the place of everything that was known.
    pub(crate) fn replace(&self, all: Vec<Changed>, revision: i64) {
        let fresh = Self::new(self.panic_percent, 1);
        fresh.apply(all, revision);
        let mut fresh = fresh.known.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut known = self.write();
        let mut touched = Vec::new();
        let is_older = revision < known.revision;
        for (id, project) in &known.projects {
            for (name, old) in &project.services {
                touched.push((id.clone(), name.clone()));
                let now = fresh.projects.entry(id.clone()).or_default();
                now.index = now.index.max(revision);
                let found = now.services.get(name).cloned().unwrap_or_default();
                if found.instances == old.instances || (is_older && !found.instances.is_empty()) {
                    continue;
                }
                // Nobody told when what is missing went: the service is as new as everything else that was read.
                let service = Service { name: old.name.clone(), index: revision, ..(*found).clone() };
                now.services.insert(name.clone(), Arc::new(service));
            }
        }
        *known = fresh;
        known.revision = revision;
        drop(known);
        self.watchers.wake(touched);
    }

    /// Waits for changes of a service, or of any of the project.
    pub(crate) fn watch(&self, project: &ProjectId, service: Option<&str>) -> Result<Watch, Error> {
        Watchers::watch(&self.watchers, (project.clone(), service.map(fold)))
    }

    pub(crate) fn watcher_count(&self) -> usize {
        self.watchers.count.load(Ordering::Relaxed)
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who waits for what; a topic is there while somebody waits for it.
#[derive(Debug)]
struct Watchers {
    most: usize,
    count: AtomicUsize,
    topics: Mutex<HashMap<Topic, watch::Sender<()>>>,
}

impl Watchers {
    fn watch(this: &Arc<Self>, topic: Topic) -> Result<Watch, Error> {
        let mut topics = this.topics();
        if this.count.load(Ordering::Relaxed) >= this.most {
            return Err(Error::WatchersFull);
        }
        this.count.fetch_add(1, Ordering::Relaxed);
        let receiver = topics.entry(topic.clone()).or_insert_with(|| watch::Sender::new(())).subscribe();
        Ok(Watch { watchers: this.clone(), topic, receiver })
    }

    fn wake(&self, touched: impl IntoIterator<Item = (ProjectId, String)>) {
        let topics = self.topics();
        if topics.is_empty() {
            return;
        }
        let mut projects = std::collections::HashSet::new();
        for (project, service) in touched {
            if projects.insert(project.clone())
                && let Some(sender) = topics.get(&(project.clone(), None))
            {
                sender.send_replace(());
            }
            if let Some(sender) = topics.get(&(project, Some(service))) {
                sender.send_replace(());
            }
        }
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<Topic, watch::Sender<()>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits. What changes after it was made wakes it.
#[derive(Debug)]
pub(crate) struct Watch {
    watchers: Arc<Watchers>,
    topic: Topic,
    receiver: watch::Receiver<()>,
}

impl Watch {
    /// Waits for a change; at once when there was one since the last.
    pub(crate) async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            // The sender stays while this does.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut topics = self.watchers.topics();
        self.watchers.count.fetch_sub(1, Ordering::Relaxed);
        if topics.get(&self.topic).is_some_and(|sender| sender.receiver_count() <= 1) {
            topics.remove(&self.topic);
        }
    }
}
