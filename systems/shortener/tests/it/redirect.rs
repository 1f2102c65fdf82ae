//! What visitors get.

use std::time::Duration;

use ::http::{Method, header};
use shortener::{NewLink, Visit};

use crate::{
    contract::contract,
    world::{Engine, START, World, link},
};

#[tokio::test]
async fn every_visit_has_its_answer() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    node.alias("here", "https://example.com/a?b=c#d").await.unwrap();
    let ends = NewLink {
        alias: Some("ends".to_owned()),
        expires_at: Some(START.plus(Duration::from_mins(1))),
        ..link("https://example.com/")
    };
    node.create(ends).await.unwrap();
    node.alias("gone", "https://example.com/").await.unwrap();
    node.shortener.delete(&crate::world::principal("default"), None, "gone", None).await.unwrap();
    assert_eq!(node.status("ends").await, 302, "before its end");
    world.sim.advance(Duration::from_mins(1));

    for (method, path, status, text) in [
        (Method::GET, "/here", 302, ""),
        (Method::HEAD, "/here", 302, ""),
        (Method::GET, "/ends", 410, "has expired"),
        (Method::HEAD, "/ends", 410, ""),
        (Method::GET, "/gone", 404, "no such link"),
        (Method::GET, "/nowhere", 404, "no such link"),
        (Method::HEAD, "/nowhere", 404, ""),
        (Method::GET, "/HERE", 404, "no such link"),
        (Method::GET, "/", 200, "place of short links"),
        (Method::GET, "/favicon.ico", 404, ""),
        (Method::GET, "/here/", 404, "no such link"),
        (Method::GET, "/a%20b", 404, "no such link"),
        (Method::GET, "/../here", 404, "no such link"),
        (Method::POST, "/here", 405, "only be followed"),
        (Method::DELETE, "/here", 405, "only be followed"),
        (Method::OPTIONS, "/nowhere", 405, "only be followed"),
    ] {
        // Twice: from the database and from memory.
        for _ in 0..2 {
            let got = node.visit_as(method.clone(), path, "curl/8").await;
            assert_eq!(got.status, status, "{method} {path}");
            assert!(got.body.contains(text), "{method} {path}: {}", got.body);
            if method == Method::HEAD || status == 302 {
                assert_eq!(got.body, "", "{method} {path}");
            }
            assert_eq!(got.location(), (status == 302).then_some("https://example.com/a?b=c#d"), "{method} {path}");
            assert!(got.headers.contains_key(header::CACHE_CONTROL));
            if path == "/favicon.ico" {
                assert_eq!(got.headers[header::CACHE_CONTROL], "public, max-age=86400");
            } else if status != 302 {
                assert_eq!(got.headers[header::CACHE_CONTROL], "no-store");
                assert!(
                    got.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'")
                );
                let length: usize = got.headers[header::CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
                assert!(length > 100 && (method == Method::HEAD || length == got.body.len()));
            }
            assert_eq!(got.headers.contains_key(header::ALLOW), status == 405);
        }
    }
}

#[tokio::test]
async fn memory_answers_without_waiting_once_it_knows() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let path = format!("/{}", node.shorten("https://example.com/").await);
    let visit = Visit::new(&Method::GET, &path);
    assert!(node.redirector.try_cached(&visit).is_none());
    assert_eq!(node.redirector.ask(&visit).await.status(), 302);
    assert_eq!(node.metric("cache_lookups_total{outcome=\"miss\"}"), 1, "one visit is one lookup");
    assert_eq!(
        node.redirector.try_cached(&visit).unwrap().into_response().headers()[header::LOCATION],
        "https://example.com/"
    );
    // As long as its age allows, and not an instant longer.
    world.sim.advance(world.config.cache_max_age.saturating_sub(Duration::from_millis(1)));
    assert!(node.redirector.try_cached(&visit).is_some());
    world.sim.advance(Duration::from_millis(1));
    assert!(node.redirector.try_cached(&visit).is_none());
}

#[tokio::test]
async fn an_unknown_code_is_remembered_briefly_and_forgotten_when_it_is_made() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let visit = Visit::new(&Method::GET, "/soon");
    assert_eq!(node.redirector.resolve(&visit).await.status(), 404);
    assert_eq!(node.redirector.try_cached(&visit).unwrap().status(), 404);
    world.sim.advance(world.config.cache_unknown_age);
    assert!(node.redirector.try_cached(&visit).is_none());
    assert_eq!(node.status("soon").await, 404);
    node.alias("soon", "https://example.com/").await.unwrap();
    assert_eq!(node.status("soon").await, 302);
}

#[tokio::test]
async fn a_database_that_is_away_is_said_and_known_links_go_on() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let (known, other) = (node.shorten("https://example.com/").await, node.shorten("https://example.com/").await);
    assert_eq!(node.status(&known).await, 302);
    world.db.close().await;
    assert_eq!(node.status(&known).await, 302);
    let got = node.visit(&format!("/{other}")).await;
    assert_eq!(got.status, 503);
    assert_eq!(got.headers[header::RETRY_AFTER], "1");
    assert_eq!(node.metric("redirects_total{outcome=\"unavailable\"}"), 1);
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let world = World::with(Engine::Sqlite, |c| c.cache_entries = 50).await;
    let node = world.node().await;
    for i in 0..500 {
        node.status(&format!("unknown-{i}")).await;
    }
    let held = node.shortener.cached_links();
    assert!((1..=50).contains(&held), "{held}");
}

contract!(visits_at_once_share_one_question);

async fn visits_at_once_share_one_question(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let path = format!("/{}", node.shorten("https://example.com/").await);
    let visit = Visit { user_agent: Some(b"curl/8"), ..Visit::new(&Method::GET, &path) };
    let answers = futures_util::future::join_all((0..100).map(|_| node.redirector.resolve(&visit))).await;
    assert!(answers.iter().all(|a| a.status() == 302));
    assert_eq!(node.metric("questions_total"), 1, "the database was asked once");
    assert_eq!(node.metric("clicks_total{outcome=\"recorded\"}"), 100);
}
