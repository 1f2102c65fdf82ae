//! Versions of the document: put, looked back at, gone back to.
//!
//! - VERSIONS-1: a version that was acknowledged is committed, with its entry in the audit log; versions count up by one.
//! - VERSIONS-2: with an expectation, a change replaces nothing but what its author has seen.

use identity::Principal;
use kernel::{FieldError, Timestamp};
use serde_json::json;
use web::{Page, PageQuery};

use super::Gateway;
use crate::{
    error::{Error, Result},
    model::{Document, Origin},
    store,
};

/// The most bytes of a document, as JSON.
pub const MAX_DOCUMENT_BYTES: usize = 8 << 20;
/// Versions that are kept.
const KEPT_VERSIONS: i64 = 200;
/// The longest message of a version, in characters.
const MAX_MESSAGE_CHARS: usize = 500;

/// The document that holds on this node.
#[derive(Debug, Clone)]
pub struct Current {
    /// Where it comes from.
    pub origin: Origin,
    /// Its version; 0 where it is not in the database.
    pub version: i64,
    /// The document.
    pub document: Document,
    /// Who wrote it, when and why; `None` for what is not in the database.
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
    /// How many routes it has.
    pub route_count: u32,
    /// How many upstreams it has.
    pub upstream_count: u32,
    /// Who wrote it.
    pub written: Written,
}

/// What a change expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever there is.
    Any,
    /// No version yet.
    Nothing,
    /// This version.
    Version(i64),
}

/// What a change writes.
enum New {
    Document(Box<Document>),
    Version(i64),
}

impl Gateway {
    /// The document as it holds on this node now.
    pub async fn current(&self) -> Result<Current> {
        let table = self.table();
        let written = match table.origin {
            Origin::Database => store::version(&self.0.db, table.version).await?.map(|stored| stored.version.written),
            _ => None,
        };
        let document = Document::clone(&table.document);
        Ok(Current { origin: table.origin, version: table.version, document, written })
    }

    /// Puts a document in the place of the one that holds, as a new version. It holds on every node within a second.
    pub async fn put(&self, who: &Principal, document: Document, message: &str, expected: Expected) -> Result<Current> {
        self.change(who, New::Document(Box::new(document)), message, expected).await
    }

    /// Makes an old version the newest, in one step.
    pub async fn roll_back(&self, who: &Principal, version: i64, message: &str, expected: Expected) -> Result<Current> {
        self.change(who, New::Version(version), message, expected).await
    }

    /// Versions, the newest first, from before `before`. The last 200 are kept.
    pub async fn versions(&self, before: Option<i64>, limit: u32) -> Result<Vec<Version>> {
        Ok(store::versions(&self.0.db, before.unwrap_or(i64::MAX), limit).await?)
    }

    /// The same as a page, whose cursor is opaque.
    pub async fn version_page(&self, cursor: Option<String>, limit: u32) -> Result<Page<Version>> {
        let query = PageQuery { limit, cursor };
        let scope = "gateway versions";
        let position = query.position(&self.0.cursors, scope)?;
        let before = position.and_then(|bytes| Some(i64::from_be_bytes(bytes.try_into().ok()?)));
        let versions = self.versions(before, limit + 1).await?;
        Ok(Page::new(versions, &query, &self.0.cursors, scope, |last| last.version.to_be_bytes().to_vec()))
    }

    /// The newest version in the database, also when this node does not have it yet; `None` when there never was one.
    pub async fn newest_version(&self) -> Result<Option<i64>> {
        Ok(Some(store::head(&self.0.db).await?).filter(|head| *head > 0))
    }

    /// One version.
    pub async fn version(&self, version: i64) -> Result<Current> {
        let stored = store::version(&self.0.db, version).await?.ok_or(Error::VersionUnknown)?;
        Ok(Current {
            origin: Origin::Database,
            version,
            document: read(&stored.document)?,
            written: Some(stored.version.written),
        })
    }

    async fn change(&self, who: &Principal, new: New, message: &str, expected: Expected) -> Result<Current> {
        let fault = |field: &str, detail: &str| {
            Error::Invalid(vec![FieldError { field: field.to_owned(), detail: detail.to_owned() }])
        };
        if !who.is_admin {
            return Err(Error::NotOperator);
        }
        if message.chars().count() > MAX_MESSAGE_CHARS || message.contains('\0') {
            return Err(fault("/message", "at most 500 characters"));
        }
        if self.is_in_file() {
            return Err(Error::InFile);
        }
        let back_to = match new {
            New::Version(version) => Some(version),
            New::Document(_) => None,
        };
        // An old version is checked as it stands: what it names may be gone since.
        let document = match new {
            New::Document(document) => *document,
            New::Version(version) => self.version(version).await?.document,
        };
        let checked = self.check(&document);
        if !checked.errors.is_empty() {
            return Err(Error::Invalid(checked.errors));
        }
        let text = serde_json::to_string(&document).map_err(kernel::Problem::internal)?;
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(fault("", "a document has at most 8 MiB"));
        }
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let version = Version {
            version: 0,
            route_count: count(document.routes.len()),
            upstream_count: count(document.upstreams.len()),
            written: Written {
                by: who.name.to_string(),
                at: self.0.clock.now(),
                message: message.to_owned(),
                rolled_back_to: back_to,
            },
        };
        let (access, who) = (self.0.access.clone(), who.clone());
        let version = self
            .0
            .db
            .tx(async move |tx| -> Result<Version> {
                let number = store::next(tx).await?;
                match expected {
                    Expected::Any => {}
                    Expected::Nothing if number == 1 => {}
                    Expected::Version(seen) if seen == number - 1 => {}
                    _ => return Err(Error::Changed),
                }
                let version = Version { version: number, ..version.clone() };
                store::insert(tx, &version, &text).await?;
                store::delete_older(tx, number - KEPT_VERSIONS + 1, 2).await?;
                let action = if back_to.is_some() { "gateway.config.rollback" } else { "gateway.config.put" };
                let detail = json!({
                    "version": number, "routes": version.route_count, "upstreams": version.upstream_count,
                    "message": version.written.message, "rolled_back_to": back_to,
                });
                access.audit(tx, &who, action, "config", &detail).await?;
                tx.notify(store::TOPIC, number);
                Ok(version)
            })
            .await?;
        // This node has it at once.
        if let Err(error) = self.refresh().await {
            tracing::warn!(%error, "the changed document is read again in a moment");
        }
        Ok(Current { origin: Origin::Database, version: version.version, document, written: Some(version.written) })
    }
}

fn read(text: &str) -> Result<Document> {
    serde_json::from_str(text).map_err(|e| {
        let detail = format!("was written by another version of this program: {e}");
        Error::Invalid(vec![FieldError { field: String::new(), detail }])
    })
}
