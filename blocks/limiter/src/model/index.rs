//! Which rules apply to a descriptor, found without looking at the others.
//!
//! Each rule hangs on one of its keys, its anchor: on `key=value` where it names a value, else on the key. A descriptor is looked up
//! entry by entry, and only the rules that hang there are compared with it; a rule that does not apply costs nothing, however many
//! there are. A hash that two texts share leads to a comparison that fails, never to a wrong answer.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash as _, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use kernel::Timestamp;
use memory::Rate;
use smallvec::SmallVec;

use super::{
    Check, Descriptor, LimitOverride, MAX_CELLS, MAX_COST, MAX_DESCRIPTORS, MAX_ENTRIES, MAX_KEY_BYTES,
    MAX_VALUE_BYTES, Matching, Mode,
    cell::{CellHash, CellKeys},
    rule::{Effect, Form, Limit, Pattern, Rule, WINDOWS},
};

/// Values that are hashes already.
type Hashed<V> = HashMap<u64, V, BuildHasherDefault<Same>>;

/// Passes a hash on.
#[derive(Default)]
pub(crate) struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Places = SmallVec<[u32; 2]>;

/// The rules of a domain, made ready.
#[derive(Debug)]
pub(crate) struct Index {
    domain: Arc<str>,
    /// What decisions by limits that came with descriptors name as their rule.
    asked: Arc<str>,
    rules: Vec<Entry>,
    by_value: Hashed<Places>,
    by_key: Hashed<Places>,
    always: Places,
    hasher: RandomState,
    keys: CellKeys,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) rule: Rule,
    /// The hash of everything but the values.
    prefix: CellHash,
    /// By the keys that the overrides name, the most first.
    overrides: Vec<(u8, Hashed<Places>)>,
}

/// What a check comes to: the cells to be charged, and which rule of which descriptor each is for.
#[derive(Debug, Default)]
pub(crate) struct Plan<'s> {
    pub(crate) hits: SmallVec<[Hit<'s>; 4]>,
    pub(crate) cells: SmallVec<[Cell<'s>; 4]>,
}

/// One rule that applies to one descriptor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit<'s> {
    pub(crate) descriptor: usize,
    pub(crate) by: By<'s>,
    /// Its cell in [`Plan::cells`]; `None` where the key is blocked.
    pub(crate) cell: Option<usize>,
}

/// By which rule.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By<'s> {
    /// The rule of this place in its index.
    Rule(usize, &'s Rule),
    /// The limit that came with the descriptor.
    Asked,
}

/// A cell to be charged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell<'s> {
    pub(crate) key: u128,
    pub(crate) limit: LimitRef<'s>,
    pub(crate) cost: u64,
    /// The cost came from an entry that the rule names.
    pub(crate) is_cost_named: bool,
    pub(crate) by: By<'s>,
}

/// A limit of a rule, or one that came with the descriptor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LimitRef<'s> {
    Of(&'s Limit),
    Asked(LimitOverride),
}

impl LimitRef<'_> {
    /// The rate as it is at `now`.
    pub(crate) fn rate(self, now: Timestamp) -> Rate {
        match self {
            Self::Of(Limit { form: Form::Rate(rate), .. }) => *rate,
            Self::Of(Limit { form: Form::Calendar(calendar), most, .. }) => {
                Rate::Calendar { limit: *most, bounds: calendar.bounds(now) }
            }
            Self::Asked(LimitOverride { limit, window }) => Rate::FixedWindow { limit, window },
        }
    }

    /// How much in which window at `now`, as decisions show it.
    pub(crate) fn shown(self, now: Timestamp) -> (u64, Duration) {
        match self {
            Self::Of(Limit { form: Form::Calendar(calendar), most, .. }) => {
                let [start, next, _] = calendar.bounds(now);
                (*most, next.since(start))
            }
            Self::Of(limit) => (limit.most, limit.window),
            Self::Asked(asked) => (asked.limit, asked.window),
        }
    }

    pub(crate) fn is_concurrency(self) -> bool {
        matches!(self, Self::Of(Limit { form: Form::Rate(Rate::Concurrency { .. }), .. }))
    }
}

impl By<'_> {
    pub(crate) fn is_shadow(self) -> bool {
        matches!(self, Self::Rule(_, rule) if rule.mode == Mode::Shadow)
    }
}

/// Why a check cannot be decided: the field, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    pub(crate) field: String,
    pub(crate) detail: String,
}

fn misfit(field: String, detail: impl Into<String>) -> Misfit {
    Misfit { field, detail: detail.into() }
}

impl Index {
    /// Makes rules ready; those that are off are left out.
    pub(crate) fn new(domain: &str, rules: Vec<Rule>, keys: CellKeys) -> Self {
        let mut index = Self {
            domain: domain.into(),
            asked: "(asked)".into(),
            rules: Vec::with_capacity(rules.len()),
            by_value: Hashed::default(),
            by_key: Hashed::default(),
            always: Places::new(),
            hasher: RandomState::new(),
            keys,
        };
        for rule in rules.into_iter().filter(|rule| rule.mode != Mode::Off) {
            index.add(rule);
        }
        index
    }

    fn add(&mut self, rule: Rule) {
        let place = u32::try_from(self.rules.len()).unwrap_or(u32::MAX);
        let exact = rule.keys.iter().find_map(|key| match &key.pattern {
            Pattern::Exact(value) => Some(self.hasher.hash_one((&*key.key, &**value))),
            _ => None,
        });
        match (exact, rule.keys.first()) {
            (Some(hash), _) => self.by_value.entry(hash).or_default().push(place),
            (None, Some(key)) => self.by_key.entry(self.hasher.hash_one(&*key.key)).or_default().push(place),
            (None, None) => self.always.push(place),
        }
        let mut overrides: Vec<(u8, Hashed<Places>)> = Vec::new();
        for (i, one) in rule.overrides.iter().enumerate() {
            let at = overrides.iter().position(|(shape, _)| *shape == one.shape).unwrap_or_else(|| {
                overrides.push((one.shape, Hashed::default()));
                overrides.len() - 1
            });
            let hash = hash_of(&self.hasher, one.values.iter().map(|v| &**v));
            overrides[at].1.entry(hash).or_default().push(u32::try_from(i).unwrap_or(u32::MAX));
        }
        // Of two that fit, the one with more keys; of the same number, the one with the earlier keys.
        overrides.sort_by_key(|(shape, _)| (std::cmp::Reverse(shape.count_ones()), *shape));
        let prefix = self.keys.of_rule(&self.domain, &rule.name);
        self.rules.push(Entry { rule, prefix, overrides });
    }

    pub(crate) fn domain(&self) -> &Arc<str> {
        &self.domain
    }

    /// What decisions by limits that came with descriptors name as their rule; no rule can have this name.
    pub(crate) fn asked(&self) -> &Arc<str> {
        &self.asked
    }

    /// The rules that are not off; a place in it is what [`By::Rule`] says.
    pub(crate) fn rules(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.rules.iter().map(|entry| &entry.rule)
    }

    /// What a check comes to.
    pub(crate) fn plan(&self, check: &Check<'_>) -> Result<Plan<'_>, Misfit> {
        let mut plan = Plan::default();
        if check.descriptors.len() > MAX_DESCRIPTORS {
            return Err(misfit("/descriptors".to_owned(), format!("at most {MAX_DESCRIPTORS}")));
        }
        for (place, descriptor) in check.descriptors.iter().enumerate() {
            self.plan_one(check, place, descriptor, &mut plan)?;
        }
        Ok(plan)
    }

    fn plan_one<'s>(
        &'s self,
        check: &Check<'_>,
        place: usize,
        descriptor: &Descriptor,
        plan: &mut Plan<'s>,
    ) -> Result<(), Misfit> {
        let entries = &descriptor.entries;
        if entries.len() > MAX_ENTRIES {
            return Err(misfit(format!("/descriptors/{place}/entries"), format!("at most {MAX_ENTRIES}")));
        }
        if entries.iter().any(|(key, value)| key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES) {
            let detail = format!("keys have at most {MAX_KEY_BYTES} bytes, values {MAX_VALUE_BYTES}");
            return Err(misfit(format!("/descriptors/{place}/entries"), detail));
        }
        let cost = descriptor.cost.unwrap_or(check.cost);
        if cost > MAX_COST {
            let field =
                if descriptor.cost.is_some() { format!("/descriptors/{place}/cost") } else { "/cost".to_owned() };
            return Err(misfit(field, format!("at most {MAX_COST}")));
        }
        if let Some(asked) = descriptor.limit {
            return self.plan_asked(check.domain, (place, descriptor), (asked, cost), plan);
        }
        for candidate in &self.always {
            self.consider(*candidate, check.matching, (place, descriptor), cost, plan)?;
        }
        for (key, value) in entries {
            if !self.by_value.is_empty()
                && let Some(places) = self.by_value.get(&self.hasher.hash_one((key.as_str(), value.as_str())))
            {
                for candidate in places {
                    self.consider(*candidate, check.matching, (place, descriptor), cost, plan)?;
                }
            }
            if !self.by_key.is_empty()
                && let Some(places) = self.by_key.get(&self.hasher.hash_one(key.as_str()))
            {
                for candidate in places {
                    self.consider(*candidate, check.matching, (place, descriptor), cost, plan)?;
                }
            }
        }
        Ok(())
    }

    /// Adds a rule to the plan, if it applies.
    fn consider<'s>(
        &'s self,
        candidate: u32,
        matching: Matching,
        (place, descriptor): (usize, &Descriptor),
        cost: u64,
        plan: &mut Plan<'s>,
    ) -> Result<(), Misfit> {
        let at = candidate as usize;
        let Some(entry) = self.rules.get(at) else { return Ok(()) };
        let rule = &entry.rule;
        if matching == Matching::Exact && rule.keys.len() != distinct(descriptor) {
            return Ok(());
        }
        let mut values: SmallVec<[&str; 8]> = SmallVec::new();
        for key in &rule.keys {
            match descriptor.get(&key.key) {
                Some(value) if key.pattern.matches(value) => values.push(value),
                _ => return Ok(()),
            }
        }
        // A key that comes twice leads here twice.
        let is_known = |hit: &Hit<'_>| hit.descriptor == place && matches!(hit.by, By::Rule(known, _) if known == at);
        if plan.hits.iter().any(is_known) {
            return Ok(());
        }
        let by = By::Rule(at, rule);
        let limit = match self.effect(entry, &values) {
            Effect::Unlimited => return Ok(()),
            Effect::Blocked => {
                plan.hits.push(Hit { descriptor: place, by, cell: None });
                return Ok(());
            }
            Effect::Limit(limit) => limit,
        };
        let named = rule.cost_from.as_deref().map(|key| named_cost(descriptor, key, place)).transpose()?.flatten();
        let cost = match (named, &limit.form) {
            (Some(cost), _) => cost,
            // A place is a place.
            (None, Form::Rate(Rate::Concurrency { .. })) => cost.min(1),
            (None, _) => cost,
        };
        let mut hash = entry.prefix;
        for (key, value) in rule.keys.iter().zip(&values).filter(|(key, _)| !key.is_shared) {
            hash.add(&key.key, value);
        }
        let (key, limit) = (hash.finish(), LimitRef::Of(limit));
        add_cell(plan, place, Cell { key, limit, cost, is_cost_named: named.is_some(), by })
    }

    /// What holds for these values of the rule's keys.
    fn effect<'s>(&self, entry: &'s Entry, values: &[&str]) -> &'s Effect {
        for (shape, by_values) in &entry.overrides {
            let named = || values.iter().enumerate().filter(|(i, _)| shape & (1 << i) != 0).map(|(_, value)| *value);
            let Some(places) = by_values.get(&hash_of(&self.hasher, named())) else { continue };
            for place in places {
                if let Some(one) = entry.rule.overrides.get(*place as usize)
                    && one.shape == *shape
                    && one.values.iter().map(|v| &**v).eq(named())
                {
                    return &one.effect;
                }
            }
        }
        &entry.rule.effect
    }

    fn plan_asked(
        &self,
        domain: &str,
        (place, descriptor): (usize, &Descriptor),
        (asked, cost): (LimitOverride, u64),
        plan: &mut Plan<'_>,
    ) -> Result<(), Misfit> {
        if asked.limit > super::MAX_LIMIT {
            return Err(misfit(format!("/descriptors/{place}/limit/limit"), format!("at most {}", super::MAX_LIMIT)));
        }
        if !(WINDOWS.0..=WINDOWS.1).contains(&asked.window) {
            return Err(misfit(format!("/descriptors/{place}/limit/window"), "expected 100ms to 366d"));
        }
        if asked.limit == 0 {
            plan.hits.push(Hit { descriptor: place, by: By::Asked, cell: None });
            return Ok(());
        }
        let mut hash = self.keys.of_limits_asked_for(domain);
        for (key, value) in &descriptor.entries {
            hash.add(key, value);
        }
        // Its limit may change with every question; another window is another count.
        hash.add("", &asked.window.as_millis().to_string());
        let (key, limit) = (hash.finish(), LimitRef::Asked(asked));
        add_cell(plan, place, Cell { key, limit, cost, is_cost_named: false, by: By::Asked })
    }
}

/// One cell of two descriptors is charged once, with the higher cost.
fn add_cell<'s>(plan: &mut Plan<'s>, descriptor: usize, cell: Cell<'s>) -> Result<(), Misfit> {
    let count = plan.cells.len();
    let at = plan.cells.iter().position(|known| known.key == cell.key).unwrap_or(count);
    match plan.cells.get_mut(at) {
        Some(known) => known.cost = known.cost.max(cell.cost),
        None if count == MAX_CELLS => {
            let detail = format!("more than {MAX_CELLS} limits apply; all of them are decided at once");
            return Err(misfit("/descriptors".to_owned(), detail));
        }
        None => plan.cells.push(cell),
    }
    plan.hits.push(Hit { descriptor, by: cell.by, cell: Some(at) });
    Ok(())
}

fn distinct(descriptor: &Descriptor) -> usize {
    let entries = &descriptor.entries;
    entries.iter().enumerate().filter(|(i, (key, _))| entries[..*i].iter().all(|(before, _)| before != key)).count()
}

/// Charging 1 for what names another cost would be worse than a refusal.
fn named_cost(descriptor: &Descriptor, key: &str, place: usize) -> Result<Option<u64>, Misfit> {
    let Some(text) = descriptor.get(key) else { return Ok(None) };
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let cost = text.parse().ok().filter(|cost| digits && *cost <= MAX_COST);
    cost.map(Some).ok_or_else(|| {
        let key = key.replace('~', "~0").replace('/', "~1");
        misfit(format!("/descriptors/{place}/entries/{key}"), format!("expected a whole number of at most {MAX_COST}"))
    })
}

fn hash_of<'a>(hasher: &RandomState, values: impl Iterator<Item = &'a str>) -> u64 {
    let mut hasher = hasher.build_hasher();
    for value in values {
        value.hash(&mut hasher);
    }
    hasher.finish()
}
