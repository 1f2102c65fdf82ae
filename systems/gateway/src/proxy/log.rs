//! The access log: a line for each request, when its answer is through.
//!
//! - LOG-1: a request never waits for the log. Each worker writes into a buffer of its own, and hands it over when it is full or a
//!   second old; when the disk does not keep up, whole buffers are left out and counted.
//! - LOG-2: what a client sends cannot make a line look like two, or like another: JSON strings are escaped, and in other formats
//!   controls, quotes, backslashes and bytes beyond ASCII are written as `\xHH`, as nginx does.
//! - LOG-3: a file that was moved away is written anew (within a second), so that log rotation needs no signal.

use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kernel::{Clock, OnPanic, Tasks, Timestamp};
use tokio::sync::mpsc;

/// A buffer is handed over when it has so many bytes.
const BUFFER_BYTES: usize = 32 * 1024;
/// Buffers that wait to be written.
const WAITING: usize = 64;
/// How old a buffer gets.
pub(super) const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// The longest value of a header in a line.
const MAX_VALUE_BYTES: usize = 1024;

/// What one line tells. Texts are as they came.
#[derive(Debug, Default)]
pub(crate) struct Line<'a> {
    pub(crate) at: Timestamp,
    pub(crate) client: &'a str,
    pub(crate) method: &'a str,
    pub(crate) scheme: &'a str,
    pub(crate) host: &'a [u8],
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) version: &'a str,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// Until the head of the back end's answer.
    pub(crate) upstream_took: Option<Duration>,
    pub(crate) route: &'a str,
    pub(crate) upstream: &'a str,
    pub(crate) endpoint: &'a str,
    pub(crate) tries: u32,
    /// Why, when something went wrong; a short stable word.
    pub(crate) error: &'a str,
    pub(crate) request_id: &'a [u8],
    pub(crate) user: &'a str,
    pub(crate) user_agent: &'a [u8],
    pub(crate) referer: &'a [u8],
}

/// How lines look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Parts);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Parts {
    Json,
    Template(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

macro_rules! fields {
    ($($variant:ident $name:literal),+ $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Field { $($variant),+ }

        impl Field {
            /// Every field by its name, in the order of JSON lines.
            const ALL: &[(&'static str, Self)] = &[$(($name, Self::$variant)),+];
        }
    };
}

fields! {
    Time "time", Client "client", Method "method", Scheme "scheme", Host "host", Path "path", Query "query", Version "version",
    Status "status", Bytes "bytes", DurationMs "duration_ms", UpstreamMs "upstream_ms", Route "route", Upstream "upstream",
    Endpoint "endpoint", Tries "tries", Error "error", RequestId "request_id", User "user",
    UserAgent "user_agent", Referer "referer",
}

/// The combined format of Apache and nginx.
const COMBINED: &str =
    "{client} - {user} [{time}] \"{method} {path}{query} {version}\" {status} {bytes} \"{referer}\" \"{user_agent}\"";

/// What a field holds.
enum Value<'a> {
    Text(&'a [u8]),
    Number(u64),
    Ms(Duration),
    At(Timestamp),
    Nothing,
}

impl Format {
    /// `json`, `combined`, or a template such as `{client} {method} {path} {status} {duration_ms}`. `{{` is a brace.
    pub fn parse(text: &str) -> Result<Self, String> {
        let template = match text {
            "json" => return Ok(Self(Parts::Json)),
            "combined" => COMBINED,
            other => other,
        };
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let from = &rest[at..];
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                literal.push_str(&from[..1]);
                rest = after;
                continue;
            }
            let (name, after) = from
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'))
                .ok_or("a brace is alone: {{ and }} are braces that mean themselves")?;
            let field = Field::ALL.iter().find(|(known, _)| *known == name).map(|(_, field)| *field);
            let field = field.ok_or_else(|| {
                let names: Vec<_> = Field::ALL.iter().map(|(name, _)| *name).collect();
                format!("{{{name}}} is no field; there are {}", names.join(", "))
            })?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Field(field));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains(|c: char| c.is_control()))) {
            return Err("a line has no control characters".to_owned());
        }
        Ok(Self(Parts::Template(parts)))
    }

    /// Appends a line.
    pub(crate) fn write(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        match &self.0 {
            Parts::Json => {
                out.push(b'{');
                let mut is_first = true;
                for (name, field) in Field::ALL {
                    let value = field.of(line);
                    if matches!(value, Value::Nothing) {
                        continue;
                    }
                    if !is_first {
                        out.push(b',');
                    }
                    is_first = false;
                    out.push(b'"');
                    out.extend_from_slice(name.as_bytes());
                    out.extend_from_slice(b"\":");
                    value.json(out);
                }
                out.push(b'}');
            }
            Parts::Template(parts) => {
                for part in parts {
                    match part {
                        Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                        // A query that is not there leaves no dash behind the path.
                        Part::Field(Field::Query) if line.query.is_empty() => {}
                        Part::Field(Field::Query) => {
                            out.push(b'?');
                            escape(line.query.as_bytes(), out);
                        }
                        Part::Field(field) => field.of(line).plain(out),
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

impl Field {
    fn of<'a>(self, line: &Line<'a>) -> Value<'a> {
        let text = |text: &'a [u8]| {
            if text.is_empty() { Value::Nothing } else { Value::Text(&text[..text.len().min(MAX_VALUE_BYTES)]) }
        };
        match self {
            Self::Time => Value::At(line.at),
            Self::Client => text(line.client.as_bytes()),
            Self::Method => text(line.method.as_bytes()),
            Self::Scheme => text(line.scheme.as_bytes()),
            Self::Host => text(line.host),
            Self::Path => text(line.path.as_bytes()),
            Self::Query => text(line.query.as_bytes()),
            Self::Version => text(line.version.as_bytes()),
            Self::Status => Value::Number(line.status.into()),
            Self::Bytes => Value::Number(line.bytes),
            Self::DurationMs => Value::Ms(line.took),
            Self::UpstreamMs => line.upstream_took.map_or(Value::Nothing, Value::Ms),
            Self::Route => text(line.route.as_bytes()),
            Self::Upstream => text(line.upstream.as_bytes()),
            Self::Endpoint => text(line.endpoint.as_bytes()),
            Self::Tries if line.tries == 0 => Value::Nothing,
            Self::Tries => Value::Number(line.tries.into()),
            Self::Error => text(line.error.as_bytes()),
            Self::RequestId => text(line.request_id),
            Self::User => text(line.user.as_bytes()),
            Self::UserAgent => text(line.user_agent),
            Self::Referer => text(line.referer),
        }
    }
}

impl Value<'_> {
    fn json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                // Bytes that are no UTF-8 become U+FFFD: JSON has no other way.
                let text = String::from_utf8_lossy(text);
                // Strings always serialise.
                drop(serde_json::to_writer(&mut *out, &*text));
            }
            Self::At(at) => {
                out.push(b'"');
                out.extend_from_slice(at.to_string().as_bytes());
                out.push(b'"');
            }
            Self::Nothing => out.extend_from_slice(b"null"),
            Self::Number(_) | Self::Ms(_) => self.plain(out),
        }
    }

    fn plain(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => escape(text, out),
            Self::Number(n) => number(*n, out),
            Self::Ms(took) => {
                let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                number(us / 1000, out);
                let rest = us % 1000;
                out.push(b'.');
                for digit in [rest / 100, rest / 10 % 10, rest % 10] {
                    out.push(b'0' + u8::try_from(digit).unwrap_or(0));
                }
            }
            Self::At(at) => out.extend_from_slice(at.to_string().as_bytes()),
            Self::Nothing => out.push(b'-'),
        }
    }
}

fn number(mut n: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(n % 10).unwrap_or(0);
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn escape(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        if matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\' {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// Where lines go.
#[derive(Clone)]
pub(crate) struct AccessLog {
    format: Arc<Format>,
    buffers: mpsc::Sender<Vec<u8>>,
    lost_lines: Arc<AtomicU64>,
}

impl AccessLog {
    /// Starts the writer of a file, or of standard output for `-`.
    pub(crate) fn start(path: &Path, format: Format, clock: &Clock, tasks: &Tasks) -> Self {
        let (buffers, waiting) = mpsc::channel(WAITING);
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        let lost_lines = Arc::new(AtomicU64::new(0));
        let (path, clock, lost) = (path.to_path_buf(), clock.clone(), lost_lines.clone());
        tasks.supervise("gateway-access-log", OnPanic::Restart(kernel::Backoff::STANDARD), move |shutdown| {
            let (path, clock, waiting, lost) = (path.clone(), clock.clone(), waiting.clone(), lost.clone());
            async move {
                let mut waiting = waiting.lock().await;
                let mut writer = Writer::new(path, clock, lost);
                while let Some(Some(buffer)) = shutdown.or(waiting.recv()).await {
                    writer = writer.write(buffer).await;
                }
                while let Ok(buffer) = waiting.try_recv() {
                    writer = writer.write(buffer).await;
                }
            }
        });
        Self { format: Arc::new(format), buffers, lost_lines }
    }

    /// Lines that were left out.
    pub(crate) fn lost_lines(&self) -> u64 {
        self.lost_lines.load(Ordering::Relaxed)
    }

    /// The part of one worker.
    pub(super) fn for_worker(&self) -> WorkerLog {
        WorkerLog { log: self.clone(), buffer: RefCell::default() }
    }
}

/// The buffer of one worker.
pub(super) struct WorkerLog {
    log: AccessLog,
    buffer: RefCell<Vec<u8>>,
}

impl WorkerLog {
    pub(super) fn write(&self, line: &Line<'_>) {
        let mut buffer = self.buffer.borrow_mut();
        self.log.format.write(line, &mut buffer);
        if buffer.len() >= BUFFER_BYTES {
            self.hand_over(&mut buffer);
        }
    }

    /// Hands over what is there.
    pub(super) fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if !buffer.is_empty() {
            self.hand_over(&mut buffer);
        }
    }

    fn hand_over(&self, buffer: &mut Vec<u8>) {
        let full = std::mem::replace(buffer, Vec::with_capacity(BUFFER_BYTES + 1024));
        if let Err(e) = self.log.buffers.try_send(full) {
            let lost = e.into_inner();
            count_lost(&self.log.lost_lines, &lost);
        }
    }
}

impl Drop for WorkerLog {
    fn drop(&mut self) {
        self.flush();
    }
}

fn count_lost(counter: &AtomicU64, lines: &[u8]) {
    let count = lines.split(|b| *b == b'\n').count().saturating_sub(1);
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

/// The file as it is open.
struct Writer {
    path: PathBuf,
    clock: Clock,
    lost: Arc<AtomicU64>,
    file: Option<File>,
    looked_at: Duration,
    has_failed: bool,
}

impl Writer {
    fn new(path: PathBuf, clock: Clock, lost: Arc<AtomicU64>) -> Self {
        Self { path, clock, lost, file: None, looked_at: Duration::ZERO, has_failed: false }
    }

    /// Writes on a thread that may wait for a disk.
    async fn write(mut self, buffer: Vec<u8>) -> Self {
        let (path, clock, lost) = (self.path.clone(), self.clock.clone(), self.lost.clone());
        let written = tokio::task::spawn_blocking(move || {
            let now = self.clock.monotonic();
            match self.append(&buffer, now) {
                Ok(()) => self.has_failed = false,
                Err(e) => {
                    count_lost(&self.lost, &buffer);
                    self.file = None;
                    if !self.has_failed {
                        tracing::error!(error = %e, path = %self.path.display(), "cannot write the access log");
                    }
                    self.has_failed = true;
                }
            }
            self
        });
        written.await.unwrap_or_else(|_| Self::new(path, clock, lost))
    }

    fn append(&mut self, buffer: &[u8], now: Duration) -> io::Result<()> {
        if self.path.as_os_str() == "-" {
            let mut out = io::stdout().lock();
            out.write_all(buffer)?;
            return out.flush();
        }
        if self.file.is_none() || now.saturating_sub(self.looked_at) >= FLUSH_INTERVAL {
            self.looked_at = now;
            if !self.is_in_place() {
                self.file = Some(OpenOptions::new().create(true).append(true).open(&self.path)?);
            }
        }
        match &mut self.file {
            Some(file) => file.write_all(buffer),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether the open file is still the one at the path.
    fn is_in_place(&self) -> bool {
        let Some(file) = &self.file else { return false };
        match (file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }
}

/// The name of an HTTP version in a log line.
pub(super) fn version_name(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        http::Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// A socket address as text, for a line.
pub(super) fn text_of(value: &impl ToString) -> String {
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>() -> Line<'a> {
        Line {
            at: Timestamp::from_millis(1_795_478_400_123),
            client: "192.0.2.7",
            method: "GET",
            path: "/a\"b",
            query: "q=1",
            version: "HTTP/1.1",
            status: 200,
            bytes: 1234,
            took: Duration::from_micros(12_045),
            user_agent: b"evil\n\"agent\\\xff",
            ..Line::default()
        }
    }

    fn written(format: &str, line: &Line<'_>) -> String {
        let mut out = Vec::new();
        Format::parse(format).unwrap().write(line, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn formats_write_what_they_say() {
        assert_eq!(
            written("combined", &line()),
            "192.0.2.7 - - [2026-11-24T00:00:00.123Z] \"GET /a\\x22b?q=1 HTTP/1.1\" 200 1234 \"-\" \
             \"evil\\x0A\\x22agent\\x5C\\xFF\"\n"
        );
        assert_eq!(written("{{{status}}} {duration_ms} {upstream_ms}", &line()), "{200} 12.045 -\n");
        let json: serde_json::Value = serde_json::from_str(&written("json", &line())).unwrap();
        assert_eq!((json["status"].as_u64(), json["duration_ms"].as_f64()), (Some(200), Some(12.045)));
        assert_eq!(json["user_agent"], "evil\n\"agent\\\u{fffd}");
        assert_eq!(json.get("referer"), None);
    }

    #[test]
    fn what_is_no_format_is_refused() {
        for bad in ["{", "}", "{client", "{nobody}", "a\nb"] {
            assert!(Format::parse(bad).is_err(), "{bad}");
        }
    }
}
