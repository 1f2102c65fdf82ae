//! Three nodes over one PostgreSQL and one Redis, while parts fail.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::json;

use crate::support::{Node, agent, clicks, get, send, try_send, wait};

fn three(folder: &Path, postgres: &str, redis: &str) -> Vec<Node> {
    let sets = [format!("database.url={postgres}"), format!("memory.url={redis}")];
    let args: Vec<&str> = sets.iter().flat_map(|s| ["--set", s.as_str()]).collect();
    ["n1", "n2", "n3"].iter().map(|name| Node::dev(folder, name, &args)).collect()
}

fn create(api: &str, url: &str) -> Option<String> {
    let answer = try_send(&agent(), "POST", &format!("{api}/v1/links"), &[], Some(&json!({ "url": url }))).ok()?;
    (answer.status == 201).then(|| answer.json()["code"].as_str().unwrap().to_owned())
}

#[test]
fn one_of_three_nodes_dies_under_load_and_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = testkit::shared_postgres().fresh_database();
    let redis = testkit::Redis::start();
    let mut nodes = three(folder.path(), &postgres, &redis.url());
    let apis: Vec<String> = nodes.iter().map(|n| n.api.clone()).collect();
    let publics: Vec<String> = nodes.iter().map(|n| n.public.clone()).collect();
    let acknowledged = Mutex::new(Vec::<(String, String)>::new());
    let (dead, stop, after) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));

    std::thread::scope(|scope| {
        for writer in 0..6_usize {
            let (apis, publics, acknowledged, dead, stop, after) =
                (&apis, &publics, &acknowledged, &dead, &stop, &after);
            scope.spawn(move || {
                let mut at = writer;
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let was_dead = dead.load(Ordering::SeqCst);
                    let url = format!("https://example.com/{writer}/{n}");
                    // What a load balancer does: the next node when this one does not answer.
                    let Some(code) = create(&apis[at % 3], &url) else {
                        at += 1;
                        continue;
                    };
                    at += 1;
                    let public = &publics[at % 3];
                    if let Ok(hop) = try_send(&agent(), "GET", &format!("{public}/{code}"), &[], None) {
                        assert_eq!(
                            (hop.status, hop.header("location")),
                            (302, url.as_str()),
                            "made on one node, followed on another"
                        );
                    }
                    acknowledged.lock().unwrap().push((code, url));
                    if was_dead {
                        after.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        wait("work under way", || (acknowledged.lock().unwrap().len() > 200).then_some(()));
        nodes.remove(0).kill_9();
        dead.store(true, Ordering::SeqCst);
        wait("work goes on without the dead node", || (after.load(Ordering::Relaxed) > 200).then_some(()));
        stop.store(true, Ordering::Relaxed);
    });

    let acknowledged = acknowledged.into_inner().unwrap();
    let mut codes: Vec<_> = acknowledged.iter().map(|(code, _)| code).collect();
    codes.sort();
    codes.dedup();
    assert_eq!(codes.len(), acknowledged.len(), "no code was given twice");
    for (n, (code, url)) in acknowledged.iter().enumerate() {
        let hop = get(&format!("{}/{code}", publics[1 + n % 2]));
        assert_eq!((hop.status, hop.header("location")), (302, url.as_str()));
    }
    for node in nodes {
        node.stop();
    }
}

#[test]
fn without_redis_the_nodes_serve_on_and_say_that_they_are_degraded() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = testkit::shared_postgres().fresh_database();
    let mut redis = testkit::Redis::start();
    let nodes = three(folder.path(), &postgres, &redis.url());
    let ready = |n: &Node| get(&format!("{}/health/ready", n.api));
    let state = |answer: &crate::support::Answer| answer.json()["status"].as_str().unwrap().to_owned();
    assert_eq!(state(&ready(&nodes[0])), "serving");
    let code = create(&nodes[0].api, "https://example.com/before").unwrap();
    assert_eq!(get(&format!("{}/{code}", nodes[1].public)).status, 302);

    redis.stop();
    for node in &nodes {
        wait("the loss of Redis is told", || (state(&ready(node)) == "degraded").then_some(()));
        assert_eq!(ready(node).status, 200, "a lost optional dependency does not remove the node");
    }
    // Redirects and creations go on.
    assert_eq!(get(&format!("{}/{code}", nodes[2].public)).status, 302);
    let during = create(&nodes[1].api, "https://example.com/during").unwrap();
    assert_eq!(get(&format!("{}/{during}", nodes[0].public)).status, 302);
    // A deletion reaches the other nodes within the declared bound, without Redis to announce it.
    assert_eq!(send("DELETE", &format!("{}/v1/links/{code}", nodes[0].api), &[], None).status, 204);
    for node in &nodes {
        wait("the deleted link is gone everywhere", || {
            (get(&format!("{}/{code}", node.public)).status == 404).then_some(())
        });
    }

    redis.restart();
    for node in &nodes {
        wait("Redis is back", || (state(&ready(node)) == "serving").then_some(()));
    }
}

#[test]
fn clicks_of_three_nodes_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = testkit::shared_postgres().fresh_database();
    let redis = testkit::Redis::start();
    let nodes = three(folder.path(), &postgres, &redis.url());
    let code = create(&nodes[0].api, "https://example.com/").unwrap();
    for n in 0..90 {
        let hop = send("GET", &format!("{}/{code}", nodes[n % 3].public), &[("user-agent", "Mozilla/5.0")], None);
        assert_eq!(hop.status, 302);
    }
    wait("every click of every node is counted", || {
        let seen = clicks(&nodes[2].api, &code);
        assert!(seen <= 90, "a click was counted twice: {seen}");
        (seen == 90).then_some(())
    });
}
