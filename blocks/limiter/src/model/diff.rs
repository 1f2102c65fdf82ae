//! What differs between two sets of rules.

use super::RuleSpec;

/// By name: a rule that was renamed is one that went and one that came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RulesDiff {
    /// Only in the second.
    pub added: Vec<RuleSpec>,
    /// Only in the first.
    pub removed: Vec<RuleSpec>,
    /// In both, with differences: before and after.
    pub changed: Vec<(RuleSpec, RuleSpec)>,
}

impl RulesDiff {
    /// From `before` to `after`, each part in the order of its rules.
    pub fn new(before: &[RuleSpec], after: &[RuleSpec]) -> Self {
        let of = |rules: &'_ [RuleSpec], name: &str| rules.iter().position(|rule| rule.name == name);
        let mut diff = Self::default();
        for rule in before {
            match of(after, &rule.name).and_then(|at| after.get(at)) {
                None => diff.removed.push(rule.clone()),
                Some(now) if now != rule => diff.changed.push((rule.clone(), now.clone())),
                Some(_) => {}
            }
        }
        diff.added = after.iter().filter(|rule| of(before, &rule.name).is_none()).cloned().collect();
        diff
    }

    /// Whether nothing differs but perhaps the order.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}
