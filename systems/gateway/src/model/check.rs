//! Whether a document can hold: every mistake, by the JSON pointer of its field.

mod actions;
mod routes;

use std::collections::{HashMap, HashSet};

use kernel::FieldError;

use super::spec::Document;

/// The most of each.
pub(crate) const MAX_UPSTREAMS: usize = 1_000;
pub(crate) const MAX_ROUTES: usize = 5_000;
pub(crate) const MAX_POLICIES: usize = 1_000;
/// What names of things are.
pub(crate) const NAME_RULE: &str = "expected 1 to 64 of A-Z, a-z, 0-9, _, - and .";

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// What cannot hold.
    pub errors: Vec<FieldError>,
    /// What can, and is hardly meant.
    pub warnings: Vec<FieldError>,
}

/// What the checks of parts add to.
pub(super) struct Check<'a> {
    pub(super) found: Findings,
    pub(super) upstreams: HashSet<&'a str>,
    pub(super) policies: HashSet<&'a str>,
    pub(super) services: &'a [&'a str],
}

impl Check<'_> {
    pub(super) fn error(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        self.found.errors.push(FieldError { field: field.into(), detail: detail.into() });
    }

    pub(super) fn warn(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        self.found.warnings.push(FieldError { field: field.into(), detail: detail.into() });
    }

    /// The upstream is in the document.
    pub(super) fn upstream(&mut self, field: &str, name: &str) {
        if !self.upstreams.contains(name) {
            self.error(field, format!("there is no upstream {name:?}"));
        }
    }

    fn unique<'n>(&mut self, list: &str, names: impl Iterator<Item = &'n str>) {
        let mut first = HashMap::new();
        for (i, name) in names.enumerate() {
            if !is_name(name) {
                self.error(format!("/{list}/{i}/name"), NAME_RULE);
            } else if let Some(before) = first.insert(name, i) {
                self.error(format!("/{list}/{i}/name"), format!("{name:?} is the name of /{list}/{before} already"));
            }
        }
    }
}

/// Whether a text can be a name.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// Checks a document whole, but for what only the crates of its parts know. `services` are the systems that can be routes.
pub fn check(document: &Document, services: &[&str]) -> Findings {
    let mut check = Check {
        found: Findings::default(),
        upstreams: document.upstreams.iter().map(|u| u.name.as_str()).collect(),
        policies: document.policies.iter().map(|p| p.name.as_str()).collect(),
        services,
    };
    for (list, count, most) in [
        ("upstreams", document.upstreams.len(), MAX_UPSTREAMS),
        ("policies", document.policies.len(), MAX_POLICIES),
        ("routes", document.routes.len(), MAX_ROUTES),
    ] {
        if count > most {
            check.error(format!("/{list}"), format!("at most {most}"));
        }
    }
    check.unique("upstreams", document.upstreams.iter().map(|u| u.name.as_str()));
    check.unique("policies", document.policies.iter().map(|p| p.name.as_str()));
    check.unique("routes", document.routes.iter().map(|r| r.name.as_str()));
    for (i, upstream) in document.upstreams.iter().enumerate() {
        check.found.errors.extend(upstream.validate(&format!("/upstreams/{i}")));
    }
    check.found.errors.extend(crate::tls::validate(&document.certificates, "/certificates"));
    check.found.errors.extend(crate::l4::validate(&document.listeners, "/listeners"));
    for (i, listener) in document.listeners.iter().enumerate() {
        for (field, name) in listener.upstreams() {
            check.upstream(&format!("/listeners/{i}{field}"), name);
        }
    }
    for (i, route) in document.routes.iter().enumerate() {
        routes::route(&mut check, route, &format!("/routes/{i}"));
    }
    check.found.errors.extend(crate::l4::validate(&document.listeners, "/listeners"));
    check.found.errors.extend(crate::tls::validate(&document.certificates, "/certificates"));
    for (i, listener) in document.listeners.iter().enumerate() {
        for (field, name) in listener.upstreams() {
            check.upstream(&format!("/listeners/{i}{field}"), name);
        }
    }
    warn(&mut check, document);
    check.found
}

fn warn(check: &mut Check<'_>, document: &Document) {
    if !document.routes.is_empty() && !document.routes.iter().any(|r| r.service.as_deref() == Some("links")) {
        check.warn("/routes", "no route has service = \"links\": short links are not served on the public listener");
    }
    let text = serde_json::to_value(document).unwrap_or_default();
    let mut named = HashSet::new();
    names(&text, &mut named);
    for (i, upstream) in document.upstreams.iter().enumerate().filter(|(_, u)| !named.contains(&u.name)) {
        check.warn(format!("/upstreams/{i}"), format!("nothing uses the upstream {:?}", upstream.name));
    }
    let used: HashSet<&str> = document.routes.iter().flat_map(|r| &r.policies).map(String::as_str).collect();
    for (i, policy) in document.policies.iter().enumerate() {
        let by_policy = serde_json::to_value(&document.policies).unwrap_or_default();
        let is_part = by_policy
            .as_array()
            .into_iter()
            .flatten()
            .any(|p| p["any_of"].as_array().into_iter().flatten().any(|name| name.as_str() == Some(&policy.name)));
        if !used.contains(policy.name.as_str()) && !is_part {
            check.warn(format!("/policies/{i}"), format!("nothing uses the policy {:?}", policy.name));
        }
    }
}

/// Every text under a key `upstream`.
fn names(value: &serde_json::Value, into: &mut HashSet<String>) {
    match value {
        serde_json::Value::Array(items) => items.iter().for_each(|item| names(item, into)),
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                if let ("upstream", Some(name)) = (key.as_str(), value.as_str()) {
                    into.insert(name.to_owned());
                }
                names(value, into);
            }
        }
        _ => {}
    }
}

/// `/routes/0/match/hosts/3` as `routes[0].match.hosts[3]`, with what the route is called.
pub fn toml_path(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            path.push_str(&format!("[{part}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&part.replace("~1", "/").replace("~0", "~"));
        }
    }
    path
}
