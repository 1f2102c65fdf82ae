//! The rules that hold on this node: those of the file, of the database and the built-in ones, made ready in one snapshot that
//! checks read without a lock.
//!
//! - BOOK-1: a snapshot is whole: a check sees all rules of one version of a domain, or all of another.
//! - BOOK-2: of a domain that stands in the file, the database's rules do not hold.
//! - BOOK-3: what was counted for a rule stays with its name from one version to the next.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use kernel::{FieldError, ProjectId};

use super::{counters::Counters, rules::Origin};
use crate::{
    OWN_DOMAIN,
    model::{RuleSpec, cell::CellKeys, index::Index, rule},
};

/// The most projects that get numbers of their own for the built-in rules; those beyond share theirs.
const MAX_ADOPTED: usize = 10_000;

/// A domain, ready for checks.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) index: Index,
    /// By the place of the rule in the index.
    pub(crate) counters: Vec<Arc<Counters>>,
    /// Of limits that came with descriptors.
    pub(crate) asked: Arc<Counters>,
}

type Domains = HashMap<Arc<str>, Arc<Domain>>;

/// Everything that holds at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    projects: HashMap<ProjectId, Arc<Domains>>,
    /// The built-in rules, for projects that have no rules of their own for that domain.
    own: Option<Arc<Domain>>,
    /// For domains without rules.
    none: Arc<Domain>,
}

impl Snapshot {
    /// The rules of a domain.
    pub(crate) fn domain(&self, project: &ProjectId, domain: &str) -> &Arc<Domain> {
        let found = self.projects.get(project).and_then(|domains| domains.get(domain));
        found.unwrap_or_else(|| match &self.own {
            Some(own) if domain == OWN_DOMAIN => own,
            _ => &self.none,
        })
    }

    /// Whether a project shares its numbers of the built-in rules with others.
    pub(crate) fn is_unadopted(&self, project: &ProjectId) -> bool {
        self.own.is_some() && self.projects.get(project).is_none_or(|domains| !domains.contains_key(OWN_DOMAIN))
    }

    /// Every domain of a project, in no order.
    pub(crate) fn domains(&self, project: &ProjectId) -> impl Iterator<Item = &Arc<Domain>> {
        self.projects.get(project).into_iter().flat_map(|domains| domains.values())
    }
}

type Place = (ProjectId, String);

/// Rules as they were given.
#[derive(Debug, Default)]
struct Sources {
    file: BTreeMap<Place, Arc<Vec<RuleSpec>>>,
    stored: BTreeMap<Place, (i64, Arc<Vec<RuleSpec>>)>,
    /// Projects with numbers of their own for the built-in rules.
    adopted: HashSet<ProjectId>,
    /// Of the database.
    revision: i64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Book {
    keys: CellKeys,
    built_in: Vec<RuleSpec>,
    sources: Mutex<Sources>,
    now: ArcSwap<Snapshot>,
}

impl Book {
    /// With the built-in rules alone; an error when they are wrong.
    pub(crate) fn new(keys: CellKeys, built_in: Vec<RuleSpec>) -> Result<Self, Vec<FieldError>> {
        let none = Arc::new(domain(keys, "", Vec::new(), None));
        let own = rule::check(&built_in, "/built_in")?;
        let own = (!own.is_empty()).then(|| Arc::new(domain(keys, OWN_DOMAIN, own, None)));
        let now = ArcSwap::from_pointee(Snapshot { projects: HashMap::new(), own, none });
        Ok(Self { keys, built_in, sources: Mutex::default(), now })
    }

    /// What holds now.
    pub(crate) fn now(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.now.load()
    }

    /// The rules of a domain, to be held over an await.
    pub(crate) fn domain(&self, project: &ProjectId, domain: &str) -> Arc<Domain> {
        self.now.load().domain(project, domain).clone()
    }

    /// Up to which change of the database its rules are in the book.
    pub(crate) fn revision(&self) -> i64 {
        self.sources().revision
    }

    /// Whether a domain stands in the file.
    pub(crate) fn is_in_file(&self, project: &ProjectId, domain: &str) -> bool {
        self.sources().file.contains_key(&(project.clone(), domain.to_owned()))
    }

    /// The rules of a domain as they were given, and where they come from. The built-in ones are merged in.
    pub(crate) fn given(&self, project: &ProjectId, domain: &str) -> Option<(Origin, i64, Vec<RuleSpec>)> {
        let place = (project.clone(), domain.to_owned());
        self.effective(&self.sources(), &place)
    }

    /// Domains of a project with rules that hold, by name.
    pub(crate) fn given_domains(&self, project: &ProjectId) -> Vec<(String, Origin, i64, usize)> {
        let sources = self.sources();
        let of = |(owner, domain): &Place| (owner == project).then(|| domain.clone());
        let mut names: Vec<_> = sources.file.keys().chain(sources.stored.keys()).filter_map(of).collect();
        names.extend((!self.built_in.is_empty()).then(|| OWN_DOMAIN.to_owned()));
        names.sort_unstable();
        names.dedup();
        let summary = |domain: String| {
            let (origin, version, rules) = self.effective(&sources, &(project.clone(), domain.clone()))?;
            Some((domain, origin, version, rules.len()))
        };
        names.into_iter().filter_map(summary).collect()
    }

    /// Takes the rules of the file in the place of those it had before.
    pub(crate) fn set_file(&self, file: BTreeMap<(ProjectId, String), Vec<RuleSpec>>) {
        let mut sources = self.sources();
        let mut touched: Vec<Place> = sources.file.keys().cloned().collect();
        sources.file = file.into_iter().map(|(place, rules)| (place, Arc::new(rules))).collect();
        touched.extend(sources.file.keys().cloned());
        self.rebuild(&sources, &touched);
    }

    /// Takes rules of the database, and up to which change they are known now.
    pub(crate) fn set_stored(&self, changed: Vec<crate::store::Changed>, revision: i64) {
        let mut sources = self.sources();
        let mut touched = Vec::new();
        for one in changed {
            let place = (one.project, one.domain);
            // A slower reader must not bring an older version back.
            if sources.stored.get(&place).is_some_and(|(version, _)| *version >= one.version) {
                continue;
            }
            sources.stored.insert(place.clone(), (one.version, Arc::new(one.rules)));
            touched.push(place);
        }
        sources.revision = sources.revision.max(revision);
        self.rebuild(&sources, &touched);
    }

    /// Gives a project numbers of its own for the built-in rules.
    pub(crate) fn adopt(&self, project: &ProjectId) {
        let mut sources = self.sources();
        if self.built_in.is_empty() || sources.adopted.len() >= MAX_ADOPTED {
            return;
        }
        if sources.adopted.insert(project.clone()) {
            self.rebuild(&sources, &[(project.clone(), OWN_DOMAIN.to_owned())]);
        }
    }

    fn effective(&self, sources: &Sources, place: &Place) -> Option<(Origin, i64, Vec<RuleSpec>)> {
        let found = match (sources.file.get(place), sources.stored.get(place)) {
            (Some(rules), _) => Some((Origin::File, 0, rules)),
            (None, Some((version, rules))) => Some((Origin::Database, *version, rules)),
            (None, None) => None,
        };
        let (origin, version, given) = found.map_or_else(
            || (Origin::BuiltIn, 0, Vec::new()),
            |(origin, version, rules)| (origin, version, rules.to_vec()),
        );
        if place.1 != OWN_DOMAIN || self.built_in.is_empty() {
            return found.map(|_| (origin, version, given));
        }
        let mut rules = given;
        let names: HashSet<String> = rules.iter().map(|rule| rule.name.clone()).collect();
        rules.extend(self.built_in.iter().filter(|rule| !names.contains(&rule.name)).cloned());
        Some((origin, version, rules))
    }

    fn rebuild(&self, sources: &Sources, touched: &[Place]) {
        if touched.is_empty() {
            return;
        }
        let before = self.now.load_full();
        let mut projects = before.projects.clone();
        for place in touched {
            let (project, name) = place;
            let domains = Arc::make_mut(projects.entry(project.clone()).or_default());
            let old = domains.remove(name.as_str());
            let is_needed = name != OWN_DOMAIN
                || sources.file.contains_key(place)
                || sources.stored.contains_key(place)
                || sources.adopted.contains(project);
            let Some((_, _, specs)) = self.effective(sources, place).filter(|_| is_needed) else { continue };
            match rule::check(&specs, "/rules") {
                Ok(rules) => {
                    let made = domain(self.keys, name, rules, old.as_deref());
                    domains.insert(made.index.domain().clone(), Arc::new(made));
                }
                Err(faults) => {
                    // What was checked when it was written: by another version of this program. What held before goes on.
                    let fault = faults.first().map(|f| format!("{} {}", f.field, f.detail)).unwrap_or_default();
                    tracing::error!(%project, domain = name, fault, "rules that this version cannot use were not taken");
                    domains.extend(old.map(|old| (old.index.domain().clone(), old)));
                }
            }
        }
        projects.retain(|_, domains| !domains.is_empty());
        self.now.store(Arc::new(Snapshot { projects, own: before.own.clone(), none: before.none.clone() }));
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a domain ready; what `before` counted for rules of the same name is counted on.
fn domain(keys: CellKeys, name: &str, rules: Vec<rule::Rule>, before: Option<&Domain>) -> Domain {
    let index = Index::new(name, rules, keys);
    let known: HashMap<&str, &Arc<Counters>> = before
        .map(|before| before.index.rules().map(|rule| &*rule.name).zip(&before.counters).collect())
        .unwrap_or_default();
    let counters =
        index.rules().map(|rule| known.get(&*rule.name).map_or_else(Arc::default, |c| (*c).clone())).collect();
    let asked = before.map_or_else(Arc::default, |before| before.asked.clone());
    Domain { index, counters, asked }
}
