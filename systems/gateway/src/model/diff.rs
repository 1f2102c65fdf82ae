//! What differs between two documents, by the names of things.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::spec::Document;

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = GatewayChange)]
pub struct Change {
    /// `upstreams`, `policies`, `routes`, `certificates` or `listeners`.
    pub list: &'static str,
    /// Its name; of a certificate its hosts.
    pub name: String,
    /// As it was; left out: it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, nullable = false)]
    pub before: Option<Value>,
    /// As it is; left out: it went.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, nullable = false)]
    pub after: Option<Value>,
}

/// All that differs, and whether the order of routes does, which decides between equals.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = GatewayChanges)]
pub struct Changes {
    /// By list, then in the order of the documents.
    pub changes: Vec<Change>,
    /// Whether routes that both have are in another order.
    pub is_reordered: bool,
}

impl Changes {
    /// From `before` to `after`.
    pub fn new(before: &Document, after: &Document) -> Self {
        let mut changes = Vec::new();
        let (mut old, mut new) = (lists(before), lists(after));
        for (list, before) in &mut old {
            let after = new.iter_mut().find(|(name, _)| name == list).map(|(_, items)| items);
            differences(list, before, after.map_or(&[], |items| &*items), &mut changes);
        }
        let names = |of: &Document, other: &Document| -> Vec<String> {
            let is_there = |name: &str| other.routes.iter().any(|r| r.name == name);
            of.routes.iter().map(|r| r.name.clone()).filter(|name| is_there(name)).collect()
        };
        Self { changes, is_reordered: names(before, after) != names(after, before) }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.is_reordered
    }
}

type List = (&'static str, Vec<(String, Value)>);

fn lists(document: &Document) -> Vec<List> {
    let mut whole = serde_json::to_value(document).unwrap_or_default();
    ["upstreams", "policies", "routes", "certificates", "listeners"]
        .map(|list| {
            let items = whole.get_mut(list).map(Value::take);
            let items = items.and_then(|items| match items {
                Value::Array(items) => Some(items),
                _ => None,
            });
            (list, items.into_iter().flatten().map(|item| (name(&item), item)).collect())
        })
        .into()
}

fn name(item: &Value) -> String {
    let hosts =
        || item["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    item["name"].as_str().map_or_else(hosts, str::to_owned)
}

fn differences(list: &'static str, before: &[(String, Value)], after: &[(String, Value)], into: &mut Vec<Change>) {
    let of =
        |items: &[(String, Value)]| -> std::collections::HashMap<String, Value> { items.iter().cloned().collect() };
    let (old, new) = (of(before), of(after));
    for (name, was) in before {
        let now = new.get(name);
        if now != Some(was) {
            into.push(Change { list, name: name.clone(), before: Some(was.clone()), after: now.cloned() });
        }
    }
    for (name, now) in after.iter().filter(|(name, _)| !old.contains_key(name)) {
        into.push(Change { list, name: name.clone(), before: None, after: Some(now.clone()) });
    }
}
