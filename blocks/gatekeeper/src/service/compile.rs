//! From documents to policies.

use std::{collections::HashMap, sync::Arc};

use kernel::FieldError;

use super::{
    Gatekeeper,
    addresses::Addresses,
    api_key::ApiKey,
    basic::Basic,
    certificate::Certificate,
    chain::{Chain, Guard, Policy},
    condition::Condition,
    forward::Forward,
    jwt::Jwt,
    oidc::Oidc,
};
use crate::PolicySpec;

/// The most policies of a document.
const MAX_POLICIES: usize = 1_000;
/// The most policies of a route.
const MAX_CHAIN: usize = 16;
/// The most choices of an `any_of`.
const MAX_CHOICES: usize = 8;

/// Policies, compiled. Cheap to clone.
#[derive(Clone, Default)]
pub struct Policies(Arc<HashMap<String, Arc<Policy>>>);

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Gatekeeper {
    /// Compiles policies; every mistake with the JSON pointer of its field, from `/policies` on. Files that they name are read; no server
    /// is asked.
    pub fn compile(&self, specs: &[PolicySpec]) -> Result<Policies, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut wrong = |field: String, detail: String| errors.push(FieldError { field, detail });
        if specs.len() > MAX_POLICIES {
            wrong("/policies".to_owned(), format!("at most {MAX_POLICIES} policies"));
        }
        let mut compiled: HashMap<String, Arc<Policy>> = HashMap::new();
        for (index, spec) in specs.iter().enumerate() {
            let at = format!("/policies/{index}");
            if !is_name(&spec.name) {
                wrong(format!("{at}/name"), "1 to 64 of a-z A-Z 0-9 _ - and .".to_owned());
            } else if specs[..index].iter().any(|before| before.name == spec.name) {
                wrong(format!("{at}/name"), format!("there are two policies {:?}", spec.name));
            }
        }
        for (index, spec) in specs.iter().enumerate().filter(|(_, spec)| spec.any_of.is_none()) {
            let found = self.compile_one(spec, &format!("/policies/{index}"), &mut errors);
            compiled.extend(found.map(|policy| (spec.name.clone(), Arc::new(policy))));
        }
        let mut choices = Vec::new();
        for (index, spec) in specs.iter().enumerate() {
            let Some(names) = &spec.any_of else { continue };
            let at = format!("/policies/{index}");
            if kinds(spec).len() != 1 {
                errors.push(FieldError { field: at.clone(), detail: "exactly one sort of policy".to_owned() });
            }
            if names.is_empty() || names.len() > MAX_CHOICES {
                errors.push(FieldError { field: format!("{at}/any_of"), detail: format!("1 to {MAX_CHOICES} names") });
            }
            let mut policies = Vec::new();
            for (i, name) in names.iter().enumerate() {
                let field = format!("{at}/any_of/{i}");
                let is_there = specs.iter().find(|other| other.name == *name);
                match (compiled.get(name), is_there) {
                    (Some(policy), _) => policies.push(policy.clone()),
                    (None, Some(other)) if other.any_of.is_some() => {
                        errors.push(FieldError { field, detail: "an any_of inside of an any_of".to_owned() });
                    }
                    // Its own mistakes are told already.
                    (None, Some(_)) => {}
                    (None, None) => errors.push(FieldError { field, detail: format!("there is no policy {name:?}") }),
                }
            }
            let about = format!("one of {}", names.join(", "));
            let counts = self.0.telemetry.counts(&spec.name, "any_of");
            let (name, guard) = (spec.name.as_str().into(), Guard::AnyOf(policies));
            let policy = Policy { name, kind: "any_of", about, guard, counts };
            choices.push((spec.name.clone(), Arc::new(policy)));
        }
        compiled.extend(choices);
        if errors.is_empty() { Ok(Policies(Arc::new(compiled))) } else { Err(errors) }
    }

    fn compile_one(&self, spec: &PolicySpec, at: &str, errors: &mut Vec<FieldError>) -> Option<Policy> {
        let before = errors.len();
        let name: Arc<str> = spec.name.as_str().into();
        let kinds = kinds(spec);
        let [kind] = kinds[..] else {
            let detail = if kinds.is_empty() { "which sort of policy?" } else { "exactly one sort of policy" };
            errors.push(FieldError { field: at.to_owned(), detail: detail.to_owned() });
            return None;
        };
        let at = format!("{at}/{kind}");
        let (guard, about) = if let Some(spec) = &spec.addresses {
            let about = format!("address in {} and not in {}", or_all(&spec.allow), or_none(&spec.deny));
            (Guard::Addresses(Addresses::compile(spec, &at, errors)), about)
        } else if let Some(spec) = &spec.api_key {
            let scope = spec.scope.as_deref().map(|scope| format!(" with {scope}")).unwrap_or_default();
            let about = format!("an API key of the project {}{scope}", spec.project);
            (Guard::ApiKey(Box::new(ApiKey::compile(spec, &name, &self.0.deps.access, &at, errors))), about)
        } else if let Some(spec) = &spec.jwt {
            let about = format!("a token of {}", spec.issuer);
            (Guard::Jwt(Box::new(Jwt::compile(spec, &name, self, &at, errors)?)), about)
        } else if let Some(spec) = &spec.basic {
            let about = format!("a name and a password for {:?}", spec.realm);
            (Guard::Basic(Box::new(Basic::compile(spec, &name, &self.0, &at, errors)?)), about)
        } else if let Some(spec) = &spec.forward {
            let about = format!("what {} says", spec.url);
            (Guard::Forward(Box::new(Forward::compile(spec, &name, &self.0, &at, errors)?)), about)
        } else if let Some(spec) = &spec.client_certificate {
            let about =
                format!("a client certificate of {}", or_all(&[&spec.names[..], &spec.fingerprints[..]].concat()));
            let guard = Certificate::compile(spec, &name, &self.0.deps.clock, &at, errors);
            (Guard::Certificate(Box::new(guard)), about)
        } else if let Some(spec) = &spec.oidc {
            let about = format!("a browser that signed in at {}", spec.issuer);
            (Guard::Oidc(Box::new(Oidc::compile(spec, &name, self, &at, errors))), about)
        } else if let Some(spec) = &spec.expression {
            let condition = Condition::compile(spec, &self.0.deps.clock, &at, errors)?;
            (Guard::Expression(Box::new(condition)), spec.allow.clone())
        } else {
            // `kinds` has found one, and an `any_of` is compiled elsewhere.
            return None;
        };
        let counts = self.0.telemetry.counts(&name, kind);
        (errors.len() == before).then_some(Policy { name, kind, about, guard, counts })
    }
}

impl Policies {
    /// The policies of a route, in order. The error has the index of the name that is not there, as `/0`.
    pub fn chain(&self, names: &[String]) -> Result<Arc<Chain>, FieldError> {
        if names.len() > MAX_CHAIN {
            return Err(FieldError { field: String::new(), detail: format!("at most {MAX_CHAIN} policies a route") });
        }
        let policy = |(index, name): (usize, &String)| {
            self.0.get(name).cloned().ok_or_else(|| FieldError {
                field: format!("/{index}"),
                detail: format!("there is no policy {name:?}"),
            })
        };
        Ok(Arc::new(Chain::new(names.iter().enumerate().map(policy).collect::<Result<_, _>>()?)))
    }

    /// Their names, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// Which sorts of policy it is; exactly one is right.
fn kinds(spec: &PolicySpec) -> Vec<&'static str> {
    let all = [
        ("addresses", spec.addresses.is_some()),
        ("api_key", spec.api_key.is_some()),
        ("jwt", spec.jwt.is_some()),
        ("oidc", spec.oidc.is_some()),
        ("basic", spec.basic.is_some()),
        ("forward", spec.forward.is_some()),
        ("client_certificate", spec.client_certificate.is_some()),
        ("expression", spec.expression.is_some()),
        ("any_of", spec.any_of.is_some()),
    ];
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(kind, _)| kind).collect()
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

fn or_all(list: &[String]) -> String {
    if list.is_empty() { "any kind".to_owned() } else { list.join(", ") }
}

fn or_none(list: &[String]) -> String {
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}
