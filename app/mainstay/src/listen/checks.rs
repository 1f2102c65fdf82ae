//! Checks of rate limits on the API listener, answered with one read and one write.
//!
//! Whoever asks before each of its requests waits for every microsecond here. A connection of HTTP/1.1 stays in this lane as long as its
//! requests are `POST /v1/limits/check` with nothing unusual about them; at the first that is anything else, or that has to wait or to
//! be refused, hyper takes the connection over for good, with the bytes of that request unread.
//!
//! - CHECKS-1: a client cannot tell the lane from hyper: for the same request it gets the same answer (but it is never compressed).
//! - CHECKS-2: what is handed over was not charged.
//! - CHECKS-3: a connection that makes no progress (no whole request, no byte of an answer taken) for `api.header_timeout` is closed. Nothing more is read from a client that does not
//!   take its answers.
//! - CHECKS-4: at shutdown whole requests that are here are answered, and the connection is closed; of a part nothing was charged.
//!
//! Each check is counted in the golden signals as the route is. Like those of the route, they are in the access log at debug level.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, UNIX_EPOCH},
};

use kernel::{Clock, Rng, Shutdown};
use telemetry::golden::Route;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::lane::Rewind;

/// The path that is served here.
pub(crate) const PATH: &str = "/v1/limits/check";
/// How every request begins that is served here.
const LINE: &[u8] = b"POST /v1/limits/check HTTP/1.1\r\n";
/// The longest request, head and body; longer ones go to hyper.
const MAX_REQUEST_BYTES: usize = 16 * 1024;
/// The most lines of a head.
const MAX_LINES: usize = 24;

thread_local! {
    /// Buffers of a thread: a connection that idles holds none.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

#[derive(Default)]
struct Scratch {
    input: Vec<u8>,
    output: Vec<u8>,
    body: Vec<u8>,
    /// The `Date` of answers, and the second that it is for.
    date: (i64, String),
}

/// What answers checks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Checks {
    pub(crate) access: access::Access,
    pub(crate) limiter: limiter::Limiter,
    pub(crate) route: Route,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
    pub(crate) timeout: Duration,
}

/// What the bytes that came begin with.
#[derive(Debug, PartialEq, Eq)]
enum Begin<'a> {
    /// A part of a check; nothing speaks against it yet.
    Part,
    Check(Check<'a>),
    Other,
}

#[derive(Debug, PartialEq, Eq)]
struct Check<'a> {
    host: &'a str,
    authorization: Option<&'a str>,
    body: &'a [u8],
    /// Its bytes, head and body.
    len: usize,
    /// Whether the client wants the connection closed.
    is_last: bool,
}

fn begin(input: &[u8]) -> Begin<'_> {
    if !input.starts_with(LINE) {
        return if LINE.starts_with(input) { Begin::Part } else { Begin::Other };
    }
    let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
    let mut request = httparse::Request::new(&mut lines);
    let head = match request.parse(input) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Begin::Part,
        Err(_) => return Begin::Other,
    };
    let (mut host, mut authorization, mut length, mut kind, mut is_last) = (None, None, None, None, false);
    for line in &*request.headers {
        let Ok(value) = std::str::from_utf8(line.value) else { return Begin::Other };
        let is = |name: &str| line.name.eq_ignore_ascii_case(name);
        let place = match line.name.len() {
            4 if is("host") => &mut host,
            6 if is("accept") => continue,
            10 if is("user-agent") => continue,
            10 if is("connection") => {
                if value.eq_ignore_ascii_case("close") {
                    is_last = true;
                } else if !value.eq_ignore_ascii_case("keep-alive") {
                    return Begin::Other;
                }
                continue;
            }
            12 if is("content-type") => &mut kind,
            13 if is("authorization") => &mut authorization,
            14 if is("content-length") => &mut length,
            15 if is("accept-encoding") => continue,
            // It may ask for more than is done here, or change what is meant.
            _ => return Begin::Other,
        };
        if place.replace(value).is_some() {
            return Begin::Other;
        }
    }
    let (Some(host), Some(length), Some("application/json")) = (host, length, kind) else { return Begin::Other };
    let is_number = !length.is_empty() && length.len() <= 5 && length.bytes().all(|b| b.is_ascii_digit());
    let Some(length) = length.parse::<usize>().ok().filter(|_| is_number) else { return Begin::Other };
    if head + length > MAX_REQUEST_BYTES {
        return Begin::Other;
    }
    match input.get(head..head + length) {
        Some(body) => Begin::Check(Check { host, authorization, body, len: head + length, is_last }),
        None => Begin::Part,
    }
}

/// What comes after some bytes were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Read,
    HandOver,
    Close,
}

impl Checks {
    /// Serves a connection until it ends, or until hyper has to: then it is given back with what was not answered.
    pub(crate) async fn serve<I>(&self, stream: I, shutdown: &Shutdown) -> io::Result<Option<Rewind<I>>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let mut this = Connection {
            checks: self,
            stream,
            kept: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
            then: Then::Read,
            progress_at: self.clock.monotonic(),
        };
        let mut stop = pin!(shutdown.wait());
        let mut timer = pin!(self.clock.sleep(self.timeout));
        poll_fn(|cx| {
            if let Poll::Ready(ended) = this.poll(cx) {
                return Poll::Ready(ended);
            }
            if this.unsent.is_empty() && stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(Then::Close));
            }
            // One timer a connection, set anew only when it fires.
            while timer.as_mut().poll(cx).is_ready() {
                let still = self.clock.monotonic().saturating_sub(this.progress_at);
                if still >= self.timeout {
                    return Poll::Ready(Ok(Then::Close));
                }
                timer.set(self.clock.sleep(self.timeout.saturating_sub(still)));
            }
            Poll::Pending
        })
        .await
        .map(|then| (then == Then::HandOver).then(|| Rewind::new(this.kept, this.stream)))
    }

    /// Answers checks from the front of `input`; gives how many bytes they were.
    fn answer(&self, input: &[u8], scratch: &mut Answers<'_>) -> (usize, Then) {
        let mut used = 0;
        while used < input.len() {
            let check = match begin(&input[used..]) {
                Begin::Part if input.len() - used >= MAX_REQUEST_BYTES => return (used, Then::HandOver),
                Begin::Part => break,
                Begin::Other => return (used, Then::HandOver),
                Begin::Check(check) => check,
            };
            let started = self.clock.monotonic();
            let Some(who) = access::try_identify(&self.access, check.authorization, check.host) else {
                return (used, Then::HandOver);
            };
            scratch.body.clear();
            if !limiter::http::try_check(&self.limiter, &who, check.body, scratch.body) {
                return (used, Then::HandOver);
            }
            used += check.len;
            self.write(check.is_last, scratch);
            self.route.handle(Some(&who.project)).record(200, self.clock.monotonic().saturating_sub(started));
            if check.is_last {
                return (used, Then::Close);
            }
        }
        (used, Then::Read)
    }

    fn write(&self, is_last: bool, scratch: &mut Answers<'_>) {
        let ms = self.clock.now().as_millis();
        let (second, date) = &mut scratch.date;
        if **second != ms / 1000 {
            **second = ms / 1000;
            let since = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
            **date = httpdate::fmt_http_date(UNIX_EPOCH + since);
        }
        let id = kernel::id::uuid_v7(&self.clock, &self.rng);
        let mut text = [0; 36];
        let mut put = |part: &[u8]| scratch.output.extend_from_slice(part);
        put(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: ");
        put(id.hyphenated().encode_lower(&mut text).as_bytes());
        put(b"\r\nx-content-type-options: nosniff\r\nx-frame-options: DENY\r\nreferrer-policy: no-referrer\r\ncontent-security-policy: ");
        put(web::stack::CONTENT_SECURITY_POLICY.as_bytes());
        if is_last {
            put(b"\r\nconnection: close");
        }
        put(b"\r\ncontent-length: ");
        put(scratch.body.len().to_string().as_bytes());
        put(b"\r\ndate: ");
        put(date.as_bytes());
        put(b"\r\n\r\n");
        put(scratch.body);
    }
}

/// Where answers are made.
struct Answers<'a> {
    output: &'a mut Vec<u8>,
    body: &'a mut Vec<u8>,
    date: (&'a mut i64, &'a mut String),
}

struct Connection<'a, I> {
    checks: &'a Checks,
    stream: I,
    /// What was read and not answered.
    kept: Vec<u8>,
    /// What the client did not take at once.
    unsent: Vec<u8>,
    sent: usize,
    /// What comes when that is sent.
    then: Then,
    progress_at: Duration,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Connection<'_, I> {
    /// Goes on until it would wait, or is done.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Then>> {
        loop {
            while self.sent < self.unsent.len() {
                match Pin::new(&mut self.stream).poll_write(cx, &self.unsent[self.sent..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(written) => self.sent += written?,
                    Poll::Pending => return Poll::Pending,
                }
                self.progress_at = self.checks.clock.monotonic();
            }
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => return Poll::Pending,
            }
            if !self.unsent.is_empty() {
                (self.unsent, self.sent) = (Vec::new(), 0);
            }
            match self.then {
                Then::Read => {}
                Then::HandOver => return Poll::Ready(Ok(Then::HandOver)),
                Then::Close => return Pin::new(&mut self.stream).poll_shutdown(cx).map_ok(|()| Then::Close),
            }
            match SCRATCH.with_borrow_mut(|scratch| self.turn(cx, scratch)) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Reads once, answers what is whole, and writes once.
    fn turn(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<io::Result<()>> {
        let Scratch { input, output, body, date } = scratch;
        let part = self.kept.len();
        // What is kept is less than a request, and there is always room for more.
        input.resize(2 * MAX_REQUEST_BYTES, 0);
        input[..part].copy_from_slice(&self.kept);
        let mut buffer = ReadBuf::new(&mut input[part..]);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(read) => read?,
        }
        let count = buffer.filled().len();
        if count == 0 {
            self.then = Then::Close;
            return Poll::Ready(Ok(()));
        }
        output.clear();
        let mut answers = Answers { output, body, date: (&mut date.0, &mut date.1) };
        let end = part + count;
        let (used, then) = self.checks.answer(&input[..end], &mut answers);
        self.then = then;
        if used > 0 {
            self.progress_at = self.checks.clock.monotonic();
        }
        self.kept.clear();
        self.kept.extend_from_slice(&input[used..end]);
        if self.kept.is_empty() && self.kept.capacity() > 0 {
            self.kept = Vec::new();
        }
        if !output.is_empty() {
            let written = match Pin::new(&mut self.stream).poll_write(cx, output) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            if written < output.len() {
                self.unsent.extend_from_slice(&output[written..]);
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str =
        "POST /v1/limits/check HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

    #[test]
    fn a_part_of_a_check_is_waited_for() {
        for at in 0..WHOLE.len() {
            assert_eq!(begin(&WHOLE.as_bytes()[..at]), Begin::Part, "{at}");
        }
        let check = Check { host: "a", authorization: None, body: b"{}", len: WHOLE.len(), is_last: false };
        assert_eq!(begin(WHOLE.as_bytes()), Begin::Check(check));
    }

    #[test]
    fn what_is_not_plain_is_left_to_hyper() {
        let with = |line: &str| WHOLE.replace("host: a\r\n", &format!("host: a\r\n{line}\r\n"));
        let rows = [
            "GET /v1/limits/check HTTP/1.1\r\n".to_owned(),
            "PRI * HTTP/2.0\r\n".to_owned(),
            WHOLE.replace("check ", "checks "),
            WHOLE.replace("1.1", "1.0"),
            WHOLE.replace("host: a\r\n", ""),
            WHOLE.replace("content-length: 2\r\n", ""),
            WHOLE.replace(": 2", ": +2"),
            WHOLE.replace(": 2", ": 99999"),
            WHOLE.replace(": 2", ": 2, 2"),
            WHOLE.replace("application/json", "application/xml"),
            with("host: b"),
            with("content-length: 2"),
            with("transfer-encoding: chunked"),
            with("expect: 100-continue"),
            with("upgrade: h2c"),
            with("connection: upgrade"),
            with("origin: http://a"),
            with("sec-fetch-site: none"),
            with("mainstay-project: b"),
            with("mainstay-timeout: 1s"),
            with("idempotency-key: k"),
            with("traceparent: 00-1-1-01"),
            with("x-request-id: 7"),
            with(" folded: x"),
            with("user-agent: \u{0}"),
        ];
        for row in rows {
            assert_eq!(begin(row.as_bytes()), Begin::Other, "{row}");
        }
        for line in [
            "user-agent: a",
            "accept: */*",
            "accept-encoding: gzip",
            "connection: keep-alive",
            "Authorization: Bearer k",
        ] {
            assert!(matches!(begin(with(line).as_bytes()), Begin::Check(_)), "{line}");
        }
        assert!(matches!(begin(with("connection: close").as_bytes()), Begin::Check(Check { is_last: true, .. })));
    }
}
