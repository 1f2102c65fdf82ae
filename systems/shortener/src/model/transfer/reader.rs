//! Bytes in, rows out.

use serde::{Deserialize, Serialize};

use super::{Format, MAX_RECORD_BYTES, Row, csv, json, shlink, yourls};

/// Why a file cannot be read at all: what is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError(pub String);

impl FileError {
    pub(super) fn new(detail: impl Into<String>) -> Self {
        Self(detail.into())
    }

    pub(super) fn record_too_long() -> Self {
        let kib = MAX_RECORD_BYTES >> 10;
        Self(format!(
            "A record is longer than {kib} KiB, so the file is likely damaged: look for a quote that is not closed."
        ))
    }
}

/// A row with its place in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// From 1; a header is not counted.
    pub number: u64,
    /// The row, or what is wrong with it.
    pub row: Result<Row, String>,
}

/// Reads a file that comes in pieces.
#[derive(Debug)]
pub struct Reader {
    format: Format,
    source: Source,
    header: Option<csv::Header>,
    number: u64,
    rows: Vec<Numbered>,
}

#[derive(Debug)]
enum Source {
    Csv(csv::Records),
    Lines(json::Lines),
    Objects(json::Scanner),
}

impl Reader {
    /// For a file of that format.
    pub fn new(format: Format) -> Self {
        let source = match format {
            Format::Csv | Format::ShlinkCsv | Format::YourlsCsv => Source::Csv(csv::Records::new()),
            Format::Jsonl => Source::Lines(json::Lines::default()),
            Format::ShlinkJson => Source::Objects(json::Scanner::new(shlink::PATHS)),
            Format::YourlsJson => Source::Objects(json::Scanner::new(yourls::PATHS)),
        };
        Self { format, source, header: None, number: 0, rows: Vec::new() }
    }

    /// Takes the next piece of the file.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.take(Some(bytes))
    }

    /// The file is over. An error when it ends in the middle of something, or held no row.
    pub fn finish(&mut self) -> Result<(), FileError> {
        self.take(None)?;
        if self.number == 0 {
            return Err(FileError::new(format!(
                "The file has no links in the format {}; look at it, or choose another format.",
                self.format.as_str()
            )));
        }
        Ok(())
    }

    /// The rows since the last call.
    pub fn rows(&mut self) -> Vec<Numbered> {
        std::mem::take(&mut self.rows)
    }

    /// How many rows there were so far.
    pub fn row_count(&self) -> u64 {
        self.number
    }

    /// `None` is the end.
    fn take(&mut self, bytes: Option<&[u8]>) -> Result<(), FileError> {
        let Self { format, source, header, number, rows } = self;
        let mut add = |row: Result<Row, String>| {
            *number += 1;
            rows.push(Numbered { number: *number, row });
        };
        match source {
            Source::Csv(records) => {
                let mut emit = |fields: Option<&[&str]>| {
                    match (&*header, fields) {
                        (None, Some(names)) => *header = Some(csv::Header::read(*format, names)?),
                        (None, None) => return Err(FileError::new("The file is not UTF-8 text; save it as such.")),
                        (Some(header), Some(fields)) => add(header.row(fields)),
                        (Some(_), None) => add(Err("the row is not UTF-8 text".to_owned())),
                    }
                    Ok(())
                };
                match bytes {
                    Some(bytes) => records.push(bytes, &mut emit),
                    None => records.finish(&mut emit),
                }
            }
            Source::Lines(lines) => {
                let mut emit = |line: &[u8]| {
                    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
                    match line.first() {
                        None => {}
                        Some(b'{') => add(serde_json::from_slice(line).map_err(|e| json::explain(&e))),
                        Some(_) => add(Err("not a JSON object".to_owned())),
                    }
                };
                if let Some(bytes) = bytes {
                    lines.push(bytes, &mut emit)
                } else {
                    lines.finish(&mut emit);
                    Ok(())
                }
            }
            Source::Objects(scanner) => {
                let read = match format {
                    Format::YourlsJson => yourls::row,
                    _ => shlink::row,
                };
                match bytes {
                    Some(bytes) => scanner.push(bytes, &mut |record| add(read(record))),
                    None => scanner.finish(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        Device,
        link::{RedirectStatus, Rule, Utm, Variant},
        transfer::Writer,
    };

    fn read(format: Format, text: &[u8], piece: usize) -> Result<Vec<Numbered>, FileError> {
        let mut reader = Reader::new(format);
        for piece in text.chunks(piece) {
            reader.push(piece)?;
        }
        reader.finish()?;
        Ok(reader.rows())
    }

    fn rows(format: Format, text: &str) -> Vec<Result<Row, String>> {
        let whole = read(format, text.as_bytes(), text.len().max(1)).unwrap();
        assert_eq!(read(format, text.as_bytes(), 1).unwrap(), whole, "pieces do not matter");
        whole.into_iter().map(|n| n.row).collect()
    }

    fn at(text: &str) -> Option<kernel::Timestamp> {
        kernel::Timestamp::parse(text)
    }

    #[test]
    fn a_spreadsheet_in_any_dialect() {
        for text in [
            "url,code,tags\nhttps://a.example/,a1,\"x, y\"\n",
            "\u{feff}URL,Code,Tags\r\nhttps://a.example/,a1,\"x, y\"",
            "url;code;tags\r\nhttps://a.example/;a1;x, y\r\n\r\n",
            "url\tcode\ttags\nhttps://a.example/\ta1\tx,y\n",
        ] {
            let expected = Row {
                url: "https://a.example/".to_owned(),
                code: Some("a1".to_owned()),
                tags: vec!["x".to_owned(), "y".to_owned()],
                ..Row::default()
            };
            assert_eq!(rows(Format::Csv, text), [Ok(expected)], "{text:?}");
        }
    }

    #[test]
    fn a_bad_row_does_not_stop_the_next() {
        let text = "url,created_at,max_clicks\nhttps://a.example/,yesterday,\nhttps://b.example/,,-1\nhttps://c.example/,,,x\nhttps://d.example/,,\n";
        let got = rows(Format::Csv, text);
        let starts: Vec<_> =
            got.iter().map(|r| r.as_ref().err().map(|e| e.split([':', ' ']).next().unwrap())).collect();
        assert_eq!(starts, [Some("created_at"), Some("max_clicks"), Some("the"), None]);
        let got = rows(Format::Jsonl, "{\"url\":\"https://a.example/\"}\n\nnot json\n{\"url\":\"x\",\"colour\":1}\n[]");
        assert_eq!(got.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, false]);
        let latin1 = b"url,title\nhttps://a.example/,caf\xe9\nhttps://b.example/,x\n";
        let got = read(Format::Csv, latin1, 5).unwrap();
        assert_eq!(got.iter().map(|n| (n.number, n.row.is_ok())).collect::<Vec<_>>(), [(1, false), (2, true)]);
    }

    #[test]
    fn files_that_are_something_else() {
        let long = format!("url\n\"{}\n", "a\n".repeat(MAX_RECORD_BYTES));
        for (format, text, word) in [
            (Format::Csv, "", "no links"),
            (Format::Csv, "url\n", "no links"),
            (Format::Csv, "link,code\nx,y\n", "`link`"),
            (Format::Csv, "code\nx\n", "`url`"),
            (Format::Csv, "url,url\nx,y\n", "twice"),
            (Format::Csv, long.as_str(), "quote"),
            (Format::ShlinkCsv, "url,code\nx,y\n", "longUrl"),
            (Format::YourlsCsv, "url,code\nx,y\n", "keyword"),
            (Format::ShlinkJson, "<html>", "JSON"),
            (Format::ShlinkJson, "{\"error\":{}}", "no links"),
            (Format::YourlsJson, "{\"links\":{\"link_1\":", "cut off"),
        ] {
            let error = read(format, text.as_bytes(), 7).unwrap_err();
            assert!(error.0.contains(word), "{format:?} {word}: {error:?}");
        }
    }

    #[test]
    fn shlink_as_its_client_exports_and_as_its_importer_takes() {
        let client = "\"createdAt\",\"domain\",\"shortCode\",\"shortUrl\",\"longUrl\",\"title\",\"tags\",\"visits\"\n\
            \"2016-05-01T20:34:16+02:00\",\"s.test\",\"12Kb3\",\"https://s.test/12Kb3\",\"https://shlink.io\",\"A, title\",\"one|two\",\"1029\"\n";
        let expected = Row {
            code: Some("12Kb3".to_owned()),
            domain: Some("s.test".to_owned()),
            url: "https://shlink.io".to_owned(),
            title: "A, title".to_owned(),
            tags: vec!["one".to_owned(), "two".to_owned()],
            created_at: at("2016-05-01T18:34:16Z"),
            forward_query: true,
            click_count: 1029,
            ..Row::default()
        };
        assert_eq!(rows(Format::ShlinkCsv, client), [Ok(expected)]);
        let importer =
            "Long URL;Tags;Domain;Short code;Title\nhttps://shlink.io;one|two;;abc;\nhttps://shlink.io;;;;\n";
        let got = rows(Format::ShlinkCsv, importer);
        assert_eq!(got[0].as_ref().unwrap().code.as_deref(), Some("abc"));
        assert!(got[1].is_err());
    }

    #[test]
    fn shlink_as_its_api_answers() {
        let text = r#"{"shortUrls":{"data":[
            {"shortCode":"12C18","shortUrl":"https://s.test/12C18","longUrl":"https://store.steampowered.com",
             "dateCreated":"2016-08-21T20:34:16+02:00","visitsSummary":{"total":328,"nonBots":328,"bots":0},
             "tags":["games","tech"],"meta":{"validSince":null,"validUntil":null,"maxVisits":null},"domain":null,
             "title":null,"crawlable":true,"forwardQuery":false,"hasRedirectRules":true},
            {"shortCode":"x/y","shortUrl":"https://e.test/x/y","longUrl":"https://shlink.io","dateCreated":"2016-05-01T20:34:16+02:00",
             "visitsSummary":{"total":1029,"nonBots":900,"bots":129},"tags":[],"domain":"e.test","title":"Line\nbreak",
             "meta":{"validSince":"2017-01-21T00:00:00+02:00","validUntil":"2030-01-01T00:00:00+00:00","maxVisits":100}},
            {"longUrl":5}],
            "pagination":{"currentPage":5,"pagesCount":12}}}"#;
        let got = rows(Format::ShlinkJson, text);
        let first = got[0].as_ref().unwrap();
        assert_eq!((first.code.as_deref(), first.domain.as_deref(), first.forward_query), (Some("12C18"), None, false));
        assert_eq!((first.click_count, first.created_at), (328, at("2016-08-21T18:34:16Z")));
        let second = got[1].as_ref().unwrap();
        assert_eq!((second.click_count, second.bot_count, second.max_clicks), (900, 129, Some(100)));
        assert_eq!((second.starts_at, second.expires_at), (at("2017-01-20T22:00:00Z"), at("2030-01-01T00:00:00Z")));
        assert_eq!(
            (second.title.as_str(), second.domain.as_deref(), second.forward_query),
            ("Line break", Some("e.test"), true)
        );
        assert!(got[2].is_err());
    }

    #[test]
    fn yourls_in_its_four_shapes() {
        let expected = Row {
            code: Some("ozh".to_owned()),
            url: "http://ozh.org/".to_owned(),
            title: "Ozh".to_owned(),
            created_at: at("2013-03-26T09:05:00Z"),
            click_count: 1234,
            ..Row::default()
        };
        for (format, text) in [
            (
                Format::YourlsJson,
                r#"{"links":{"link_1":{"shorturl":"http://sho.rt/ozh","url":"http://ozh.org/","title":"Ozh",
                    "timestamp":"2013-03-26 09:05:00","ip":"127.0.0.1","clicks":"1234"}},
                    "stats":{"total_links":"1","total_clicks":"1234"},"statusCode":200,"message":"success"}"#,
            ),
            (
                Format::YourlsJson,
                r#"[{"keyword":"ozh","url":"http://ozh.org/","title":"Ozh","timestamp":"2013-03-26 09:05:00","clicks":1234}]"#,
            ),
            (
                Format::YourlsCsv,
                "\"keyword\",\"url\",\"title\",\"timestamp\",\"ip\",\"clicks\"\n\"ozh\",\"http://ozh.org/\",\"Ozh\",\"2013-03-26 09:05:00\",\"127.0.0.1\",\"1234\"\n",
            ),
        ] {
            assert_eq!(rows(format, text), [Ok(expected.clone())], "{text}");
        }
        let plugin = "source,target,hits\r\n/ozh/,http://ozh.org/,1234\r\n";
        let expected = Row { title: String::new(), created_at: None, ..expected };
        assert_eq!(rows(Format::YourlsCsv, plugin), [Ok(expected)]);
    }

    fn text() -> impl Strategy<Value = String> {
        // What spreadsheets and parsers trip over comes often.
        proptest::string::string_regex("([=+@'\",;\t\n\\\\ -]|\\PC){0,12}").unwrap()
    }

    fn some<S: Strategy>(of: S) -> impl Strategy<Value = Option<S::Value>> {
        proptest::option::of(of)
    }

    fn row() -> impl Strategy<Value = Row> {
        let filled = || text().prop_map(|t| format!("{t}x"));
        let variants =
            || proptest::collection::vec((filled(), 0..5_u32).prop_map(|(url, weight)| Variant { url, weight }), 0..3);
        let rules = proptest::collection::vec(
            (
                proptest::collection::vec(proptest::sample::select(vec![Device::Mobile, Device::Desktop]), 0..2),
                variants(),
            )
                .prop_map(|(device, to)| Rule { device, language: vec![], country: vec![], to }),
            0..2,
        );
        let time = || some((0..4_000_000_000_000_i64).prop_map(kernel::Timestamp::from_millis));
        let tags = proptest::collection::vec("[a-z=+'\"-]{1,5}", 0..3);
        let redirects = [301_u16, 302, 307, 308].map(|s| RedirectStatus::try_from(s).unwrap());
        (
            (some(filled()), some(filled()), some(any::<bool>()), filled(), text(), tags, text()),
            (
                time(),
                time(),
                time(),
                some(0..i64::MAX as u64),
                some(filled()),
                proptest::sample::select(redirects.to_vec()),
            ),
            (any::<bool>(), some(filled()), some(filled()), rules, variants(), 0..i64::MAX as u64, 0..9_u64, time()),
        )
            .prop_map(|(a, b, c)| Row {
                code: a.0,
                domain: a.1,
                is_alias: a.2,
                url: a.3,
                title: a.4,
                tags: a.5,
                notes: a.6,
                created_at: b.0,
                starts_at: b.1,
                expires_at: b.2,
                max_clicks: b.3,
                used_clicks: b.3.map(|n| n / 2),
                state: b.4,
                redirect: b.5,
                forward_query: c.0,
                utm: Utm { source: c.1, campaign: c.2, ..Utm::default() },
                password_hash: None,
                rules: c.3,
                split: c.4,
                click_count: c.5,
                bot_count: c.6,
                last_click_at: c.7,
            })
    }

    proptest! {
        /// TRANSFER-1 and TRANSFER-2.
        #[test]
        fn what_is_written_is_read_back(given in proptest::collection::vec(row(), 1..6), piece in 1_usize..300) {
            for format in [Format::Csv, Format::Jsonl] {
                let mut writer = Writer::new(format);
                let mut bytes = Vec::new();
                for row in &given {
                    writer.write(row);
                    bytes.extend(writer.take());
                }
                let got: Vec<_> = read(format, &bytes, piece).unwrap().into_iter().map(|n| n.row).collect();
                prop_assert_eq!(got, given.iter().cloned().map(Ok).collect::<Vec<_>>());
            }
        }

        #[test]
        fn any_bytes_are_rows_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1_usize..50) {
            for format in Format::ALL {
                let whole = read(format, &bytes, bytes.len().max(1));
                prop_assert_eq!(read(format, &bytes, piece), whole);
            }
        }
    }
}
