//! The API against its own OpenAPI document, by Schemathesis: no 5xx, no undocumented status, answers as documented.

use std::process::Command;

use serde_json::json;

use crate::support::{Node, send, text};

#[test]
fn schemathesis_finds_no_server_error_and_no_undocumented_answer() {
    let folder = tempfile::tempdir().unwrap();
    // Creation limits would turn most of the run into 429, which says little.
    let node = Node::dev(folder.path(), "data", &["--set", "shortener.creation_limit_per_minute=1000000"]);
    // Without a key the tool makes some up, and sees little more than 401. Not `*`: with it, limits on the server itself are put
    // sooner or later, and all that follows is 429.
    let scopes = ["audit:admin", "keys:admin", "limits:admin", "links:admin"];
    let body = json!({ "name": "contract", "scopes": scopes });
    let key = send("POST", &format!("{}/v1/keys", node.api), &[], Some(&body));
    let key = format!("Authorization: Bearer {}", key.json()["secret"].as_str().unwrap());
    // One worker: CPython's parser, which the tool uses to describe its own functions, fails now and then under two threads
    // ("AST constructor recursion depth mismatch").
    let out = Command::new(testkit::schemathesis())
        .current_dir(folder.path())
        .arg("run")
        .arg(format!("{}/openapi.json", node.api))
        .args([
            "--header",
            &key,
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .args(["--max-examples", "40", "--seed", "1", "--workers", "1", "--no-color", "--generation-database", "none"])
        .output()
        .unwrap();
    let report = text(&out.stdout);
    assert!(out.status.success(), "{report}\n{}\n{}", text(&out.stderr), node.log());
    assert!(report.contains("Operations"), "it tested nothing:\n{report}");
}
