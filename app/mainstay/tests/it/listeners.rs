//! The two listeners: HTTP/1.1 and HTTP/2, TLS with reload, draining.

use std::{io::Write as _, net::TcpStream, path::Path, sync::Arc};

use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::json;

use crate::support::{Node, get, send, wait};

fn certificate(folder: &Path, name: &str) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()
}

/// The certificate that a server presents, and the protocol it chose.
fn presented(address: &str, root: &CertificateDer<'static>) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("mainstay.test").unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut stream).ok()?;
    }
    Some((session.peer_certificates()?[0].to_vec(), session.alpn_protocol().map(<[u8]>::to_vec)))
}

#[test]
fn tls_is_served_on_both_listeners_and_a_new_certificate_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(folder.path(), "mainstay.test");
    let files = ["cert.pem", "key.pem"].map(|f| folder.path().join(f).display().to_string());
    let sets = ["api", "public"].map(|s| [format!("{s}.tls_cert={}", files[0]), format!("{s}.tls_key={}", files[1])]);
    let args: Vec<&str> = sets.iter().flatten().flat_map(|s| ["--set", s.as_str()]).collect();
    let node = Node::dev(folder.path(), "data", &args);
    let hosts = [&node.api, &node.public].map(|url| url.strip_prefix("https://").unwrap().to_owned());
    for host in &hosts {
        let (der, alpn) = presented(host, &first).unwrap();
        assert_eq!((der, alpn.as_deref()), (first.to_vec(), Some(&b"h2"[..])));
    }
    let second = certificate(folder.path(), "mainstay.test");
    for host in &hosts {
        wait("the new certificate is presented", || {
            presented(host, &second).filter(|(der, _)| *der == second.to_vec())
        });
    }
}

/// HTTP/2 with prior knowledge on a plain socket, as gRPC clients and load balancers speak it.
#[tokio::test]
async fn http2_without_tls_on_both_listeners() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    for (url, path, status) in [(&node.api, "/health/live", 200), (&node.public, "/unknown0", 404)] {
        let stream = tokio::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
        #[allow(clippy::disallowed_methods, reason = "a test has no task set")]
        let driver = tokio::spawn(connection);
        for _ in 0..3 {
            let request = http::Request::get(format!("{url}{path}")).body(http_body_util::Empty::<bytes::Bytes>::new());
            let answer = sender.send_request(request.unwrap()).await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.version()), (status, http::Version::HTTP_2));
        }
        driver.abort();
    }
}

/// A client that never finishes its request head is let go instead of being waited for.
#[test]
fn a_request_head_that_never_ends_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let sets = ["--set", "public.header_timeout=300ms", "--set", "api.header_timeout=300ms"];
    let node = Node::dev(folder.path(), "data", &sets);
    for url in [&node.api, &node.public] {
        // Nothing at all, what may yet become HTTP/2, and half a head.
        for sent in [&b""[..], b"P", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
            let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
            stream.write_all(sent).unwrap();
            stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
            let mut rest = Vec::new();
            std::io::Read::read_to_end(&mut stream, &mut rest).unwrap();
            assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&rest));
        }
    }
}

#[test]
fn a_connection_that_idles_does_not_hold_up_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    let _idle = [&node.api, &node.public].map(|url| TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap());
    let link = send("POST", &format!("{}/v1/links", node.api), &[], Some(&json!({ "url": "https://example.com/" })));
    assert_eq!(link.status, 201);
    assert_eq!(get(&format!("{}/health/ready", node.api)).status, 200);
    node.stop();
}

/// A form goes to the short URL's own pages, and no more of it is read than they take.
#[test]
fn a_form_is_read_within_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &["--set", "public.header_timeout=300ms"]);
    let ask = |request: &[&str]| {
        let mut stream = TcpStream::connect(node.public.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        stream.write_all(request.concat().as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let head = "POST /abc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let (fits, over) = ("a".repeat(16 << 10), "a".repeat((16 << 10) + 1));
    for (rest, status) in [
        (&["Content-Length: 3\r\n\r\n", "a=b"][..], "404"),
        (&["Content-Length: 16384\r\n\r\n", &fits], "404"),
        (&["Content-Length: 16385\r\n\r\n"], "413"),
        (&["Transfer-Encoding: chunked\r\n\r\n4000\r\n", &fits, "\r\n0\r\n\r\n"], "404"),
        (&["Transfer-Encoding: chunked\r\n\r\n4001\r\n", &over], "413"),
        (&["Content-Length: 3\r\n\r\n", "a"], "408"),
    ] {
        assert_eq!(ask(&[&[head], rest].concat()), status, "{}", rest[0]);
    }
}
