//! Sets of rules: read, changed, looked back at.
//!
//! - RULES-1: a version that was acknowledged is committed, with its entry in the audit log; versions of a domain count up by one.
//! - RULES-2: with an expectation, a change replaces nothing but what its author has seen.
//! - RULES-3: no project has more than [`crate::model::MAX_RULES`] rules, [`MAX_DOMAINS`] domains and 16 MiB of them.

use identity::Principal;
use kernel::{FieldError, ProjectId, Timestamp};
use serde_json::json;
use web::{Page, PageQuery};

use super::Limiter;
use crate::{
    MAX_DOMAINS, OWN_DOMAIN,
    error::{Error, Result},
    model::{MAX_RULES, RuleSpec, rule},
    store,
};

/// The most bytes of the rules of one domain, as JSON.
pub const MAX_RULE_BYTES: usize = 4 << 20;
/// The most bytes of all rules of a project.
const MAX_PROJECT_BYTES: i64 = 16 << 20;
/// Versions of a domain that are kept.
const KEPT_VERSIONS: i64 = 200;
/// The longest message of a version, in characters.
const MAX_MESSAGE_CHARS: usize = 500;
/// How many changed domains are read at once; each has up to [`MAX_RULE_BYTES`].
const PAGE: u32 = 8;

/// Where a set of rules comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The API.
    Database,
    /// The file that `limiter.rules_file` names: read-only.
    File,
    /// The server's own defaults, which a set of the same domain changes by name.
    BuiltIn,
}

impl Origin {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::File => "file",
            Self::BuiltIn => "built_in",
        }
    }
}

/// The rules of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSet {
    /// The domain.
    pub domain: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Counts up with every change; 0 for what is not in the database.
    pub version: i64,
    /// The rules.
    pub rules: Vec<RuleSpec>,
    /// Who wrote this version, when and why; `None` for what is not in the database.
    pub written: Option<Written>,
}

/// Who wrote a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The name of the key.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why; may be empty.
    pub message: String,
    /// Which version it went back to, when it is a rollback.
    pub rolled_back_to: Option<i64>,
}

/// One version in the list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub version: i64,
    /// How many rules it has.
    pub rule_count: u32,
    /// Who wrote it.
    pub written: Written,
}

/// A domain in the list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSummary {
    /// Its name.
    pub domain: String,
    /// Where its rules come from.
    pub origin: Origin,
    /// The version; 0 for what is not in the database.
    pub version: i64,
    /// How many rules it has.
    pub rule_count: u32,
}

/// What a change expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever there is.
    Any,
    /// No rules yet.
    Nothing,
    /// This version.
    Version(i64),
}

/// What a change writes.
enum New {
    Rules(Vec<RuleSpec>),
    Version(i64),
}

impl Limiter {
    /// Domains of a project that have rules, by name (at most [`crate::MAX_DOMAINS`] of the database).
    #[allow(clippy::unused_async, reason = "as the other questions about rules")]
    pub async fn domains(&self, project: &ProjectId) -> Result<Vec<DomainSummary>> {
        let summary = |(domain, origin, version, count)| DomainSummary {
            domain,
            origin,
            version,
            rule_count: u32::try_from(count).unwrap_or(u32::MAX),
        };
        Ok(self.0.book.given_domains(project).into_iter().map(summary).collect())
    }

    /// The rules of a domain as they hold on this node now.
    pub async fn rules(&self, project: &ProjectId, domain: &str) -> Result<RuleSet> {
        let (origin, version, rules) = self.0.book.given(project, domain).ok_or(Error::DomainUnknown)?;
        let written = match origin {
            Origin::Database => store::version(&self.0.db, project, domain, version).await?,
            Origin::File | Origin::BuiltIn => None,
        };
        let written = written.map(|stored| stored.version.written);
        Ok(RuleSet { domain: domain.to_owned(), origin, version, rules, written })
    }

    /// Puts rules in the place of those of a domain, as a new version. No rules: nothing is limited.
    pub async fn put_rules(
        &self,
        who: &Principal,
        domain: &str,
        rules: Vec<RuleSpec>,
        message: &str,
        expected: Expected,
    ) -> Result<RuleSet> {
        rule::check(&rules, "/rules").map_err(Error::RulesInvalid)?;
        self.change(who, domain, New::Rules(rules), message, expected).await
    }

    /// Makes an old version the newest, in one step.
    pub async fn roll_back(
        &self,
        who: &Principal,
        domain: &str,
        version: i64,
        message: &str,
        expected: Expected,
    ) -> Result<RuleSet> {
        self.change(who, domain, New::Version(version), message, expected).await
    }

    /// Versions of a domain, the newest first, from before `before`. The last 200 are kept.
    pub async fn versions(
        &self,
        project: &ProjectId,
        domain: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Version>> {
        Ok(store::versions(&self.0.db, project, domain, before.unwrap_or(i64::MAX), limit).await?)
    }

    /// The same as a page, whose cursor is opaque.
    pub async fn version_page(
        &self,
        project: &ProjectId,
        domain: &str,
        cursor: Option<String>,
        limit: u32,
    ) -> Result<Page<Version>> {
        let query = PageQuery { limit, cursor };
        let scope = format!("limits versions project={project} domain={domain}");
        let position = query.position(&self.0.cursors, &scope)?;
        let before = position.and_then(|bytes| Some(i64::from_be_bytes(bytes.try_into().ok()?)));
        let versions = self.versions(project, domain, before, limit + 1).await?;
        if versions.is_empty() && before.is_none() {
            return Err(Error::DomainUnknown);
        }
        Ok(Page::new(versions, &query, &self.0.cursors, &scope, |last| last.version.to_be_bytes().to_vec()))
    }

    /// The newest version in the database, also when this node does not have it yet; `None` when the domain never had rules there.
    pub async fn newest_version(&self, project: &ProjectId, domain: &str) -> Result<Option<i64>> {
        Ok(self.versions(project, domain, None, 1).await?.first().map(|newest| newest.version))
    }

    /// One version.
    pub async fn version(&self, project: &ProjectId, domain: &str, version: i64) -> Result<RuleSet> {
        let stored = store::version(&self.0.db, project, domain, version).await?.ok_or(Error::VersionUnknown)?;
        Ok(RuleSet {
            domain: domain.to_owned(),
            origin: Origin::Database,
            version,
            rules: stored.rules,
            written: Some(stored.version.written),
        })
    }

    /// Reads what other nodes have changed, as the background does several times a second.
    pub async fn refresh(&self) -> Result<()> {
        let latest = store::revision(&self.0.db).await?;
        loop {
            let known = self.0.book.revision();
            if known >= latest {
                return Ok(());
            }
            let changed = store::changed_since(&self.0.db, known, PAGE).await?;
            // Fewer than a page: up to what was the latest before the question, nothing is missing.
            let last = changed.last().map_or(latest, |last| last.revision);
            let is_whole = changed.len() < PAGE as usize;
            self.0.book.set_stored(changed, if is_whole { last.max(latest) } else { last });
        }
    }

    async fn change(
        &self,
        who: &Principal,
        domain: &str,
        new: New,
        message: &str,
        expected: Expected,
    ) -> Result<RuleSet> {
        let fault = |field: &str, detail: &str| {
            Error::RulesInvalid(vec![FieldError { field: field.to_owned(), detail: detail.to_owned() }])
        };
        if !rule::is_name(domain) {
            return Err(fault("?domain", rule::NAME_RULE));
        }
        if message.chars().count() > MAX_MESSAGE_CHARS || message.contains('\0') {
            return Err(fault("/message", "at most 500 characters"));
        }
        if domain == OWN_DOMAIN && !who.is_admin {
            return Err(Error::DomainReserved);
        }
        let project = who.project.clone();
        if self.0.book.is_in_file(&project, domain) {
            return Err(Error::RulesInFile);
        }
        let text = match &new {
            New::Rules(rules) => {
                let text = serde_json::to_string(rules).map_err(kernel::Problem::internal)?;
                if text.len() > MAX_RULE_BYTES {
                    return Err(Error::RulesFull("the rules of a domain have at most 4 MiB".to_owned()));
                }
                Some((text, u32::try_from(rules.len()).unwrap_or(u32::MAX)))
            }
            New::Version(_) => None,
        };
        let back_to = match new {
            New::Version(version) => Some(version),
            New::Rules(_) => None,
        };
        let (access, who, name) = (self.0.access.clone(), who.clone(), domain.to_owned());
        let written = Written {
            by: who.name.to_string(),
            at: self.0.clock.now(),
            message: message.to_owned(),
            rolled_back_to: back_to,
        };
        let (version, text) = self
            .0
            .db
            .tx(async move |tx| -> Result<(Version, String)> {
                // Also what two changes of one domain wait for one another by.
                let revision = store::next_revision(tx).await?;
                let head = store::head(tx, &project, &name).await?;
                match (expected, head) {
                    (Expected::Any, _) | (Expected::Nothing, None) => {}
                    (Expected::Version(expected), Some(head)) if expected == head => {}
                    _ => return Err(Error::RulesChanged),
                }
                let (text, rule_count) = match (&text, back_to) {
                    (Some((text, count)), _) => (text.clone(), *count),
                    (None, Some(version)) => {
                        let old = store::version_text(tx, &project, &name, version).await?;
                        old.ok_or(if head.is_none() { Error::DomainUnknown } else { Error::VersionUnknown })?
                    }
                    (None, None) => return Err(Error::VersionUnknown),
                };
                let others = store::others(tx, &project, &name).await?;
                let full = |what: String| Err(Error::RulesFull(what));
                if head.is_none() && usize::try_from(others.domains).unwrap_or(usize::MAX) >= MAX_DOMAINS {
                    return full(format!("a project has at most {MAX_DOMAINS} domains"));
                }
                if usize::try_from(others.rules + i64::from(rule_count)).unwrap_or(usize::MAX) > MAX_RULES {
                    return full(format!("a project has at most {MAX_RULES} rules, over all its domains"));
                }
                if others.bytes + i64::try_from(text.len()).unwrap_or(i64::MAX) > MAX_PROJECT_BYTES {
                    return full("the rules of a project have at most 16 MiB".to_owned());
                }
                let number = head.unwrap_or(0) + 1;
                let version = Version { version: number, rule_count, written: written.clone() };
                store::put(tx, (&project, &name), revision, &text, &version).await?;
                store::delete_older(tx, (&project, &name), number - KEPT_VERSIONS + 1, 2).await?;
                let action = if back_to.is_some() { "limits.rules.rollback" } else { "limits.rules.put" };
                let detail = json!({
                    "version": number, "rules": rule_count, "message": written.message, "rolled_back_to": back_to,
                });
                access.audit(tx, &who, action, &name, &detail).await?;
                tx.notify(store::TOPIC, revision);
                Ok((version, text))
            })
            .await?;
        // This node has it at once.
        if let Err(error) = self.refresh().await {
            tracing::warn!(%error, "changed rules are read again in a moment");
        }
        let rules = serde_json::from_str(&text).map_err(kernel::Problem::internal)?;
        let Version { version, written, .. } = version;
        Ok(RuleSet { domain: domain.to_owned(), origin: Origin::Database, version, rules, written: Some(written) })
    }
}
