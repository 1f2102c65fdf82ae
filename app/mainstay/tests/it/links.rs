//! Short links from the command line, and imports that outlive their server.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use crate::support::{Node, clicks, get, output, text, wait};

fn run(folder: &Path, node: &Node, args: &[&str]) -> String {
    let out = output(folder, &[args, &["--url", &node.api]].concat());
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    text(&out.stdout)
}

fn refused(folder: &Path, node: &Node, args: &[&str]) -> String {
    let out = output(folder, &[args, &["--url", &node.api]].concat());
    assert!(!out.status.success(), "{args:?}");
    text(&out.stderr)
}

#[test]
fn links_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    let run = |args: &[&str]| run(folder.path(), &node, &[&["links"], args].concat());
    let refused = |args: &[&str]| refused(folder.path(), &node, &[&["links"], args].concat());
    let short =
        run(&["create", "https://example.com/cli", "--alias", "from-cli", "--tag", "one", "--utm-source", "cli"]);
    assert!(short.trim().ends_with("/from-cli"), "{short}");
    assert!(run(&["list", "--tag", "one"]).contains("https://example.com/cli"));
    assert!(!run(&["list", "--status", "expired"]).contains("https://example.com/cli"));
    let link: Value = serde_json::from_str(&run(&["get", "from-cli", "--json"])).unwrap();
    assert_eq!((link["url"].as_str(), link["utm"]["source"].as_str()), (Some("https://example.com/cli"), Some("cli")));
    assert_eq!(get(&format!("{}/from-cli", node.public)).status, 302);

    assert!(run(&["stats", "from-cli", "--by", "browser"]).contains("CLICKS"));
    assert!(run(&["qr", "from-cli"]).contains("<svg"));
    run(&["qr", "from-cli", "--format", "png", "--to", "code.png"]);
    assert!(std::fs::read(folder.path().join("code.png")).unwrap().starts_with(b"\x89PNG"));

    // Only steps with clicks, not the hundreds around them.
    wait("the click is in the rollups", || (clicks(&node.api, "from-cli") == 1).then_some(()));
    assert_eq!(run(&["clicks", "from-cli", "--step", "minute"]).lines().count(), 2);
    run(&["create", "https://example.com/", "--alias", "quiet"]);
    let quiet = output(folder.path(), &["links", "clicks", "quiet", "--url", &node.api]);
    assert!(quiet.stdout.is_empty() && text(&quiet.stderr).contains("no clicks"), "{}", text(&quiet.stderr));

    let changed = run(&[
        "update",
        "from-cli",
        "--to",
        "https://example.com/new",
        "--title",
        "New",
        "--expires-at",
        "2090-01-01T00:00:00Z",
    ]);
    assert!(changed.contains("https://example.com/new") && changed.contains("2090"), "{changed}");
    assert!(run(&["history", "from-cli"]).contains("https://example.com/cli → https://example.com/new"));
    assert!(
        refused(&["update", "from-cli", "--title", "x", "--if-match", "\"v99\""]).contains("SHORTENER_LINK_CHANGED")
    );
    assert!(refused(&["update", "from-cli"]).contains("nothing to change"));
    run(&["update", "from-cli", "--disable", "--expires-at", "none"]);
    let link: Value = serde_json::from_str(&run(&["get", "from-cli", "--json"])).unwrap();
    assert_eq!((link["status"].as_str(), &link["expires_at"]), (Some("disabled"), &Value::Null));
    run(&["delete", "from-cli"]);
    assert!(refused(&["get", "from-cli"]).contains("SHORTENER_LINK_UNKNOWN"));
}

#[test]
fn domains_and_templates_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    let run = |args: &[&str]| run(folder.path(), &node, args);
    run(&["domains", "add", "go.example.com", "--ignore-case", "--root-url", "https://example.com/"]);
    assert!(run(&["domains", "list"]).contains("go.example.com"));
    assert!(run(&["domains", "update", "go.example.com", "--root-url", "none"]).contains("false"));
    run(&["utm-templates", "set", "mail", "--source", "newsletter"]);
    assert!(run(&["utm-templates", "list"]).contains("newsletter"));
    run(&[
        "links",
        "create",
        "https://example.com/",
        "--alias",
        "Sale",
        "--domain",
        "go.example.com",
        "--utm-template",
        "mail",
    ]);
    let link: Value =
        serde_json::from_str(&run(&["links", "get", "sale", "--domain", "go.example.com", "--json"])).unwrap();
    assert_eq!(link["utm"]["source"], "newsletter");
    assert!(
        refused(folder.path(), &node, &["domains", "remove", "go.example.com"]).contains("SHORTENER_DOMAIN_IN_USE")
    );
    run(&["links", "delete", "sale", "--domain", "go.example.com"]);
    run(&["domains", "remove", "go.example.com"]);
    run(&["utm-templates", "remove", "mail"]);
}

#[test]
fn files_in_and_out_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    let file = folder.path().join("links.csv");
    std::fs::write(&file, "url,code\nhttps://example.com/1,one\nnonsense,two\nhttps://example.com/3,three\n").unwrap();
    let out = output(folder.path(), &["links", "import", "links.csv", "--url", &node.api]);
    assert_eq!(out.status.code(), Some(1), "a row was left out");
    let (shown, said) = (text(&out.stdout), text(&out.stderr));
    assert!(shown.contains("two") && shown.contains("SHORTENER_INVALID_URL"), "{shown}");
    assert!(said.contains("2 of 3 rows imported, 1 left out"), "{said}");

    run(folder.path(), &node, &["links", "export", "--to", "out.csv"]);
    let csv = std::fs::read_to_string(folder.path().join("out.csv")).unwrap();
    assert!(csv.starts_with("code,domain,url") && csv.lines().count() == 3, "{csv}");
    assert_eq!(run(folder.path(), &node, &["links", "export", "--format", "jsonl", "--code", "th"]).lines().count(), 1);
    let again = refused(folder.path(), &node, &["links", "export", "--to", "out.csv"]);
    assert!(again.contains("out.csv"), "{again}");

    let elsewhere = Node::dev(folder.path(), "elsewhere", &[]);
    run(folder.path(), &elsewhere, &["links", "import", "out.csv"]);
    assert_eq!(get(&format!("{}/three", elsewhere.public)).header("location"), "https://example.com/3");
    assert!(run(folder.path(), &elsewhere, &["links", "imports"]).contains("finished"));
    let wrong = refused(folder.path(), &elsewhere, &["links", "import", "out.csv", "--format", "shlink-csv"]);
    assert!(wrong.contains("SHORTENER_IMPORT_INVALID") && wrong.contains("longUrl"), "{wrong}");
}

/// IMPORTS-3, with a real `kill -9`.
#[test]
fn an_import_outlives_its_server() {
    const ROWS: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    for database in [None, Some(testkit::shared_postgres().fresh_database())] {
        let name = if database.is_some() { "postgres" } else { "sqlite" };
        let set = database.map(|url| format!("database.url={url}"));
        let set: Vec<&str> = set.iter().flat_map(|s| ["--set", s.as_str()]).collect();
        let rows: Vec<_> = (0..ROWS).map(|i| format!("https://example.com/{i},n{i},2")).collect();
        let file = format!("url,code,click_count\n{}\n", rows.join("\n"));
        std::fs::write(folder.path().join("many.csv"), file).unwrap();
        let node = Node::dev(folder.path(), name, &set);
        let id = run(folder.path(), &node, &["links", "import", "many.csv", "--no-wait"]).trim().to_owned();
        let done = |node: &Node| {
            let import = get(&format!("{}/v1/link-imports/{id}", node.api)).json();
            import["created_count"].as_u64().unwrap()
        };
        let before = wait("the import is on its way", || Some(done(&node)).filter(|n| *n >= 1000));
        assert!(before < ROWS as u64, "it was over before it could be killed");
        node.kill_9();

        let node = Node::dev(folder.path(), name, &set);
        let import = wait("the import goes on and ends", || {
            Some(get(&format!("{}/v1/link-imports/{id}", node.api)).json()).filter(|i| i["state"] == "finished")
        });
        assert_eq!(
            (import["created_count"].as_u64(), import["failed_count"].as_u64()),
            (Some(ROWS as u64), Some(0)),
            "{name}"
        );
        let lines = run(folder.path(), &node, &["links", "export", "--format", "jsonl"]);
        let links: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let codes: BTreeSet<_> = links.iter().map(|l| l["code"].as_str().unwrap()).collect();
        assert_eq!((links.len(), codes.len()), (ROWS, ROWS), "{name}: every row once");
        assert!(links.iter().all(|l| l["click_count"] == 2), "{name}: every count once");
    }
}
