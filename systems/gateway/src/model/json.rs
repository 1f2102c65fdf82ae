//! Places in JSON, and what is done at them: the anti-corruption layer between two models of the same thing.
//!
//! - JSON-1: rules are total: a place that is not there is passed over, and nothing else is touched.
//! - JSON-2: they make nothing larger but by the values they set: no rule copies.

use serde_json::{Map, Value};

/// The most places that one pattern with `*` is applied to in a body; what comes after is left as it is.
const MAX_MATCHES: usize = 10_000;

/// A place or, with `*`, several: RFC 6901, where a `*` in the place of an index is every element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Each,
    Name(String),
}

impl Places {
    /// Reads `/a/0/b` or `/items/*/id`. The whole document (`""`) is no place here.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('/')?;
        let mut steps = Vec::new();
        for step in rest.split('/') {
            steps.push(if step == "*" { Step::Each } else { Step::Name(unescape(step)?) });
        }
        Some(Self(steps))
    }

    /// How many `*` it has.
    pub fn each_count(&self) -> usize {
        self.0.iter().filter(|step| **step == Step::Each).count()
    }

    /// The places of `value` that it means, as names and indexes, with what each `*` stood for.
    fn find(&self, value: &Value) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        let mut path = Vec::new();
        walk(&self.0, value, &mut path, &mut found);
        found
    }

    /// The place that has `each` in the place of its stars.
    fn with(&self, each: &[String]) -> Vec<String> {
        let mut each = each.iter();
        self.0
            .iter()
            .map(|step| match step {
                Step::Each => each.next().cloned().unwrap_or_default(),
                Step::Name(name) => name.clone(),
            })
            .collect()
    }

    /// What its stars stood for in a place that was found.
    fn stars(&self, place: &[String]) -> Vec<String> {
        self.0.iter().zip(place).filter(|(step, _)| **step == Step::Each).map(|(_, name)| name.clone()).collect()
    }

    /// Takes away what is there; for a comparison that does not look at it.
    pub(crate) fn remove_from(&self, value: &mut Value) {
        // From the back, so that indexes before stay what they are.
        for place in self.find(value).iter().rev() {
            take(value, place);
        }
    }
}

/// `~1` is a slash and `~0` a tilde; any other tilde is a mistake.
fn unescape(step: &str) -> Option<String> {
    let mut out = String::with_capacity(step.len());
    let mut rest = step.chars();
    while let Some(c) = rest.next() {
        out.push(match c {
            '~' => match rest.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

fn walk(steps: &[Step], value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    if found.len() >= MAX_MATCHES {
        return;
    }
    let Some((step, rest)) = steps.split_first() else { return found.push(path.clone()) };
    let mut enter = |name: String, value: &Value| {
        path.push(name);
        walk(rest, value, path, found);
        path.pop();
    };
    match (step, value) {
        (Step::Each, Value::Array(items)) => {
            items.iter().enumerate().for_each(|(n, item)| enter(n.to_string(), item));
        }
        (Step::Each, Value::Object(fields)) => fields.iter().for_each(|(name, field)| enter(name.clone(), field)),
        (Step::Name(name), Value::Object(fields)) => {
            if let Some(field) = fields.get(name) {
                enter(name.clone(), field);
            }
        }
        (Step::Name(name), Value::Array(items)) => {
            if let Some(item) = index(name).and_then(|n| items.get(n)) {
                enter(name.clone(), item);
            }
        }
        _ => {}
    }
}

/// An index as RFC 6901 writes it: no leading zero.
fn index(name: &str) -> Option<usize> {
    let is_plain = name == "0" || (!name.starts_with('0') && name.bytes().all(|b| b.is_ascii_digit()));
    is_plain.then(|| name.parse().ok()).flatten()
}

fn parent<'a>(mut value: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    for name in path {
        value = match value {
            Value::Object(fields) => fields.get_mut(name)?,
            Value::Array(items) => items.get_mut(index(name)?)?,
            _ => return None,
        };
    }
    Some(value)
}

fn take(value: &mut Value, place: &[String]) -> Option<Value> {
    let (last, before) = place.split_last()?;
    match parent(value, before)? {
        Value::Object(fields) => fields.remove(last),
        Value::Array(items) => {
            let n = index(last).filter(|n| *n < items.len())?;
            Some(items.remove(n))
        }
        _ => None,
    }
}

/// Puts a value at a place, making objects on the way; an array takes it at an index it has or, with `-` or the next index, at its
/// end. What stands in the way and is neither stays, and the value is given back.
fn put(mut target: &mut Value, place: &[String], value: Value) -> Result<(), Value> {
    let Some((last, before)) = place.split_last() else { return Err(value) };
    for name in before {
        if target.is_null() {
            *target = Value::Object(Map::new());
        }
        target = match target {
            Value::Object(fields) => fields.entry(name.clone()).or_insert(Value::Null),
            Value::Array(items) => match index(name).and_then(|n| items.get_mut(n)) {
                Some(item) => item,
                None => return Err(value),
            },
            _ => return Err(value),
        };
    }
    if target.is_null() {
        *target = Value::Object(Map::new());
    }
    match target {
        Value::Object(fields) => {
            fields.insert(last.clone(), value);
        }
        Value::Array(items) => match index(last) {
            Some(n) if n < items.len() => items[n] = value,
            Some(n) if n == items.len() => items.push(value),
            None if last == "-" => items.push(value),
            _ => return Err(value),
        },
        _ => return Err(value),
    }
    Ok(())
}

/// Changes to a JSON body: first renamed, then removed, then set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JsonRules {
    renames: Vec<(Places, Places)>,
    removes: Vec<Places>,
    sets: Vec<(Places, Value)>,
    /// The largest body that is changed, in bytes.
    pub(crate) max_bytes: usize,
}

impl JsonRules {
    /// Rules from their texts. The error is the text that is no place, or whose stars do not fit.
    pub fn new<'a>(
        renames: impl IntoIterator<Item = (&'a str, &'a str)>,
        removes: impl IntoIterator<Item = &'a str>,
        sets: impl IntoIterator<Item = (&'a str, Value)>,
        max_bytes: usize,
    ) -> Result<Self, String> {
        let place = |text: &str| Places::parse(text).ok_or_else(|| text.to_owned());
        let mut this = Self { max_bytes, ..Self::default() };
        for (from, to) in renames {
            let (from, target) = (place(from)?, place(to)?);
            if from.each_count() != target.each_count() {
                return Err(to.to_owned());
            }
            this.renames.push((from, target));
        }
        for text in removes {
            this.removes.push(place(text)?);
        }
        for (text, value) in sets {
            let target = place(text)?;
            this.sets.push((target, value));
        }
        Ok(this)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.renames.is_empty() && self.removes.is_empty() && self.sets.is_empty()
    }

    /// Changes a document.
    pub fn apply(&self, value: &mut Value) {
        for (from, to) in &self.renames {
            // Taken from the back, so that indexes stay what they are; put from the front, so that order does.
            let taken: Vec<_> =
                from.find(value).into_iter().rev().filter_map(|place| Some((take(value, &place)?, place))).collect();
            for (moved, place) in taken.into_iter().rev() {
                let target = to.with(&from.stars(&place));
                if let Err(moved) = put(value, &target, moved) {
                    // Nowhere to go: it stays.
                    drop(put(value, &place, moved));
                }
            }
        }
        for place in &self.removes {
            place.remove_from(value);
        }
        for (target, new) in &self.sets {
            if target.each_count() == 0 {
                drop(put(value, &target.with(&[]), new.clone()));
                continue;
            }
            // The last step may be new; what is before it has to be there.
            let (last, before) = (target.0.last(), Places(target.0[..target.0.len() - 1].to_vec()));
            let places = match last {
                Some(Step::Name(name)) => {
                    let mut places = before.find(value);
                    for place in &mut places {
                        place.push(name.clone());
                    }
                    places
                }
                _ => target.find(value),
            };
            for place in places {
                drop(put(value, &place, new.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rules(
        renames: &[(&'static str, &'static str)],
        removes: &[&'static str],
        sets: &[(&'static str, Value)],
    ) -> JsonRules {
        JsonRules::new(renames.iter().copied(), removes.iter().copied(), sets.iter().cloned(), 1024).unwrap()
    }

    #[test]
    fn places_are_renamed_removed_and_set() {
        for (before, renames, removes, sets, after) in [
            (json!({"a": 1}), &[("/a", "/b")][..], &[][..], &[][..], json!({"b": 1})),
            (json!({"a": {"b": 1}}), &[("/a/b", "/c/d")], &[], &[], json!({"a": {}, "c": {"d": 1}})),
            (json!({"x": 1}), &[("/a", "/b")], &["/c"], &[], json!({"x": 1})),
            (
                json!({"items": [{"id": 1}, {"no": 2}, {"id": 3}]}),
                &[("/items/*/id", "/items/*/key")],
                &[],
                &[],
                json!({"items": [{"key": 1}, {"no": 2}, {"key": 3}]}),
            ),
            (json!({"a": [1, 2, 3]}), &[], &["/a/*"], &[], json!({"a": []})),
            (json!({"a": [1, 2, 3]}), &[], &["/a/01", "/a/1"], &[], json!({"a": [1, 3]})),
            (json!({"a~/b": 1, "c": 2}), &[("/a~0~1b", "/d")], &[], &[], json!({"c": 2, "d": 1})),
            (json!({"a": 5}), &[], &[], &[("/b/c", json!(true))], json!({"a": 5, "b": {"c": true}})),
            (json!({"a": 5}), &[], &[], &[("/a/c", json!(true))], json!({"a": 5})),
            (json!({"a": 1, "b": 2}), &[("/a", "/b/c")], &[], &[], json!({"a": 1, "b": 2})),
            (json!({"l": [{}, {"v": 0}]}), &[], &[], &[("/l/*/v", json!(9))], json!({"l": [{"v": 9}, {"v": 9}]})),
            (
                json!({"l": [1, 2]}),
                &[("/l/*", "/m/*")],
                &[],
                &[("/m/*", json!(0))],
                json!({"l": [], "m": {"0": 0, "1": 0}}),
            ),
            (json!([1]), &[], &[], &[("/-", json!(2)), ("/7", json!(3))], json!([1, 2])),
        ] {
            let mut value = before.clone();
            rules(renames, removes, sets).apply(&mut value);
            assert_eq!(value, after, "{before} {renames:?} {removes:?} {sets:?}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for bad in ["", "a", "/a~2", "/a~"] {
            assert_eq!(Places::parse(bad), None, "{bad}");
        }
        assert_eq!(JsonRules::new([("/a/*", "/b")], [], [], 1), Err("/b".to_owned()));
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), (0..9).prop_map(Value::from)];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[abc*0]", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_rules_on_any_document_end_and_removed_places_are_gone(
            mut value in document(),
            from in "(/[abc*0-]){1,3}",
            to in "(/[abc0-]){1,3}",
        ) {
            let (from, to) = (from.as_str(), to.as_str());
            if let Ok(rules) = JsonRules::new([(from, to)], [from], [(to, json!(1))], 1024) {
                rules.apply(&mut value);
            }
            let places = Places::parse(from).unwrap();
            let mut value = value;
            places.remove_from(&mut value);
            // Elements move up when one before them goes, so that only places in objects are empty for good.
            if !from.contains(['*', '0']) {
                prop_assert!(places.find(&value).is_empty());
            }
        }
    }
}
