use std::time::Duration;

use kernel::{Clock, Lifecycle, Rng, Stage, Timestamp};
use serde_json::{Value, json};
use telemetry::{Condition, Health, State};

fn health() -> (Health, Clock, kernel::SimClock) {
    let (clock, sim) = Clock::simulated(Timestamp::parse("2026-11-24T06:00:00Z").unwrap());
    (Health::new(clock.clone(), "1.2.3"), clock, sim)
}

fn ready(health: &Health) -> (u16, Value) {
    let reply = health.ready();
    assert_eq!(reply.content_type, "application/json");
    (reply.status, serde_json::from_str(&reply.body).unwrap())
}

#[test]
fn each_state_makes_the_node_what_design_says() {
    use Condition::{Degraded, Serving, Stopped};
    let why = || "gone".to_owned();
    // required part, optional part → status, document's status
    for (database, cache, status, shown) in [
        (Serving, Serving, 200, "serving"),
        (Serving, Degraded(why()), 200, "degraded"),
        (Serving, Stopped(why()), 200, "degraded"),
        (Degraded(why()), Serving, 200, "degraded"),
        (Stopped(why()), Serving, 503, "stopped"),
        (Stopped(why()), Stopped(why()), 503, "stopped"),
    ] {
        let (health, _, _) = health();
        health.register("database", true).set(database.clone());
        health.register("memory", false).set(cache.clone());
        let (code, body) = ready(&health);
        assert_eq!((code, body["status"].as_str().unwrap()), (status, shown), "{database:?} {cache:?}");
        assert_eq!(health.is_ready(), status == 200);
        assert_eq!(health.live().status, 200, "a lost part is no reason to restart the process");
    }
}

#[test]
fn a_part_that_has_not_reported_keeps_the_node_unready() {
    let (health, _, _) = health();
    assert!(health.is_ready(), "without parts there is nothing to wait for");
    let check = health.register("database", true);
    assert_eq!(ready(&health).0, 503);
    assert_eq!(ready(&health).1["systems"]["database"]["reason"], "starting");
    check.serving();
    assert_eq!(ready(&health).0, 200);
}

#[test]
fn draining_is_unready_first_and_for_good() {
    let (health, _, _) = health();
    let check = health.register("database", true);
    check.serving();
    health.drain();
    check.serving();
    let (code, body) = ready(&health);
    assert_eq!((code, body["status"].as_str().unwrap()), (503, "draining"));
    assert_eq!(health.live().status, 200);
    assert!(health.is_draining());
}

#[test]
fn the_documents_say_what_since_when_and_why() {
    let (health, _, sim) = health();
    let database = health.register("database", true);
    health.register("memory", false).serving();
    database.serving();
    sim.advance(Duration::from_secs(90));
    database.degraded("slow");
    sim.advance(Duration::from_secs(5));
    database.degraded("very slow");
    assert_eq!(
        ready(&health).1,
        json!({
            "status": "degraded",
            "ready": true,
            "systems": {
                "database": {
                    "status": "degraded", "required": true, "reason": "very slow", "since": "2026-11-24T06:01:30Z"
                },
                "memory": { "status": "serving", "required": false, "since": "2026-11-24T06:00:00Z" },
            },
        })
    );
    let live: Value = serde_json::from_str(&health.live().body).unwrap();
    assert_eq!(live, json!({ "status": "live", "version": "1.2.3", "uptime_seconds": 95 }));
}

#[tokio::test]
async fn a_probe_asks_again_and_takes_silence_for_stopped() {
    let (health, clock, sim) = health();
    let lifecycle = Lifecycle::new(clock, Rng::seeded(1));
    let (answers, asked) = tokio::sync::watch::channel(Some(Condition::Serving));
    let every = (Duration::from_secs(5), Duration::from_secs(1));
    health.probe(&lifecycle.tasks(Stage::Telemetry), "memory", true, every, move || {
        let asked = asked.clone();
        async move {
            let answer = asked.borrow().clone();
            match answer {
                Some(condition) => condition,
                None => std::future::pending().await,
            }
        }
    });
    let state = async |wanted: State| {
        while health.parts()[0].state != wanted {
            sim.advance(Duration::from_millis(100));
            tokio::task::yield_now().await;
        }
    };
    state(State::Serving).await;
    answers.send(None).unwrap();
    state(State::Stopped).await;
    assert_eq!(health.parts()[0].reason.as_deref(), Some("does not answer"));
    answers.send(Some(Condition::Degraded("one replica".to_owned()))).unwrap();
    state(State::Degraded).await;
    assert_eq!(lifecycle.shutdown(Duration::from_secs(1)).await.aborted, Vec::<&str>::new());
}
