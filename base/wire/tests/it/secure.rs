//! TLS, HTTP/2, the PROXY header, and how long connections are kept.

use std::{cell::RefCell, convert::Infallible, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use kernel::{Clock, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::ring, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::mpsc};
use tokio_rustls::TlsAcceptor;
use wire::{ClientTls, Pool, PoolLimits, Protocol, ProxyVersion, SendOptions, Target, TlsOptions};

use crate::world::{BackEnd, get, head, outcome, pool, post, send, send_with, worker};

#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

fn http2(target: Target) -> Target {
    Target { protocol: Protocol::Http2, ..target }
}

/// Sends every body back, with its trailers.
async fn echo(request: Request<Incoming>) -> Result<Response<Incoming>, Infallible> {
    assert_eq!(request.uri().authority().unwrap().as_str(), "shop");
    assert!(!request.headers().contains_key("connection"));
    Ok(Response::new(request.into_body()))
}

/// A certificate authority, and a certificate and key that it issued for `shop.test`.
struct Certificates {
    ca: String,
    cert: String,
    key: String,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["shop.test".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        Self { ca: ca.pem(), cert: cert.pem(), key: key.serialize_pem() }
    }

    fn acceptor(&self, alpn: &[&str], asks_for_certificate: bool) -> TlsAcceptor {
        let provider: Arc<_> = ring::default_provider().into();
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = if asks_for_certificate {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let chain = vec![CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()];
        let mut config =
            builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()).unwrap();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(config).into()
    }

    fn client(&self, server_name: &str, protocol: Protocol, presents: bool) -> Arc<ClientTls> {
        let client = presents.then_some((self.cert.as_bytes(), self.key.as_bytes()));
        Arc::new(ClientTls::new(&TlsOptions { server_name, ca: Some(self.ca.as_bytes()), client, protocol }).unwrap())
    }
}

/// Answers HTTP/1 or HTTP/2 behind TLS with "hi".
async fn secure(acceptor: TlsAcceptor, stream: TcpStream) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let say = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("hi")))) });
    if is_http2 {
        drop(hyper::server::conn::http2::Builder::new(Local).serve_connection(TokioIo::new(stream), say).await);
    } else {
        drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), say).await);
    }
}

#[test]
fn tls_holds_only_for_the_name_and_the_authority() {
    let certificates = Certificates::new();
    let (other, http1) = (Certificates::new(), Protocol::Http1);
    let rows = [
        ("the right name", certificates.client("shop.test", http1, false), false, &["http/1.1"][..], Ok("hi")),
        ("HTTP/2", certificates.client("shop.test", Protocol::Http2, false), false, &["h2"], Ok("hi")),
        ("a back end without ALPN", certificates.client("shop.test", http1, false), false, &[], Ok("hi")),
        ("HTTP/2 without ALPN", certificates.client("shop.test", Protocol::Http2, false), false, &[], Err("tls")),
        ("another name", certificates.client("shop.example", http1, false), false, &["http/1.1"], Err("tls")),
        ("another authority", other.client("shop.test", http1, false), false, &["http/1.1"], Err("tls")),
        (
            "a certificate that is asked for",
            certificates.client("shop.test", http1, true),
            true,
            &["http/1.1"],
            Ok("hi"),
        ),
    ];
    for (what, tls, asks, alpn, expected) in rows {
        let acceptor = certificates.acceptor(alpn, asks);
        worker(async {
            let protocol = if what.starts_with("HTTP/2") { Protocol::Http2 } else { http1 };
            let change = |target| Target { tls: Some(tls), protocol, ..target };
            let back = BackEnd::start_with(change, move |_, stream| secure(acceptor.clone(), stream)).await;
            let pool = pool();
            for _ in 0..2 {
                let seen = outcome(send(&pool, &back, get("/")).await).await;
                assert_eq!(seen, expected.map(|body| (200, body.as_bytes().to_vec())), "{what}");
            }
            if expected.is_ok() {
                assert_eq!(back.accepted.get(), 1, "{what}");
            }
        });
    }
}

#[test]
fn a_certificate_that_is_asked_for_and_not_there_is_a_refusal() {
    let certificates = Certificates::new();
    let (acceptor, tls) =
        (certificates.acceptor(&["http/1.1"], true), certificates.client("shop.test", Protocol::Http1, false));
    worker(async {
        let change = |target| Target { tls: Some(tls), ..target };
        let back = BackEnd::start_with(change, move |_, stream| secure(acceptor.clone(), stream)).await;
        // TLS 1.3: the client hears of it only after its own part of the handshake.
        assert!(outcome(send(&pool(), &back, get("/")).await).await.is_err());
    });
}

#[test]
fn many_streams_share_a_connection_and_trailers_pass() {
    worker(async {
        let back = BackEnd::start_with(http2, |_, stream| async move {
            let server = hyper::server::conn::http2::Builder::new(Local);
            drop(server.serve_connection(TokioIo::new(stream), service_fn(echo)).await);
        })
        .await;
        let pool = pool();
        let each = (0..50).map(|n| {
            let (pool, back) = (&pool, &back);
            async move {
                let text = format!("body {n}");
                let answer = send(pool, back, post("/echo", text.clone())).await;
                assert_eq!(outcome(answer).await, Ok((200, text.into_bytes())));
            }
        });
        futures_util::future::join_all(each).await;
        assert_eq!(back.accepted.get(), 1);

        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let frames = [Ok::<_, Infallible>(Frame::data(Bytes::from("message"))), Ok(Frame::trailers(trailers.clone()))];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let request = Request::post("/").header("host", "shop").header("te", "trailers").body(body).unwrap();
        let answer = send(&pool, &back, request).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(answer.trailers(), Some(&trailers));
        assert_eq!(answer.to_bytes(), "message");
    });
}

#[test]
fn a_stream_that_was_refused_can_be_sent_again_and_one_that_was_reset_cannot() {
    worker(async {
        for (reason, is_replayable) in [(h2::Reason::REFUSED_STREAM, true), (h2::Reason::INTERNAL_ERROR, false)] {
            let back = BackEnd::start_with(http2, move |_, stream| async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    respond.send_reset(reason);
                }
            })
            .await;
            let e = send(&pool(), &back, post("/", "x")).await.unwrap_err();
            assert_eq!((e.label(), e.is_replayable()), ("reset", is_replayable), "{reason}");
        }
    });
}

#[test]
fn a_connection_that_says_goodbye_is_replaced() {
    worker(async {
        let back = BackEnd::start_with(http2, |_, stream| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            respond.send_response(Response::new(()), true).unwrap();
            connection.graceful_shutdown();
            while connection.accept().await.is_some() {}
        })
        .await;
        let pool = pool();
        for _ in 0..5 {
            assert_eq!(outcome(send(&pool, &back, get("/")).await).await, Ok((200, Vec::new())));
        }
        assert!(back.accepted.get() > 1);
    });
}

#[test]
fn a_silent_stream_is_cut_off() {
    worker(async {
        let back = BackEnd::start_with(http2, |_, stream| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let mut kept = Vec::new();
            while let Some(Ok(stream)) = connection.accept().await {
                kept.push(stream);
            }
        })
        .await;
        let options = SendOptions { first_byte: Duration::from_millis(30), ..SendOptions::default() };
        let pool = pool();
        for request in [get("/"), post("/", "x")] {
            assert_eq!(outcome(send_with(&pool, &back, request, &options).await).await, Err("first_byte_timeout"));
        }
    });
}

#[test]
fn a_connection_with_a_proxy_header_serves_one_client() {
    let (first, second): (SocketAddr, SocketAddr) = ("192.0.2.1:5".parse().unwrap(), "192.0.2.2:5".parse().unwrap());
    let ours: SocketAddr = "198.51.100.1:80".parse().unwrap();
    worker(async move {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let note = seen.clone();
        let change = |target| Target { proxy_header: Some(ProxyVersion::V1), ..target };
        let back = BackEnd::start_with(change, move |_, mut stream| {
            let note = note.clone();
            async move {
                let mut line = head(&mut stream).await;
                while !line.is_empty() {
                    note.borrow_mut().push(line.lines().next().unwrap().to_owned());
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    line = head(&mut stream).await;
                }
            }
        })
        .await;
        let pool = pool();
        for client in [first, second, first] {
            let options = SendOptions { client: Some((client, ours)), ..SendOptions::default() };
            assert_eq!(outcome(send_with(&pool, &back, get("/"), &options).await).await, Ok((200, Vec::new())));
        }
        let line = |ip: &str| format!("PROXY TCP4 {ip} 198.51.100.1 5 80");
        assert_eq!(*seen.borrow(), [line("192.0.2.1"), line("192.0.2.2"), "GET / HTTP/1.1".to_owned()]);
        assert_eq!(back.accepted.get(), 2);
    });
}

#[test]
fn idle_connections_are_kept_for_their_time_and_no_longer() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let hint = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nkeep-alive: timeout=5, max=100\r\n\r\n";
    let close = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let old = "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n";
    let old_kept = "HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n";
    let secs = Duration::from_secs;
    // The answer, the age limit, how long it idles, and how many connections two requests take.
    let rows = [
        (answer, None, secs(59), 1),
        (answer, None, secs(61), 2),
        (answer, Some(secs(10)), secs(9), 1),
        (answer, Some(secs(10)), secs(11), 2),
        (hint, None, secs(3), 1),
        (hint, None, secs(5), 2),
        (close, None, secs(0), 2),
        (old, None, secs(0), 2),
        (old_kept, None, secs(0), 1),
    ];
    for (answer, max_age, idle, expected) in rows {
        worker(async move {
            let (clock, time) = Clock::simulated(Timestamp::EPOCH);
            let back = BackEnd::start_with(
                |target| Target { max_age, ..target },
                move |_, mut stream| async move {
                    while !head(&mut stream).await.is_empty() {
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                },
            )
            .await;
            let pool = Pool::new(&clock, PoolLimits::default());
            for _ in 0..2 {
                send(&pool, &back, get("/")).await.unwrap();
                time.advance(idle);
            }
            assert_eq!(back.accepted.get(), expected, "{answer:?} {max_age:?} {idle:?}");
        });
    }
}

#[test]
fn connections_are_closed_when_nobody_asks_for_them_either() {
    worker(async {
        let (closed, mut has_closed) = mpsc::channel(10);
        let back = BackEnd::start(move |_, mut stream| {
            let closed = closed.clone();
            async move {
                while !head(&mut stream).await.is_empty() {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                }
                closed.send(()).await.unwrap();
            }
        })
        .await;
        let (clock, time) = Clock::simulated(Timestamp::EPOCH);
        let pool = Pool::new(&clock, PoolLimits::default());
        send(&pool, &back, get("/")).await.unwrap();
        time.advance(Duration::from_secs(61));
        has_closed.recv().await.unwrap();
        send(&pool, &back, get("/")).await.unwrap();
        pool.forget(back.target.id);
        has_closed.recv().await.unwrap();
        send(&pool, &back, get("/")).await.unwrap();
        drop(pool);
        has_closed.recv().await.unwrap();
    });
}

#[test]
fn no_more_connections_idle_than_may() {
    worker(async {
        let change = |target| Target { max_idle: 2, ..target };
        let (go, _) = tokio::sync::broadcast::channel::<()>(1);
        let release = go.clone();
        let back = BackEnd::start_with(change, move |_, mut stream| {
            let mut go = go.subscribe();
            async move {
                head(&mut stream).await;
                drop(go.recv().await);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                head(&mut stream).await;
            }
        })
        .await;
        let pool = pool();
        let all = futures_util::future::join_all((0..5).map(|_| send(&pool, &back, get("/"))));
        let released = async {
            while back.accepted.get() < 5 || release.receiver_count() < 5 {
                tokio::task::yield_now().await;
            }
            release.send(()).unwrap();
        };
        let (answers, ()) = tokio::join!(all, released);
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(pool.stats().idle_count, 2);
    });
}
