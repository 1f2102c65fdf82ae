//! The gateway's console pages in a real browser, and its commands.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    thread,
};

use fantoccini::Locator;
use serde_json::{Value, json};

use crate::{
    browser::{Browser, look_at},
    support::{Node, get, output, text},
};

/// A back end that answers everything with its name.
fn back_end(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

fn document(a: SocketAddr, b: SocketAddr, weight: u32) -> Value {
    json!({
        "upstreams": [
            { "name": "shop", "endpoints": [{ "address": a.to_string() }, { "address": b.to_string() }],
              "breaker": { "failure_percent": 50 } },
            { "name": "shop-next", "endpoints": [{ "address": b.to_string() }] },
        ],
        "policies": [{ "name": "office", "addresses": { "allow": ["127.0.0.0/8"] } }],
        "routes": [
            { "name": "cart", "description": "What people are about to buy", "match": { "path": { "pattern": "/cart/{id}" } },
              "forward": { "to": [{ "upstream": "shop", "weight": weight }, { "upstream": "shop-next", "weight": 100 - weight }] } },
            { "name": "admin", "match": { "hosts": ["admin.example.com"], "path": { "prefix": "/admin" } }, "policies": ["office"],
              "forward": { "to": [{ "upstream": "shop" }] } },
            { "name": "hello", "match": { "path": { "exact": "/hello" } }, "respond": { "body": "hello" } },
            { "name": "links", "service": "links" },
        ],
    })
}

/// Puts a document with the form that is open.
async fn put(browser: &Browser, document: &Value, message: &str) {
    let form = browser.client.form(Locator::Css("form.form[action$='/edit']")).await.unwrap();
    form.set_by_name("document", &document.to_string()).await.unwrap();
    form.set_by_name("message", message).await.unwrap();
    form.submit().await.unwrap();
}

#[tokio::test]
async fn a_document_is_put_explained_drained_and_rolled_back_with_the_console() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    let (a, b) = (back_end("a"), back_end("b"));
    let browser = Browser::start().await;
    let at = |path: &str| format!("{}{path}", node.api);

    browser.open(&at("/console/gateway")).await;
    assert!(browser.text().await.contains("links"), "{}", browser.text().await);
    browser.open(&at("/console/gateway-config/edit")).await;
    let mut wrong = document(a, b, 90);
    wrong["routes"][0]["forward"]["to"][0]["upstream"] = json!("shops");
    put(&browser, &wrong, "begin").await;
    browser.wait_for("[role=alert]").await;
    assert!(browser.text().await.contains("/routes/0/forward/to/0/upstream"), "{}", browser.text().await);
    // Chromium writes down that the page came with a 422.
    browser.forget_complaints().await;
    put(&browser, &document(a, b, 90), "begin").await;
    browser.wait_for(".flash.ok").await;

    // It is what the public listener does.
    assert_eq!(get(&format!("{}/hello", node.public)).body, "hello");
    for _ in 0..20 {
        let body = get(&format!("{}/cart/7", node.public)).body;
        assert!(body == "a" || body == "b", "{body}");
    }

    browser.open(&at("/console/gateway-config/edit")).await;
    put(&browser, &document(a, b, 50), "half of it").await;
    browser.wait_for("a[href='/console/gateway-config/versions/2']").await;
    browser.open(&at("/console/gateway-config/versions/1")).await;
    let shown = browser.text().await;
    assert!(shown.contains("\"weight\": 90") && shown.contains("\"weight\": 50"), "{shown}");
    browser.open(&at("/console/gateway-config")).await;
    browser.wait_for("form[action$='/rollback'] button").await.click().await.unwrap();
    browser.wait_for("a[href='/console/gateway-config/versions/3']").await;

    // An endpoint is drained: everything goes to the other.
    browser.open(&at("/console/gateway-upstreams/shop")).await;
    browser.wait_for("form[action$='/drain'] button").await.click().await.unwrap();
    browser.wait_for(".flash.ok").await;
    assert!(browser.text().await.contains("draining"), "{}", browser.text().await);
    for _ in 0..20 {
        assert_eq!(get(&format!("{}/cart/7", node.public)).body, "b");
    }

    browser.open(&at("/console/gateway-explain?method=GET&url=http://admin.example.com//admin/x&headers=")).await;
    let shown = browser.text().await;
    assert!(shown.contains("admin") && shown.contains("office (addresses)") && shown.contains("/admin/x"), "{shown}");
    browser.no_complaints("gateway").await;

    let pages = [
        ("gateway", "/console/gateway"),
        ("gateway-upstream", "/console/gateway-upstreams/shop"),
        ("gateway-explain", "/console/gateway-explain?method=GET&url=http://admin.example.com//admin/x&headers="),
        ("gateway-config", "/console/gateway-config"),
        ("gateway-config-edit", "/console/gateway-config/edit"),
        ("gateway-version", "/console/gateway-config/versions/2"),
    ];
    look_at(&browser, &node.api, &pages, &["light", "dark"], &[(1280, "wide"), (360, "narrow")]).await;
    browser.close().await;
}

#[test]
fn the_gateway_is_driven_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    let (a, b) = (back_end("a"), back_end("b"));
    let file = folder.path().join("gateway.json");
    let run = |args: &[&str]| {
        let all = [&["gateway", "--url", &node.api], args].concat();
        let output = output(folder.path(), &all);
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let mut wrong = document(a, b, 90);
    wrong["routes"][0]["retry"] = json!({ "attempts": 11 });
    fs::write(&file, wrong.to_string()).unwrap();
    let (code, out, _) = run(&["check", "gateway.json"]);
    assert_eq!((code, out.trim()), (Some(3), "error: routes[0].retry.attempts: must be 1 to 10"));

    fs::write(&file, document(a, b, 90).to_string()).unwrap();
    let (code, out, error) = run(&["check", "--server", "gateway.json"]);
    assert!(code == Some(0) && out.contains("routes: cart comes"), "{out}{error}");
    assert_eq!(run(&["apply", "gateway.json", "-m", "begin", "--if-version", "7"]).0, Some(1));
    assert_eq!(run(&["apply", "gateway.json", "-m", "begin"]).0, Some(0));
    fs::write(&file, document(a, b, 50).to_string()).unwrap();
    assert_eq!(run(&["apply", "gateway.json", "--if-version", "1"]).0, Some(0));
    let (_, out, _) = run(&["diff", "1"]);
    assert!(
        out.contains("routes: cart changes") && out.contains("-           \"weight\": 90")
            || out.contains("\"weight\": 90"),
        "{out}"
    );
    assert_eq!(run(&["rollback", "1", "-m", "too much"]).0, Some(0));
    let (_, out, _) = run(&["versions"]);
    assert!(out.contains("back to 1 too much"), "{out}");
    let (_, out, _) = run(&["get"]);
    assert!(out.contains("\"weight\": 90"), "{out}");

    let (code, out, _) = run(&["explain", "GET", "http://admin.example.com/admin"]);
    assert!(code == Some(0) && out.starts_with("route admin, for host admin.example.com and path /admin"), "{out}");
    assert!(out.contains("policy: office (addresses)"), "{out}");
    let (_, out, _) = run(&["routes"]);
    assert!(out.contains("cart") && out.contains("/cart/{id}"), "{out}");
    let a = a.to_string();
    assert_eq!(run(&["drain", "shop", &a]).0, Some(0));
    let (_, out, _) = run(&["upstreams"]);
    assert!(out.lines().any(|line| line.contains(&a) && line.contains("draining")), "{out}");
    assert_eq!(run(&["undrain", "shop", &a]).0, Some(0));
    let (_, out, _) = run(&["upstreams"]);
    assert!(!out.contains("draining"), "{out}");
    node.stop();
}
