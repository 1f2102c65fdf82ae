//! The tour's visit to the URL shortener.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Tour, server::Server};
use crate::commands::client::{Answer, segment};

/// How long rollups may lag behind clicks.
const ROLLUP_PATIENCE: Duration = Duration::from_secs(10);

fn create(server: &Server, body: &Value) -> Result<Answer, String> {
    server.api.send("POST", "/v1/links", &[], Some(body))
}

fn follow(server: &Server, code: &str) -> Result<Answer, String> {
    server.public.send("GET", &format!("/{code}"), &[("user-agent", "Mozilla/5.0 (tour)")], None)
}

fn code_of(answer: &Answer) -> String {
    answer.json()["code"].as_str().unwrap_or_default().to_owned()
}

/// Create, follow, look up, delete.
pub(super) fn basics(tour: &mut Tour, server: &Server) -> Result<(), String> {
    let url = "https://www.rust-lang.org/learn?from=tour";
    let created = create(server, &json!({ "url": url }))?;
    let code = code_of(&created);
    tour.expect("POST /v1/links", &created, 201, &format!("→ {}", created.json()["short_url"].as_str().unwrap_or("?")));
    let hop = follow(server, &code)?;
    let seen = format!("{} → {}", hop.status, hop.header("location"));
    tour.saw(&format!("GET :public/{code}"), &seen, hop.status == 302 && hop.header("location") == url);

    let alias = create(server, &json!({ "url": "https://example.com/", "alias": "hello-tour" }))?;
    tour.expect("POST /v1/links with alias hello-tour", &alias, 201, "");
    tour.expect("GET :public/hello-tour", &follow(server, "hello-tour")?, 302, "");
    let found = server.api.send("GET", "/v1/links/hello-tour", &[], None)?;
    tour.expect("GET /v1/links/hello-tour", &found, 200, "");
    let etag = found.header("etag").to_owned();
    let again = server.api.send("GET", "/v1/links/hello-tour", &[("if-none-match", &etag)], None)?;
    tour.expect("GET the same, If-None-Match", &again, 304, "");

    let gone = server.api.send("DELETE", "/v1/links/hello-tour", &[], None)?;
    tour.expect("DELETE /v1/links/hello-tour", &gone, 204, "");
    tour.expect(
        "GET :public/hello-tour",
        &follow(server, "hello-tour")?,
        404,
        "no longer served from the cache either",
    );
    Ok(())
}

/// Each bad input has its own code.
pub(super) fn refusals(tour: &mut Tour, server: &Server) -> Result<(), String> {
    let taken = json!({ "url": "https://example.com/", "alias": "taken-tour" });
    create(server, &taken)?;
    for (what, body, status) in [
        ("an alias that is taken", taken, 409),
        ("a URL that is none", json!({ "url": "not a url" }), 422),
        ("a javascript: URL", json!({ "url": "javascript:alert(1)" }), 422),
        ("no URL", json!({}), 400),
    ] {
        tour.expect(&format!("POST /v1/links, {what}"), &create(server, &body)?, status, "");
    }
    tour.expect("GET :public/nowhere (unknown)", &follow(server, "nowhere0")?, 404, "");

    let soon = kernel::Timestamp::from_millis(tour.clock.now().as_millis() + 700).to_string();
    let link = create(server, &json!({ "url": "https://example.com/soon", "expires_at": soon }))?;
    let code = code_of(&link);
    tour.expect("GET :public link that expires in 0.7 s", &follow(server, &code)?, 302, "");
    let gone = tour.wait(Duration::from_secs(5), || follow(server, &code).ok().filter(|a| a.status != 302));
    tour.saw(
        "GET the same after its time (expired, not unknown)",
        &gone.as_ref().map_or_else(|| "still 302".to_owned(), |a| a.status.to_string()),
        gone.is_some_and(|a| a.status == 410),
    );

    let body = json!({ "url": "https://example.com/once" });
    let key = [("idempotency-key", "tour-0001")];
    let first = server.api.send("POST", "/v1/links", &key, Some(&body))?;
    let second = server.api.send("POST", "/v1/links", &key, Some(&body))?;
    let same = code_of(&first) == code_of(&second) && second.status == 201;
    tour.saw("POST twice with one Idempotency-Key", &format!("{} and {}", code_of(&first), code_of(&second)), same);
    let other = server.api.send("POST", "/v1/links", &key, Some(&json!({ "url": "https://example.com/other" })))?;
    tour.expect("POST another body with that key", &other, 422, "");
    Ok(())
}

/// Every click that was answered arrives in the rollups.
pub(super) fn clicks(tour: &mut Tour, server: &Server) -> Result<(), String> {
    const CLICKS: u64 = 250;
    let link = create(server, &json!({ "url": "https://example.com/counted" }))?;
    let code = code_of(&link);
    for _ in 0..CLICKS {
        follow(server, &code)?;
    }
    let mut seen = 0;
    let counted = tour.wait(ROLLUP_PATIENCE, || {
        seen = click_count(server, &code)?;
        (seen >= CLICKS).then_some(seen)
    });
    tour.saw(
        &format!("{CLICKS} × GET :public/{code}"),
        &format!("{seen} clicks in the rollups"),
        counted == Some(CLICKS),
    );
    Ok(())
}

fn click_count(server: &Server, code: &str) -> Option<u64> {
    let path = format!("/v1/links/{}/clicks?step=minute", segment(code));
    let series = server.api.call("GET", &path, None).ok()?;
    series["points"].as_array().map(|points| points.iter().filter_map(|p| p["click_count"].as_u64()).sum())
}

/// The list, page by page, and a cursor that was tampered with.
pub(super) fn pages(tour: &mut Tour, server: &Server) -> Result<(), String> {
    let (mut count, mut pages, mut path) = (0, 0, "/v1/links?limit=2".to_owned());
    let mut last = String::new();
    loop {
        let page = server.api.call("GET", &path, None)?;
        count += page["items"].as_array().map_or(0, Vec::len);
        pages += 1;
        let Some(next) = page["next_cursor"].as_str() else { break };
        next.clone_into(&mut last);
        path = format!("/v1/links?limit=2&cursor={}", segment(next));
    }
    tour.saw("GET /v1/links?limit=2, every page", &format!("{count} links on {pages} pages"), count >= 5);
    let forged: String = last.chars().rev().collect();
    let answer = server.api.send("GET", &format!("/v1/links?limit=2&cursor={}", segment(&forged)), &[], None)?;
    tour.expect("GET /v1/links with a forged cursor", &answer, 400, "");
    Ok(())
}
