//! Rows in, bytes out.

use super::{Format, Row, csv::escape};
use crate::model::link::RedirectStatus;

/// The columns of our own CSV, in the order in which they are written.
pub const COLUMNS: [&str; 26] = [
    "code",
    "domain",
    "url",
    "title",
    "tags",
    "notes",
    "created_at",
    "starts_at",
    "expires_at",
    "max_clicks",
    "used_clicks",
    "state",
    "is_alias",
    "redirect",
    "forward_query",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_term",
    "utm_content",
    "password_hash",
    "rules",
    "split",
    "click_count",
    "bot_count",
    "last_click_at",
];

/// Writes our own formats. What was written is taken with [`Writer::take`], so that memory stays small.
#[derive(Debug)]
pub struct Writer(To);

#[derive(Debug)]
enum To {
    Csv(Box<csv::Writer<Vec<u8>>>),
    Jsonl(Vec<u8>),
}

impl Writer {
    /// Writes [`Format::Csv`] with its header; everything else as [`Format::Jsonl`].
    pub fn new(format: Format) -> Self {
        Self(match format {
            Format::Csv => {
                let mut to = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
                // Memory takes every write.
                drop(to.write_record(COLUMNS));
                To::Csv(Box::new(to))
            }
            _ => To::Jsonl(Vec::new()),
        })
    }

    /// Adds a row.
    pub fn write(&mut self, row: &Row) {
        match &mut self.0 {
            To::Csv(to) => drop(to.write_record(cells(row).iter().map(|cell| escape(cell).into_owned()))),
            To::Jsonl(to) => {
                drop(serde_json::to_writer(&mut *to, row));
                to.push(b'\n');
            }
        }
    }

    /// What was written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        match &mut self.0 {
            To::Jsonl(to) => std::mem::take(to),
            To::Csv(to) => {
                let fresh = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
                let full = std::mem::replace(&mut **to, fresh);
                full.into_inner().unwrap_or_default()
            }
        }
    }
}

fn cells(row: &Row) -> [String; 26] {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let time = |t: Option<kernel::Timestamp>| t.map(|t| t.to_string()).unwrap_or_default();
    let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    let list = |json: serde_json::Result<String>| json.ok().filter(|j| j != "[]").unwrap_or_default();
    [
        text(&row.code),
        text(&row.domain),
        row.url.clone(),
        row.title.clone(),
        row.tags.join(","),
        row.notes.clone(),
        time(row.created_at),
        time(row.starts_at),
        time(row.expires_at),
        number(row.max_clicks),
        number(row.used_clicks),
        text(&row.state),
        row.is_alias.map(|is| is.to_string()).unwrap_or_default(),
        if row.redirect == RedirectStatus::default() { String::new() } else { u16::from(row.redirect).to_string() },
        if row.forward_query { "true".to_owned() } else { String::new() },
        text(&row.utm.source),
        text(&row.utm.medium),
        text(&row.utm.campaign),
        text(&row.utm.term),
        text(&row.utm.content),
        text(&row.password_hash),
        list(serde_json::to_string(&row.rules)),
        list(serde_json::to_string(&row.split)),
        row.click_count.to_string(),
        row.bot_count.to_string(),
        time(row.last_click_at),
    ]
}
