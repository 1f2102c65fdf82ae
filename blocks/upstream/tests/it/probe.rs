//! Checks against real servers, and against such as are none.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use kernel::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic_health::ServingStatus;
use upstream::probe::{ProbeSpec, Question, StatusRange, probe};
use wire::{ClientTls, ProxyVersion, TlsOptions};

use crate::servers::{nobody, read_head, says, serve, tasks};

fn spec(question: Question) -> ProbeSpec {
    ProbeSpec { question, timeout: Duration::from_secs(10), tls: None, proxy_header: None }
}

fn http(path: &str) -> ProbeSpec {
    let (path, expect) = (path.to_owned(), vec![StatusRange { from: 200, to: 299 }]);
    spec(Question::Http { path, host: None, expect, is_http2: false })
}

fn http2(path: &str) -> ProbeSpec {
    let mut spec = http(path);
    if let Question::Http { is_http2, .. } = &mut spec.question {
        *is_http2 = true;
    }
    spec
}

fn grpc(service: &str) -> ProbeSpec {
    spec(Question::Grpc { service: service.to_owned(), host: None })
}

async fn check(spec: &ProbeSpec, address: SocketAddr) -> Result<(), String> {
    probe(spec, address, &Clock::system()).await
}

/// axum on HTTP/1.1 and HTTP/2 with prior knowledge.
async fn axum_server() -> SocketAddr {
    use axum::{Router, http::StatusCode, routing::get};
    let router = Router::new()
        .route("/well", get(|headers: axum::http::HeaderMap| async move { format!("{headers:?}") }))
        .route("/ill", get(|| async { (StatusCode::SERVICE_UNAVAILABLE, "no") }))
        .route("/moved", get(|| async { axum::response::Redirect::to("/well") }));
    serve(move |stream| {
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        async move {
            let io = hyper_util::rt::TokioIo::new(stream);
            let builder = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
            drop(builder.serve_connection(io, service).await);
        }
    })
    .await
}

#[tokio::test]
async fn statuses_over_both_versions_of_http() {
    let server = axum_server().await;
    for ask in [http, http2] {
        assert_eq!(check(&ask("/well?deep=1"), server).await, Ok(()));
        assert_eq!(check(&ask("/ill"), server).await, Err("status 503".to_owned()));
        assert_eq!(check(&ask("/moved"), server).await, Err("status 303".to_owned()), "not followed");
        assert_eq!(check(&ask("/none"), server).await, Err("status 404".to_owned()));
    }
    assert_eq!(check(&spec(Question::Tcp), server).await, Ok(()));
}

#[tokio::test]
async fn servers_that_are_none() {
    let huge = serve(|mut stream| async move {
        read_head(&mut stream).await;
        let line = format!("x-filler: {}\r\n", "x".repeat(900));
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\n").await);
        while stream.write_all(line.as_bytes()).await.is_ok() {}
    })
    .await;
    for (server, error) in [
        (nobody().await, "connecting: connection refused"),
        (says(b"").await, "closed before the answer"),
        (says(b"HTTP/1.1 200").await, "closed before the answer"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await, "not an answer of HTTP/1: invalid HTTP version"),
        (says(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await, "status 101"),
        (huge, "the head of the answer is larger than 16 KiB"),
    ] {
        assert_eq!(check(&http("/"), server).await, Err(error.to_owned()));
    }
    let early = says(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    );
    assert_eq!(check(&http("/"), early.await).await, Ok(()), "interim answers are passed over");
    // One that takes the connection and says nothing.
    let hanging = serve(|mut stream| async move { drop(stream.read_to_end(&mut Vec::new()).await) }).await;
    let hasty = |spec: ProbeSpec| ProbeSpec { timeout: Duration::from_millis(50), ..spec };
    for question in [http("/"), http2("/"), grpc("")] {
        assert_eq!(check(&hasty(question), hanging).await, Err("no answer within 50ms".to_owned()));
    }
    assert_eq!(check(&spec(Question::Tcp), hanging).await, Ok(()));
    for question in [http2("/"), grpc("")] {
        assert!(check(&question, says(b"HTTP/1.1 400 Bad Request\r\n\r\n").await).await.is_err());
        assert!(check(&question, nobody().await).await.unwrap_err().contains("refused"));
    }
}

#[tokio::test]
async fn the_request_names_the_host() {
    let server = serve(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let is_right = head.starts_with("GET /a?b HTTP/1.1\r\nHost: shop.internal\r\n");
        let answer = if is_right { "HTTP/1.1 200 OK\r\n\r\n" } else { "HTTP/1.1 400 Bad\r\n\r\n" };
        drop(stream.write_all(answer.as_bytes()).await);
    })
    .await;
    let mut named = http("/a?b");
    if let Question::Http { host, .. } = &mut named.question {
        *host = Some("shop.internal".to_owned());
    }
    assert_eq!(check(&named, server).await, Ok(()));
}

#[tokio::test]
async fn grpc_health_against_tonics() {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop", ServingStatus::Serving).await;
    reporter.set_service_status("cart", ServingStatus::NotServing).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    tasks().spawn("grpc", async move {
        tonic::transport::Server::builder().add_service(service).serve(address).await.unwrap();
    });
    let mut outcome = check(&grpc("shop"), address).await;
    for _ in 0..500 {
        if outcome.is_ok() {
            break;
        }
        // Until it listens.
        tokio::time::sleep(Duration::from_millis(10)).await;
        outcome = check(&grpc("shop"), address).await;
    }
    assert_eq!(outcome, Ok(()));
    assert_eq!(check(&grpc("cart"), address).await, Err("gRPC health NotServing".to_owned()));
    assert_eq!(check(&grpc("other"), address).await, Err("the server does not know the service".to_owned()));
    // A server of gRPC that has no health service, and one that speaks HTTP alone.
    let bare = axum_server().await;
    assert_eq!(check(&grpc(""), bare).await, Err("status 404".to_owned()));
}

#[tokio::test]
async fn over_tls() {
    let authority = rcgen::generate_simple_self_signed(["shop.internal".to_owned()]).unwrap();
    let pem = authority.cert.pem();
    let key = rustls::pki_types::PrivateKeyDer::try_from(authority.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![authority.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let server = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            if stream.get_ref().1.alpn_protocol() == Some(b"http/1.1") {
                let mut head = [0; 512];
                drop(stream.read(&mut head).await);
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await);
                drop(stream.shutdown().await);
            }
        }
    })
    .await;
    let over = |name: &'static str, ca: Option<&str>| {
        let ca = ca.map(str::as_bytes);
        let options = TlsOptions { server_name: name, ca, client: None, protocol: wire::Protocol::Http1 };
        ProbeSpec { tls: Some(Arc::new(ClientTls::new(&options).unwrap())), ..http("/") }
    };
    assert_eq!(check(&over("shop.internal", Some(&pem)), server).await, Ok(()));
    let why = check(&over("cart.internal", Some(&pem)), server).await.unwrap_err();
    assert!(why.contains("not valid for name"), "{why}");
    let why = check(&over("shop.internal", None), server).await.unwrap_err();
    assert!(why.contains("UnknownIssuer") || why.contains("unknownissuer"), "{why}");
    let plain = ProbeSpec { question: Question::Tcp, ..over("shop.internal", Some(&pem)) };
    assert_eq!(check(&plain, server).await, Ok(()));
    assert!(check(&plain, says(b"HTTP/1.1 400 x\r\n\r\n").await).await.is_err(), "TCP with TLS is TLS as well");
}

#[tokio::test]
async fn behind_a_proxy_header() {
    for (version, header) in
        [(ProxyVersion::V1, &b"PROXY UNKNOWN\r\n"[..]), (ProxyVersion::V2, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")]
    {
        let server = serve(move |mut stream| async move {
            let mut seen = vec![0; header.len()];
            if stream.read_exact(&mut seen).await.is_ok() && seen == header {
                read_head(&mut stream).await;
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await);
            }
        })
        .await;
        assert_eq!(check(&ProbeSpec { proxy_header: Some(version), ..http("/") }, server).await, Ok(()));
    }
}
