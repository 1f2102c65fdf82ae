//! The lane beside hyper alone, on streams whose every read and write is chosen.

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::server::graceful::GracefulShutdown;
use kernel::{Clock, SimClock, Timestamp};
use proptest::prelude::*;
use shortener::{Answer, Redirect, Visit};

use super::{
    super::public::{Connection, PublicWorker, Worker},
    *,
};
use crate::listen::{client::Proxies, public::Door};
use gateway::tls::Session;

/// Says in its answer what it understood.
#[derive(Clone)]
struct Echo;

fn echo(visit: &Visit<'_>) -> Answer {
    let text = |bytes: Option<&[u8]>| bytes.map_or_else(|| "-".into(), |b| String::from_utf8_lossy(b).into_owned());
    if visit.path.starts_with("/go") {
        let location = format!("https://example.com{}?{}", visit.path, visit.query.unwrap_or("-"));
        return Answer::Redirect(Redirect {
            status: StatusCode::FOUND,
            location: HeaderValue::try_from(location).unwrap(),
            cache_control: "private, max-age=0",
            robots: visit.query.map(|_| "noindex"),
        });
    }
    let said = [visit.host, visit.user_agent, visit.accept_language, visit.referer].map(text);
    let body = format!("{} {} {:?} {said:?} {}", visit.method, visit.path, visit.query, visit.client);
    let mut response = Response::new(Full::new(Bytes::from(body)));
    if visit.path.starts_with("/none") {
        *response.body_mut() = Full::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    Answer::Page(response)
}

impl PublicWorker for Echo {
    type Body = Full<Bytes>;

    fn is_for_lane(&self, visit: &Visit<'_>) -> bool {
        !visit.path.contains("elsewhere")
    }

    fn try_cached(&self, visit: &Visit<'_>, _started: Duration) -> Option<Answer> {
        (!visit.path.contains("cold")).then(|| echo(visit))
    }

    async fn ask(&self, visit: &Visit<'_>, _started: Duration) -> Answer {
        tokio::task::yield_now().await;
        echo(visit)
    }

    fn is_proxying(&self) -> bool {
        false
    }

    async fn call<B>(&self, request: Request<B>, peer: &gateway::Peer) -> Response<Full<Bytes>>
    where
        B: http_body::Body<Data = Bytes, Error: Into<gateway::proxy::BoxError>> + Unpin + 'static,
    {
        let (parts, body) = request.into_parts();
        // Read whole, so that how the bytes were cut decides nothing.
        let whole = body.collect().await;
        let request = Request::from_parts(parts, ());
        let mut response = echo(&Visit::of(&request, peer.address.ip())).into_response();
        if whole.is_err() {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        response
    }

    async fn drain(&self) {}
}

/// A client by script: each read gives the next piece, each write takes at most so many bytes, and either may have to wait first.
struct Script {
    pieces: VecDeque<Vec<u8>>,
    takes: usize,
    waits: bool,
    /// After the last piece it stays silent instead of ending.
    stays: bool,
    got: Arc<Mutex<Vec<u8>>>,
    left: Arc<AtomicUsize>,
}

impl Script {
    fn new(pieces: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let pieces: VecDeque<_> = pieces.into_iter().filter(|p| !p.is_empty()).collect();
        let left = Arc::new(AtomicUsize::new(pieces.len()));
        Self { pieces, takes: usize::MAX, waits: false, stays: false, got: Arc::default(), left }
    }

    /// How far it is, from outside.
    fn state(&self) -> impl Fn() -> (usize, usize) + use<> {
        let (got, left) = (self.got.clone(), self.left.clone());
        move || (got.lock().unwrap().len(), left.load(Ordering::Relaxed))
    }

    /// Whether this call has to wait; then it is woken at once.
    fn has_to_wait(&mut self, cx: &Context<'_>) -> bool {
        self.waits = !self.waits;
        if self.waits {
            cx.waker().wake_by_ref();
        }
        self.waits
    }
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.pieces.is_empty() && self.stays {
            return Poll::Pending;
        }
        if self.has_to_wait(cx) {
            return Poll::Pending;
        }
        if let Some(mut piece) = self.pieces.pop_front() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.pieces.push_front(rest);
            }
        }
        self.left.store(self.pieces.len(), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.takes == 0 || self.has_to_wait(cx) {
            return Poll::Pending;
        }
        let count = bytes.len().min(self.takes);
        self.got.lock().unwrap().extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Bench {
    lane: Rc<Lane>,
    worker: Rc<Worker<Echo>>,
    sim: SimClock,
    graceful: GracefulShutdown,
}

const TIMEOUT: Duration = Duration::from_secs(10);

impl Bench {
    fn new() -> Self {
        let (clock, sim) = Clock::simulated(Timestamp::from_millis(1_795_478_400_000));
        Self {
            lane: Rc::new(Lane::new(&clock, TIMEOUT)),
            worker: Rc::new(Worker {
                service: Echo,
                door: Door::plain(&clock),
                max_connections: 10,
                header_timeout: TIMEOUT,
                proxies: Proxies::default(),
                clock,
            }),
            sim,
            graceful: GracefulShutdown::new(),
        }
    }

    fn connection(&self) -> Connection<Echo> {
        Connection {
            worker: self.worker.clone(),
            lane: self.lane.clone(),
            server: wire::Server::new(&self.worker.clock, TIMEOUT),
            peer: Peer::new((Ipv4Addr::LOCALHOST, 4711).into(), &Proxies::default()),
            local: (Ipv4Addr::LOCALHOST, 80).into(),
            is_tls: false,
            session: Session::default(),
            watcher: self.graceful.watcher(),
        }
    }
}

/// Runs on a thread's own tasks, as a worker does.
fn on_worker<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// What a client gets that says all this and then waits, `Date` apart; and whether the connection was closed on it.
fn exchange(by_lane: bool, pieces: &[Vec<u8>], takes: usize) -> String {
    let script = Script { takes, stays: true, ..Script::new(pieces.to_vec()) };
    let (got, state) = (script.got.clone(), script.state());
    let is_closed = on_worker(async {
        let bench = Bench::new();
        let connection = bench.connection();
        let serve =
            async { if by_lane { connection.serve(script).await } else { connection.serve_by_hyper(script).await } };
        tokio::select! {
            () = serve => true,
            () = until_quiet(&state) => false,
        }
    });
    let mut out = String::new();
    for line in String::from_utf8_lossy(&got.lock().unwrap()).split_inclusive('\n') {
        out.push_str(if line.starts_with("date: ") { "date\r\n" } else { line });
    }
    out + if is_closed { "(closed)" } else { "(open)" }
}

/// Ends when nothing happens any more. Nothing here waits for time or another thread, so being polled often is enough.
async fn until_quiet<T: PartialEq>(state: impl Fn() -> T) {
    loop {
        let before = state();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        if state() == before {
            return;
        }
    }
}

fn cut(bytes: &[u8], at: &[usize]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = at.iter().map(|a| a % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    at.sort_unstable();
    at.windows(2).map(|w| bytes[w[0]..w[1]].to_vec()).collect()
}

/// Lines of a head, with how often each is drawn.
static LINES: LazyLock<Vec<(u32, Vec<u8>)>> = LazyLock::new(|| {
    let long = |len| [b"X-Long: ", "a".repeat(len).as_bytes(), b"\r\n"].concat();
    let many = |count| (0..count).flat_map(|n| format!("X-{n}: {n}\r\n").into_bytes()).collect::<Vec<u8>>();
    let plain = |line: &str| format!("{line}\r\n").into_bytes();
    vec![
        (60, plain("Host: example.com")),
        (10, plain("hOST:   two.example:8080  ")),
        (20, plain("User-Agent: curl/8")),
        (10, plain("User-Agent: Mozilla/5.0 (X11; Linux)")),
        (10, plain("Accept-Language: de, en;q=0.5")),
        (10, plain("Referer: https://example.org/x?y")),
        (10, plain("Accept: */*")),
        (10, plain("X-Forwarded-For: 1.2.3.4")),
        (10, plain("Connection: keep-alive")),
        (4, plain("Connection: close")),
        (2, plain("Connection: Close, x")),
        (2, plain("Connection: Upgrade, HTTP2-Settings")),
        (2, plain("Upgrade: h2c")),
        (2, plain("Expect: 100-continue")),
        (2, plain("Content-Length: 0")),
        (1, plain("Content-Length: x")),
        (2, plain("Transfer-Encoding: gzip")),
        (2, plain("X-Empty:")),
        (2, plain("X-Latin: \u{fc}")),
        (1, plain(" folded: yes")),
        (1, plain("X-Space : 1")),
        (1, b"X-Bare: a\rb\r\n".to_vec()),
        (1, b"X-Nul: a\0b\r\n".to_vec()),
        (2, b"X-Lf: 1\n".to_vec()),
        (1, plain("no colon")),
        (1, long(9_000)),
        (1, long(17_000)),
        (1, many(63)),
        (1, many(70)),
        (1, many(101)),
    ]
});

fn request() -> impl Strategy<Value = Vec<u8>> {
    let method =
        prop_oneof![20 => Just("GET"), 5 => Just("HEAD"), 1 => Just("get"), 1 => Just("OPTIONS"), 1 => Just("\r\nGET")];
    let target = prop_oneof![
        20 => Just("/go"), 5 => Just("/page"), 5 => Just("/page?a=b&c"), 5 => Just("/cold"), 3 => Just("/elsewhere"), 3 => Just("/go/cold?x"), 2 => Just("/none"),
        1 => Just("//go"), 1 => Just("/go?"), 1 => Just("/a%20b/../c"), 1 => Just("/page#x"), 1 => Just("/p\"ge"), 1 => Just("/{p}"),
        1 => Just("*"), 1 => Just("http://other.example/page?x"), 1 => Just("/\u{fc}"), 1 => Just("go"), 1 => Just("/a b"), 1 => Just(""),
        1 => Just("/a|b\\c^`"),
    ];
    let version = prop_oneof![30 => Just("HTTP/1.1"), 2 => Just("HTTP/1.0"), 1 => Just("HTTP/2.0"), 1 => Just("HTTP/1.2"), 1 => Just("http/1.1")];
    let line = prop::sample::select(
        LINES.iter().flat_map(|(count, line)| vec![line.clone(); usize::try_from(*count).unwrap()]).collect::<Vec<_>>(),
    );
    let simple =
        (method, target, version, prop::collection::vec(line, 0..6)).prop_map(|(method, target, version, lines)| {
            [format!("{method} {target} {version}\r\n").as_bytes(), &lines.concat(), b"\r\n"].concat()
        });
    let body = prop::sample::select(vec![
        "POST /page HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nGET /",
        "POST /page HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "GET /page HTTP/1.1\r\nHost: x\r\nContent-Length: 27\r\n\r\nGET /go HTTP/1.1\r\nHost: y\r\n\r\n",
        "GET /page HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "GET /page HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "GET /page HTT",
        "HEA",
        "\r\n",
        "\u{16}\u{3}\u{1}",
    ]);
    prop_oneof![9 => simple, 1 => body.prop_map(|b| b.as_bytes().to_vec())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// LANE-1, LANE-2.
    #[test]
    fn a_client_cannot_tell_the_lane_from_hyper(
        requests in prop::collection::vec(request(), 1..6),
        cuts in prop::collection::vec(0..4000_usize, 0..8),
        takes in prop_oneof![Just(usize::MAX), 1..400_usize],
    ) {
        let bytes = requests.concat();
        let pieces = cut(&bytes, &cuts);
        let expected = exchange(false, std::slice::from_ref(&bytes), usize::MAX);
        prop_assert_eq!(exchange(true, &pieces, takes), expected, "{:?}", String::from_utf8_lossy(&bytes));
    }
}

/// LANE-3: what is not taken keeps the lane from reading on.
#[test]
fn a_client_that_takes_nothing_is_read_no_further() {
    let page = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    let script = Script { takes: 0, stays: true, ..Script::new(vec![page; 50]) };
    let left = script.left.clone();
    on_worker(async {
        let bench = Bench::new();
        let connection = bench.connection();
        tokio::select! {
            () = connection.serve(script) => panic!("it ended"),
            () = until_quiet(|| left.load(Ordering::Relaxed)) => {}
        }
        assert_eq!(left.load(Ordering::Relaxed), 49);
    });
}

/// LANE-3: time runs from the last answer or the last byte taken, whatever trickles in.
#[test]
fn who_makes_no_progress_is_cut() {
    let whole = b"GET /go HTTP/1.1\r\nHost: x\r\n\r\n";
    // What comes at once, what comes at half time, how much is taken of the answers, and whether it is cut at the end.
    for (first, late, takes, is_cut) in [
        (&b""[..], &b""[..], 100, true),
        (b"", b"GET /", 100, true),
        (b"", whole, 100, false),
        (whole, b"", 100, true),
        (whole, b"GET /", 100, true),
        (whole, whole, 100, false),
        (whole, whole, 0, true),
    ] {
        let stream = Late::new(first, late, takes);
        let (state, is_due) = (stream.script.state(), stream.is_due.clone());
        on_worker(async {
            let bench = Bench::new();
            let (connection, lane) = (bench.connection(), bench.lane.clone());
            let drive = async {
                until_quiet(&state).await;
                is_due.store(true, Ordering::Relaxed);
                bench.sim.advance(TIMEOUT / 2);
                until_quiet(&state).await;
                assert_eq!(bench.lane.seats.borrow().len(), 1, "cut too early");
                // What came is noticed with the next look.
                bench.lane.wake_all();
                until_quiet(&state).await;
                bench.sim.advance(TIMEOUT / 2);
                until_quiet(&state).await;
                assert_eq!(bench.lane.seats.borrow().is_empty(), is_cut, "{first:?} {late:?} {takes}");
            };
            tokio::select! {
                () = lane.watch() => {}
                () = drive => {}
                () = async { connection.serve(stream).await; std::future::pending().await } => {}
            }
        });
    }
}

/// LANE-4.
#[test]
fn shutdown_answers_what_is_open_and_lets_go_of_the_rest() {
    let head = b"GET /cold HTTP/1.1\r\nHost: x\r\n\r\n";
    for (first, late, is_answered) in [
        (&b""[..], &b""[..], false),
        (&b""[..], &head[..], true),
        (&head[..20], &head[20..], true),
        (&head[..20], b"", false),
    ] {
        let stream = Late::new(first, late, usize::MAX);
        let (state, is_due, got) = (stream.script.state(), stream.is_due.clone(), stream.script.got.clone());
        on_worker(async {
            let bench = Bench::new();
            let (connection, lane) = (bench.connection(), bench.lane.clone());
            let close = async {
                until_quiet(&state).await;
                is_due.store(true, Ordering::Relaxed);
                tokio::join!(lane.close(), async {
                    until_quiet(&state).await;
                    bench.sim.advance(GRACE);
                });
            };
            tokio::select! {
                () = close => {}
                () = connection.serve(stream) => {}
            }
        });
        let got = String::from_utf8_lossy(&got.lock().unwrap()).into_owned();
        assert_eq!((got.contains("connection: close\r\n"), got.is_empty()), (is_answered, !is_answered), "{got}");
    }
}

/// A script with one more piece, which is there when it is due and somebody looks.
struct Late {
    script: Script,
    rest: Vec<u8>,
    is_due: Arc<AtomicBool>,
}

impl Late {
    fn new(first: &[u8], rest: &[u8], takes: usize) -> Self {
        let script = Script { takes, stays: true, ..Script::new([first.to_vec()]) };
        Self { script, rest: rest.to_vec(), is_due: Arc::default() }
    }
}

impl AsyncRead for Late {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_due.load(Ordering::Relaxed) && self.script.pieces.is_empty() && !self.rest.is_empty() {
            buffer.put_slice(&std::mem::take(&mut self.rest));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.script).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Late {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.script).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
