//! A back end that plays a script, and a pool inside a worker like the gateway's.

use std::{cell::Cell, future::Future, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use kernel::Clock;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::LocalSet,
};
use wire::{Body, Error, Pool, PoolLimits, SendOptions, Target};

/// Runs `test` as a worker of the gateway runs: one thread, one `LocalSet`. Real time, cut off after a minute.
pub(crate) fn worker<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited = async { tokio::time::timeout(Duration::from_mins(1), test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, limited);
}

/// A back end.
pub(crate) struct BackEnd {
    pub(crate) target: Arc<Target>,
    /// Connections that it accepted.
    pub(crate) accepted: Rc<Cell<usize>>,
}

impl BackEnd {
    /// One that does `serve` with each connection; the number counts from 0.
    pub(crate) async fn start<F: Future<Output = ()> + 'static>(
        serve: impl Fn(usize, TcpStream) -> F + 'static,
    ) -> Self {
        Self::start_with(|target| target, serve).await
    }

    /// The same, spoken to as `change` says.
    pub(crate) async fn start_with<F: Future<Output = ()> + 'static>(
        change: impl FnOnce(Target) -> Target,
        serve: impl Fn(usize, TcpStream) -> F + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Arc::new(change(Target::new(listener.local_addr().unwrap())));
        let accepted = Rc::new(Cell::new(0));
        let count = accepted.clone();
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let number = count.get();
                count.set(number + 1);
                tokio::task::spawn_local(serve(number, stream));
            }
        });
        Self { target, accepted }
    }

    /// One that answers each request (without a body) on every connection with the same bytes.
    pub(crate) async fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Rc<[u8]> = answer.into().into();
        Self::start(move |_, mut stream| {
            let answer = answer.clone();
            async move {
                while !head(&mut stream).await.is_empty() {
                    stream.write_all(&answer).await.unwrap();
                }
            }
        })
        .await
    }
}

/// Reads a request head, and nothing of what follows it. Empty at the end of the connection.
pub(crate) async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

/// Reads exactly this many bytes.
pub(crate) async fn bytes(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// The end of a connection, whatever came before it.
pub(crate) async fn end(stream: &mut TcpStream) {
    drop(stream.read_to_end(&mut Vec::new()).await);
}

pub(crate) fn pool() -> Pool {
    Pool::new(&Clock::system(), PoolLimits::default())
}

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(path).header("host", "shop").body(Full::default()).unwrap()
}

pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder().method("POST").uri(path).header("host", "shop").body(Full::new(body.into())).unwrap()
}

/// Sends with default options.
pub(crate) async fn send<B>(pool: &Pool, to: &BackEnd, request: Request<B>) -> Result<Response<Body>, Error>
where
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<wire::BoxError>,
{
    send_with(pool, to, request, &SendOptions::default()).await
}

pub(crate) async fn send_with<B>(
    pool: &Pool,
    to: &BackEnd,
    request: Request<B>,
    options: &SendOptions<'_>,
) -> Result<Response<Body>, Error>
where
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<wire::BoxError>,
{
    let (parts, body) = request.into_parts();
    pool.send(&to.target, &parts, body, options).await
}

/// Status and body of an answer, or the label of what went wrong.
pub(crate) async fn outcome(answer: Result<Response<Body>, Error>) -> Result<(u16, Vec<u8>), &'static str> {
    let answer = answer.map_err(|e| e.label())?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.map_err(|e| e.label())?;
    Ok((status, body.to_bytes().to_vec()))
}
