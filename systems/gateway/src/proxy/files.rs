//! Files of a folder.
//!
//! - FILES-1: nothing outside of the folder is served, whatever the path says or a symbolic link leads to; and nothing of which a
//!   name on the way starts with a dot.
//! - FILES-2: conditional requests and ranges follow RFC 9110 (13.2.2 and 14.2): one range is answered with 206, several with the
//!   whole, one past the end with 416.
//! - FILES-3: a file is read in pieces, each on a thread that may wait for a disk.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH,
        IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, LOCATION, RANGE,
    },
};
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use super::body::{Body, BoxError};

/// Bytes of a file that are read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// A folder to serve.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) root: PathBuf,
    pub(crate) index: String,
    pub(crate) fallback: Option<String>,
    pub(crate) cache_control: Option<HeaderValue>,
}

/// What a request leads to.
enum Found {
    File {
        file: File,
        metadata: Box<Metadata>,
        path: PathBuf,
    },
    /// A folder whose path lacks the slash at its end.
    Folder,
    Nothing,
}

/// An answer, or that there is no such file.
pub(super) enum Served {
    Answer(Response<Body>),
    NotFound,
    /// The disk failed; for the log.
    Failed(io::Error),
}

/// Where in the folder a path leads; `None` where nothing is ever served.
fn relative(path: &str) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for segment in path.split('/') {
        let segment = percent_encoding::percent_decode_str(segment).decode_utf8().ok()?;
        match &*segment {
            "" => {}
            name if name.starts_with('.') || name.contains(['/', '\\', '\0']) => return None,
            name => relative.push(name),
        }
    }
    Some(relative)
}

impl Folder {
    /// Answers a request for `path`, which the client knows as `shown`.
    pub(super) async fn serve(
        &self,
        method: &Method,
        path: &str,
        shown: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Served {
        if method != Method::GET && method != Method::HEAD {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Served::Answer(response);
        }
        let Some(relative) = relative(path) else { return Served::NotFound };
        let (folder, is_folder) = (self.clone(), path.ends_with('/'));
        let found = tokio::task::spawn_blocking(move || folder.find(&relative, is_folder)).await;
        match found.map_err(io::Error::other).and_then(|found| found) {
            Ok(Found::File { file, metadata, path }) => {
                Served::Answer(self.answer(method, headers, file, &metadata, &path))
            }
            Ok(Found::Folder) => Served::Answer(to_folder(shown, query)),
            Ok(Found::Nothing) => Served::NotFound,
            Err(e) => Served::Failed(e),
        }
    }

    fn find(&self, relative: &Path, is_folder: bool) -> io::Result<Found> {
        let root = self.root.canonicalize()?;
        let wanted = if is_folder { relative.join(&self.index) } else { relative.to_path_buf() };
        match open(&root, &wanted)? {
            Found::Nothing => match &self.fallback {
                Some(fallback) => match open(&root, Path::new(fallback))? {
                    Found::Folder => Ok(Found::Nothing),
                    found => Ok(found),
                },
                None => Ok(Found::Nothing),
            },
            Found::Folder if is_folder => Ok(Found::Nothing),
            found => Ok(found),
        }
    }

    fn answer(
        &self,
        method: &Method,
        asked: &HeaderMap,
        file: File,
        metadata: &Metadata,
        path: &Path,
    ) -> Response<Body> {
        let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
        let length = metadata.len();
        let tag = etag(modified, length);
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&tag) {
            headers.insert(ETAG, value);
        }
        if let Ok(value) = HeaderValue::from_str(&httpdate::fmt_http_date(modified)) {
            headers.insert(LAST_MODIFIED, value);
        }
        if let Some(value) = &self.cache_control {
            headers.insert(CACHE_CONTROL, value.clone());
        }
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        match precondition(asked, &tag, modified) {
            Condition::Holds => {}
            Condition::NotModified => {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                return response;
            }
            Condition::Failed => {
                *response.status_mut() = StatusCode::PRECONDITION_FAILED;
                return response;
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
        let mut range = 0..length;
        // Ranges are defined for GET alone.
        if method == Method::GET && range_holds(asked, &tag, modified) {
            match wanted_range(asked, length) {
                Wanted::Whole => {}
                Wanted::Part(part) => {
                    let text = format!("bytes {}-{}/{length}", part.start, part.end - 1);
                    range = part;
                    if let Ok(value) = HeaderValue::from_str(&text) {
                        headers.insert(CONTENT_RANGE, value);
                    }
                    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                }
                Wanted::Nothing => {
                    headers.remove(CONTENT_TYPE);
                    if let Ok(value) = HeaderValue::from_str(&format!("bytes */{length}")) {
                        headers.insert(CONTENT_RANGE, value);
                    }
                    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                    return response;
                }
            }
        }
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        if method == Method::GET && !range.is_empty() {
            *response.body_mut() = Body::stream(Pieces::new(file, range));
        }
        response
    }
}

/// Opens what is at a place, if it is in the folder when all links are followed.
fn open(root: &Path, relative: &Path) -> io::Result<Found> {
    let nothing = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::InvalidFilename => Ok(Found::Nothing),
        _ => Err(e),
    };
    let path = match root.join(relative).canonicalize() {
        Ok(path) => path,
        Err(e) => return nothing(e),
    };
    let Ok(inside) = path.strip_prefix(root) else { return Ok(Found::Nothing) };
    let has_dot = inside.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."));
    if has_dot {
        return Ok(Found::Nothing);
    }
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let is_folder = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => true,
        Ok(metadata) if metadata.is_file() => false,
        Ok(_) => return Ok(Found::Nothing),
        Err(e) => return nothing(e),
    };
    if is_folder {
        return Ok(Found::Folder);
    }
    match File::open(&path) {
        Ok(file) => Ok(Found::File { metadata: Box::new(file.metadata()?), file, path }),
        Err(e) => nothing(e),
    }
}

fn to_folder(path: &str, query: Option<&str>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    // One slash at the front: two would name another host.
    let mut to = format!("/{}/", path.trim_start_matches('/'));
    if let Some(query) = query {
        to.push('?');
        to.push_str(query);
    }
    if let Ok(value) = HeaderValue::from_str(&to) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

fn etag(modified: SystemTime, length: u64) -> String {
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    format!("\"{:x}-{length:x}\"", since.as_nanos())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Holds,
    NotModified,
    Failed,
}

/// The order of RFC 9110, 13.2.2, for GET and HEAD.
fn precondition(asked: &HeaderMap, tag: &str, modified: SystemTime) -> Condition {
    let seconds = |t: SystemTime| t.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let date = |name| asked.get(name).and_then(|v| httpdate::parse_http_date(v.to_str().ok()?).ok()).map(seconds);
    let has_tag = |name, weak: bool| {
        asked.get_all(name).iter().any(|value: &HeaderValue| {
            value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii).any(|one| {
                let strong = if weak { one.strip_prefix(b"W/").unwrap_or(one) } else { one };
                one == b"*" || strong == tag.as_bytes()
            })
        })
    };
    if asked.contains_key(IF_MATCH) {
        if !has_tag(IF_MATCH, false) {
            return Condition::Failed;
        }
    } else if date(IF_UNMODIFIED_SINCE).is_some_and(|since| seconds(modified) > since) {
        return Condition::Failed;
    }
    let is_same = if asked.contains_key(IF_NONE_MATCH) {
        has_tag(IF_NONE_MATCH, true)
    } else {
        date(IF_MODIFIED_SINCE).is_some_and(|since| seconds(modified) <= since)
    };
    if is_same { Condition::NotModified } else { Condition::Holds }
}

/// Whether the range is asked of the file as it is (RFC 9110, 13.1.5).
fn range_holds(asked: &HeaderMap, tag: &str, modified: SystemTime) -> bool {
    let Some(condition) = asked.get(IF_RANGE) else { return true };
    if condition.as_bytes().contains(&b'"') {
        return condition.as_bytes() == tag.as_bytes();
    }
    condition.to_str().is_ok_and(|text| text == httpdate::fmt_http_date(modified))
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part(Range<u64>),
    Nothing,
}

fn wanted_range(asked: &HeaderMap, length: u64) -> Wanted {
    let mut values = asked.get_all(RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Wanted::Whole };
    let Some((unit, ranges)) = value.to_str().ok().and_then(|text| text.split_once('=')) else { return Wanted::Whole };
    // Of several ranges none is taken: the whole is always a right answer.
    if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
        return Wanted::Whole;
    }
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let Some((first, last)) = ranges.trim().split_once('-') else { return Wanted::Whole };
    match (first, last) {
        ("", last) => match number(last) {
            None => Wanted::Whole,
            Some(0) => Wanted::Nothing,
            Some(_) if length == 0 => Wanted::Nothing,
            Some(count) => Wanted::Part(length.saturating_sub(count)..length),
        },
        (first, last) => {
            let last = if last.is_empty() { Some(u64::MAX) } else { number(last) };
            match (number(first), last) {
                (Some(first), Some(last)) if first > last => Wanted::Whole,
                (Some(first), Some(_)) if first >= length => Wanted::Nothing,
                (Some(first), Some(last)) => Wanted::Part(first..last.saturating_add(1).min(length)),
                _ => Wanted::Whole,
            }
        }
    }
}

/// A part of a file as a body.
struct Pieces {
    state: State,
    left: u64,
}

enum State {
    Idle(Option<File>),
    Reading(JoinHandle<io::Result<(File, Bytes)>>),
}

impl Pieces {
    fn new(file: File, range: Range<u64>) -> Self {
        let mut this = Self { state: State::Idle(None), left: range.end - range.start };
        this.read(file, Some(range.start));
        this
    }

    fn read(&mut self, mut file: File, seek: Option<u64>) {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        self.state = State::Reading(tokio::task::spawn_blocking(move || {
            if let Some(from) = seek.filter(|from| *from > 0) {
                file.seek(SeekFrom::Start(from))?;
            }
            let mut piece = vec![0; count];
            let mut got = 0;
            while got < count {
                match file.read(&mut piece[got..])? {
                    0 => break,
                    n => got += n,
                }
            }
            piece.truncate(got);
            Ok((file, piece.into()))
        }));
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            match &mut self.state {
                State::Idle(file) => match file.take() {
                    Some(file) => self.read(file, None),
                    None => return Poll::Ready(None),
                },
                State::Reading(task) => {
                    let read = ready!(Pin::new(task).poll(cx));
                    self.state = State::Idle(None);
                    let (file, piece) = read.map_err(io::Error::other).and_then(|read| read)?;
                    if piece.is_empty() {
                        // Shorter than it was: the client has to see that this is not the whole.
                        return Poll::Ready(Some(Err("the file got shorter".into())));
                    }
                    self.left -= piece.len() as u64;
                    self.state = State::Idle(Some(file));
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// By the end of the name; what is not known is a stream of bytes.
fn content_type(path: &Path) -> &'static str {
    let end = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    match end.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "xml" => "application/xml",
        "txt" | "text" | "log" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn folder(root: &Path) -> Folder {
        Folder { root: root.to_path_buf(), index: "index.html".to_owned(), fallback: None, cache_control: None }
    }

    async fn get(folder: &Folder, path: &str, rows: &[(&'static str, &str)]) -> (u16, HeaderMap, Vec<u8>) {
        let headers = rows.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_str(v).unwrap())).collect();
        match folder.serve(&Method::GET, path, path, None, &headers).await {
            Served::Answer(response) => {
                let (parts, body) = response.into_parts();
                (parts.status.as_u16(), parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
            }
            Served::NotFound => (404, HeaderMap::new(), Vec::new()),
            Served::Failed(e) => panic!("{e}"),
        }
    }

    #[tokio::test]
    async fn nothing_outside_of_the_folder_is_served() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        let root = outside.path().join("root");
        std::fs::create_dir_all(root.join("sub/.git")).unwrap();
        std::fs::write(root.join("index.html"), "home").unwrap();
        std::fs::write(root.join("sub/a b.txt"), "ab").unwrap();
        std::fs::write(root.join(".env"), "s").unwrap();
        std::fs::write(root.join("sub/.git/config"), "s").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), root.join("link")).unwrap();
        std::os::unix::fs::symlink(root.join(".env"), root.join("env")).unwrap();
        std::os::unix::fs::symlink(root.join("sub/a b.txt"), root.join("inside")).unwrap();
        let folder = folder(&root);
        for (path, status) in [
            ("/", 200),
            ("/index.html", 200),
            ("/sub/a%20b.txt", 200),
            ("//sub//a%20b.txt", 200),
            ("/inside", 200),
            ("/sub", 308),
            ("/sub/", 404),
            ("/nothing", 404),
            ("/index.html/x", 404),
            ("/../secret", 404),
            ("/%2e%2e/secret", 404),
            ("/sub/..%2f..%2fsecret", 404),
            ("/sub/../../secret", 404),
            ("/..%5csecret", 404),
            ("/link", 404),
            ("/env", 404),
            ("/.env", 404),
            ("/%2eenv", 404),
            ("/sub/.git/config", 404),
            ("/index.html%00.png", 404),
            ("/%ff", 404),
        ] {
            assert_eq!(get(&folder, path, &[]).await.0, status, "{path}");
        }
        let spa = Folder { fallback: Some("index.html".to_owned()), ..folder };
        assert_eq!(get(&spa, "/app/users/7", &[]).await.2, b"home");
        assert_eq!(get(&spa, "/../secret", &[]).await.0, 404);
    }

    #[tokio::test]
    async fn ranges_and_conditions_are_those_of_the_rfc() {
        let root = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        std::fs::write(root.path().join("f.bin"), &bytes).unwrap();
        std::fs::write(root.path().join("empty"), "").unwrap();
        let folder = folder(root.path());
        let (status, headers, whole) = get(&folder, "/f.bin", &[]).await;
        assert_eq!((status, whole == bytes), (200, true));
        let tag = headers[ETAG].to_str().unwrap().to_owned();
        let date = headers[LAST_MODIFIED].to_str().unwrap().to_owned();
        for (range, status, part) in [
            ("bytes=0-0", 206, 0..1),
            ("bytes=70000-140000", 206, 70_000..140_001),
            ("bytes=199999-", 206, 199_999..200_000),
            ("bytes=-5", 206, 199_995..200_000),
            ("bytes=-999999", 206, 0..200_000),
            ("bytes=5-999999999999999999999", 206, 5..200_000),
            ("bytes=200000-", 416, 0..0),
            ("bytes=-0", 416, 0..0),
            ("bytes=9-5", 200, 0..200_000),
            ("bytes=0-1,5-6", 200, 0..200_000),
            ("lines=0-1", 200, 0..200_000),
            ("bytes=+1-2", 200, 0..200_000),
        ] {
            let (got, headers, body) = get(&folder, "/f.bin", &[("range", range)]).await;
            assert_eq!((got, body == bytes[part.clone()]), (status, true), "{range}");
            if got == 206 {
                let said = format!("bytes {}-{}/200000", part.start, part.end - 1);
                assert_eq!(headers[CONTENT_RANGE].to_str().unwrap(), said);
            }
        }
        let weak = format!("W/{tag}");
        for (rows, status) in [
            (&[("if-none-match", tag.as_str())][..], 304),
            (&[("if-none-match", weak.as_str())], 304),
            (&[("if-none-match", "\"x\"")], 200),
            (&[("if-none-match", "*")], 304),
            (&[("if-none-match", "\"x\""), ("if-modified-since", date.as_str())], 200),
            (&[("if-modified-since", date.as_str())], 304),
            (&[("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT")], 200),
            (&[("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT")], 412),
            (&[("if-match", tag.as_str())], 200),
            (&[("if-match", weak.as_str())], 412),
            (&[("range", "bytes=0-1"), ("if-range", tag.as_str())], 206),
            (&[("range", "bytes=0-1"), ("if-range", "\"old\"")], 200),
            (&[("range", "bytes=0-1"), ("if-range", date.as_str())], 206),
            (&[("range", "bytes=0-1"), ("if-range", "Thu, 01 Jan 1970 00:00:00 GMT")], 200),
        ] {
            assert_eq!(get(&folder, "/f.bin", rows).await.0, status, "{rows:?}");
        }
        assert_eq!(get(&folder, "/empty", &[("range", "bytes=0-")]).await.0, 416);
        assert_eq!(get(&folder, "/empty", &[]).await.0, 200);
    }
}
