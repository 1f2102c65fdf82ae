//! Moving links in and out: what a row of a file holds, whichever format the file has.
//!
//! ```text
//! bytes as they come ─▶ Reader ─▶ one Row a link, or what is wrong with it      Row ─▶ Writer ─▶ bytes
//! ```
//!
//! - TRANSFER-1: what [`Writer`] writes, [`Reader`] reads back as the same rows.
//! - TRANSFER-2: a reader holds one record at a time, of at most [`MAX_RECORD_BYTES`], and gives the same rows however the
//!   file is cut into pieces.

mod csv;
mod json;
mod reader;
mod shlink;
mod writer;
mod yourls;

use kernel::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    PasswordHash,
    link::{LinkSettings, MAX_TITLE_CHARS, RedirectStatus, Rule, Utm, Variant},
};

pub use reader::{FileError, Numbered, Reader};
pub use writer::{COLUMNS, Writer};

/// The longest record of a file: a row of CSV, a line of JSON, one object of a list.
pub const MAX_RECORD_BYTES: usize = 64 << 10;

/// Stands in an export for what is kept of a password, for keys that may only read.
pub const HIDDEN: &str = "hidden";

/// What a file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Our own: RFC 4180 with a header ([`COLUMNS`]).
    Csv,
    /// Our own: one JSON object a line.
    Jsonl,
    /// What Shlink's web client exports, or what Shlink's importer takes.
    ShlinkCsv,
    /// Answers of Shlink's `GET /rest/v3/short-urls`.
    ShlinkJson,
    /// What YOURLS's import/export plugin writes, or its table of URLs with a header.
    YourlsCsv,
    /// Answers of YOURLS's `action=stats`.
    YourlsJson,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 6] =
        [Self::Csv, Self::Jsonl, Self::ShlinkCsv, Self::ShlinkJson, Self::YourlsCsv, Self::YourlsJson];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::ShlinkCsv => "shlink-csv",
            Self::ShlinkJson => "shlink-json",
            Self::YourlsCsv => "yourls-csv",
            Self::YourlsJson => "yourls-json",
        }
    }

    /// The format of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }
}

/// One link of a file, read but not yet checked. In JSON lines, the object of a line; what is not set is not written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Row {
    /// What follows the slash; a generated code when `None`.
    #[serde(skip_serializing_if = "is_default")]
    pub code: Option<String>,
    /// The host it answers on; the one of the import, else the installation's own, when `None`.
    #[serde(skip_serializing_if = "is_default")]
    pub domain: Option<String>,
    /// Whether its owner chose the code; taken as chosen when `None`.
    #[serde(skip_serializing_if = "is_default")]
    pub is_alias: Option<bool>,
    /// Where it leads.
    pub url: String,
    /// Its name for people.
    #[serde(skip_serializing_if = "is_default")]
    pub title: String,
    /// Its tags.
    #[serde(skip_serializing_if = "is_default")]
    pub tags: Vec<String>,
    /// What its owner wants to remember.
    #[serde(skip_serializing_if = "is_default")]
    pub notes: String,
    /// When it was made; the time of the import when `None`.
    #[serde(skip_serializing_if = "is_default")]
    pub created_at: Option<Timestamp>,
    /// Before that it leads nowhere yet.
    #[serde(skip_serializing_if = "is_default")]
    pub starts_at: Option<Timestamp>,
    /// From when on it answers 410. May lie in the past: the link was over before it moved.
    #[serde(skip_serializing_if = "is_default")]
    pub expires_at: Option<Timestamp>,
    /// How often it may be followed.
    #[serde(skip_serializing_if = "is_default")]
    pub max_clicks: Option<u64>,
    /// How many of `max_clicks` are used up; all its clicks when `None`.
    #[serde(skip_serializing_if = "is_default")]
    pub used_clicks: Option<u64>,
    /// `active`, `disabled`, `abuse` or `legal`; active when `None`.
    #[serde(skip_serializing_if = "is_default")]
    pub state: Option<String>,
    /// The status of the redirect.
    #[serde(skip_serializing_if = "is_default")]
    pub redirect: RedirectStatus,
    /// Whether the visitor's query is handed on.
    #[serde(skip_serializing_if = "is_default")]
    pub forward_query: bool,
    /// Campaign parameters.
    #[serde(skip_serializing_if = "is_default")]
    pub utm: Utm,
    /// What is kept of its password; [`HIDDEN`] when whoever exported it may not see that.
    #[serde(skip_serializing_if = "is_default")]
    pub password_hash: Option<String>,
    /// Who gets another destination.
    #[serde(skip_serializing_if = "is_default")]
    pub rules: Vec<Rule>,
    /// Destinations that share the visitors.
    #[serde(skip_serializing_if = "is_default")]
    pub split: Vec<Variant>,
    /// How often people had followed it.
    #[serde(skip_serializing_if = "is_default")]
    pub click_count: u64,
    /// How often programs had.
    #[serde(skip_serializing_if = "is_default")]
    pub bot_count: u64,
    /// When it was last followed.
    #[serde(skip_serializing_if = "is_default")]
    pub last_click_at: Option<Timestamp>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Row {
    /// How it redirects, unchecked.
    pub fn settings(&mut self, password: Option<PasswordHash>) -> LinkSettings {
        LinkSettings {
            password,
            redirect: self.redirect,
            forward_query: self.forward_query,
            utm: std::mem::take(&mut self.utm),
            rules: std::mem::take(&mut self.rules),
            split: std::mem::take(&mut self.split),
        }
    }

    /// What people recognise the row by: its code, else its destination, cut to 200 characters.
    pub fn name(&self) -> String {
        self.code.as_deref().unwrap_or(&self.url).chars().take(200).collect()
    }
}

/// A point in time as files carry it: RFC 3339, or a date with or without a time of day, which is read as UTC.
fn time(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    let zoned = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{}:00Z", text.replacen(' ', "T", 1)),
        19 => format!("{}Z", text.replacen(' ', "T", 1)),
        _ => text.to_owned(),
    };
    Timestamp::parse(&zoned).ok_or_else(|| {
        "expected a time as RFC 3339 (2026-11-24T06:00:00Z) or as 2026-11-24 06:00:00, in UTC".to_owned()
    })
}

/// A title of another shortener, where any page's title was welcome: made to fit instead of refused.
fn foreign_title(title: &str) -> String {
    title.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TITLE_CHARS).collect()
}

/// The code in a short URL of another shortener: what follows the slash after the host.
fn code_of_short_url(url: &str) -> Option<String> {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (_, code) = after_scheme.split_once('/')?;
    let code = code.trim_end_matches('/');
    (!code.is_empty()).then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_files() {
        for (text, expected) in [
            ("2026-11-24T06:00:00Z", Some(1_795_500_000_000)),
            ("2026-11-24T07:00:00+01:00", Some(1_795_500_000_000)),
            (" 2026-11-24 06:00:00 ", Some(1_795_500_000_000)),
            ("2026-11-24T06:00:00", Some(1_795_500_000_000)),
            ("2026-11-24 06:00", Some(1_795_500_000_000)),
            ("2026-11-24", Some(1_795_478_400_000)),
            ("24.11.2026", None),
            ("1795500000", None),
            ("", None),
        ] {
            assert_eq!(time(text).ok().map(Timestamp::as_millis), expected, "{text:?}");
        }
    }

    #[test]
    fn codes_of_short_urls() {
        for (url, expected) in [
            ("https://s.example/abc", Some("abc")),
            ("s.example/abc/", Some("abc")),
            ("https://s.example/a/b", Some("a/b")),
            ("https://s.example/", None),
            ("https://s.example", None),
        ] {
            assert_eq!(code_of_short_url(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn names_of_formats() {
        for format in Format::ALL {
            assert_eq!(Format::parse(format.as_str()), Some(format));
        }
        assert_eq!(Format::parse("xls"), None);
    }
}
