//! The limiter's console pages in a real browser.

use fantoccini::Locator;
use serde_json::{Value, json};

use crate::{
    browser::{Browser, look_at},
    support::{Node, send},
};

fn rules(limit: u64) -> Value {
    json!([
        {
            "name": "per-user", "description": "What one user may ask for in a week", "keys": [{ "key": "user" }],
            "limit": { "algorithm": "sliding_log", "limit": limit, "window": "7d" },
        },
        {
            "name": "searches-of-a-plan", "keys": [{ "key": "plan", "value": "free" }, { "key": "route", "value": "/api/search/*" }],
            "limit": { "algorithm": "token_bucket", "limit": 1, "period": "7d" }, "mode": "shadow",
        },
    ])
}

/// Puts rules with the form that is open.
async fn put(browser: &Browser, rules: &Value, message: &str) {
    let form = browser.client.form(Locator::Css("form.form[action$='/edit']")).await.unwrap();
    form.set_by_name("rules", &rules.to_string()).await.unwrap();
    form.set_by_name("message", message).await.unwrap();
    form.submit().await.unwrap();
}

fn allowed(node: &Node, user: &str) -> usize {
    let descriptor = json!({ "entries": { "user": user, "plan": "free", "route": "/api/search/books" } });
    let body = json!({ "domain": "shop", "descriptors": [descriptor] });
    let check = || send("POST", &format!("{}/v1/limits/check", node.api), &[], Some(&body)).json();
    (0..9).filter(|_| check()["is_allowed"] == true).count()
}

#[tokio::test]
async fn rules_are_written_compared_and_rolled_back_with_the_console() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    let browser = Browser::start().await;
    let at = |path: &str| format!("{}{path}", node.api);

    // From the overview to the form of a domain that is new.
    browser.open(&at("/console/limits")).await;
    let form = browser.client.form(Locator::Css("form[action='/console/limit-domains']")).await.unwrap();
    form.set_by_name("domain", "shop").await.unwrap();
    form.submit().await.unwrap();
    browser.wait_for("textarea[name=rules]").await;
    let mut wrong = rules(5);
    wrong[0]["limit"]["window"] = json!("0s");
    put(&browser, &wrong, "begin").await;
    browser.wait_for("[role=alert]").await;
    assert!(browser.text().await.contains("/rules/0/limit/window"), "{}", browser.text().await);
    // Chromium writes down that the page came with a 422.
    browser.forget_complaints().await;
    put(&browser, &rules(5), "begin").await;
    browser.wait_for(".flash.ok").await;
    assert_eq!(allowed(&node, "ann"), 5);

    browser.open(&at("/console/limits/shop/edit")).await;
    put(&browser, &rules(2), "less for each").await;
    browser.wait_for("a[href='/console/limits/shop/versions/2']").await;
    assert_eq!(allowed(&node, "bob"), 2);

    // What version 1 was, and back to it.
    browser.open(&at("/console/limits/shop/versions/1")).await;
    let text = browser.text().await;
    assert!(text.contains("\"limit\": 5") && text.contains("\"limit\": 2"), "{text}");
    browser.open(&at("/console/limits/shop")).await;
    browser.wait_for("form[action$='/rollback'] button").await.click().await.unwrap();
    browser.wait_for("a[href='/console/limits/shop/versions/3']").await;
    assert_eq!(allowed(&node, "cid"), 5);
    browser.no_complaints("limits").await;

    // Who was refused is on the overview; a version that differs has its lines.
    let pages = [
        ("limits", "/console/limits"),
        ("limit-domain", "/console/limits/shop"),
        ("limit-rules-edit", "/console/limits/shop/edit"),
        ("limit-version", "/console/limits/shop/versions/2"),
    ];
    look_at(&browser, &node.api, &pages, &["light", "dark"], &[(1280, "wide"), (360, "narrow")]).await;
    browser.open(&at("/console/limits")).await;
    assert!(browser.text().await.contains("user=ann"));
    browser.close().await;
}
