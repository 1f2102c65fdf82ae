//! The DNS server, asked by Debian's `dig`.

use std::{net::SocketAddr, process::Command};

use discovery::{Sockets, model::InstanceSpec};
use kernel::{Clock, Stage};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
};

use crate::world::{Engine, Node, World, principal};

async fn server(world: &World) -> (Node, SocketAddr) {
    let node = world.node_on("n1", world.memory.clone(), Clock::system()).await;
    let sockets = Sockets::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    node.discovery.serve_dns(&sockets, &world.lifecycle.tasks(Stage::Listeners));
    (node, sockets.address().unwrap())
}

/// What dig prints.
async fn dig(at: SocketAddr, words: &[&str]) -> String {
    let mut dig = Command::new("dig");
    dig.arg("@127.0.0.1").args(["-p", &at.port().to_string(), "+tries=1", "+time=5"]).args(words);
    let run = tokio::task::spawn_blocking(move || dig.output().unwrap()).await.unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    String::from_utf8(run.stdout).unwrap()
}

fn lines(text: &str) -> Vec<&str> {
    let mut all: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dig_is_told_where_services_are() {
    let world = World::new(Engine::Sqlite).await;
    let (node, at) = server(&world).await;
    for (id, address, port, tag) in
        [("a", "10.0.0.1", 8001, "v1"), ("b", "10.0.0.2", 8002, "v2"), ("c", "2001:db8::7", 8003, "v2")]
    {
        let mut spec = InstanceSpec::new("Shop", address, port);
        spec.tags = vec![tag.to_owned()];
        spec.weight = u32::from(port) - 8000;
        spec.node = format!("m{id}");
        node.register(id, spec).await;
    }
    let short = async |words: &[&str]| dig(at, &[words, &["+short"]].concat()).await;
    assert_eq!(lines(&short(&["shop.service.consul"]).await), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(lines(&short(&["SHOP.Service.mainstay.INTERNAL", "AAAA"]).await), ["2001:db8::7"]);
    assert_eq!(lines(&short(&["v2.shop.service.consul", "A"]).await), ["10.0.0.2"]);
    assert_eq!(lines(&short(&["mb.node.consul", "A"]).await), ["10.0.0.2"]);
    let srv = [
        "1 1 8001 0a000001.addr.consul.",
        "1 2 8002 0a000002.addr.consul.",
        "1 3 8003 20010db8000000000000000000000007.addr.consul.",
    ];
    assert_eq!(lines(&short(&["shop.service.consul", "SRV"]).await), srv);
    assert_eq!(lines(&short(&["_shop._tcp.service.consul", "SRV", "+tcp"]).await), srv);
    assert_eq!(lines(&short(&["0a000002.addr.consul", "A"]).await), ["10.0.0.2"]);
    let whole = dig(at, &["_shop._v1.service.consul", "SRV"]).await;
    assert!(
        whole.contains("ADDITIONAL SECTION") && whole.contains("0a000001.addr.consul.\t1\tIN\tA\t10.0.0.1"),
        "{whole}"
    );
    for (name, status) in [
        ("none.service.consul", "NXDOMAIN"),
        ("shop.service.acme.consul", "NXDOMAIN"),
        ("example.com", "REFUSED"),
        ("consul", "NOERROR"),
    ] {
        let told = dig(at, &[name]).await;
        assert!(told.contains(&format!("status: {status}")), "{name}: {told}");
        assert_eq!(told.contains("SOA"), status != "REFUSED", "{name}: {told}");
    }
    // What leaves is not told any more.
    node.discovery.deregister(&principal("default"), "a").await.unwrap();
    assert_eq!(lines(&short(&["shop.service.consul"]).await), ["10.0.0.2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_cut_over_udp_and_whole_over_tcp() {
    let world = World::new(Engine::Sqlite).await;
    let (node, at) = server(&world).await;
    for n in 1..=120_u8 {
        node.register(&format!("i{n}"), InstanceSpec::new("shop", format!("10.0.0.{n}"), 80)).await;
    }
    for (words, most) in [(&["+noedns"][..], 512), (&["+bufsize=4096"], 1232), (&["+bufsize=700"], 700)] {
        let told = dig(at, &[&["shop.service.consul", "SRV", "+ignore"], words].concat()).await;
        let size: usize = told.split("MSG SIZE  rcvd: ").nth(1).unwrap().trim().parse().unwrap();
        assert!(told.contains(" tc ") || told.contains(" tc;"), "{told}");
        assert!(size <= most && size * 10 > most * 8, "{size} of {most}");
    }
    let whole = dig(at, &["shop.service.consul", "A", "+short"]).await;
    assert_eq!(lines(&whole).len(), 120, "dig asks again over TCP");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_bytes_come_the_server_goes_on() {
    let world = World::new(Engine::Sqlite).await;
    let (node, at) = server(&world).await;
    node.register("a", InstanceSpec::new("shop", "10.0.0.1", 80)).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let rng = kernel::Rng::seeded(7);
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04shop\x07service\x06consul\x00\x00\x01\x00\x01";
    for n in 0..2_000 {
        let mut bytes = query.to_vec();
        for _ in 0..n % 8 {
            let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
            bytes[at] = u8::try_from(rng.below(256)).unwrap();
        }
        bytes.truncate(usize::try_from(rng.below(bytes.len() as u64 + 1)).unwrap());
        socket.send_to(&bytes, at).await.unwrap();
    }
    // An answer is not answered.
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    socket.send_to(&answer, at).await.unwrap();
    // A connection that breaks off, and one that says less than it announced.
    drop(TcpStream::connect(at).await.unwrap());
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"\x00\xff\x12").await.unwrap();
    drop(stream);
    // Two queries on one connection.
    let mut stream = TcpStream::connect(at).await.unwrap();
    for _ in 0..2 {
        let len = u16::try_from(query.len()).unwrap();
        stream.write_all(&[&len.to_be_bytes()[..], query].concat()).await.unwrap();
        let len = stream.read_u16().await.unwrap();
        let mut told = vec![0; usize::from(len)];
        stream.read_exact(&mut told).await.unwrap();
        assert_eq!((&told[..2], &told[told.len() - 4..]), (&b"\x12\x34"[..], &[10, 0, 0, 1][..]));
    }
    assert_eq!(dig(at, &["shop.service.consul", "+short"]).await.trim(), "10.0.0.1");
}
