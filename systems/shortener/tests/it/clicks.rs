//! Clicks: what was sent is what is charted.

use std::time::Duration;

use ::http::Method;
use kernel::{ProjectId, Stage, Timestamp};
use shortener::model::{ClickCounts, Series, Step};

use crate::{
    contract::contract,
    world::{Engine, Node, START, World, eventually, principal},
};

contract!(
    what_was_sent_is_what_is_charted,
    nodes_add_to_the_same_rollups,
    clicks_of_a_deleted_link_stay_in_the_project,
    old_minutes_go_and_hours_stay,
    the_background_writes_and_shutdown_loses_nothing,
    what_a_dead_node_logged_is_counted_by_another,
    nodes_that_adopt_at_once_count_once,
    a_roll_that_stops_in_the_middle_goes_on_from_there,
    a_node_that_stalled_counts_once,
    the_last_click_is_the_last_click,
    raw_clicks_go_and_counts_stay,
    what_cannot_be_read_is_left_out_or_left_alone,
);

const PERSON: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0";
const BOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

async fn follow(node: &Node, code: &str, agent: &'static str, count: u64) {
    for _ in 0..count {
        assert_eq!(node.visit_as(Method::GET, &format!("/{code}"), agent).await.status, 302);
    }
}

fn sum(points: &[shortener::model::ClickPoint]) -> ClickCounts {
    let mut all = ClickCounts::default();
    for point in points {
        all += point.counts;
    }
    all
}

fn counts(people: u64, bots: u64) -> ClickCounts {
    ClickCounts { people, bots }
}

async fn what_was_sent_is_what_is_charted(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let (a, b) = (node.shorten("https://example.com/a").await, node.shorten("https://example.com/b").await);
    follow(&node, &a, PERSON, 3).await;
    follow(&node, &a, BOT, 2).await;
    node.visit_as(Method::HEAD, &format!("/{a}"), PERSON).await;
    node.visit("/nowhere").await;
    world.sim.advance(Duration::from_mins(1));
    follow(&node, &a, PERSON, 4).await;
    follow(&node, &b, PERSON, 1).await;
    node.shortener.flush_clicks().await.unwrap();
    world.sim.advance(Duration::from_hours(25));
    follow(&node, &a, PERSON, 5).await;
    node.shortener.flush_clicks().await.unwrap();
    // Nothing new: nothing changes.
    node.shortener.flush_clicks().await.unwrap();

    let project = ProjectId::default_project();
    let until = START.plus(Duration::from_hours(48));
    let two_hours = Series::new(START, START.plus(Duration::from_hours(2)), Step::Minute).unwrap();
    let minutes = node.shortener.clicks(&project, &a, two_hours).await.unwrap();
    assert_eq!(minutes.len(), 120);
    assert_eq!((minutes[0].counts, minutes[1].counts, minutes[2].counts), (counts(3, 2), counts(4, 0), counts(0, 0)));
    for (step, of_a, of_project) in
        [(Step::Hour, counts(12, 2), counts(13, 2)), (Step::Day, counts(12, 2), counts(13, 2))]
    {
        let series = Series::new(START, until, step).unwrap();
        assert_eq!(sum(&node.shortener.clicks(&project, &a, series).await.unwrap()), of_a);
        assert_eq!(sum(&node.shortener.project_clicks(&project, series).await.unwrap()), of_project);
    }
    let seen = node.shortener.get(&project, &a).await.unwrap();
    assert_eq!(seen.total, counts(12, 2));
    assert_eq!(seen.last_click_at, Some(START.plus(Duration::from_mins(1)).plus(Duration::from_hours(25))));
    let totals = node.shortener.totals(&project).await.unwrap();
    assert_eq!(totals.clicks, counts(13, 2));
    assert_eq!(node.metric("clicks_total{outcome=\"recorded\"}"), 15);
    assert_eq!(node.metric("clicks_total{outcome=\"logged\"}"), 15);
    assert_eq!(node.metric("clicks_total{outcome=\"rolled\"}"), 15);
    assert_eq!(node.shortener.pending_clicks(), 0);
}

async fn nodes_add_to_the_same_rollups(engine: Engine) {
    let world = World::new(engine).await;
    let nodes = [world.node().await, world.node().await, world.node().await];
    let codes = [nodes[0].shorten("https://example.com/").await, nodes[1].shorten("https://example.com/").await];
    for round in 0..5 {
        for node in &nodes {
            follow(node, &codes[0], PERSON, 1 + round).await;
            follow(node, &codes[1], PERSON, 2).await;
        }
        let flushed = futures_util::future::join_all(nodes.iter().map(|n| n.shortener.flush_clicks())).await;
        assert!(flushed.iter().all(Result::is_ok), "{flushed:?}");
    }
    let project = ProjectId::default_project();
    assert_eq!(nodes[0].shortener.get(&project, &codes[0]).await.unwrap().total, counts(45, 0));
    assert_eq!(nodes[0].shortener.get(&project, &codes[1]).await.unwrap().total, counts(30, 0));
    assert_eq!(nodes[0].shortener.totals(&project).await.unwrap().clicks, counts(75, 0));
}

async fn clicks_of_a_deleted_link_stay_in_the_project(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    follow(&node, &code, PERSON, 3).await;
    node.shortener.delete(&principal("default"), None, &code, None).await.unwrap();
    node.shortener.flush_clicks().await.unwrap();
    assert_eq!(node.shortener.totals(&ProjectId::default_project()).await.unwrap().clicks, counts(3, 0));
}

async fn old_minutes_go_and_hours_stay(engine: Engine) {
    let world = World::with(engine, |c| c.minutes_kept = Duration::from_hours(2)).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    let tasks = world.lifecycle.tasks(Stage::Systems);
    for _ in 0..3 {
        follow(&node, &code, PERSON, 2).await;
        world.sim.advance(Duration::from_mins(1));
    }
    node.shortener.flush_clicks().await.unwrap();
    node.shortener.start(&tasks);
    world.sim.advance(Duration::from_hours(2));
    follow(&node, &code, PERSON, 1).await;
    let project = ProjectId::default_project();
    let series = |step| Series::new(START, START.plus(Duration::from_hours(4)), step).unwrap();
    eventually("old minutes are gone", || {
        world.sim.advance(Duration::from_secs(10));
        async { sum(&node.shortener.clicks(&project, &code, series(Step::Minute)).await.unwrap()).people <= 1 }
    })
    .await;
    node.shortener.flush_clicks().await.unwrap();
    assert_eq!(sum(&node.shortener.clicks(&project, &code, series(Step::Hour)).await.unwrap()), counts(7, 0));
    assert_eq!(node.shortener.get(&project, &code).await.unwrap().total, counts(7, 0));
}

async fn the_background_writes_and_shutdown_loses_nothing(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    node.shortener.start(&world.lifecycle.tasks(Stage::Systems));
    let code = node.shorten("https://example.com/").await;
    follow(&node, &code, PERSON, 5).await;
    let project = ProjectId::default_project();
    eventually("written within the interval", || {
        world.sim.advance(Duration::from_millis(50));
        async { node.shortener.get(&project, &code).await.unwrap().total == counts(5, 0) }
    })
    .await;
    assert!(world.clock.now() <= START.plus(Duration::from_secs(5)), "{}", world.clock.now());
    follow(&node, &code, PERSON, 4).await;
    // The planes close last, so a second handle on the database cannot be used afterwards: read what was written from the counter.
    let report = world.lifecycle.shutdown(Duration::from_secs(10)).await;
    assert_eq!(report.aborted, Vec::<&str>::new());
    assert_eq!(node.metric("clicks_total{outcome=\"rolled\"}"), 9);
}

async fn total(node: &Node, code: &str) -> u64 {
    node.shortener.get(&ProjectId::default_project(), code).await.unwrap().total.people
}

async fn what_a_dead_node_logged_is_counted_by_another(engine: Engine) {
    let world = World::new(engine).await;
    let (one, two) = (world.node().await, world.node().await);
    let code = one.shorten("https://example.com/").await;
    follow(&one, &code, PERSON, 5).await;
    one.shortener.log_clicks().await.unwrap();
    // Never in the log: this is what a crash loses.
    follow(&one, &code, PERSON, 2).await;
    drop(one);
    two.shortener.flush_clicks().await.unwrap();
    assert_eq!(total(&two, &code).await, 0, "its node may live");
    world.sim.advance(Duration::from_secs(61));
    two.shortener.flush_clicks().await.unwrap();
    assert_eq!(total(&two, &code).await, 5);
    assert_eq!(two.metric("click_segments_total{outcome=\"adopted\"}"), 1);
    two.shortener.flush_clicks().await.unwrap();
    assert_eq!(total(&two, &code).await, 5);
}

async fn nodes_that_adopt_at_once_count_once(engine: Engine) {
    let world = World::new(engine).await;
    let dead = world.node().await;
    let code = dead.shorten("https://example.com/").await;
    for _ in 0..150 {
        follow(&dead, &code, PERSON, 1).await;
        dead.shortener.log_clicks().await.unwrap();
    }
    world.sim.advance(Duration::from_secs(61));
    let mut nodes = vec![dead];
    for _ in 0..3 {
        nodes.push(world.node().await);
    }
    let flushed = futures_util::future::join_all(nodes.iter().map(|n| n.shortener.flush_clicks())).await;
    assert!(flushed.iter().all(Result::is_ok), "{flushed:?}");
    assert_eq!(total(&nodes[0], &code).await, 150);
    let rolled: u64 = nodes.iter().map(|n| n.metric("clicks_total{outcome=\"rolled\"}")).sum();
    assert_eq!(rolled, 150);
}

/// Rolling goes on link by link: whoever finds a part of it done adds the rest, and nothing twice.
async fn a_roll_that_stops_in_the_middle_goes_on_from_there(engine: Engine) {
    const LINKS: u64 = 60;
    let world = World::new(engine).await;
    let nodes = [world.node().await, world.node().await];
    let mut codes = Vec::new();
    for _ in 0..LINKS {
        codes.push(nodes[0].shorten("https://example.com/").await);
    }
    let mut sent = 0;
    for stop_after in 0..4 {
        let (stops, goes_on) = (&nodes[stop_after % 2], &nodes[(stop_after + 1) % 2]);
        for code in &codes {
            follow(stops, code, PERSON, 1).await;
        }
        sent += 1;
        stops.shortener.log_clicks().await.unwrap();
        let stop_at = stops.metric("click_roll_parts_total") + stop_after as u64;
        let stopped = async {
            while stops.metric("click_roll_parts_total") < stop_at {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = stopped => {}
            rolled = stops.shortener.flush_clicks() => rolled.unwrap(),
        }
        // More clicks on some of the same links, in a segment of which nothing is in the rollups.
        follow(goes_on, &codes[3], PERSON, 2).await;
        world.sim.advance(Duration::from_secs(61));
        goes_on.shortener.flush_clicks().await.unwrap();
        for (number, code) in codes.iter().enumerate() {
            let expected = if number == 3 { sent * 3 } else { sent };
            assert_eq!(total(goes_on, code).await, expected, "link {number} after stopping at part {stop_after}");
        }
        let all = nodes[0].shortener.totals(&ProjectId::default_project()).await.unwrap().clicks;
        assert_eq!(all, counts(sent * (LINKS + 2), 0), "after stopping at part {stop_after}");
    }
}

async fn a_node_that_stalled_counts_once(engine: Engine) {
    let world = World::new(engine).await;
    let (stalled, other) = (world.node().await, world.node().await);
    let code = stalled.shorten("https://example.com/").await;
    for round in 1..=3 {
        follow(&stalled, &code, PERSON, 5).await;
        stalled.shortener.log_clicks().await.unwrap();
        world.sim.advance(Duration::from_secs(90));
        follow(&stalled, &code, PERSON, 1).await;
        // Others took its segment over; it comes back and goes on.
        other.shortener.flush_clicks().await.unwrap();
        assert_eq!(total(&other, &code).await, round * 6 - 1);
        stalled.shortener.flush_clicks().await.unwrap();
        assert_eq!(total(&other, &code).await, round * 6);
    }
}

async fn the_last_click_is_the_last_click(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    world.sim.advance(Duration::from_millis(30_123));
    let code = node.shorten("https://example.com/").await;
    follow(&node, &code, PERSON, 1).await;
    world.sim.advance(Duration::from_millis(1_456));
    follow(&node, &code, BOT, 1).await;
    node.shortener.flush_clicks().await.unwrap();
    let at = START.plus(Duration::from_millis(31_579));
    let link = node.shortener.get(&ProjectId::default_project(), &code).await.unwrap();
    assert_eq!(link.last_click_at, Some(at));
    assert!(link.link.created_at <= at);
    assert_eq!(node.shortener.totals(&ProjectId::default_project()).await.unwrap().last_click_at, Some(at));
}

async fn raw_clicks(world: &World) -> i64 {
    let sql = "SELECT CAST(COALESCE(SUM(clicks), 0) AS BIGINT) FROM shortener_click_log";
    world.db.get(sql, database::params![]).await.unwrap().unwrap().get(0).unwrap()
}

async fn raw_clicks_go_and_counts_stay(engine: Engine) {
    let world = World::with(engine, |c| c.raw_clicks_kept = Duration::from_hours(1)).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    for _ in 0..3 {
        follow(&node, &code, PERSON, 2).await;
        node.shortener.flush_clicks().await.unwrap();
    }
    follow(&node, &code, PERSON, 1).await;
    node.shortener.log_clicks().await.unwrap();
    // Of a node with a newer version, which alone can count it.
    let newer = "INSERT INTO shortener_click_log (writer, seq, at, format, clicks, rolled, data) \
                 VALUES ('newer', 0, $1, 99, 1000, FALSE, $2)";
    world.db.exec(newer, database::params![START, vec![99_u8]]).await.unwrap();
    assert_eq!(raw_clicks(&world).await, 1007);
    node.shortener.start(&world.lifecycle.tasks(Stage::Systems));
    eventually("old segments are gone", || {
        world.sim.advance(Duration::from_mins(2));
        let world = &world;
        async move { raw_clicks(world).await == 1000 }
    })
    .await;
    assert_eq!(total(&node, &code).await, 7, "none went before it was counted");
}

async fn what_cannot_be_read_is_left_out_or_left_alone(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    follow(&node, &code, PERSON, 4).await;
    node.shortener.log_clicks().await.unwrap();
    let put = "INSERT INTO shortener_click_log (writer, seq, at, format, clicks, rolled, data) VALUES ($1, 0, 0, $2, 9, FALSE, $3)";
    // Damaged, and of a newer version of this program.
    world.db.exec(put, database::params!["a", 1, vec![1_u8, 2, 3]]).await.unwrap();
    world.db.exec(put, database::params!["b", 99, vec![99_u8]]).await.unwrap();
    node.shortener.flush_clicks().await.unwrap();
    assert_eq!(total(&node, &code).await, 4);
    assert_eq!(node.metric("click_segments_total{outcome=\"damaged\"}"), 1);
    let waiting = "SELECT writer FROM shortener_click_log WHERE NOT rolled";
    let rows = world.db.query(waiting, database::params![]).await.unwrap();
    assert_eq!(rows.iter().map(|r| r.get::<String>(0).unwrap()).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_still_redirects() {
    let world = World::with(Engine::Sqlite, |c| c.click_queue = 2).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    follow(&node, &code, PERSON, 100).await;
    let (recorded, dropped) =
        (node.metric("clicks_total{outcome=\"recorded\"}"), node.metric("clicks_total{outcome=\"dropped\"}"));
    assert_eq!((recorded, dropped), (32, 68), "16 parts of 2");
    node.shortener.flush_clicks().await.unwrap();
    assert_eq!(node.shortener.get(&ProjectId::default_project(), &code).await.unwrap().total, counts(32, 0));
    // There is room again.
    follow(&node, &code, PERSON, 3).await;
    node.shortener.flush_clicks().await.unwrap();
    assert_eq!(node.shortener.get(&ProjectId::default_project(), &code).await.unwrap().total, counts(35, 0));
}

#[tokio::test]
async fn memory_is_bounded_while_the_database_is_away() {
    let world = World::with(Engine::Sqlite, |c| c.click_memory = kernel::ByteSize(100)).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    follow(&node, &code, PERSON, 3).await;
    world.db.close().await;
    for _ in 0..20 {
        assert!(node.shortener.flush_clicks().await.is_err());
        follow(&node, &code, PERSON, 10).await;
    }
    let (recorded, dropped) =
        (node.metric("clicks_total{outcome=\"recorded\"}"), node.metric("clicks_total{outcome=\"dropped\"}"));
    assert!((13..=23).contains(&recorded), "{recorded} fit in 100 bytes and one queue");
    assert_eq!(recorded + dropped, 203, "offered = recorded + dropped");
    assert_eq!(node.shortener.pending_clicks(), recorded, "recorded = logged + in memory");
}

#[tokio::test]
async fn a_database_that_is_away_loses_no_click_and_no_redirect() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    follow(&node, &code, PERSON, 2).await;
    world.db.close().await;
    assert!(node.shortener.flush_clicks().await.is_err());
    follow(&node, &code, PERSON, 1).await;
    assert!(node.shortener.flush_clicks().await.is_err());
    assert_eq!(node.shortener.pending_clicks(), 3);
    assert_eq!(node.metric("click_append_failures_total"), 2);
}

#[test]
fn a_series_of_the_console_fits() {
    let day = Series::new(Timestamp::EPOCH, Timestamp::EPOCH.plus(Duration::from_hours(24)), Step::Minute).unwrap();
    assert_eq!(day.point_count(), 1440);
}
