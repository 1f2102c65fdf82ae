//! Plain HTTP/1.1 on the public listener: what is served by the fast lane, over real sockets.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::json;

use crate::support::{Node, get, send, wait};

fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(node.public.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn link(node: &Node) -> String {
    let made = send("POST", &format!("{}/v1/links", node.api), &[], Some(&json!({ "url": "https://example.com/x" })));
    assert_eq!(made.status, 201, "{}", made.body);
    made.json()["code"].as_str().unwrap().to_owned()
}

/// Everything until the server closes.
fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    String::from_utf8(all).unwrap()
}

/// Reads one answer and no more; its head and body.
fn answer(stream: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

#[test]
fn a_connection_serves_requests_one_after_the_other_and_many_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    let code = link(&node);
    let mut stream = connect(&node);
    for path in [&code, "no-such-link", &code] {
        write!(stream, "GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (head, body) = answer(&mut stream);
        let is_known = path == code;
        assert!(
            head.starts_with(if is_known { "HTTP/1.1 302 Found\r\n" } else { "HTTP/1.1 404 Not Found\r\n" }),
            "{head}"
        );
        assert!(head.contains("\r\ndate: ") && !head.contains("connection:"), "{head}");
        assert_eq!(body.is_empty(), is_known);
    }
    // Pipelined, with one that hyper has to serve in the middle, cut where it hurts.
    let get = |path: &str| format!("GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let form = format!("POST /{code} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na=");
    let many = [get(&code).repeat(300), form, get("nowhere"), get(&code)].concat();
    let last = "HEAD /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for part in (many + last).as_bytes().chunks(1000) {
        stream.write_all(part).unwrap();
    }
    let all = rest(&mut stream);
    let statuses: Vec<&str> = all.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    let expected: Vec<&str> = [vec!["302"; 300], vec!["405", "404", "302", "404"]].concat();
    assert_eq!(statuses, expected);
    let head = all.rsplit("HTTP/1.1 ").next().unwrap();
    assert!(head.contains("\r\nconnection: close\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn old_clients_and_closing_ones_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    let code = link(&node);
    for (request, first, has_close) in [
        (format!("GET /{code} HTTP/1.0\r\n\r\n"), "HTTP/1.0 302 Found", false),
        (format!("GET /{code} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), "HTTP/1.1 302 Found", true),
        (format!("HEAD /{code} HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n"), "HTTP/1.1 302 Found", true),
        (format!("GET /{code} HTTP/1.1\r\nHost: x\r\n folded: yes\r\n\r\n"), "HTTP/1.1 400 Bad Request", false),
        (format!("GET /{code} HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n"), "HTTP/1.1 400 Bad Request", false),
    ] {
        let mut stream = connect(&node);
        stream.write_all(request.as_bytes()).unwrap();
        let all = rest(&mut stream);
        assert!(all.starts_with(first), "{request}: {all}");
        assert!(!has_close || all.contains("\r\nconnection: close\r\n"), "{request}: {all}");
    }
}

/// LANE-3: a client that asks and asks and takes nothing fills the sockets between, not the server's memory; once it reads, every
/// answer is there. One that never reads is cut.
#[test]
fn answers_wait_for_their_client_but_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &["--set", "public.header_timeout=5s"]);
    let ask = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let full = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let mut sent = 0;
        // Until the server has read nothing for a while: what it took meanwhile came from its own socket's buffer.
        let full = wait("the server stops reading", || {
            let before = sent;
            loop {
                match stream.write(&ask[sent % ask.len()..]) {
                    Ok(count) => sent += count,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) => panic!("{e}"),
                }
                assert!(sent < 1 << 28, "it reads without end");
            }
            (sent == before).then_some(sent)
        });
        stream.set_nonblocking(false).unwrap();
        full
    };
    let mut stream = connect(&node);
    let sent = full(&mut stream);
    let one = ask.len() / 100;
    let last = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let end = [&ask[sent % one..one], last].concat();
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&end).unwrap());
    let all = rest(&mut stream);
    writing.join().unwrap();
    assert_eq!(all.matches("HTTP/1.1 404 Not Found\r\n").count(), sent / one + 2);

    let mut stream = connect(&node);
    full(&mut stream);
    // Cut: a write fails in the end, though nothing was read.
    stream.set_nonblocking(true).unwrap();
    wait("the connection is cut", || match stream.write(b"G") {
        Err(e) if e.kind() != ErrorKind::WouldBlock => Some(()),
        _ => None,
    });
}

/// LANE-4.
#[test]
fn shutdown_finishes_the_request_in_hand() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &["--set", "server.drain_delay=0s"]);
    let code = link(&node);
    let (mut open, mut idle) = (connect(&node), connect(&node));
    for stream in [&mut open, &mut idle] {
        write!(stream, "GET /{code} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(answer(stream).0.starts_with("HTTP/1.1 302"));
    }
    write!(open, "GET /{code} HTTP/1.1\r\nHost: x\r\n").unwrap();
    // It was read: the same worker has answered others since. Which worker that is, is the kernel's choice, so both are asked.
    for _ in 0..50 {
        assert_eq!(get(&format!("{}/{code}", node.public)).status, 302);
    }
    let stop = std::thread::spawn(move || node.stop());
    assert_eq!(rest(&mut idle), "", "who is silent is let go");
    open.write_all(b"\r\n").unwrap();
    let all = rest(&mut open);
    assert!(all.starts_with("HTTP/1.1 302") && all.contains("\r\nconnection: close\r\n"), "{all}");
    stop.join().unwrap();
}
