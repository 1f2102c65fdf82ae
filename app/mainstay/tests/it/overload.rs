//! A database that hangs, and a server that refuses: what the protections of `resilience` make of them.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::json;
use testkit::CutProxy;

use crate::support::{Answer, Node, get, output, send, text, wait};

/// A node on PostgreSQL behind a proxy that can hold every byte.
fn node_behind(proxy: &CutProxy, folder: &Path, sets: &[&str]) -> Node {
    let postgres = testkit::shared_postgres();
    let url = postgres.fresh_database().replace(&format!(":{}/", postgres.port()), &format!(":{}/", proxy.port()));
    let url = format!("database.url={url}");
    // The plane alone would refuse after two seconds of waiting for a connection.
    let sets = [&[url.as_str(), "database.queue_wait=20s"], sets].concat();
    let args: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    Node::dev(folder, "data", &args)
}

#[allow(clippy::disallowed_methods, reason = "how long a client waits is what is tested")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let out = work();
    (out, began.elapsed())
}

/// A number of `/metrics`.
fn metric(node: &Node, name: &str) -> u64 {
    let metrics = get(&format!("{}/metrics", node.api)).body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("{name} is missing")).parse().unwrap()
}

fn is_shed(answer: &Answer) -> bool {
    answer.status == 503 && answer.json()["code"] == "OVERLOADED"
}

#[test]
fn when_writes_hang_reads_and_files_are_shed_and_the_console_still_gets_in() {
    let proxy = CutProxy::to_port(testkit::shared_postgres().port());
    let folder = tempfile::tempdir().unwrap();
    let node = node_behind(&proxy, folder.path(), &["http.in_flight_limit=48", "http.request_timeout=10s"]);
    let links = format!("{}/v1/links", node.api);
    let create = || send("POST", &links, &[], Some(&json!({ "url": "https://example.com/" })));
    assert_eq!(create().status, 201);

    proxy.stall();
    let answers = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| {
                let answer = create();
                answers.lock().unwrap().push((answer.status, answer.json()["code"].as_str().map(str::to_owned)));
            });
        }
        // Of 40 places beside the reserve of the console, 90% are open to writes.
        wait("writes fill their share", || {
            (metric(&node, "mainstay_api_shed_total{class=\"high\"}") >= 24).then_some(())
        });
        assert!((30..=36).contains(&metric(&node, "mainstay_api_in_flight")));
        let (read, took) = timed(|| get(&links));
        assert!(is_shed(&read) && read.header("retry-after") == "1", "{}", read.body);
        assert!(took < Duration::from_secs(2), "refused at once: {took:?}");
        let file = send("POST", &format!("{}/v1/link-imports", node.api), &[], Some(&json!({})));
        assert!(is_shed(&file) && file.header("retry-after") == "5", "{}", file.body);
        // It may wait for the database itself; it is not refused.
        let console = send("GET", &format!("{}/console", node.api), &[("mainstay-timeout", "500ms")], None);
        assert!(!console.body.contains("OVERLOADED"), "{}", console.body);
        assert_eq!(get(&format!("{}/health/live", node.api)).status, 200);
        wait("the node says so", || {
            let parts = get(&format!("{}/health/ready", node.api)).body;
            parts.contains("requests are refused").then_some(())
        });
        proxy.heal();
    });

    let mut by_outcome = BTreeMap::new();
    for outcome in answers.into_inner().unwrap() {
        *by_outcome.entry(outcome).or_insert(0) += 1;
    }
    let shed = by_outcome.remove(&(503, Some("OVERLOADED".to_owned()))).unwrap_or_default();
    assert!((24..=30).contains(&shed), "{shed} and {by_outcome:?}");
    assert_eq!(metric(&node, "mainstay_api_shed_total{class=\"critical\"}"), 0);
    // And when it is over, everybody is let in again.
    wait("a link is made", || (create().status == 201).then_some(()));
    assert_eq!(get(&links).status, 200);
}

#[test]
fn when_the_database_hangs_visits_of_unknown_links_are_told_so_at_once() {
    let proxy = CutProxy::to_port(testkit::shared_postgres().port());
    let folder = tempfile::tempdir().unwrap();
    let node = node_behind(&proxy, folder.path(), &["shortener.question_timeout=1s"]);
    for alias in ["known", "cold"] {
        let body = json!({ "url": "https://example.com/", "alias": alias });
        assert_eq!(send("POST", &format!("{}/v1/links", node.api), &[], Some(&body)).status, 201);
    }
    let visit = |code: &str| get(&format!("{}/{code}", node.public));
    assert_eq!(visit("known").status, 302);

    proxy.stall();
    std::thread::scope(|scope| {
        for n in 0..12 {
            scope.spawn(move || {
                let (answer, took) = timed(|| visit(&format!("nobody{n}")));
                assert_eq!(answer.status, 503);
                assert!(took < Duration::from_secs(5), "QUESTION-1: {took:?}");
            });
        }
    });
    // The breaker is open: a hundred visits together wait less than one did, a probe now and then apart.
    let ((), took) = timed(|| {
        for n in 0..100 {
            if metric(&node, "mainstay_breaker_redirects_state") == 2 {
                assert_eq!(visit(&format!("nothing{n}")).status, 503);
            }
        }
    });
    let refused = metric(&node, "mainstay_breaker_refused_total{breaker=\"redirects\"}");
    assert!(refused >= 10, "QUESTION-2: {refused} were refused at once, in {took:?}");
    assert!(metric(&node, "mainstay_breaker_opened_total{breaker=\"redirects\"}") >= 1);
    assert_eq!(visit("known").status, 302, "what is in memory needs no database");

    proxy.heal();
    wait("the breaker closes", || (visit("cold").status == 302).then_some(()));
}

/// A server that gives scripted answers and remembers what it was asked: method, path and Idempotency-Key.
struct Script {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// An empty answer is a connection that closes without one.
    fn start(answers: Vec<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut key, mut timeout, mut length) = (String::new(), String::new(), false, 0);
                reader.read_line(&mut line).unwrap();
                let what = line.rsplit_once(' ').unwrap().0.to_owned();
                loop {
                    let mut header = String::new();
                    reader.read_line(&mut header).unwrap();
                    let Some((name, value)) = header.trim().split_once(": ") else { break };
                    match name.to_ascii_lowercase().as_str() {
                        "idempotency-key" => value.clone_into(&mut key),
                        "mainstay-timeout" => timeout = kernel::limits::parse_duration(value).is_some(),
                        "content-length" => length = value.parse().unwrap(),
                        _ => {}
                    }
                }
                reader.take(length).read_to_end(&mut Vec::new()).unwrap();
                assert!(timeout, "the deadline travels");
                seen.lock().unwrap().push(format!("{what} {key}"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { url, asked }
    }
}

const DONE: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
const BUSY: &str =
    "HTTP/1.1 503 x\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 21\r\n\r\n{\"code\":\"OVERLOADED\"}";
const UNKNOWN: &str = "HTTP/1.1 503 x\r\nconnection: close\r\ncontent-length: 26\r\n\r\n{\"code\":\"OUTCOME_UNKNOWN\"}";
const LONG: &str =
    "HTTP/1.1 429 x\r\nconnection: close\r\nretry-after: 3600\r\ncontent-length: 18\r\n\r\n{\"code\":\"LIMITED\"}";
const WRONG: &str = "HTTP/1.1 400 x\r\nconnection: close\r\ncontent-length: 16\r\n\r\n{\"code\":\"WRONG\"}";

#[test]
fn a_command_asks_again_what_is_safe_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let create = ["links", "create", "https://example.com/"];
    let change = ["links", "update", "abc", "--title", "x"];
    let issue = ["keys", "create", "deploy", "--scope", "links:read"];
    for (command, method, answers, asked) in [
        (&["links", "list"][..], "GET", vec![BUSY, "", UNKNOWN, DONE, DONE], 4),
        (&create, "POST", vec![BUSY, UNKNOWN, "", DONE, DONE], 4),
        (&create, "POST", vec![BUSY, BUSY, BUSY, BUSY, DONE], 4),
        (&create, "POST", vec![WRONG, DONE], 1),
        (&create, "POST", vec![LONG, DONE], 1),
        // Without a key, only what was not done is asked for again.
        (&change, "PATCH", vec![BUSY, DONE, DONE], 2),
        (&change, "PATCH", vec![UNKNOWN, DONE], 1),
        (&change, "PATCH", vec!["", DONE], 1),
        (&issue, "POST", vec![UNKNOWN, DONE], 1),
    ] {
        let name = format!("{command:?} {answers:?}");
        let script = Script::start(answers);
        let (out, took) = timed(|| output(folder.path(), &[command, &["--url", &script.url]].concat()));
        let seen = script.asked.lock().unwrap().clone();
        assert_eq!(seen.len(), asked, "{name}: {seen:?} {}", text(&out.stderr));
        assert!(seen.iter().all(|request| *request == seen[0]), "the same key each time: {seen:?}");
        assert!(seen[0].starts_with(method), "{name}: {seen:?}");
        let has_key = seen[0].split(' ').nth(2).is_some_and(|key| !key.is_empty());
        assert_eq!(has_key, command == create, "{name}: {seen:?}");
        let told = seen.len() > 1 && name.contains("retry-after: 1");
        assert!(!told || took >= Duration::from_secs(1), "Retry-After is waited for: {took:?}");
    }
}
