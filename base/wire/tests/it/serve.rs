//! The server for plain requests, beside hyper's: a client cannot tell one from the other.

use std::{cell::Cell, convert::Infallible, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kernel::Clock;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};
use wire::{BoxError, NoBody, Server, Service};

use crate::world::{end, worker};

type Boxed = UnsyncBoxBody<Bytes, BoxError>;

fn full(text: &'static str) -> Boxed {
    Full::new(Bytes::from(text)).map_err(|e| match e {}).boxed_unsync()
}

fn frames(frames: Vec<Result<Frame<Bytes>, BoxError>>) -> Boxed {
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

/// What both servers answer.
fn answer<B>(request: &Request<B>) -> Response<Boxed> {
    let data = |text: &'static str| Ok(Frame::data(Bytes::from(text)));
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("1"));
    let (status, body) = match request.uri().path() {
        "/empty" => (200, full("")),
        "/204" => (204, full("")),
        "/304" => (304, full("")),
        "/chunks" => (200, frames(vec![data("one"), data("two")])),
        "/trailers" => (200, frames(vec![data("one"), Ok(Frame::trailers(trailers))])),
        "/fails" => (200, frames(vec![data("one"), Err("broken".into())])),
        "/large" => (200, full(&"x".repeat(300_000).leak()[..])),
        "/503" => (503, full("no")),
        _ => (200, full("hello")),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let echoed = request.headers().get("x-echo").cloned();
    response.headers_mut().extend(echoed.map(|value| (http::HeaderName::from_static("x-echoed"), value)));
    if request.uri().path() == "/close" {
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
    }
    response
}

struct Answers;

impl Service for Answers {
    type Body = Boxed;

    async fn call(&self, request: Request<NoBody>) -> Response<Boxed> {
        answer(&request)
    }
}

async fn by_hyper(stream: TcpStream) {
    let service = service_fn(|mut request: Request<hyper::body::Incoming>| async move {
        // Else hyper closes when the rest of a body comes late.
        drop(request.body_mut().collect().await);
        Ok::<_, Infallible>(answer(&request))
    });
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

/// Serves with the own server, and what it gives back with hyper. Counts what was given back.
async fn by_own(server: Rc<Server>, stream: TcpStream, given_back: Rc<Cell<usize>>) {
    if let Ok(Some((before, stream))) = server.serve(stream, Vec::new(), &Answers).await {
        given_back.set(given_back.get() + 1);
        // What hyper would do with these bytes, it does: here it reads them from a connection of its own.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut near, far) = (near.unwrap(), far.unwrap().0);
        near.write_all(&before).await.unwrap();
        let mut stream = stream;
        let relayed = tokio::io::copy_bidirectional(&mut stream, &mut near);
        drop(tokio::join!(relayed, by_hyper(far)).0);
    }
}

/// All that comes back for `input`, sent in pieces of `step` bytes, without dates.
async fn exchange(mut stream: TcpStream, input: &[u8], step: usize) -> String {
    stream.set_nodelay(true).unwrap();
    let (mut from, mut to) = stream.split();
    let send = async {
        for piece in input.chunks(step) {
            drop(to.write_all(piece).await);
            tokio::task::yield_now().await;
        }
    };
    let mut output = Vec::new();
    let receive = async { drop(from.read_to_end(&mut output).await) };
    tokio::join!(send, receive);
    let text = String::from_utf8_lossy(&output).into_owned();
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

async fn connect(serve: impl AsyncFnOnce(TcpStream) + 'static) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    tokio::task::spawn_local(serve(accepted));
    stream
}

/// Each line ends with a request that closes the connection.
fn rows() -> Vec<(String, bool)> {
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nhost: h\r\n{more}\r\n");
    let last = |path: &str| get(path, "connection: close\r\n");
    let head = |path: &str| format!("HEAD {path} HTTP/1.1\r\nhost: h\r\nConnection: close\r\n\r\n");
    let mut rows: Vec<_> = ["/", "/empty", "/204", "/304", "/chunks", "/trailers", "/large", "/503", "/fails"]
        .iter()
        .map(|path| (last(path), true))
        .collect();
    rows.extend([
        (head("/"), true),
        (head("/empty"), true),
        (get("/", "x-echo: a\r\nX-Echo: b\r\n") + &get("/empty", "") + &last("/chunks"), true),
        (get("/close", ""), true),
        (format!("DELETE / HTTP/1.1\r\nhost: h\r\n\r\n{}", last("/")), true),
        // What is not plain, alone and behind what is.
        (format!("{}POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi{}", get("/", ""), last("/")), false),
        (
            format!(
                "{}POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n{}",
                get("/", ""),
                last("/")
            ),
            false,
        ),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), false),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), false),
        ("GET / HTTP/1.1\r\nx : y\r\n\r\n".to_owned(), false),
        ("GET / HTTP/1.1\r\nhost: h\r\n x\r\n\r\n".to_owned(), false),
        (format!("\r\n{}", last("/")), false),
        ("nonsense\r\n\r\n".to_owned(), false),
        ("GET http://h/ HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".to_owned(), false),
        ("GET / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n".to_owned(), false),
        ("GET / HTTP/1.1\r\nhost: h\r\nupgrade: x\r\nconnection: upgrade, close\r\n\r\n".to_owned(), false),
        (format!("GET / HTTP/1.1\r\nhost: h\r\nx: {}\r\nconnection: close\r\n\r\n", "a".repeat(20_000)), false),
    ]);
    rows
}

#[test]
fn a_client_cannot_tell_it_from_hyper() {
    worker(async {
        for (input, is_plain) in rows() {
            let hyper = exchange(connect(by_hyper).await, input.as_bytes(), input.len()).await;
            for step in [input.len(), 7, 1] {
                let server = Server::new(&Clock::system(), Duration::from_secs(10));
                let given_back = Rc::new(Cell::new(0));
                let count = given_back.clone();
                let stream = connect(async move |stream| by_own(server, stream, count).await).await;
                let own = exchange(stream, input.as_bytes(), step).await;
                assert_eq!(own, hyper, "{input:?} in pieces of {step}");
                assert_eq!(given_back.get() == 0, is_plain, "{input:?}");
            }
        }
    });
}

/// Serves connections with a timeout and watches them; whoever gets the server can close it.
async fn watched<S: Service + 'static>(timeout: Duration, service: S) -> (Rc<Server>, TcpStream) {
    let server = Server::new(&Clock::system(), timeout);
    let (watch, serve) = (server.clone(), server.clone());
    tokio::task::spawn_local(async move { watch.watch().await });
    let stream = connect(async move |stream| drop(serve.serve(stream, Vec::new(), &service).await)).await;
    (server, stream)
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";

/// Answers once, without end; tells when nobody wants more of it.
struct Large(std::cell::RefCell<Option<oneshot::Sender<()>>>);

struct Endless(Option<oneshot::Sender<()>>);

impl Body for Endless {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        std::task::Poll::Ready(Some(Ok(Frame::data(vec![7; 64 * 1024].into()))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.take().unwrap().send(()).unwrap();
    }
}

impl Service for Large {
    type Body = Endless;
    async fn call(&self, _: Request<NoBody>) -> Response<Endless> {
        Response::new(Endless(self.0.borrow_mut().take()))
    }
}

#[test]
fn who_makes_no_progress_is_cut() {
    worker(async {
        let short = Duration::from_millis(30);
        // Nothing; a part of a head, that trickles in; nothing more after an answer.
        for input in ["", "GET / HTTP/1.1\r\nhost", "GET / HTTP/1.1\r\nhost: h\r\n\r\n"] {
            let (_, mut stream) = watched(short, Answers).await;
            stream.write_all(input.as_bytes()).await.unwrap();
            end(&mut stream).await;
        }
        // A client that takes nothing of a large answer.
        let (dropped, is_dropped) = oneshot::channel();
        let (_, mut stream) = watched(short, Large(Some(dropped).into())).await;
        stream.write_all(GET).await.unwrap();
        is_dropped.await.unwrap();
    });
}

#[test]
fn a_client_that_goes_away_ends_the_work_for_it() {
    struct Waits(mpsc::Sender<&'static str>);
    struct Told(mpsc::Sender<&'static str>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.try_send("dropped").unwrap();
        }
    }
    impl Service for Waits {
        type Body = Boxed;
        async fn call(&self, request: Request<NoBody>) -> Response<Boxed> {
            let told = Told(self.0.clone());
            self.0.send("called").await.unwrap();
            if request.uri().path() == "/body" {
                let never = futures_util::stream::poll_fn(move |_| {
                    let _kept = &told;
                    std::task::Poll::<Option<Result<Frame<Bytes>, BoxError>>>::Pending
                });
                return Response::new(StreamBody::new(never).boxed_unsync());
            }
            std::future::pending().await
        }
    }
    worker(async {
        for path in ["/", "/body"] {
            let (tell, mut told) = mpsc::channel(4);
            let (_, mut stream) = watched(Duration::from_secs(10), Waits(tell)).await;
            stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n").as_bytes()).await.unwrap();
            assert_eq!(told.recv().await, Some("called"));
            drop(stream);
            assert_eq!(told.recv().await, Some("dropped"), "{path}");
        }
    });
}

#[test]
fn closing_lets_the_silent_go_and_answers_the_others() {
    struct Slow(std::cell::RefCell<Option<oneshot::Receiver<()>>>, mpsc::Sender<()>);
    impl Service for Slow {
        type Body = Boxed;
        async fn call(&self, _: Request<NoBody>) -> Response<Boxed> {
            let go = self.0.borrow_mut().take().unwrap();
            self.1.send(()).await.unwrap();
            go.await.unwrap();
            Response::new(full("done"))
        }
    }
    worker(async {
        let (server, mut silent) = watched(Duration::from_secs(10), Answers).await;
        silent.write_all(GET).await.unwrap();
        let mut begin = [0; 12];
        silent.read_exact(&mut begin).await.unwrap();
        server.close();
        end(&mut silent).await;

        let ((go, may_go), (tell, mut told)) = (oneshot::channel(), mpsc::channel(1));
        let (server, mut stream) = watched(Duration::from_secs(10), Slow(Some(may_go).into(), tell)).await;
        stream.write_all(GET).await.unwrap();
        told.recv().await.unwrap();
        server.close();
        go.send(()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("connection: close\r\n") && answer.ends_with("done"), "{answer}");
    });
}
