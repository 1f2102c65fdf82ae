//! CSV (RFC 4180) that comes in pieces, and what its columns mean.

use csv_core::{ReadRecordResult, ReaderBuilder};

use super::{FileError, Format, MAX_RECORD_BYTES, Row, code_of_short_url, foreign_title, time};

/// The most columns that a file may have.
const MAX_COLUMNS: usize = 256;

/// Cuts CSV into records. The delimiter is the one of `,`, `;` and tab that the first line has most of.
pub(super) struct Records {
    state: State,
    record: Vec<u8>,
    ends: Vec<usize>,
    written: usize,
    ended: usize,
}

enum State {
    /// Until the first line is there.
    Head(Vec<u8>),
    Body(Box<csv_core::Reader>),
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Records")
    }
}

/// What is given each record: its fields, or nothing when it is not UTF-8.
pub(super) type Emit<'a> = &'a mut dyn FnMut(Option<&[&str]>) -> Result<(), FileError>;

impl Records {
    pub(super) fn new() -> Self {
        let (record, ends) = (vec![0; 4096], vec![0; MAX_COLUMNS]);
        Self { state: State::Head(Vec::new()), record, ends, written: 0, ended: 0 }
    }

    /// Takes the next piece; gives each record to `emit`.
    pub(super) fn push(&mut self, bytes: &[u8], emit: Emit<'_>) -> Result<(), FileError> {
        match &mut self.state {
            State::Body(_) => self.read(bytes, emit),
            State::Head(head) => {
                head.extend_from_slice(bytes);
                if head.contains(&b'\n') || head.len() > MAX_RECORD_BYTES { self.begin(emit) } else { Ok(()) }
            }
        }
    }

    fn begin(&mut self, emit: Emit<'_>) -> Result<(), FileError> {
        let State::Head(head) = &mut self.state else { return Ok(()) };
        let head = std::mem::take(head);
        let first = head.split(|b| *b == b'\n').next().unwrap_or_default();
        let count = |delimiter: u8| first.split(|b| *b == delimiter).count();
        // The comma wins a draw.
        let delimiter = [b'\t', b';', b','].into_iter().max_by_key(|d| count(*d)).unwrap_or(b',');
        self.state = State::Body(Box::new(ReaderBuilder::new().delimiter(delimiter).build()));
        self.read(head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head), emit)
    }

    /// The file is over; its last record need not have an end.
    pub(super) fn finish(&mut self, emit: Emit<'_>) -> Result<(), FileError> {
        self.begin(emit)?;
        // To `csv_core`, an empty piece is the end.
        self.parse(&[], emit)
    }

    fn read(&mut self, bytes: &[u8], emit: Emit<'_>) -> Result<(), FileError> {
        if bytes.is_empty() { Ok(()) } else { self.parse(bytes, emit) }
    }

    fn parse(&mut self, mut bytes: &[u8], emit: Emit<'_>) -> Result<(), FileError> {
        let State::Body(reader) = &mut self.state else { return Ok(()) };
        loop {
            let (result, read, written, ended) =
                reader.read_record(bytes, &mut self.record[self.written..], &mut self.ends[self.ended..]);
            bytes = &bytes[read..];
            self.written += written;
            self.ended += ended;
            match result {
                ReadRecordResult::InputEmpty | ReadRecordResult::End => return Ok(()),
                ReadRecordResult::OutputFull if self.record.len() < MAX_RECORD_BYTES => {
                    self.record.resize((self.record.len() * 2).min(MAX_RECORD_BYTES), 0);
                }
                ReadRecordResult::OutputFull => return Err(FileError::record_too_long()),
                ReadRecordResult::OutputEndsFull => {
                    return Err(FileError::new(format!("A row has more than {MAX_COLUMNS} columns.")));
                }
                ReadRecordResult::Record => {
                    let (text, ends) = (&self.record[..self.written], &self.ends[..self.ended]);
                    let starts = std::iter::once(0).chain(ends.iter().copied());
                    let fields: Result<Vec<&str>, _> =
                        starts.zip(ends).map(|(from, to)| std::str::from_utf8(&text[from..*to])).collect();
                    emit(fields.ok().as_deref())?;
                    (self.written, self.ended) = (0, 0);
                }
            }
        }
    }
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Code,
    /// A whole short URL, for a row that has no code.
    ShortUrl,
    Domain,
    IsAlias,
    Url,
    Title,
    Tags(char),
    Notes,
    CreatedAt,
    StartsAt,
    ExpiresAt,
    MaxClicks,
    UsedClicks,
    State,
    Redirect,
    ForwardQuery,
    UtmSource,
    UtmMedium,
    UtmCampaign,
    UtmTerm,
    UtmContent,
    PasswordHash,
    Rules,
    Split,
    Clicks,
    Bots,
    LastClickAt,
    /// Something of another shortener that has no place here.
    Ignored,
}

impl Column {
    fn of(format: Format, name: &str) -> Option<Self> {
        Some(match format {
            Format::ShlinkCsv => match name {
                "longurl" => Self::Url,
                "shortcode" => Self::Code,
                "shorturl" => Self::ShortUrl,
                "domain" => Self::Domain,
                "title" => Self::Title,
                "tags" => Self::Tags('|'),
                "createdat" => Self::CreatedAt,
                "visits" => Self::Clicks,
                _ => Self::Ignored,
            },
            Format::YourlsCsv => match name {
                "keyword" | "source" => Self::Code,
                "shorturl" => Self::ShortUrl,
                "url" | "target" => Self::Url,
                "title" => Self::Title,
                "timestamp" => Self::CreatedAt,
                "clicks" | "hits" => Self::Clicks,
                _ => Self::Ignored,
            },
            _ => match name {
                "code" => Self::Code,
                "domain" => Self::Domain,
                "is_alias" => Self::IsAlias,
                "url" => Self::Url,
                "title" => Self::Title,
                "tags" => Self::Tags(','),
                "notes" => Self::Notes,
                "created_at" => Self::CreatedAt,
                "starts_at" => Self::StartsAt,
                "expires_at" => Self::ExpiresAt,
                "max_clicks" => Self::MaxClicks,
                "used_clicks" => Self::UsedClicks,
                "state" => Self::State,
                "redirect" => Self::Redirect,
                "forward_query" => Self::ForwardQuery,
                "utm_source" => Self::UtmSource,
                "utm_medium" => Self::UtmMedium,
                "utm_campaign" => Self::UtmCampaign,
                "utm_term" => Self::UtmTerm,
                "utm_content" => Self::UtmContent,
                "password_hash" => Self::PasswordHash,
                "rules" => Self::Rules,
                "split" => Self::Split,
                "click_count" => Self::Clicks,
                "bot_count" => Self::Bots,
                "last_click_at" => Self::LastClickAt,
                _ => return None,
            },
        })
    }
}

/// The columns of a file, from its first record.
#[derive(Debug)]
pub(super) struct Header {
    format: Format,
    columns: Vec<(Column, String)>,
}

impl Header {
    pub(super) fn read(format: Format, names: &[&str]) -> Result<Self, FileError> {
        let is_foreign = format != Format::Csv;
        let mut columns = Vec::with_capacity(names.len());
        let mut unknown = Vec::new();
        for name in names {
            let shown = name.trim().to_owned();
            let mut name = shown.to_ascii_lowercase();
            if is_foreign {
                // Shlink's importer says `Long URL`, its client `longUrl`.
                name.retain(|c| !matches!(c, ' ' | '_' | '-'));
            }
            match Column::of(format, &name) {
                Some(column) => columns.push((column, shown)),
                None => unknown.push(shown),
            }
        }
        if !unknown.is_empty() {
            return Err(FileError::new(format!(
                "Columns that are not known: {}. The first line names the columns; they are {}.",
                list(&unknown),
                super::COLUMNS.join(", ")
            )));
        }
        for (i, (column, name)) in columns.iter().enumerate() {
            if *column != Column::Ignored && columns[..i].iter().any(|(other, _)| other == column) {
                return Err(FileError::new(format!("The column `{name}` is there twice.")));
            }
        }
        let has = |column: Column| columns.iter().any(|(c, _)| *c == column);
        let missing = match format {
            Format::ShlinkCsv => {
                [("longUrl", has(Column::Url)), ("shortCode", has(Column::Code) || has(Column::ShortUrl))]
            }
            Format::YourlsCsv => [("url", has(Column::Url)), ("keyword", has(Column::Code) || has(Column::ShortUrl))],
            _ => [("url", has(Column::Url)); 2],
        };
        if let Some((name, _)) = missing.iter().find(|(_, is_there)| !is_there) {
            return Err(FileError::new(format!(
                "The first line has no column `{name}`, so this is not a file of the format {}.",
                format.as_str()
            )));
        }
        Ok(Self { format, columns })
    }

    /// What a record says; or what is wrong with it.
    pub(super) fn row(&self, fields: &[&str]) -> Result<Row, String> {
        if fields.len() > self.columns.len() && fields[self.columns.len()..].iter().any(|f| !f.is_empty()) {
            return Err(format!(
                "the row has {} fields, but there are {} columns; is a comma or quote inside of a field not quoted?",
                fields.len(),
                self.columns.len()
            ));
        }
        // Shlink hands the query on unless a link says otherwise, which its CSV does not tell.
        let mut row = Row { forward_query: self.format == Format::ShlinkCsv, ..Row::default() };
        let mut short_url = None;
        for ((column, name), field) in self.columns.iter().zip(fields) {
            let field = if self.format == Format::Csv { unescape(field) } else { field };
            if field.is_empty() {
                continue;
            }
            if *column == Column::ShortUrl {
                short_url = code_of_short_url(field);
            } else {
                self.set(&mut row, *column, field).map_err(|why| format!("{name}: {why}"))?;
            }
        }
        if self.format != Format::Csv {
            row.title = foreign_title(&row.title);
            row.code = row.code.or(short_url);
            if row.code.is_none() {
                return Err("the row has no code".to_owned());
            }
        }
        Ok(row)
    }

    fn set(&self, row: &mut Row, column: Column, text: &str) -> Result<(), String> {
        let owned = || text.to_owned();
        match column {
            // The plugin of YOURLS writes `/keyword/`.
            Column::Code if self.format == Format::YourlsCsv => row.code = Some(text.trim_matches('/').to_owned()),
            Column::Code => row.code = Some(owned()),
            Column::Domain => row.domain = Some(owned()),
            Column::IsAlias => row.is_alias = Some(yes_or_no(text)?),
            Column::Url => row.url = owned(),
            Column::Title => row.title = owned(),
            Column::Tags(separator) => {
                row.tags = text.split(separator).map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect();
            }
            Column::Notes => row.notes = owned(),
            Column::CreatedAt => row.created_at = Some(time(text)?),
            Column::StartsAt => row.starts_at = Some(time(text)?),
            Column::ExpiresAt => row.expires_at = Some(time(text)?),
            Column::MaxClicks => row.max_clicks = Some(number(text)?),
            Column::UsedClicks => row.used_clicks = Some(number(text)?),
            Column::State => row.state = Some(owned()),
            Column::Redirect => {
                row.redirect = number(text)?
                    .try_into()
                    .ok()
                    .and_then(|status: u16| status.try_into().ok())
                    .ok_or("must be 301, 302, 307 or 308")?;
            }
            Column::ForwardQuery => row.forward_query = yes_or_no(text)?,
            Column::UtmSource => row.utm.source = Some(owned()),
            Column::UtmMedium => row.utm.medium = Some(owned()),
            Column::UtmCampaign => row.utm.campaign = Some(owned()),
            Column::UtmTerm => row.utm.term = Some(owned()),
            Column::UtmContent => row.utm.content = Some(owned()),
            Column::PasswordHash => row.password_hash = Some(owned()),
            Column::Rules => row.rules = serde_json::from_str(text).map_err(|e| super::json::explain(&e))?,
            Column::Split => row.split = serde_json::from_str(text).map_err(|e| super::json::explain(&e))?,
            Column::Clicks => row.click_count = number(text)?,
            Column::Bots => row.bot_count = number(text)?,
            Column::LastClickAt => row.last_click_at = Some(time(text)?),
            Column::ShortUrl | Column::Ignored => {}
        }
        Ok(())
    }
}

fn list(names: &[String]) -> String {
    let shown: Vec<String> =
        names.iter().take(5).map(|n| format!("`{}`", n.escape_debug().take(40).collect::<String>())).collect();
    shown.join(", ")
}

fn number(text: &str) -> Result<u64, String> {
    text.trim()
        .parse::<i64>()
        .ok()
        .and_then(|n| u64::try_from(n).ok())
        .ok_or_else(|| "expected a whole number from 0 on".to_owned())
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// Whether a spreadsheet takes a cell that starts like this for a formula, or an apostrophe that guards from it.
fn is_active(c: char) -> bool {
    matches!(c, '=' | '+' | '-' | '@' | '\t' | '\r' | '\'')
}

/// Guards a cell that a spreadsheet would run as a formula (OWASP, "CSV Injection"): with an apostrophe before it.
pub(super) fn escape(cell: &str) -> std::borrow::Cow<'_, str> {
    if cell.starts_with(is_active) { format!("'{cell}").into() } else { cell.into() }
}

/// Takes that apostrophe away.
fn unescape(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|rest| rest.starts_with(is_active)).unwrap_or(cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_spreadsheets_would_run() {
        for (cell, guarded) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-abc", "'-abc"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "'\tx"),
            ("'x", "''x"),
            ("'=x", "''=x"),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(escape(cell), guarded);
            assert_eq!(unescape(guarded), cell);
        }
        // What others wrote stays.
        assert_eq!(unescape("'tis"), "'tis");
    }
}
