//! `mainstay gateway …`: the client of the gateway.

use std::path::Path;

use gateway::model::{Document, check, toml_path};
use serde_json::{Map, Value, json};

use super::client::{Answer, Client, refusal, segment};
use crate::{
    cli::{GatewayArgs, GatewayCommand},
    front::SERVICES,
    output::{line, note, table},
};

const CONFIG: &str = "/v1/gateway/config";

/// Runs one of the commands. Gives whether there is what was asked for.
pub(crate) fn run(args: &GatewayArgs) -> Result<bool, String> {
    let client = Client::new(&args.client);
    let as_json = args.client.json;
    match &args.command {
        GatewayCommand::Check { file, server: false } => {
            let document = document(file)?;
            let found = check(&document, SERVICES);
            let pairs = |found: &[kernel::FieldError]| -> Vec<Value> {
                found.iter().map(|f| json!({ "pointer": f.field, "detail": f.detail })).collect()
            };
            let told = json!({
                "is_valid": found.errors.is_empty(), "errors": pairs(&found.errors), "warnings": pairs(&found.warnings),
            });
            return Ok(checked(&told, as_json));
        }
        GatewayCommand::Check { file, server: true } => {
            let body = json!({ "document": read(file)? });
            return Ok(checked(&client.call("POST", "/v1/gateway/config/validate", Some(&body))?, as_json));
        }
        GatewayCommand::Apply { file, message, if_version } => {
            let body = json!({ "document": read(file)?, "message": message });
            let tag = if_version.map(|version| format!("\"v{version}\""));
            let headers: Vec<(&str, &str)> = tag.iter().map(|tag| ("if-match", tag.as_str())).collect();
            changed(&accepted(&client.send("PUT", CONFIG, &headers, Some(&body))?)?, as_json);
        }
        GatewayCommand::Get { at } => {
            let path = at.map_or_else(|| CONFIG.to_owned(), |at| format!("{CONFIG}/versions/{at}"));
            let told = client.call("GET", &path, None)?;
            line(if as_json { told.to_string() } else { pretty(&told["document"]) });
        }
        GatewayCommand::Versions => versions(&client, as_json)?,
        GatewayCommand::Diff { from, to } => {
            let to = to.map(|to| format!("&to={to}")).unwrap_or_default();
            let diff = client.call("GET", &format!("{CONFIG}/diff?from={from}{to}"), None)?;
            if as_json { line(diff) } else { differences(&diff) }
        }
        GatewayCommand::Rollback { to, message } => {
            let body = json!({ "version": to, "message": message });
            changed(&client.call("POST", &format!("{CONFIG}/rollback"), Some(&body))?, as_json);
        }
        GatewayCommand::Routes => routes(&client, as_json)?,
        GatewayCommand::Upstreams => upstreams(&client, as_json)?,
        GatewayCommand::Explain { method, address, header } => {
            let mut headers = Map::new();
            for one in header {
                let (name, value) = one
                    .split_once(':')
                    .ok_or_else(|| format!("expected name: value, such as x-canary: always, not {one:?}"))?;
                headers.insert(name.trim().to_owned(), json!(value.trim()));
            }
            let body = json!({ "method": method, "url": address, "headers": headers });
            let told = client.call("POST", "/v1/gateway/explain", Some(&body))?;
            let has_route = told["route"].is_string();
            if as_json {
                line(told);
            } else {
                explained(&told);
            }
            return Ok(has_route);
        }
        GatewayCommand::Drain { upstream, endpoint } => drain(&client, "drain", upstream, endpoint, as_json)?,
        GatewayCommand::Undrain { upstream, endpoint } => drain(&client, "undrain", upstream, endpoint, as_json)?,
    }
    Ok(true)
}

/// The document of a file as it stands, with the mistake that keeps it from being one.
fn document(file: &Path) -> Result<Document, String> {
    let told = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
    let text = std::fs::read_to_string(file).map_err(|e| told(&e))?;
    if file.extension().is_some_and(|e| e == "json") {
        return serde_json::from_str(&text).map_err(|e| told(&e));
    }
    gateway::parse_file(&text).map_err(|e| told(&e))
}

/// What is wrong with a file, without a server.
pub(super) fn check_file(file: &Path) -> Result<(), String> {
    let found = check(&document(file)?, SERVICES);
    let told = |f: &kernel::FieldError| {
        format!("gateway.config_file: {}: {}: {}", file.display(), toml_path(&f.field), f.detail)
    };
    if found.errors.is_empty() { Ok(()) } else { Err(found.errors.iter().map(told).collect::<Vec<_>>().join("\n")) }
}

fn read(file: &Path) -> Result<Value, String> {
    serde_json::to_value(document(file)?).map_err(|e| e.to_string())
}

fn checked(told: &Value, as_json: bool) -> bool {
    let is_valid = told["is_valid"] == true;
    if as_json {
        line(told);
        return is_valid;
    }
    for (list_name, word) in [("errors", "error"), ("warnings", "warning")] {
        for one in list(told, list_name) {
            line(format!(
                "{word}: {}: {}",
                toml_path(one["pointer"].as_str().unwrap_or_default()),
                text(one, "detail")
            ));
        }
    }
    if told["changes"].is_array() {
        differences(told);
    }
    if is_valid {
        note("it can hold");
    }
    is_valid
}

fn changed(told: &Value, as_json: bool) {
    if as_json {
        line(told);
        return;
    }
    let count = |name: &str| told["document"][name].as_array().map_or(0, Vec::len);
    let (routes, upstreams) = (count("routes"), count("upstreams"));
    note(format!("version {} holds now: {routes} routes, {upstreams} upstreams", told["version"]));
}

fn versions(client: &Client, as_json: bool) -> Result<(), String> {
    let page = client.call("GET", &format!("{CONFIG}/versions?limit=50"), None)?;
    if as_json {
        line(page);
        return Ok(());
    }
    let row = |one: &Value| {
        let written = &one["written"];
        vec![
            text(one, "version"),
            text(one, "route_count"),
            text(one, "upstream_count"),
            text(written, "at"),
            text(written, "by"),
            match &written["rolled_back_to"] {
                Value::Null => text(written, "message"),
                to => format!("back to {to} {}", text(written, "message")),
            },
        ]
    };
    let rows: Vec<_> = list(&page, "items").map(row).collect();
    line(table(&["VERSION", "ROUTES", "UPSTREAMS", "AT", "BY", "WHY"], &rows));
    Ok(())
}

/// Lines that went with `-`, lines that came with `+`.
fn differences(diff: &Value) {
    let show = |sign: &str, thing: &Value| {
        for text in pretty(thing).lines() {
            line(format!("{sign} {text}"));
        }
    };
    for change in list(diff, "changes") {
        let what = match (change["before"].is_null(), change["after"].is_null()) {
            (true, _) => "comes",
            (_, true) => "goes",
            _ => "changes",
        };
        line(format!("{}: {} {what}", text(change, "list"), text(change, "name")));
        if !change["before"].is_null() {
            show("-", &change["before"]);
        }
        if !change["after"].is_null() {
            show("+", &change["after"]);
        }
    }
    if diff["is_reordered"] == true {
        note("routes are in another order, which decides between equals");
    } else if list(diff, "changes").next().is_none() {
        note("nothing differs");
    }
}

fn routes(client: &Client, as_json: bool) -> Result<(), String> {
    let told = client.call("GET", "/v1/gateway/routes", None)?;
    if as_json {
        line(told);
        return Ok(());
    }
    let row = |one: &Value| {
        let hosts: Vec<&str> = list(one, "hosts").filter_map(Value::as_str).collect();
        let numbers = &one["numbers"];
        vec![
            text(one, "name"),
            if hosts.is_empty() { "*".to_owned() } else { hosts.join(",") },
            text(one, "path"),
            format!("{} {}", text(one, "action"), text(one, "about")),
            text(numbers, "total"),
            numbers["by_class"]["5xx"].as_u64().unwrap_or(0).to_string(),
            numbers["p99_ms"].as_f64().map_or_else(|| "-".to_owned(), |ms| format!("≤{ms} ms")),
        ]
    };
    let rows: Vec<_> = list(&told, "items").map(row).collect();
    line(table(&["ROUTE", "HOSTS", "PATH", "LEADS TO", "REQUESTS", "5XX", "P99"], &rows));
    if told["is_stale"] == true {
        note("the document that should hold cannot: see health, or the server's log");
    }
    Ok(())
}

fn upstreams(client: &Client, as_json: bool) -> Result<(), String> {
    let told = client.call("GET", "/v1/gateway/upstreams", None)?;
    if as_json {
        line(told);
        return Ok(());
    }
    let mut rows = Vec::new();
    for upstream in list(&told, "items") {
        for endpoint in list(upstream, "endpoints") {
            rows.push(vec![
                text(upstream, "name"),
                text(endpoint, "address"),
                state(endpoint).to_owned(),
                text(endpoint, "weight"),
                text(endpoint, "in_flight"),
                text(endpoint, "pick_count"),
                text(endpoint, "failure_count"),
                text(upstream, "algorithm"),
                text(&upstream["breaker"], "state"),
            ]);
        }
    }
    let names = ["UPSTREAM", "ENDPOINT", "STATE", "WEIGHT", "NOW", "SENT", "FAILED", "CHOSEN BY", "BREAKER"];
    line(table(&names, &rows));
    Ok(())
}

/// How an endpoint is, in words.
fn state(endpoint: &Value) -> &'static str {
    let is = |name: &str| endpoint[name] == true;
    match () {
        () if is("is_retired") => "leaving",
        () if is("is_draining") => "draining",
        () if is("is_ejected") => "ejected",
        () if endpoint["health"] == "unhealthy" || !is("is_healthy_at_source") => "unhealthy",
        () => "well",
    }
}

fn explained(told: &Value) {
    match told["route"].as_str() {
        Some(route) => line(format!("route {route}, for host {} and path {}", text(told, "host"), text(told, "path"))),
        None => line(format!("no route for host {} and path {}", text(told, "host"), text(told, "path"))),
    }
    for step in list(told, "steps") {
        line(format!("  {}: {}", text(step, "step"), text(step, "about")));
    }
    let rows: Vec<_> =
        list(told, "tried").map(|one| ["route", "outcome", "why"].map(|name| text(one, name)).to_vec()).collect();
    line(table(&["ROUTE", "OUTCOME", "WHY"], &rows));
    for upstream in list(told, "states") {
        let well = text(upstream, "well_count");
        line(format!("upstream {}: {well} of {} well", text(upstream, "name"), list(upstream, "endpoints").count()));
    }
}

fn drain(client: &Client, verb: &str, upstream: &str, endpoint: &str, as_json: bool) -> Result<(), String> {
    let path = format!("/v1/gateway/upstreams/{}/{verb}", segment(upstream));
    let told = client.call("POST", &path, Some(&json!({ "endpoint": endpoint })))?;
    if as_json {
        line(told);
    } else if verb == "drain" {
        note(format!("{endpoint} of {upstream} takes no new requests; those under way end by themselves"));
    } else {
        note(format!("{endpoint} of {upstream} takes requests again"));
    }
    Ok(())
}

fn accepted(answer: &Answer) -> Result<Value, String> {
    if answer.status < 300 { Ok(answer.json()) } else { Err(refusal(answer)) }
}

fn list<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    of[name].as_array().into_iter().flatten()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn text(of: &Value, name: &str) -> String {
    match &of[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
