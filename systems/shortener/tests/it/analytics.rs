//! What clicks have in common: by dimension, by visitor, by country.

use std::{net::IpAddr, time::Duration};

use ::http::Method;
use kernel::{ProjectId, Stage, Timestamp};
use serde_json::{Value, json};
use shortener::{
    Analytics, Visit,
    model::{ClickCounts, Dimension, Series, Step},
};

use testkit::mmdb;

use crate::{
    contract::contract,
    http::{as_key, send},
    world::{Engine, Node, START, World, eventually},
};

contract!(
    clicks_are_told_apart_by_every_dimension,
    a_visitor_counts_once_a_day_on_all_nodes,
    a_day_that_is_over_keeps_only_its_number,
    rare_values_are_counted_together,
);

const FOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0";
const PHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1";
const BOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
const DAY: Duration = Duration::from_hours(24);

struct Visitor<'a> {
    agent: &'a str,
    language: &'a str,
    referer: &'a str,
    address: &'a str,
}

const SOMEBODY: Visitor<'static> = Visitor {
    agent: FOX,
    language: "de-CH, en;q=0.5",
    referer: "https://www.example.org/page?x=1",
    address: "192.0.2.1",
};

async fn come(node: &Node, code: &str, visitor: &Visitor<'_>) {
    let path = format!("/{code}");
    let visit = Visit {
        user_agent: Some(visitor.agent.as_bytes()).filter(|a| !a.is_empty()),
        accept_language: Some(visitor.language.as_bytes()).filter(|a| !a.is_empty()),
        referer: Some(visitor.referer.as_bytes()).filter(|a| !a.is_empty()),
        client: visitor.address.parse::<IpAddr>().unwrap(),
        ..Visit::new(&Method::GET, &path)
    };
    assert_eq!(node.redirector.resolve(&visit).await.status(), 302);
}

async fn of_link(node: &Node, code: &str, dimension: Dimension, limit: usize) -> Analytics {
    let range = (START, START.plus(DAY * 30));
    let project = ProjectId::default_project();
    node.shortener.link_analytics(&project, (None, code), range, dimension, limit).await.unwrap()
}

fn values(found: &Analytics) -> Vec<(&str, u64)> {
    found.values.iter().map(|v| (v.value.as_deref().unwrap_or("-"), v.clicks)).collect()
}

async fn clicks_are_told_apart_by_every_dimension(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let (a, b) = (node.shorten("https://example.com/a").await, node.shorten("https://example.com/b").await);
    for _ in 0..3 {
        come(&node, &a, &SOMEBODY).await;
    }
    come(&node, &a, &Visitor { agent: PHONE, referer: "android-app://com.example.app", ..SOMEBODY }).await;
    come(&node, &a, &Visitor { agent: "", language: "", referer: "", ..SOMEBODY }).await;
    come(&node, &a, &Visitor { agent: BOT, ..SOMEBODY }).await;
    node.shortener.flush_clicks().await.unwrap();
    world.sim.advance(DAY * 2);
    come(&node, &a, &SOMEBODY).await;
    come(&node, &b, &Visitor { language: "fr", ..SOMEBODY }).await;
    node.shortener.flush_clicks().await.unwrap();
    for (dimension, expected) in [
        (Dimension::Referrer, vec![("example.org", 4), ("-", 1), ("com.example.app", 1)]),
        (Dimension::Browser, vec![("firefox", 4), ("-", 1), ("safari", 1)]),
        (Dimension::System, vec![("linux", 4), ("-", 1), ("ios", 1)]),
        (Dimension::Device, vec![("desktop", 4), ("-", 1), ("mobile", 1)]),
        (Dimension::Country, vec![("-", 6)]),
        (Dimension::Language, vec![("de", 5), ("-", 1)]),
    ] {
        let found = of_link(&node, &a, dimension, 10).await;
        assert_eq!(values(&found), expected, "{dimension:?}");
        assert_eq!((found.total, found.other), (ClickCounts { people: 6, bots: 1 }, 0));
        let first = of_link(&node, &a, dimension, 1).await;
        assert_eq!((values(&first), first.other), (expected[..1].to_vec(), 6 - expected[0].1));
    }
    let project = ProjectId::default_project();
    let range = (START, START.plus(DAY * 3));
    let all = node.shortener.project_analytics(&project, range, Dimension::Language, 10).await.unwrap();
    assert_eq!(values(&all), [("de", 5), ("-", 1), ("fr", 1)]);
    assert_eq!(all.total, ClickCounts { people: 7, bots: 1 });
    // Days are whole, and what lies outside is not counted.
    let later = (START.plus(DAY + Duration::from_secs(1)), START.plus(DAY * 3));
    let late = node.shortener.link_analytics(&project, (None, &a), later, Dimension::Browser, 10).await.unwrap();
    assert_eq!((values(&late), late.from, late.to), (vec![("firefox", 1)], START.plus(DAY), START.plus(DAY * 3)));
}

async fn visitors(node: &Node, code: &str, days: u32) -> u64 {
    let range = (START, START.plus(DAY * days));
    let project = ProjectId::default_project();
    node.shortener.link_analytics(&project, (None, code), range, Dimension::Browser, 1).await.unwrap().visitors
}

async fn a_visitor_counts_once_a_day_on_all_nodes(engine: Engine) {
    let world = World::new(engine).await;
    let nodes = [world.node().await, world.node().await];
    let code = nodes[0].shorten("https://example.com/").await;
    let addresses: Vec<String> = (1..=20).map(|i| format!("192.0.2.{i}")).collect();
    for round in 0..3 {
        for node in &nodes {
            for address in &addresses {
                come(node, &code, &Visitor { address, ..SOMEBODY }).await;
            }
            if round > 0 {
                node.shortener.flush_clicks().await.unwrap();
            }
        }
    }
    // Few are counted exactly unless two of them fall into one of 2048 places, which the salt decides.
    let twenty = visitors(&nodes[0], &code, 1).await;
    assert!((17..=20).contains(&twenty), "{twenty}");
    // Another browser at the same address is another visitor; the language is not looked at.
    come(&nodes[1], &code, &Visitor { agent: PHONE, address: "192.0.2.1", ..SOMEBODY }).await;
    come(&nodes[1], &code, &Visitor { language: "fr", address: "192.0.2.1", ..SOMEBODY }).await;
    // Programs are no visitors.
    come(&nodes[1], &code, &Visitor { agent: BOT, address: "198.51.100.7", ..SOMEBODY }).await;
    nodes[1].shortener.flush_clicks().await.unwrap();
    let more = visitors(&nodes[0], &code, 1).await;
    assert!((twenty..=twenty + 1).contains(&more), "{more}");
    // The next day has another salt: the same people count anew.
    world.sim.advance(DAY);
    for node in &nodes {
        come(node, &code, &SOMEBODY).await;
        node.shortener.flush_clicks().await.unwrap();
    }
    assert_eq!((visitors(&nodes[0], &code, 1).await, visitors(&nodes[0], &code, 2).await), (more, more + 1));
    let series = Series::new(START, START.plus(DAY * 3), Step::Day).unwrap();
    let project = ProjectId::default_project();
    assert_eq!(nodes[0].shortener.project_visitors(&project, series).await.unwrap(), [more, 1, 0]);
}

async fn number(world: &World, sql: &'static str) -> i64 {
    world.db.get(sql, database::params![]).await.unwrap().unwrap().get(0).unwrap()
}

async fn a_day_that_is_over_keeps_only_its_number(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    for i in 1..=9 {
        come(&node, &code, &Visitor { address: &format!("192.0.2.{i}"), ..SOMEBODY }).await;
    }
    node.shortener.flush_clicks().await.unwrap();
    let nine = visitors(&node, &code, 1).await;
    assert!((7..=9).contains(&nine), "{nine}");
    // In memory over the end of the day: it comes late.
    come(&node, &code, &Visitor { address: "192.0.2.200", ..SOMEBODY }).await;
    let sketches = "SELECT CAST(COUNT(sketch) AS BIGINT) FROM shortener_link_days";
    let today = "SELECT CAST(COUNT(*) AS BIGINT) FROM shortener_click_salts WHERE day = 1795478400000";
    assert_eq!((number(&world, sketches).await, number(&world, today).await), (1, 1));
    world.sim.advance(DAY);
    let late = world.node().await;
    late.shortener.start(&world.lifecycle.tasks(Stage::Systems));
    eventually("the sketch and the salt are gone", || {
        world.sim.advance(Duration::from_mins(1));
        let world = &world;
        async move { number(world, sketches).await == 0 && number(world, today).await == 0 }
    })
    .await;
    assert!(world.clock.now().since(START) < DAY + Duration::from_hours(1), "soon after the day");
    node.shortener.flush_clicks().await.unwrap();
    let found = of_link(&node, &code, Dimension::Language, 1).await;
    // A click that comes late is counted; whether its visitor came before cannot be known any more.
    assert_eq!((found.total.people, found.visitors, values(&found)), (10, nine, vec![("de", 10)]));
    assert_eq!(number(&world, sketches).await, 0);
}

async fn rare_values_are_counted_together(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    for round in 0..3 {
        for i in 0..150 {
            let host = if round == 0 { i } else { i + 100 };
            let referer = format!("https://h{host}.example/");
            come(&node, &code, &Visitor { referer: &referer, ..SOMEBODY }).await;
        }
        node.shortener.flush_clicks().await.unwrap();
    }
    let found = of_link(&node, &code, Dimension::Referrer, 500).await;
    assert_eq!(found.values.len(), 200);
    assert_eq!(found.values.iter().map(|v| v.clicks).sum::<u64>() + found.other, 450, "none is lost");
    // Those that came most are all there.
    assert_eq!(found.values.iter().filter(|v| v.clicks == 3).count(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn countries_come_from_a_file_that_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("countries.mmdb");
    let path = file.to_str().unwrap().to_owned();
    let world = World::with(Engine::Sqlite, |c| c.geo_database = path).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    node.shortener.start(&world.lifecycle.tasks(Stage::Systems));
    let look = async |what: &str, outcome: &str, count: u64| {
        eventually(what, || {
            world.sim.advance(Duration::from_secs(1));
            let seen = node.metric(&format!("country_files_total{{outcome=\"{outcome}\"}}"));
            async move { seen >= count }
        })
        .await;
    };
    look("a missing file is noticed", "refused", 1).await;
    come(&node, &code, &Visitor { address: "192.0.2.77", ..SOMEBODY }).await;

    std::fs::write(&file, mmdb::countries(&[("192.0.2.0", 24, "CH"), ("2001:db8::", 32, "SE")])).unwrap();
    look("the file is read", "read", 1).await;
    for address in ["192.0.2.1", "192.0.2.2", "2001:db8::9", "198.51.100.1", "2001:db9::9"] {
        come(&node, &code, &Visitor { address, ..SOMEBODY }).await;
    }
    // A damaged one is refused, and the old one stays.
    let refused = node.metric("country_files_total{outcome=\"refused\"}");
    let mut damaged = mmdb::countries(&[("192.0.2.0", 24, "FR")]);
    damaged.truncate(damaged.len() / 2);
    std::fs::write(&file, damaged).unwrap();
    look("the damaged file is refused", "refused", refused + 1).await;
    come(&node, &code, &Visitor { address: "192.0.2.3", ..SOMEBODY }).await;
    // One that is whole takes its place.
    std::fs::write(&file, mmdb::countries(&[("192.0.2.0", 24, "FR"), ("198.51.100.0", 25, "IT")])).unwrap();
    look("the new file is read", "read", 2).await;
    come(&node, &code, &Visitor { address: "192.0.2.4", ..SOMEBODY }).await;
    come(&node, &code, &Visitor { address: "198.51.100.1", ..SOMEBODY }).await;

    node.shortener.flush_clicks().await.unwrap();
    let found = of_link(&node, &code, Dimension::Country, 10).await;
    assert_eq!(values(&found), [("-", 3), ("CH", 3), ("FR", 1), ("IT", 1), ("SE", 1)]);
}

#[tokio::test]
async fn a_range_is_bounded() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let project = ProjectId::default_project();
    for (from, to, fine) in [
        (START, START.plus(DAY * 1500), true),
        (START, START.plus(DAY * 1501), false),
        (START, START, false),
        (Timestamp::from_millis(i64::MIN), Timestamp::from_millis(i64::MAX), false),
    ] {
        let found = node.shortener.project_analytics(&project, (from, to), Dimension::Browser, 10).await;
        assert_eq!(found.is_ok(), fine, "{from:?} to {to:?}");
    }
}

#[tokio::test]
async fn the_api_answers_by_dimension() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    for address in ["192.0.2.1", "192.0.2.1", "192.0.2.2"] {
        come(&node, &code, &Visitor { address, ..SOMEBODY }).await;
    }
    come(&node, &code, &Visitor { referer: "", ..SOMEBODY }).await;
    come(&node, &code, &Visitor { agent: BOT, ..SOMEBODY }).await;
    node.shortener.flush_clicks().await.unwrap();
    let two = visitors(&node, &code, 1).await;
    assert!((1..=2).contains(&two), "{two}");
    let app = as_key(&node, "default", &["links:read"]);
    let get = async |path: &str| send(&app, Method::GET, path, &[], None).await;
    let path = format!("/v1/links/{code}/analytics");
    let found = get(&format!("{path}?limit=1&to=2026-11-24T05:00:00Z")).await;
    let expected = json!({
        "from": "2026-10-25T00:00:00Z", "to": "2026-11-25T00:00:00Z", "click_count": 4, "bot_count": 1, "visitor_count": two,
        "dimension": "referrer", "values": [{ "value": "example.org", "click_count": 3 }], "other_click_count": 1,
    });
    assert_eq!((found.status, found.json), (200, expected));
    let all = get("/v1/link-analytics?dimension=referrer").await;
    assert_eq!(all.json["values"][1], json!({ "value": null, "click_count": 1 }));

    let days =
        get(&format!("/v1/links/{code}/clicks?step=day&from=2026-11-23T00:00:00Z&to=2026-11-25T00:00:00Z")).await;
    let expected = json!([
        { "at": "2026-11-23T00:00:00Z", "click_count": 0, "bot_count": 0, "visitor_count": 0 },
        { "at": "2026-11-24T00:00:00Z", "click_count": 4, "bot_count": 1, "visitor_count": two },
    ]);
    assert_eq!(days.json["points"], expected);
    let hours = get(&format!("/v1/links/{code}/clicks?from=2026-11-24T00:00:00Z&to=2026-11-24T01:00:00Z")).await;
    assert_eq!(hours.json["points"][0], json!({ "at": "2026-11-24T00:00:00Z", "click_count": 4, "bot_count": 1 }));

    for (query, status, name) in [
        ("?dimension=shoe_size", 400, "INVALID_QUERY"),
        ("?limit=0", 400, "INVALID_QUERY"),
        ("?limit=201", 400, "INVALID_QUERY"),
        ("?form=2026-11-24T00:00:00Z", 400, "INVALID_QUERY"),
        ("?from=yesterday", 400, "INVALID_QUERY"),
        ("?from=2026-11-24T00:00:00Z&to=2026-11-24T00:00:00Z", 400, "SHORTENER_RANGE_INVALID"),
        ("?from=2020-01-01T00:00:00Z", 400, "SHORTENER_RANGE_INVALID"),
    ] {
        for path in [path.as_str(), "/v1/link-analytics"] {
            let refused = get(&format!("{path}{query}")).await;
            assert_eq!((refused.status, refused.json["code"].as_str()), (status, Some(name)), "{path}{query}");
        }
    }
    let missing = get("/v1/links/nowhere/analytics").await;
    assert_eq!((missing.status, missing.json["code"].as_str()), (404, Some("SHORTENER_LINK_UNKNOWN")));
    let stranger = as_key(&node, "other", &["links:read"]);
    assert_eq!(send(&stranger, Method::GET, &path, &[], None).await.status, 404);
    let theirs = send(&stranger, Method::GET, "/v1/link-analytics", &[], None).await;
    assert_eq!((theirs.json["click_count"].as_u64(), &theirs.json["values"]), (Some(0), &Value::Array(vec![])));
    let nobody = as_key(&node, "default", &["flags:read"]);
    assert_eq!(send(&nobody, Method::GET, "/v1/link-analytics", &[], None).await.status, 403);
}
