//! The keys that are refused most: a bounded sketch (Space-Saving; Metwally, Agrawal, El Abbadi 2005) for each project.
//!
//! Of `n` refusals a key with more than `n / CAPACITY` of them is in it for certain; a count is too high by at most what is told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kernel::ProjectId;

use super::stats::RefusedKey;
use crate::model::{
    Check,
    index::{By, Hit},
};

/// Keys that one sketch holds.
const CAPACITY: usize = 100;
/// Projects with a sketch; refusals of those beyond are not remembered by key.
const MAX_PROJECTS: usize = 1_000;
/// How long a sketch counts before it becomes the one before; that one goes after as long again.
const TURN: Duration = Duration::from_mins(5);
/// The longest text of a key, in characters.
const MAX_CHARS: usize = 200;

#[derive(Debug, Clone)]
struct Spot {
    /// What names it: its rule and values.
    hash: u64,
    domain: Arc<str>,
    rule: Arc<str>,
    key: String,
    count: u64,
    overcount: u64,
}

/// One sketch.
#[derive(Debug, Default)]
struct Sketch(Vec<Spot>);

impl Sketch {
    fn note(&mut self, hash: u64, make: impl FnOnce() -> Spot) {
        if let Some(spot) = self.0.iter_mut().find(|spot| spot.hash == hash) {
            spot.count += 1;
        } else if self.0.len() < CAPACITY {
            self.0.push(make());
        } else if let Some(least) = self.0.iter_mut().min_by_key(|spot| spot.count) {
            let before = least.count;
            *least = Spot { count: before + 1, overcount: before, ..make() };
        }
    }
}

#[derive(Debug, Default)]
struct Turns {
    began: Duration,
    now: Sketch,
    before: Sketch,
}

impl Turns {
    fn turn(&mut self, now: Duration) {
        let age = now.saturating_sub(self.began);
        if age >= TURN {
            self.before = if age < TURN * 2 { std::mem::take(&mut self.now) } else { Sketch::default() };
            self.now = Sketch::default();
            self.began = now;
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    projects: Mutex<HashMap<ProjectId, Turns>>,
    hasher: std::hash::RandomState,
}

impl Refused {
    /// Notes a refusal. Never waits: while another thread notes one, this one is left out.
    pub(crate) fn note(&self, project: &ProjectId, domain: &Arc<str>, check: &Check<'_>, hit: &Hit<'_>, now: Duration) {
        let Ok(mut projects) = self.projects.try_lock() else { return };
        if !projects.contains_key(project) {
            if projects.len() >= MAX_PROJECTS {
                return;
            }
            projects.insert(project.clone(), Turns { began: now, ..Turns::default() });
        }
        let Some(turns) = projects.get_mut(project) else { return };
        turns.turn(now);
        let hash = self.hash(domain, check, hit);
        turns.now.note(hash, || {
            let rule = match hit.by {
                By::Rule(_, rule) => rule.name.clone(),
                By::Asked => "(asked)".into(),
            };
            Spot { hash, domain: domain.clone(), rule, key: text(check, hit), count: 1, overcount: 0 }
        });
    }

    /// The most refused of a project, the most first.
    pub(crate) fn top(&self, project: &ProjectId, now: Duration) -> Vec<RefusedKey> {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(turns) = projects.get_mut(project) else { return Vec::new() };
        turns.turn(now);
        let mut all: HashMap<u64, RefusedKey> = HashMap::new();
        for spot in turns.now.0.iter().chain(&turns.before.0) {
            let key = all.entry(spot.hash).or_insert_with(|| RefusedKey {
                domain: spot.domain.clone(),
                rule: spot.rule.clone(),
                key: spot.key.clone(),
                count: 0,
                overcount: 0,
            });
            key.count += spot.count;
            key.overcount += spot.overcount;
        }
        let mut all: Vec<RefusedKey> = all.into_values().collect();
        all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| (&a.rule, &a.key).cmp(&(&b.rule, &b.key))));
        all.truncate(CAPACITY);
        all
    }

    fn hash(&self, domain: &Arc<str>, check: &Check<'_>, hit: &Hit<'_>) -> u64 {
        use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
        let mut hasher = self.hasher.build_hasher();
        domain.hash(&mut hasher);
        if let By::Rule(_, rule) = hit.by {
            rule.name.hash(&mut hasher);
        }
        for (key, value) in named(check, hit) {
            (key, value).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// The entries that make the key.
fn named<'a>(check: &'a Check<'_>, hit: &'a Hit<'_>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let entries = check.descriptors.get(hit.descriptor).map_or(&[][..], |descriptor| &descriptor.entries);
    let is_named = |key: &str| match hit.by {
        By::Rule(_, rule) => rule.keys.iter().any(|named| *named.key == *key && !named.is_shared),
        By::Asked => true,
    };
    entries.iter().filter(move |(key, _)| is_named(key)).map(|(key, value)| (key.as_str(), value.as_str()))
}

fn text(check: &Check<'_>, hit: &Hit<'_>) -> String {
    let mut text = String::new();
    for (key, value) in named(check, hit) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(key);
        text.push('=');
        text.push_str(value);
    }
    match text.char_indices().nth(MAX_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spot(hash: u64) -> Spot {
        Spot { hash, domain: "d".into(), rule: "r".into(), key: hash.to_string(), count: 1, overcount: 0 }
    }

    proptest! {
        #[test]
        fn heavy_keys_are_found_and_counts_are_as_wrong_as_told(keys in prop::collection::vec(0_u64..400, 1..4000)) {
            let mut sketch = Sketch::default();
            // Key 7 is heavy.
            let keys: Vec<u64> = keys.into_iter().flat_map(|key| [key, 7]).collect();
            for key in &keys {
                sketch.note(*key, || spot(*key));
            }
            prop_assert!(sketch.0.len() <= CAPACITY);
            for found in &sketch.0 {
                let real = u64::try_from(keys.iter().filter(|key| **key == found.hash).count()).unwrap();
                prop_assert!(found.count >= real && found.count - found.overcount <= real);
            }
            prop_assert!(sketch.0.iter().any(|spot| spot.hash == 7));
        }
    }
}
