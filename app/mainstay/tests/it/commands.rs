//! What can be typed: configuration, first start, keys, the tour, moving to PostgreSQL.

use serde_json::json;

use crate::support::{Node, clicks, get, output, send, text, wait};

#[test]
fn check_config_shows_values_with_their_origin_and_never_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mainstay.toml"), "[api]\nlisten = \"127.0.0.1:9\"\n").unwrap();
    let out = crate::support::mainstay(folder.path())
        .args(["check-config", "--set", "database.pool_size=7"])
        .env("MAINSTAY_DATABASE_URL", "postgres://u:hunter2@127.0.0.1/x")
        .output()
        .unwrap();
    let shown = text(&out.stdout);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let line = |key: &str| shown.lines().find(|l| l.split_whitespace().next() == Some(key)).unwrap().to_owned();
    assert!(line("api.listen").contains("127.0.0.1:9") && line("api.listen").contains("mainstay.toml"));
    assert!(line("database.pool_size").contains("--set"));
    assert!(line("database.url").contains("MAINSTAY_DATABASE_URL"));
    assert!(line("public.listen").contains("default"));
    assert!(!shown.contains("hunter2"), "a secret was printed");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name() {
    let folder = tempfile::tempdir().unwrap();
    for (set, wanted) in [("api.listn=127.0.0.1:1", "api.listen"), ("databse.url=x", "database.url")] {
        let out = output(folder.path(), &["check-config", "--set", set]);
        assert!(!out.status.success());
        assert!(text(&out.stderr).contains(wanted), "{}", text(&out.stderr));
    }
}

#[test]
fn dev_refuses_to_listen_beyond_loopback() {
    let folder = tempfile::tempdir().unwrap();
    for option in ["api.listen", "public.listen"] {
        let out = output(folder.path(), &["serve", "--dev", "--set", &format!("{option}=0.0.0.0:0")]);
        assert!(!out.status.success());
        assert!(text(&out.stderr).contains("loopback") && text(&out.stderr).contains(option), "{}", text(&out.stderr));
    }
}

#[test]
fn a_taken_port_names_the_option() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let set = format!("api.listen={}", taken.local_addr().unwrap());
    let out = output(folder.path(), &["serve", "--dev", "--set", &set]);
    assert!(!out.status.success());
    assert!(text(&out.stderr).contains("--set api.listen"), "{}", text(&out.stderr));
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Node::dev(folder.path(), "data", &[]);
    let args =
        ["serve", "--dev", "--data", "data", "--set", "api.listen=127.0.0.1:0", "--set", "public.listen=127.0.0.1:0"];
    let out = output(folder.path(), &args);
    assert!(!out.status.success());
    assert!(text(&out.stderr).contains("data"), "{}", text(&out.stderr));
}

#[test]
fn the_first_start_prints_an_admin_key_once_and_it_opens_everything() {
    let folder = tempfile::tempdir().unwrap();
    let first = Node::start(folder.path(), "data", &[]);
    let log = first.log();
    let key = log.split_whitespace().find(|w| w.starts_with("msk_")).expect("the key is printed").to_owned();
    let links = format!("{}/v1/links", first.api);
    assert_eq!(get(&links).status, 401);
    let bearer = format!("Bearer {key}");
    assert_eq!(send("GET", &links, &[("authorization", &bearer)], None).status, 200);

    // A key with one scope does only that.
    let out = output(
        folder.path(),
        &["keys", "create", "reader", "--scope", "links:read", "--url", &first.api, "--key", &key],
    );
    assert!(out.status.success(), "{}", text(&out.stderr));
    let reader = format!("Bearer {}", text(&out.stdout).trim());
    assert_eq!(send("GET", &links, &[("authorization", &reader)], None).status, 200);
    let body = json!({ "url": "https://example.com/" });
    assert_eq!(send("POST", &links, &[("authorization", &reader)], Some(&body)).status, 403);

    // Rotated, both secrets work for the overlap; revoked, neither does, and the list says so.
    let run = |args: &[&str]| {
        let out = output(folder.path(), &[&["keys"], args, &["--url", &first.api, "--key", &key]].concat());
        assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
        text(&out.stdout)
    };
    let keys: serde_json::Value = serde_json::from_str(&run(&["list", "--json"])).unwrap();
    let id = keys.as_array().unwrap().iter().find(|k| k["name"] == "reader").unwrap()["id"].as_str().unwrap();
    let rotated = format!("Bearer {}", run(&["rotate", id, "--overlap-seconds", "600"]).trim());
    assert_ne!(rotated, reader);
    for bearer in [&reader, &rotated] {
        assert_eq!(send("GET", &links, &[("authorization", bearer)], None).status, 200);
    }
    run(&["revoke", id]);
    for bearer in [&reader, &rotated] {
        assert_eq!(send("GET", &links, &[("authorization", bearer)], None).status, 401);
    }
    assert!(run(&["list"]).lines().any(|l| l.contains("reader") && l.contains("revoked")));
    first.stop();

    let second = Node::start(folder.path(), "data", &[]);
    assert_eq!(second.log().matches("msk_").count(), 1, "printed once, at the first start");
    let links = format!("{}/v1/links", second.api);
    assert_eq!(send("GET", &links, &[("authorization", &bearer)], None).status, 200);
}

#[test]
fn the_tour_holds() {
    let folder = tempfile::tempdir().unwrap();
    let out = output(folder.path(), &["tour"]);
    assert!(out.status.success(), "{}\n{}", text(&out.stdout), text(&out.stderr));
    assert!(text(&out.stderr).contains("checks hold"));
    // Without package lists the tour of a user leaves real URLs out; the test does not.
    assert!(
        text(&out.stdout).contains("by a Zipf draw"),
        "no package lists: run apt-get update (cargo xtask setup does)"
    );
}

#[test]
fn a_whole_installation_moves_to_postgres_with_one_command() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    for n in 0..50 {
        let body = json!({ "url": format!("https://example.com/{n}"), "alias": format!("moved-{n}") });
        assert_eq!(send("POST", &format!("{}/v1/links", node.api), &[], Some(&body)).status, 201);
    }
    assert_eq!(get(&format!("{}/moved-7", node.public)).status, 302);
    wait("the click is in the rollups", || (clicks(&node.api, "moved-7") == 1).then_some(()));
    node.stop();

    let url = testkit::shared_postgres().fresh_database();
    let out = output(folder.path(), &["migrate", "--data", "data", "--to", &url]);
    assert!(out.status.success(), "{}\n{}", text(&out.stdout), text(&out.stderr));

    let moved = Node::dev(folder.path(), "elsewhere", &["--set", &format!("database.url={url}")]);
    for n in 0..50 {
        assert_eq!(get(&format!("{}/moved-{n}", moved.public)).header("location"), format!("https://example.com/{n}"));
    }
    assert!(clicks(&moved.api, "moved-7") >= 1, "the count came along");
    // A second move onto data that is already there is refused rather than mixed.
    let again = output(folder.path(), &["migrate", "--data", "data", "--to", &url]);
    assert!(!again.status.success());
}
