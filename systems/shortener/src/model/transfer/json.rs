//! JSON that comes in pieces: lines, and the objects of a large document, one at a time.

use super::{FileError, MAX_RECORD_BYTES};

/// One step from a container to a value in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The member of that name of an object.
    Key(&'static str),
    /// Any member of an object.
    Member,
    /// Any element of an array.
    Element,
}

/// The most containers around a record.
const MAX_DEPTH: usize = 16;
/// How much of a member's name is looked at.
const MAX_KEY_BYTES: usize = 64;

/// Cuts a document into the objects that stand at one of some paths, without holding more than one of them. Several documents may
/// follow one another. Outside of those objects it looks at no more of the grammar than it needs.
#[derive(Debug)]
pub(super) struct Scanner {
    /// At most 8 paths.
    paths: &'static [&'static [Step]],
    stack: Vec<Frame>,
    string: Option<Text>,
    record: Option<Record>,
}

/// A container that is open, outside of a record.
#[derive(Debug)]
struct Frame {
    is_object: bool,
    /// Which paths lead through here, as bits.
    paths: u8,
    /// Of an object: whether a name comes next, and the last one.
    is_name_next: bool,
    name: Vec<u8>,
}

/// A string outside of a record.
#[derive(Debug)]
struct Text {
    is_escaped: bool,
    is_name: bool,
}

#[derive(Debug, Default)]
struct Record {
    bytes: Vec<u8>,
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
}

impl Scanner {
    pub(super) fn new(paths: &'static [&'static [Step]]) -> Self {
        Self { paths, stack: Vec::new(), string: None, record: None }
    }

    /// Takes the next piece; gives each record to `emit`.
    pub(super) fn push(&mut self, bytes: &[u8], emit: &mut dyn FnMut(&[u8])) -> Result<(), FileError> {
        for b in bytes {
            if let Some(record) = &mut self.record {
                if record.bytes.len() == MAX_RECORD_BYTES {
                    return Err(FileError::record_too_long());
                }
                if record.push(*b) {
                    emit(&record.bytes);
                    self.record = None;
                }
            } else {
                self.outside(*b)?;
            }
        }
        Ok(())
    }

    fn outside(&mut self, b: u8) -> Result<(), FileError> {
        if let Some(text) = &mut self.string {
            let is_end = b == b'"' && !text.is_escaped;
            text.is_escaped = b == b'\\' && !text.is_escaped;
            if is_end {
                self.string = None;
            } else if text.is_name
                && let Some(frame) = self.stack.last_mut()
                && frame.name.len() < MAX_KEY_BYTES
            {
                frame.name.push(b);
            }
            return Ok(());
        }
        match b {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'{' | b'[' => self.open(b == b'{')?,
            b'}' | b']' => {
                if self.stack.pop().is_none_or(|frame| frame.is_object != (b == b'}')) {
                    return Err(FileError::new("The brackets of the JSON do not match; the file may be damaged."));
                }
            }
            _ => {
                let Some(frame) = self.stack.last_mut() else {
                    return Err(FileError::new("The file is no JSON list or object; look at what was saved into it."));
                };
                match b {
                    b'"' => {
                        let is_name = frame.is_object && frame.is_name_next;
                        if is_name {
                            frame.name.clear();
                        }
                        self.string = Some(Text { is_escaped: false, is_name });
                    }
                    b',' => frame.is_name_next = true,
                    b':' => frame.is_name_next = false,
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.' => {}
                    _ => return Err(FileError::new("The file is not JSON; look at what was saved into it.")),
                }
            }
        }
        Ok(())
    }

    /// A container begins: a record, or one on the way to records (or elsewhere).
    fn open(&mut self, is_object: bool) -> Result<(), FileError> {
        let depth = self.stack.len();
        let paths = match self.stack.last() {
            None => u8::MAX,
            Some(parent) => self.paths.iter().enumerate().take(8).fold(0, |alive, (i, path)| {
                let fits = match path.get(depth - 1) {
                    Some(Step::Element) => !parent.is_object,
                    Some(Step::Member) => parent.is_object,
                    Some(Step::Key(name)) => parent.is_object && parent.name == name.as_bytes(),
                    None => false,
                };
                alive | (u8::from(fits && parent.paths >> i & 1 == 1) << i)
            }),
        };
        let is_record = is_object
            && depth > 0
            && self.paths.iter().enumerate().any(|(i, path)| path.len() == depth && paths >> i & 1 == 1);
        if is_record {
            self.record = Some(Record { bytes: vec![b'{'], depth: 1, ..Record::default() });
            return Ok(());
        }
        if depth == MAX_DEPTH {
            return Err(FileError::new("The JSON is nested deeper than any export that is known here."));
        }
        self.stack.push(Frame { is_object, paths, is_name_next: true, name: Vec::new() });
        Ok(())
    }

    /// The file is over.
    pub(super) fn finish(&self) -> Result<(), FileError> {
        if self.record.is_some() || !self.stack.is_empty() {
            return Err(FileError::new("The JSON ends in the middle; the file was cut off."));
        }
        Ok(())
    }
}

impl Record {
    /// Takes a byte; says whether the record is whole.
    fn push(&mut self, b: u8) -> bool {
        self.bytes.push(b);
        if self.is_in_string {
            if b == b'"' && !self.is_escaped {
                self.is_in_string = false;
            }
            self.is_escaped = b == b'\\' && !self.is_escaped;
            return false;
        }
        match b {
            b'"' => self.is_in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        self.depth == 0
    }
}

/// Cuts text into lines.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// Takes the next piece; gives each line, without its end, to `emit`.
    pub(super) fn push(&mut self, bytes: &[u8], emit: &mut dyn FnMut(&[u8])) -> Result<(), FileError> {
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            if self.0.len() + part.len() > MAX_RECORD_BYTES {
                return Err(FileError::record_too_long());
            }
            self.0.extend_from_slice(part);
            if part.ends_with(b"\n") {
                emit(&self.0[..self.0.len() - 1]);
                self.0.clear();
            }
        }
        Ok(())
    }

    /// The file is over; its last line need not have an end.
    pub(super) fn finish(&mut self, emit: &mut dyn FnMut(&[u8])) {
        if !self.0.is_empty() {
            emit(&self.0);
            self.0.clear();
        }
    }
}

/// Says what is wrong with a record of JSON.
pub(super) fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // The position would be one inside of the record.
    let text = text.rfind(" at line ").map_or(text.as_str(), |at| &text[..at]);
    if error.is_data() { text.to_owned() } else { format!("not JSON: {text}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        Step::{Element, Key, Member},
        *,
    };

    const PATHS: &[&[Step]] = &[&[Element], &[Key("links"), Member], &[Key("shortUrls"), Key("data"), Element]];

    fn records(text: &str, piece: usize) -> Result<Vec<String>, FileError> {
        let mut scanner = Scanner::new(PATHS);
        let mut found = Vec::new();
        for piece in text.as_bytes().chunks(piece) {
            scanner.push(piece, &mut |r| found.push(String::from_utf8_lossy(r).into_owned()))?;
        }
        scanner.finish()?;
        Ok(found)
    }

    #[test]
    fn records_stand_at_paths() {
        for (text, expected) in [
            (r#"[{"a":1},{"b":[{}]}]"#, vec![r#"{"a":1}"#, r#"{"b":[{}]}"#]),
            (
                r#"{"links":{"link_1":{"a":"}"},"link_2":{"b":"\"}"}},"stats":{"x":{}}}"#,
                vec![r#"{"a":"}"}"#, r#"{"b":"\"}"}"#],
            ),
            (r#"{"shortUrls":{"pagination":{"a":0},"data":[{"a":1}]}}"#, vec![r#"{"a":1}"#]),
            ("[]", vec![]),
            ("[1, \"{\", null, true, -1.5e3]", vec![]),
            ("[{\"a\":1}]\n[{\"b\":2}]", vec![r#"{"a":1}"#, r#"{"b":2}"#]),
        ] {
            for piece in [1, 2, 7, 1000] {
                let got = records(text, piece);
                assert_eq!(got.unwrap(), expected, "{text}");
            }
        }
        for text in ["<html>", "[{\"a\":1}", "[{\"a\":", "{\"links\":{]", "]", "x", &"[".repeat(40)] {
            assert!(records(text, 3).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(texts in proptest::collection::vec("\\PC{0,20}", 0..8), piece in 1_usize..40) {
            let all: Vec<_> = texts.iter().map(|t| serde_json::json!({ "t": t, "n": [{}, [t]] })).collect();
            let text = serde_json::to_string_pretty(&all).unwrap();
            let got = records(&text, piece).unwrap();
            let parsed: Vec<serde_json::Value> = got.iter().map(|r| serde_json::from_str(r).unwrap()).collect();
            prop_assert_eq!(parsed, all);
        }
    }
}
