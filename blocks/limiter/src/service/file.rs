//! The file of rules: read again when it changes.
//!
//! - FILE-1: a file that cannot be used changes nothing: the rules before stay, and health tells why.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use kernel::{FieldError, ProjectId};
use serde::Deserialize;

use super::book::Book;
use crate::{
    MAX_DOMAINS,
    model::{RuleSpec, rule},
};

/// The largest file.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// By what a change of the file is noticed.
type Seen = Option<(Option<SystemTime>, u64)>;

/// Rules by project and domain.
pub(crate) type FileRules = BTreeMap<(ProjectId, String), Vec<RuleSpec>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// One entry for each domain.
    #[serde(default)]
    domains: Vec<DomainOfFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DomainOfFile {
    domain: String,
    #[serde(default = "ProjectId::default_project")]
    project: ProjectId,
    #[serde(default)]
    rules: Vec<RuleSpec>,
}

/// Reads the text of a file; the first mistakes, with where they are.
pub(crate) fn parse(text: &str) -> Result<FileRules, String> {
    let document: Document = serde_path_to_error::deserialize(toml::Deserializer::parse(text).map_err(|e| told(&e))?)
        .map_err(|e| {
        let path = e.path().to_string();
        let why = told(e.inner());
        if path == "." { why } else { format!("{path}: {why}") }
    })?;
    let mut faults: Vec<FieldError> = Vec::new();
    let mut all = FileRules::new();
    for (i, DomainOfFile { domain, project, rules }) in document.domains.into_iter().enumerate() {
        let at = format!("/domains/{i}");
        let mut fault = |field: &str, detail: &str| {
            faults.push(FieldError { field: format!("{at}/{field}"), detail: detail.to_owned() });
        };
        if !rule::is_name(&domain) {
            fault("domain", rule::NAME_RULE);
        }
        let of_project = || all.keys().filter(|(owner, _)| *owner == project);
        if of_project().count() >= MAX_DOMAINS {
            fault("project", "a project has at most 100 domains");
        }
        let rule_count = of_project().filter_map(|place| all.get(place)).map(Vec::len).sum::<usize>() + rules.len();
        if rule_count > crate::model::MAX_RULES {
            fault("rules", "a project has at most 1000 rules");
        }
        if all.contains_key(&(project.clone(), domain.clone())) {
            fault("domain", "the file has this domain of the project already");
        }
        faults.extend(rule::check(&rules, &format!("{at}/rules")).err().unwrap_or_default());
        all.insert((project, domain), rules);
    }
    if faults.is_empty() {
        return Ok(all);
    }
    let shown = faults.iter().take(5).map(|f| format!("{}: {}", toml_path(&f.field), f.detail));
    let more = if faults.len() > 5 { "; and more" } else { "" };
    Err(format!("{}{more}", shown.collect::<Vec<_>>().join("; ")))
}

/// The message on one line, with its place.
fn told(error: &toml::de::Error) -> String {
    error.message().split('\n').collect::<Vec<_>>().join(" ")
}

/// `/domains/0/rules/3/name` as `domains[0].rules[3].name`.
fn toml_path(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            path.push_str(&format!("[{part}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(part);
        }
    }
    path
}

/// See the module.
#[derive(Debug)]
pub(crate) struct RulesFile {
    path: Option<PathBuf>,
    seen: Mutex<Seen>,
    trouble: Mutex<Option<String>>,
}

impl RulesFile {
    pub(crate) fn new(path: &str) -> Self {
        let path = (!path.is_empty()).then(|| PathBuf::from(path));
        Self { path, seen: Mutex::default(), trouble: Mutex::default() }
    }

    /// Whether there is one to be looked at.
    pub(crate) fn is_on(&self) -> bool {
        self.path.is_some()
    }

    /// Why the file is not what the rules are.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file when it changed, and puts its rules into the book; gives whether it did.
    pub(crate) async fn refresh(&self, book: &Book) -> bool {
        let Some(path) = self.path.clone() else { return false };
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread that may wait for the disk.
        let read = match tokio::task::spawn_blocking(move || read(&path, seen)).await {
            Ok(Some(read)) => read,
            Ok(None) => return false,
            Err(e) => (None, Err(format!("reading it ended early: {e}"))),
        };
        let (now, rules) = read;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
        let shown = self.path.as_deref().unwrap_or(Path::new("")).display();
        let trouble = match rules {
            Ok(rules) => {
                tracing::info!(path = %shown, domains = rules.len(), "the file of rules was read");
                book.set_file(rules);
                None
            }
            Err(why) => Some(format!("limiter.rules_file: {shown}: {why}")),
        };
        let is_read = trouble.is_none();
        let mut kept = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = trouble.as_ref().filter(|why| kept.as_ref() != Some(*why)) {
            tracing::warn!(why, "the file of rules cannot be used; the rules before stay");
        }
        *kept = trouble;
        is_read
    }
}

/// The file's rules unless it is as it was `seen`.
fn read(path: &Path, seen: Seen) -> Option<(Seen, Result<FileRules, String>)> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) => return Some((None, Err(e.to_string()))),
    };
    // Looked at before it is read: a change while it is read is seen the next time.
    let now = Some((metadata.modified().ok(), metadata.len()));
    if now == seen {
        return None;
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Some((now, Err("larger than 16 MiB".to_owned())));
    }
    let rules = std::fs::read_to_string(path).map_err(|e| e.to_string()).and_then(|text| parse(&text));
    Some((now, rules))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named_by_their_place() {
        let head = "[[domains]]\ndomain = \"api\"\n";
        for (text, error) in [
            ("domains = 1", "domains: invalid type: integer `1`, expected a sequence"),
            ("[[domains]]\ndomain = \"a b\"", "domains[0].domain: expected 1 to 64 of A-Z, a-z, 0-9, _, - and ."),
            (
                &format!("{head}[[domains.rules]]\nname = \"a\"\nlimit = {{ algorithm = \"gcra\", limit = 5 }}"),
                "domains[0].rules[0].limit.period: gcra needs a period",
            ),
            (
                &format!("{head}[[domains.rules]]\nname = \"a\"\nlimit = {{ algorithm = \"gcr\", limit = 5 }}"),
                "domains[0].rules[0].limit.algorithm: unknown variant `gcr`, expected one of `token_bucket`, `gcra`, \
                 `fixed_window`, `sliding_log`, `sliding_counter`, `calendar`, `concurrency`",
            ),
            (
                &format!("{head}[[domains.rules]]\nname = \"a\"\nlimits = 5"),
                "domains[0].rules[0].limits: unknown field `limits`, expected one of `name`, `description`, `keys`, `limit`, \
                 `cost_from`, `mode`, `when_down`, `sharing`, `overrides`",
            ),
            (&format!("{head}{head}"), "domains[1].domain: the file has this domain of the project already"),
            (
                &format!("{head}project = \"Acme\""),
                "domains[0].project: a project is 1 to 40 of a-z, 0-9 and -, starting with a letter",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn a_file_of_rules() {
        let text = r#"
            [[domains]]
            project = "acme"
            domain = "api"

            [[domains.rules]]
            name = "per-user"
            keys = [{ key = "user" }, { key = "route", value = "/api/*" }]
            limit = { algorithm = "token_bucket", limit = 100, period = "1m", burst = 20 }
            mode = "shadow"
            when_down = "open"
            sharing = { leased = 10 }
            overrides = [
                { values = { user = "big" }, limit = { algorithm = "token_bucket", limit = 1000, period = "1m" } },
                { values = { user = "us" }, is_unlimited = true },
                { values = { user = "bad" }, is_blocked = true },
            ]

            [[domains.rules]]
            name = "per-month"
            limit = { algorithm = "calendar", limit = 1000000, calendar = { unit = "month", zone = "Europe/Berlin" } }
        "#;
        let rules = parse(text).unwrap();
        let acme = ProjectId::parse("acme").unwrap();
        assert_eq!(rules[&(acme, "api".to_owned())].len(), 2);
        assert!(parse("").unwrap().is_empty());
    }
}
