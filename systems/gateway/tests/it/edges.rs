//! Listeners below HTTP, and certificates by host.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use gateway::{
    l4::{Deps, ListenerSpec, Listeners},
    tls::{AcmeDeps, CertificateSpec, Certificates},
};
use kernel::{Clock, Lifecycle, Rng, Stage};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use telemetry::Metrics;
use testkit::{Process, Spec, binary, eventually, free_port};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};
use tokio_rustls::TlsConnector;
use upstream::Upstreams;

use crate::world::{Engine, World};

struct Edges {
    clock: Clock,
    lifecycle: Lifecycle,
    upstreams: Upstreams,
    certificates: Certificates,
    listeners: Listeners,
    folder: tempfile::TempDir,
}

impl Edges {
    fn new() -> Self {
        let clock = Clock::system();
        let lifecycle = Lifecycle::new(clock.clone(), Rng::seeded(1));
        let upstreams = Upstreams::new(upstream::Deps {
            clock: clock.clone(),
            rng: Rng::seeded(2),
            zone: None,
            registry: None,
            metrics: Metrics::new().registry("upstream"),
        });
        let certificates = Certificates::new(&clock, None).unwrap();
        let listeners = Listeners::new(Deps {
            upstreams: upstreams.clone(),
            certificates: certificates.clone(),
            clock: clock.clone(),
            tasks: lifecycle.tasks(Stage::Listeners),
        });
        Self { clock, lifecycle, upstreams, certificates, listeners, folder: tempfile::tempdir().unwrap() }
    }

    fn upstreams(&self, specs: &Value) {
        self.upstreams.apply(&serde_json::from_value::<Vec<_>>(specs.clone()).unwrap()).unwrap();
    }

    fn listen(&self, specs: &Value) {
        self.listeners.apply(&listeners(specs), "/listeners").unwrap();
    }

    /// A certificate for a host, and what a client believes that is to see it.
    fn certificate(&self, host: &str) -> (Value, RootCertStore) {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        let path = |kind: &str| self.folder.path().join(format!("{}.{kind}.pem", host.replace('*', "any")));
        std::fs::write(path("cert"), made.cert.pem()).unwrap();
        std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        (json!({ "hosts": [host], "cert": path("cert"), "key": path("key") }), roots)
    }
}

fn listeners(specs: &Value) -> Vec<ListenerSpec> {
    serde_json::from_value(specs.clone()).unwrap()
}

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// A server that says its name, and then what it hears until the client closes.
async fn server(lifecycle: &Lifecycle, name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(loopback(0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = lifecycle.tasks(Stage::Systems);
    tasks.clone().spawn("test-server", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tasks.spawn("test-connection", async move {
                drop(stream.write_all(format!("{name}:").as_bytes()).await);
                let (mut reader, mut writer) = stream.split();
                drop(tokio::io::copy(&mut reader, &mut writer).await);
                drop(writer.shutdown().await);
            });
        }
    });
    address
}

async fn ask(address: SocketAddr, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn tcp_is_balanced_half_closed_and_passed_to_who_is_well() {
    let edges = Edges::new();
    let (a, b) = (server(&edges.lifecycle, "a").await, server(&edges.lifecycle, "b").await);
    let nobody = loopback(free_port());
    edges.upstreams(&json!([{ "name": "shop", "balance": { "algorithm": "round_robin" },
        "endpoints": [{ "address": a.to_string() }, { "address": b.to_string() }, { "address": nobody.to_string() }] }]));
    let address = loopback(free_port());
    edges.listen(&json!([{ "name": "l", "listen": address, "protocol": "tcp", "upstream": "shop" }]));
    let mut heard = Vec::new();
    for _ in 0..6 {
        // The whole of it comes back after our side was closed: each direction closes by itself.
        let text = ask(address, &[b'x'; 300_000]).await;
        assert_eq!(text.len(), 300_002);
        heard.push(text[..1].to_owned());
    }
    assert!(heard.contains(&"a".to_owned()) && heard.contains(&"b".to_owned()), "{heard:?}");
    let state = &edges.listeners.states()[0];
    assert_eq!((state.accepted_count, state.bytes_up), (6, 6 * 300_000));
}

#[tokio::test]
async fn a_listener_that_stays_keeps_its_connections_and_a_taken_port_changes_nothing() {
    let edges = Edges::new();
    let (a, b) = (server(&edges.lifecycle, "a").await, server(&edges.lifecycle, "b").await);
    edges.upstreams(&json!([{ "name": "a", "endpoints": [{ "address": a.to_string() }] },
        { "name": "b", "endpoints": [{ "address": b.to_string() }] }]));
    let (stays, goes) = (loopback(free_port()), loopback(free_port()));
    let one = |upstream: &str| json!({ "name": "one", "listen": stays, "protocol": "tcp", "upstream": upstream });
    edges.listen(&json!([one("a"), { "name": "two", "listen": goes, "protocol": "tcp", "upstream": "a" }]));
    let mut open = TcpStream::connect(stays).await.unwrap();
    let mut name = [0; 2];
    open.read_exact(&mut name).await.unwrap();

    let taken = TcpListener::bind(loopback(0)).await.unwrap();
    let bad =
        json!([one("b"), { "name": "x", "listen": taken.local_addr().unwrap(), "protocol": "tcp", "upstream": "a" }]);
    let faults = edges.listeners.apply(&listeners(&bad), "/listeners").unwrap_err();
    assert_eq!(faults[0].field, "/listeners/1/listen");
    assert_eq!(ask(stays, b"").await, "a:");

    edges.listen(&json!([one("b")]));
    assert_eq!(ask(stays, b"").await, "b:");
    open.write_all(b"still").await.unwrap();
    let mut heard = [0; 5];
    open.read_exact(&mut heard).await.unwrap();
    assert_eq!((&name, &heard), (b"a:", b"still"));
    eventually(Duration::from_secs(5), "the port to be free", async || TcpStream::connect(goes).await.is_err()).await;
}

#[tokio::test]
async fn proxy_headers_come_in_from_balancers_alone_and_go_out_to_haproxys_form() {
    let edges = Edges::new();
    let a = server(&edges.lifecycle, "a").await;
    edges.upstreams(&json!([{ "name": "a", "proxy_protocol": "v1", "endpoints": [{ "address": a.to_string() }] }]));
    let (trusting, plain) = (loopback(free_port()), loopback(free_port()));
    let listener =
        |name: &str, listen: SocketAddr| json!({ "name": name, "listen": listen, "protocol": "tcp", "upstream": "a" });
    let mut first = listener("trusting", trusting);
    first["proxy_protocol"] = json!({ "from": ["127.0.0.0/8"] });
    edges.listen(&json!([first, listener("plain", plain)]));
    let sent = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
    assert_eq!(ask(trusting, format!("{sent}hello").as_bytes()).await, format!("a:{sent}hello"));
    // Who has to send one and does not is not served.
    let mut stream = TcpStream::connect(trusting).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    drop(stream.read_to_end(&mut heard).await);
    assert_eq!(heard, b"");
    // From anybody else it is no header but bytes like others, and the address is the socket's.
    let heard = ask(plain, sent.as_bytes()).await;
    assert!(heard.starts_with("a:PROXY TCP4 127.0.0.1 127.0.0.1 ") && heard.ends_with(sent), "{heard}");
}

#[tokio::test]
async fn datagrams_of_one_client_go_to_one_endpoint_and_come_back() {
    let edges = Edges::new();
    let echo = UdpSocket::bind(loopback(0)).await.unwrap();
    let at = echo.local_addr().unwrap();
    edges.lifecycle.tasks(Stage::Systems).spawn("test-echo", async move {
        let mut buffer = [0; 2000];
        while let Ok((n, from)) = echo.recv_from(&mut buffer).await {
            drop(echo.send_to(&buffer[..n], from).await);
        }
    });
    edges.upstreams(&json!([{ "name": "dns", "endpoints": [{ "address": at.to_string() }] }]));
    let listen = loopback(free_port());
    edges.listen(&json!([{ "name": "l", "listen": listen, "protocol": "udp", "upstream": "dns",
        "idle_timeout": "200ms", "limits": { "max_connections": 1 } }]));
    let client = UdpSocket::bind(loopback(0)).await.unwrap();
    client.connect(listen).await.unwrap();
    let mut buffer = [0; 2000];
    for text in ["one", "two"] {
        client.send(text.as_bytes()).await.unwrap();
        let length = client.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], text.as_bytes());
    }
    let state = edges.listeners.states().remove(0);
    assert_eq!((state.connection_count, state.accepted_count), (1, 1));
    eventually(Duration::from_secs(5), "the session to end", async || {
        edges.listeners.states()[0].connection_count == 0
    })
    .await;
}

async fn handshake(address: SocketAddr, host: &str, roots: &RootCertStore) -> std::io::Result<String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let tcp = TcpStream::connect(address).await?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    let mut heard = [0; 2];
    stream.read_exact(&mut heard).await?;
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

#[tokio::test]
async fn tls_goes_by_host_ends_here_or_there_and_nowhere_else() {
    let edges = Edges::new();
    let a = server(&edges.lifecycle, "a").await;
    let (ours, our_roots) = edges.certificate("ours.example");
    let (theirs, their_roots) = edges.certificate("theirs.example");
    // Another gateway ends TLS for the host that is passed through.
    let behind = Edges::new();
    behind.certificates.apply(&[serde_json::from_value::<CertificateSpec>(theirs).unwrap()], "").unwrap();
    let b = server(&edges.lifecycle, "b").await;
    behind.upstreams(&json!([{ "name": "b", "endpoints": [{ "address": b.to_string() }] }]));
    let inner = loopback(free_port());
    behind.listen(&json!([{ "name": "b", "listen": inner, "protocol": "tls",
        "sni": [{ "hosts": ["theirs.example"], "upstream": "b", "mode": "terminate" }] }]));

    edges.certificates.apply(&[serde_json::from_value::<CertificateSpec>(ours).unwrap()], "").unwrap();
    edges.upstreams(&json!([{ "name": "a", "endpoints": [{ "address": a.to_string() }] },
        { "name": "inner", "endpoints": [{ "address": inner.to_string() }] }]));
    let address = loopback(free_port());
    edges.listen(&json!([{ "name": "l", "listen": address, "protocol": "tls", "sni": [
        { "hosts": ["ours.example"], "upstream": "a", "mode": "terminate" },
        { "hosts": ["theirs.example"], "upstream": "inner" }] }]));
    assert_eq!(handshake(address, "ours.example", &our_roots).await.unwrap(), "a:");
    assert_eq!(handshake(address, "theirs.example", &their_roots).await.unwrap(), "b:");
    let refused = handshake(address, "else.example", &our_roots).await.unwrap_err().to_string();
    assert!(refused.contains("UnrecognizedName"), "{refused}");
    let refused: u64 = edges.listeners.states()[0].refused.iter().map(|(_, n)| n).sum();
    assert_eq!(refused, 1);
}

/// What a test needs of Debian's `pebble`.
fn pebble(folder: &Path, port: u16, http_port: u16) -> (Process, std::path::PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| folder.join(name);
    std::fs::write(path("ca.pem"), made.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let config = json!({ "pebble": { "listenAddress": format!("127.0.0.1:{port}"), "certificate": path("ca.pem"),
        "managementListenAddress": format!("127.0.0.1:{}", free_port()),
        "privateKey": path("key.pem"), "httpPort": http_port, "tlsPort": http_port,
        "externalAccountBindingRequired": false } });
    std::fs::write(path("pebble.json"), config.to_string()).unwrap();
    let arguments = ["-config".into(), path("pebble.json").into_os_string()];
    let mut spec = Spec::new(binary("pebble"), arguments, path("pebble.log"));
    spec.environment.push(("PEBBLE_VA_NOSLEEP".to_owned(), "1".to_owned()));
    let mut process = Process::start(&spec);
    process
        .await_ready("pebble", Duration::from_secs(30), || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    (process, path("ca.pem"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_got_from_a_real_authority_by_http_and_by_tls() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let world = World::new(Engine::Sqlite).await;
        world.db.migrate("gateway", gateway::MIGRATIONS).await.unwrap();
        let (port, looks_at) = (free_port(), loopback(free_port()));
        let (_pebble, ca) = pebble(world.folder.path(), port, looks_at.port());
        let acme = AcmeDeps { db: world.db.clone(), secret: [7; 32], rng: Rng::system() };
        let certificates = Certificates::new(&Clock::system(), Some(acme)).unwrap();
        let listener = TcpListener::bind(looks_at).await.unwrap();
        let answers = certificates.clone();
        world.lifecycle.tasks(Stage::Listeners).spawn("test-front", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if challenge == "tls-alpn-01" {
                    drop(answers.accept(stream, None).await);
                    continue;
                }
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let token = path.strip_prefix("/.well-known/acme-challenge/").unwrap_or_default();
                let answer = answers.http_challenge(token).await.unwrap_or_default();
                let text =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}", answer.len());
                drop(stream.write_all(text.as_bytes()).await);
            }
        });
        let spec = json!({ "hosts": ["localhost"], "acme": { "directory": format!("https://localhost:{port}/dir"),
            "accept_terms": true, "challenge": challenge, "ca": ca, "email": "ops@example.com" } });
        certificates.apply(&[serde_json::from_value(spec).unwrap()], "/certificates").unwrap();
        certificates.start(&world.lifecycle.tasks(Stage::Systems));
        let got = async || certificates.states()[0].facts.is_some() || certificates.states()[0].trouble.is_some();
        eventually(Duration::from_secs(60), "an outcome", got).await;
        let state = certificates.states().remove(0);
        assert_eq!(state.trouble, None, "{challenge}");
        assert!(state.facts.unwrap().issuer.contains("Pebble"), "{challenge}");
    }
}
