//! Checks of rate limits as bytes on the API listener: whichever way they are served, the answers are the same.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{Node, send};

const BODY: &str = r#"{"domain":"lane","descriptors":[{"entries":{"user":"42"}}]}"#;

fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(node.api.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// A request with these header lines and this body.
fn request(lines: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /v1/limits/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Reads one answer and no more: its status, its other header lines without what differs by nature, and its body.
fn answer(stream: &mut TcpStream) -> (u16, Vec<String>, Value) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    let status = head[9..12].parse().unwrap();
    let named = |name: &'static str| move |line: &&str| line.starts_with(name) && line.len() > name.len();
    assert_eq!(
        (head.lines().filter(named("request-id: ")).count(), head.lines().filter(named("date: ")).count()),
        (1, 1)
    );
    let kept = |line: &&str| !line.is_empty() && !line.starts_with("request-id:") && !line.starts_with("date:");
    let mut lines: Vec<String> = head.lines().skip(1).filter(kept).map(str::to_owned).collect();
    lines.sort();
    (status, lines, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// What a check says is left.
fn left(body: &Value) -> u64 {
    body["decisions"][0]["remaining"].as_u64().unwrap_or_else(|| panic!("{body}"))
}

fn with_rules(node: &Node, headers: &[(&str, &str)]) {
    let rule = json!({
        "name": "per-user", "keys": [{ "key": "user" }],
        "limit": { "algorithm": "fixed_window", "limit": 100_000, "window": "8760h" },
    });
    let url = format!("{}/v1/limits/rules/lane", node.api);
    let put = send("PUT", &url, headers, Some(&json!({ "rules": [rule] })));
    assert!(put.status == 200 || put.status == 201, "{}", put.body);
}

#[test]
fn a_check_has_one_answer_however_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    with_rules(&node, &[]);
    let plain = request("", BODY);
    // A line that the lane does not know leads to hyper.
    let other = request("X-Other: 1\r\n", BODY);
    let mut by_hyper = connect(&node);
    by_hyper.write_all(other.as_bytes()).unwrap();
    let (status, lines, body) = answer(&mut by_hyper);
    assert_eq!((status, body["is_allowed"].as_bool()), (200, Some(true)), "{body}");
    let mut before = left(&body);
    let mut check = |got: (u16, Vec<String>, Value), how: &str| {
        assert_eq!((got.0, &got.1), (200, &lines), "{how}");
        assert_eq!(left(&got.2), before - 1, "{how}: charged once");
        before -= 1;
        let mut same = got.2.clone();
        same["decisions"][0]["remaining"] = body["decisions"][0]["remaining"].clone();
        same["decisions"][0]["reset_after_ms"] = body["decisions"][0]["reset_after_ms"].clone();
        assert_eq!(same, body, "{how}");
    };

    let mut stream = connect(&node);
    for turn in 0..3 {
        stream.write_all(plain.as_bytes()).unwrap();
        check(answer(&mut stream), &format!("turn {turn}"));
    }
    // Cut anywhere.
    stream.set_nodelay(true).unwrap();
    for at in [1, 7, 30, 31, 32, 60, plain.len() - BODY.len() - 1, plain.len() - BODY.len(), plain.len() - 1] {
        stream.write_all(&plain.as_bytes()[..at]).unwrap();
        // Answered by another connection meanwhile, so that the server has seen the part.
        by_hyper.write_all(other.as_bytes()).unwrap();
        check(answer(&mut by_hyper), "meanwhile");
        stream.write_all(&plain.as_bytes()[at..]).unwrap();
        check(answer(&mut stream), &format!("cut at {at}"));
    }
    // Many at once, then one that hyper has to answer, then more.
    let many = plain.repeat(50) + &other + &plain.repeat(3);
    stream.write_all(many.as_bytes()).unwrap();
    for turn in 0..54 {
        check(answer(&mut stream), &format!("pipelined {turn}"));
    }
    // More than fits into one read.
    let mut stream = connect(&node);
    let writer = {
        let (mut stream, many) = (stream.try_clone().unwrap(), plain.repeat(2000));
        std::thread::spawn(move || stream.write_all(many.as_bytes()).unwrap())
    };
    for turn in 0..2000 {
        check(answer(&mut stream), &format!("of many {turn}"));
    }
    writer.join().unwrap();
    // The last one.
    stream.write_all(request("Connection: close\r\n", BODY).as_bytes()).unwrap();
    let (status, mut last, body) = answer(&mut stream);
    last.retain(|line| line != "connection: close");
    assert_eq!((status, left(&body), last), (200, before - 1, lines.clone()));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed");
    node.stop();
}

#[test]
fn what_is_wrong_or_unusual_gets_its_own_answer_and_is_not_charged() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    with_rules(&node, &[]);
    let batch = format!(r#"{{"checks":[{}]}}"#, BODY.replace("42", "43"));
    let long = BODY.replace("42", &"4".repeat(20_000));
    let rows: &[(&str, String, u16)] = &[
        ("no JSON", request("", "{"), 400),
        ("an unknown field", request("", &BODY.replace("domain", "realm")), 400),
        ("more after it", request("", &format!("{BODY}{BODY}")), 400),
        ("an unknown domain", request("", &BODY.replace("lane", "other")), 200),
        ("a batch", request("", &batch), 200),
        ("a cost that never fits", request("", &BODY.replace("\"lane\"", "\"lane\",\"cost\":2000000")), 200),
        ("too long an entry", request("", &long), 422),
        ("another type", request("", BODY).replace("application/json", "text/plain"), 415),
        ("another site", request("Origin: http://evil.example\r\n", BODY), 403),
        ("another host", request("", BODY).replace("localhost", "evil.example"), 403),
        ("a wrong key", request("Authorization: Bearer nothing\r\n", BODY), 401),
        ("another project", request("Mainstay-Project: nowhere\r\n", BODY), 404),
        ("no deadline", request("Mainstay-Timeout: soon\r\n", BODY), 400),
        ("another method", request("", BODY).replace("POST", "PUT"), 405),
        ("a query", request("", BODY).replace("check HTTP", "check?x=1 HTTP"), 200),
    ];
    let (mut charged, mut wrong) = (0, Vec::new());
    for (what, bytes, status) in rows {
        let mut stream = connect(&node);
        stream.write_all(bytes.as_bytes()).unwrap();
        let (got, _, body) = answer(&mut stream);
        if got != *status {
            wrong.push(format!("{what}: {got} {body}"));
        }
        charged += u64::from(*what == "a query");
        let url = format!("{}/v1/limits/peek", node.api);
        let peeked = send("POST", &url, &[], Some(&serde_json::from_str(BODY).unwrap())).json();
        assert_eq!(left(&peeked), 100_000 - charged, "{what}: {peeked}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Two lengths, and chunks: hyper's own words, as everywhere.
    for bytes in [request("Content-Length: 3\r\n", BODY), request("Transfer-Encoding: chunked\r\n", BODY)] {
        let mut stream = connect(&node);
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 400");
    }
    node.stop();
}

#[test]
fn a_connection_that_asks_too_slowly_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &["--set", "api.header_timeout=300ms"]);
    with_rules(&node, &[]);
    let plain = request("", BODY);
    for part in [0, 20, plain.len() - 1] {
        let mut stream = connect(&node);
        stream.write_all(plain.as_bytes()).unwrap();
        assert_eq!(answer(&mut stream).0, 200);
        stream.write_all(&plain.as_bytes()[..part]).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed after {part} bytes");
    }
    node.stop();
}

#[test]
fn shutdown_lets_go_of_connections_that_wait() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &["--set", "server.shutdown_timeout=15s"]);
    with_rules(&node, &[]);
    let plain = request("", BODY);
    let (mut idle, mut part) = (connect(&node), connect(&node));
    for stream in [&mut idle, &mut part] {
        stream.write_all(plain.as_bytes()).unwrap();
        assert_eq!(answer(stream).0, 200);
    }
    part.write_all(&plain.as_bytes()[..40]).unwrap();
    let log = node.log.clone();
    node.stop();
    assert_eq!((idle.read(&mut [0]).unwrap(), part.read(&mut [0]).unwrap()), (0, 0));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("aborted=[]"), "{log}");
}
