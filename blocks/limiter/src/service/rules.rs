//! Sets of rules: read, changed, looked back at.

use identity::Principal;
use kernel::{ProjectId, Timestamp};

use super::Limiter;
use crate::{
    error::{Error, Result},
    model::RuleSpec,
};

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

impl Limiter {
    /// Domains of a project that have rules, by name (at most [`crate::MAX_DOMAINS`]).
    #[allow(clippy::unused_async, reason = "reads the database")]
    pub async fn domains(&self, _project: &ProjectId) -> Result<Vec<DomainSummary>> {
        Ok(Vec::new())
    }

    /// The rules of a domain as they hold now.
    #[allow(clippy::unused_async, reason = "reads the database")]
    pub async fn rules(&self, _project: &ProjectId, _domain: &str) -> Result<RuleSet> {
        Err(Error::DomainUnknown)
    }

    /// Puts rules in the place of those of a domain, as a new version. No rules: nothing is limited.
    #[allow(clippy::unused_async, reason = "reads the database")]
    pub async fn put_rules(
        &self,
        _who: &Principal,
        _domain: &str,
        _rules: Vec<RuleSpec>,
        _message: &str,
        _expected: Expected,
    ) -> Result<RuleSet> {
        Err(Error::DomainUnknown)
    }

    /// Makes an old version the newest, in one step.
    #[allow(clippy::unused_async, reason = "reads the database")]
    pub async fn roll_back(
        &self,
        _who: &Principal,
        _domain: &str,
        _version: i64,
        _message: &str,
        _expected: Expected,
    ) -> Result<RuleSet> {
        Err(Error::VersionUnknown)
    }

    /// Versions of a domain, the newest first, from before `before`.
    #[allow(clippy::unused_async, reason = "reads the database")]
    pub async fn versions(
        &self,
        _project: &ProjectId,
        _domain: &str,
        _before: Option<i64>,
        _limit: u32,
    ) -> Result<Vec<Version>> {
        Ok(Vec::new())
    }

    /// One version.
    #[allow(clippy::unused_async, reason = "reads the database")]
    pub async fn version(&self, _project: &ProjectId, _domain: &str, _version: i64) -> Result<RuleSet> {
        Err(Error::VersionUnknown)
    }
}
