//! The data path between a client and back ends that do what they should not.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use gateway::{
    Body, DataPath, Peer,
    model::{Origin, Parts, Table, compile},
    parse_file,
    proxy::{Deps, Services, Worker},
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use kernel::{Clock, Lifecycle, Rng, Stage};
use serde_json::{Value, json};
use telemetry::Metrics;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};
use upstream::Upstreams;

/// How long anything may take before a test says that it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

struct NoServices;

impl<B> Services<B> for NoServices {
    async fn call(&self, _: &str, request: Request<B>, _: std::net::IpAddr) -> Result<Response<Body>, Request<B>> {
        Err(request)
    }
}

struct Bench {
    clock: Clock,
    upstreams: Upstreams,
    table: Arc<ArcSwap<Table>>,
    path: DataPath,
    worker: Worker,
    peer: Peer,
}

impl Bench {
    fn new(document: &str) -> Self {
        let (clock, rng) = (Clock::system(), Rng::seeded(7));
        let lifecycle = Lifecycle::new(clock.clone(), rng.clone());
        let upstreams = Upstreams::new(upstream::Deps {
            clock: clock.clone(),
            rng: rng.clone(),
            zone: None,
            registry: None,
            metrics: Metrics::new().registry("upstream"),
        });
        let table = Arc::new(ArcSwap::from_pointee(compiled(&upstreams, document, None)));
        let path = DataPath::new(Deps {
            table: table.clone(),
            upstreams: upstreams.clone(),
            limiter: None,
            clock: clock.clone(),
            rng,
            secret: [3; 32],
            via: "mainstay-test".to_owned(),
            access_log: None,
            server_timing: false,
            tasks: lifecycle.tasks(Stage::Systems),
        });
        let worker = path.worker();
        let peer =
            Peer::new((Ipv4Addr::new(192, 0, 2, 7), 4711).into(), (Ipv4Addr::LOCALHOST, 80).into(), false, false);
        Self { clock, upstreams, table, path, worker, peer }
    }

    fn reload(&self, document: &str) {
        let before = self.table.load_full();
        self.table.store(Arc::new(compiled(&self.upstreams, document, Some(&before))));
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Body> {
        let client = self.peer.address.ip();
        let sent = self.worker.call(request, &self.peer, client, &NoServices);
        self.clock.timeout(PATIENCE, sent).await.expect("an answer in time")
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Got {
        let mut request = Request::builder().method(method).uri(path).header("host", "shop.example");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let length = body.len();
        if length > 0 {
            request = request.header("content-length", length);
        }
        let response = self.send(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await;
        let (parts, body) = response.into_parts();
        let body = self.clock.timeout(PATIENCE, body.collect()).await.expect("a body in time");
        let body = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned()).map_err(|e| e.to_string());
        Got { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Got {
        self.ask(Method::GET, path, &[], "").await
    }

    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let wait = async {
            while !holds() {
                self.clock.sleep(Duration::from_millis(2)).await;
            }
        };
        self.clock.timeout(PATIENCE, wait).await.unwrap_or_else(|| panic!("in time: {what}"));
    }
}

fn compiled(upstreams: &Upstreams, document: &str, before: Option<&Table>) -> Table {
    let document = parse_file(document).unwrap();
    upstreams.apply(&document.upstreams).unwrap();
    let parts = Parts {
        upstream: &|name| upstreams.get(name),
        chain: &|_| unreachable!("no policies"),
        before: &|name| before.and_then(|table| table.route(name).cloned()),
    };
    compile(Arc::new(document), Origin::File, 1, &parts).unwrap()
}

#[derive(Debug)]
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Result<String, String>,
}

impl Got {
    fn text(&self) -> &str {
        self.body.as_deref().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What a back end does with a request.
#[derive(Clone)]
enum Does {
    /// Sends these bytes and goes on.
    Says(&'static str),
    /// Says what it got, as JSON.
    Echoes,
    /// Accepts, reads, and says nothing.
    Hangs,
    /// Reads and closes.
    Closes,
    /// Sends these bytes and closes.
    SaysAndCloses(&'static str),
    /// Switches to WebSocket and sends every byte back.
    Switches,
}

/// A back end on loopback, and the requests that it got.
struct BackEnd {
    address: SocketAddr,
    got: Rc<RefCell<Vec<(String, String)>>>,
}

impl BackEnd {
    async fn new(does: Does) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Rc::new(RefCell::new(Vec::new()));
        let seen = got.clone();
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn_local(serve(stream, does.clone(), seen.clone()));
            }
        });
        Self { address, got }
    }

    fn count(&self) -> usize {
        self.got.borrow().len()
    }
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

async fn serve(mut stream: TcpStream, does: Does, got: Rc<RefCell<Vec<(String, String)>>>) {
    loop {
        let Some((head, body)) = read_request(&mut stream).await else { return };
        got.borrow_mut().push((head.clone(), body.clone()));
        let answer = match &does {
            Does::Says(text) | Does::SaysAndCloses(text) => (*text).to_owned(),
            Does::Echoes => {
                let text = json!({ "head": head, "body": body }).to_string();
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
                    text.len()
                )
            }
            Does::Hangs => std::future::pending().await,
            Does::Closes => return,
            Does::Switches => {
                let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
                let (mut from, mut to) = stream.split();
                drop(tokio::io::copy(&mut from, &mut to).await);
                return;
            }
        };
        if stream.write_all(answer.as_bytes()).await.is_err() || matches!(does, Does::SaysAndCloses(_)) {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&more[..n]),
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|l| l.split("\r\n").next()?.parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&more[..n]),
        }
    }
    Some((head, String::from_utf8(bytes[end..end + length].to_vec()).unwrap()))
}

fn on_worker<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, future)
}

/// Upstreams named `a`, `b` and so on, each of some addresses.
fn upstreams(lists: &[&[SocketAddr]]) -> String {
    let mut text = String::new();
    for (name, list) in ["a", "b", "c"].iter().zip(lists) {
        let endpoints: Vec<_> = list.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
        text.push_str(&format!("[[upstreams]]\nname = \"{name}\"\nendpoints = [{}]\n", endpoints.join(", ")));
    }
    text
}

fn one_route(lists: &[&[SocketAddr]], route: &str) -> String {
    format!("{}[[routes]]\nname = \"r\"\n{route}\n", upstreams(lists))
}

const TO_A: &str = "forward = { to = [{ upstream = \"a\" }] }";

#[test]
fn a_request_goes_on_with_what_is_known_for_certain_about_its_client() {
    on_worker(async {
        let back = BackEnd::new(Does::Echoes).await;
        let bench = Bench::new(&one_route(&[&[back.address]], TO_A));
        let headers = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("connection", "x-hop, keep-alive"),
            ("x-hop", "1"),
            ("proxy-authorization", "secret"),
            ("te", "gzip, trailers"),
        ];
        let got = bench.ask(Method::POST, "/a/%7Eb/../c?q=1", &headers, "hello").await;
        assert_eq!(got.status, 200, "{got:?}");
        let echo = got.json();
        let head = echo["head"].as_str().unwrap();
        assert!(head.starts_with("post /a/c?q=1 http/1.1\r\n"), "{head}");
        for line in
            ["host: shop.example", "x-forwarded-for: 192.0.2.7", "x-forwarded-proto: http", "via: 1.1 mainstay-test"]
        {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
        }
        assert!(head.contains("x-request-id: "), "{head}");
        for gone in ["6.6.6.6", "x-hop", "secret", "gzip"] {
            assert!(!head.contains(gone), "{gone} in {head}");
        }
        assert_eq!(echo["body"], "hello");
        let (looped, via) = ("1.1 mainstay-test, 1.1 x, 2.0 mainstay-test", "1.0 mainstay-test");
        let got = bench.ask(Method::GET, "/", &[("via", looped), ("via", via)], "").await;
        assert_eq!((got.status.as_u16(), got.header("mainstay-error")), (508, "loop"));
        assert_eq!(bench.get("/%zz").await.header("mainstay-error"), "bad_target");
    });
}

#[test]
fn each_way_a_back_end_fails_has_its_answer() {
    on_worker(async {
        for (does, status, label) in [
            (Does::Hangs, 504, "first_byte_timeout"),
            (Does::Closes, 502, "reset"),
            (Does::SaysAndCloses("nonsense\r\n\r\n"), 502, "malformed"),
            (
                Does::SaysAndCloses("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
                502,
                "malformed",
            ),
        ] {
            let back = BackEnd::new(does).await;
            let route = format!("{TO_A}\ntimeouts = {{ try = \"300ms\" }}");
            let bench = Bench::new(&one_route(&[&[back.address]], &route));
            let got = bench.get("/").await;
            assert_eq!((got.status.as_u16(), got.header("mainstay-error")), (status, label), "{got:?}");
            assert_eq!(got.header("content-type"), "application/problem+json");
            assert!(got.json()["code"].as_str().unwrap().starts_with("GATEWAY_UPSTREAM_"));
        }
        let bench = Bench::new(&one_route(&[&[nobody().await]], TO_A));
        assert_eq!(bench.get("/").await.header("mainstay-error"), "connect");
        let short = BackEnd::new(Does::SaysAndCloses("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")).await;
        let bench = Bench::new(&one_route(&[&[short.address]], TO_A));
        let got = bench.get("/").await;
        assert!(got.status == 200 && got.body.is_err(), "{got:?}");
        assert_eq!(bench.path.slow()[0].error, "reset");
    });
}

#[test]
fn what_may_be_repeated_is_and_nothing_else() {
    on_worker(async {
        let retry = format!("{TO_A}\nretry = {{ attempts = 3, on = [\"connect\", \"reset\", \"503\"] }}");
        let closes = BackEnd::new(Does::Closes).await;
        let good = BackEnd::new(Does::Echoes).await;
        let both = [closes.address, good.address];
        let bench = Bench::new(&one_route(&[&both], &retry));
        for _ in 0..4 {
            assert_eq!(bench.ask(Method::PUT, "/", &[], "body").await.json()["body"], "body");
        }
        assert!(closes.count() > 0, "the one that fails was asked too");
        // Whether a POST was acted on is not known.
        let statuses: Vec<_> =
            [bench.ask(Method::POST, "/", &[], "x").await, bench.ask(Method::POST, "/", &[], "x").await]
                .iter()
                .map(|got| got.status.as_u16())
                .collect();
        assert!(statuses.contains(&502) && statuses.contains(&200), "{statuses:?}");
        let key = [("idempotency-key", "k")];
        for _ in 0..2 {
            assert_eq!(bench.ask(Method::POST, "/", &key, "x").await.status, 200);
        }
        // A 503 says that nothing was done, also to a POST.
        let full = BackEnd::new(Does::Says("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")).await;
        let bench = Bench::new(&one_route(&[&[full.address, good.address]], &retry));
        for _ in 0..4 {
            assert_eq!(bench.ask(Method::POST, "/", &[], "once").await.json()["body"], "once");
        }
        // A body that is too long to be kept goes through, once.
        let long = "x".repeat(200_000);
        let before = good.count();
        let statuses = [
            bench.ask(Method::POST, "/", &[], &long).await.status.as_u16(),
            bench.ask(Method::POST, "/", &[], &long).await.status.as_u16(),
        ];
        assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
        assert_eq!(good.count(), before + 1);
        // Without rules: nobody listens at one, nothing was done, the other is asked.
        let bench = Bench::new(&one_route(&[&[nobody().await, good.address]], TO_A));
        for _ in 0..4 {
            assert_eq!(bench.ask(Method::POST, "/", &[], "y").await.json()["body"], "y");
        }
    });
}

#[test]
fn splits_canaries_and_cookies_choose() {
    on_worker(async {
        let a = BackEnd::new(Does::Says("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na")).await;
        let b = BackEnd::new(Does::Says("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb")).await;
        let route = r#"forward = { to = [{ upstream = "a", weight = 3 }, { upstream = "b" }], canary = { upstream = "b", header = { name = "x-canary", value = "always" } }, sticky = { cookie = "s" } }"#;
        let bench = Bench::new(&one_route(&[&[a.address], &[b.address]], route));
        let (mut counts, mut cookies) = ([0; 2], Vec::new());
        for _ in 0..400 {
            let got = bench.get("/").await;
            let which = usize::from(got.text() == "b");
            counts[which] += 1;
            cookies.push((which, got.header("set-cookie").split(';').next().unwrap().to_owned()));
        }
        assert!((240..360).contains(&counts[0]), "{counts:?}");
        for (which, cookie) in cookies.iter().take(30) {
            let got = bench.ask(Method::GET, "/", &[("cookie", cookie)], "").await;
            assert_eq!((usize::from(got.text() == "b"), got.header("set-cookie")), (*which, ""), "{cookie}");
        }
        for _ in 0..20 {
            assert_eq!(bench.ask(Method::GET, "/", &[("x-canary", "always")], "").await.text(), "b");
        }
    });
}

#[test]
fn a_mirror_is_compared_and_never_waited_for() {
    on_worker(async {
        let a = BackEnd::new(Does::Says(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{\"p\":1,\"at\":55}",
        ))
        .await;
        let b = BackEnd::new(Does::Says(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n{\"p\":2,\"at\":6}",
        ))
        .await;
        let route = r#"forward = { to = [{ upstream = "a" }], mirror = { upstream = "b", compare = { status = true, body = true, ignore_json = ["/at"] } } }"#;
        let bench = Bench::new(&one_route(&[&[a.address], &[b.address]], route));
        let got = bench.ask(Method::POST, "/x?secret=1", &[], "same").await;
        assert_eq!(got.json()["p"], 1);
        bench.until("compared", || bench.path.mirrors().compared_count == 1).await;
        assert_eq!(bench.path.mirrors().different_count, 1);
        assert_eq!(bench.path.differences()[0].differences, ["body /p: 1, 2"]);
        assert_eq!(bench.path.differences()[0].path, "/x");
        assert_eq!(b.got.borrow()[0].1, "same");
        let hangs = BackEnd::new(Does::Hangs).await;
        bench.reload(&one_route(&[&[a.address], &[hangs.address]], route));
        assert_eq!(bench.get("/").await.json()["p"], 1);
        bench.until("mirrored", || hangs.count() == 1).await;
    });
}

#[test]
fn bodies_are_mapped_and_answers_put_together() {
    on_worker(async {
        let echo = BackEnd::new(Does::Echoes).await;
        let part = BackEnd::new(Does::Says(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n{\"id\":7}",
        ))
        .await;
        let broken = BackEnd::new(Does::Closes).await;
        let lists: &[&[SocketAddr]] = &[&[echo.address], &[part.address], &[broken.address]];
        let route = format!(
            "{TO_A}\nrequest = {{ json = {{ rename = {{ \"/old\" = \"/new\" }}, set = {{ \"/v\" = 2 }} }} }}\n\
             response = {{ json = {{ remove = [\"/head\"] }}, headers = {{ set = {{ \"x-host\" = \"{{host}}\" }} }} }}"
        );
        let bench = Bench::new(&one_route(lists, &route));
        let json = [("content-type", "application/json")];
        let got = bench.ask(Method::POST, "/", &json, r#"{"old":1}"#).await;
        assert_eq!(got.json(), json!({ "body": r#"{"new":1,"v":2}"# }));
        assert_eq!(
            (got.header("x-host"), got.header("content-length")),
            ("shop.example", got.text().len().to_string().as_str())
        );
        for (required, status) in [(false, 200), (true, 502)] {
            let calls = format!(
                "match = {{ path = {{ pattern = \"/page/{{id}}\" }} }}\naggregate = {{ calls = [\
                 {{ name = \"user\", upstream = \"b\", path = \"/users/{{id}}\" }}, \
                 {{ name = \"news\", upstream = \"c\", path = \"/news\", required = {required} }}] }}"
            );
            bench.reload(&one_route(lists, &calls));
            let got = bench.get("/page/7").await;
            assert_eq!(got.status.as_u16(), status, "{got:?}");
            if status == 200 {
                assert_eq!((&got.json()["user"]["id"], &got.json()["news"]), (&json!(7), &Value::Null));
                assert!(got.json()["_errors"]["news"]["detail"].is_string(), "{got:?}");
                assert!(part.got.borrow()[0].0.starts_with("get /users/7 http/1.1\r\n"));
            }
        }
    });
}

#[test]
fn limits_and_fallbacks_answer_by_themselves() {
    on_worker(async {
        let good = BackEnd::new(Does::Echoes).await;
        let route = format!("{TO_A}\nlimits = {{ max_body = 4 }}");
        let bench = Bench::new(&one_route(&[&[good.address]], &route));
        assert_eq!(bench.ask(Method::POST, "/", &[], "12345").await.header("mainstay-error"), "body_too_large");
        assert_eq!(bench.ask(Method::POST, "/", &[], "1234").await.status, 200);
        // A body of unknown length is counted as it goes.
        let unknown = Request::post("/").header("host", "x").body(Full::new(Bytes::from_static(b"12345"))).unwrap();
        let response = bench.send(unknown).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(good.count(), 1);
        let route = "forward = { to = [{ upstream = \"a\" }], fallback = { status = 203, body = \"later\" } }";
        bench.reload(&one_route(&[&[nobody().await]], route));
        let got = bench.get("/").await;
        assert_eq!((got.status.as_u16(), got.text()), (203, "later"));
        let route = "forward = { to = [{ upstream = \"a\" }], fallback = { upstream = \"b\" } }";
        bench.reload(&one_route(&[&[nobody().await], &[good.address]], route));
        assert_eq!(bench.ask(Method::POST, "/", &[], "kept").await.json()["body"], "kept");
        bench.reload("[[routes]]\nname = \"other\"\nmatch = { hosts = [\"x.example\"] }\nrespond = { body = \"x\" }\n");
        assert_eq!(bench.get("/").await.header("mainstay-error"), "no_route");
    });
}

#[test]
fn a_web_socket_stays_through_a_reload_and_is_told_to_go_at_shutdown() {
    on_worker(async {
        let back = BackEnd::new(Does::Switches).await;
        let other = BackEnd::new(Does::Echoes).await;
        let bench = Rc::new(Bench::new(&one_route(&[&[back.address]], TO_A)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = bench.clone();
        spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(move |request| {
                let bench = served.clone();
                async move {
                    let client = bench.peer.address.ip();
                    Ok::<_, std::convert::Infallible>(
                        bench.worker.call(request, &bench.peer, client, &NoServices).await,
                    )
                }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            connection.with_upgrades().await.unwrap();
        });
        let mut client = TcpStream::connect(address).await.unwrap();
        let ask = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
        client.write_all(ask.as_bytes()).await.unwrap();
        let mut head = vec![0; 4096];
        let n = client.read(&mut head).await.unwrap();
        let head = String::from_utf8_lossy(&head[..n]).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: websocket"), "{head}");
        // One frame there and back, a reload that takes its back end away, and another.
        let mut echoed = [0; 4];
        for is_reloaded in [false, true] {
            if is_reloaded {
                bench.reload(&one_route(&[&[other.address]], TO_A));
                assert_eq!(bench.get("/").await.status, 200);
            }
            client.write_all(&[0x82, 0x02, 1, 2]).await.unwrap();
            client.read_exact(&mut echoed).await.unwrap();
            assert_eq!(echoed, [0x82, 0x02, 1, 2]);
        }
        assert_eq!(bench.worker.open_relays(), 1);
        let drained = bench.clone();
        let drain = spawn_local(async move { drained.worker.drain().await });
        let mut goodbye = [0; 4];
        bench.clock.timeout(PATIENCE, client.read_exact(&mut goodbye)).await.unwrap().unwrap();
        assert_eq!(goodbye, [0x88, 0x02, 0x03, 0xe9], "1001");
        client.write_all(&[0x88, 0x02, 0x03, 0xe9]).await.unwrap();
        bench.clock.timeout(PATIENCE, drain).await.unwrap().unwrap();
        assert_eq!(bench.worker.open_relays(), 0);
    });
}

#[test]
fn no_request_fails_because_of_a_reload() {
    on_worker(async {
        let (a, b) = (BackEnd::new(Does::Echoes).await, BackEnd::new(Does::Echoes).await);
        let bench = Rc::new(Bench::new(&one_route(&[&[a.address]], TO_A)));
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let bench = bench.clone();
                spawn_local(async move {
                    for n in 0..100 {
                        let body = n.to_string();
                        let got = bench.ask(Method::POST, "/", &[], &body).await;
                        assert_eq!((got.status.as_u16(), got.json()["body"].as_str()), (200, Some(&*body)));
                    }
                })
            })
            .collect();
        let mut count = 0;
        while clients.iter().any(|client| !client.is_finished()) {
            count += 1;
            let address = if count % 2 == 0 { a.address } else { b.address };
            bench.reload(&one_route(&[&[address]], TO_A));
            bench.clock.sleep(Duration::from_millis(3)).await;
        }
        for client in clients {
            client.await.unwrap();
        }
        assert!(count > 2 && a.count() > 0 && b.count() > 0, "{count} reloads");
        let table = bench.table.load();
        let numbers = table.route("r").unwrap().stats.numbers();
        assert_eq!((numbers.total, numbers.by_class[2], numbers.in_flight), (800, 800, 0));
    });
}
