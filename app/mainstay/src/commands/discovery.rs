//! `mainstay discovery …`: the client of the service registry.

use serde_json::{Value, json};

use super::client::{Client, Query, segment};
use crate::{
    cli::{DiscoveryArgs, DiscoveryCommand},
    output::{line, note, table},
};

/// Runs one of the commands.
pub(crate) fn run(args: &DiscoveryArgs) -> Result<(), String> {
    let client = Client::new(&args.client);
    let of = |id: &str, rest: &str| format!("/v1/discovery/instances/{}{rest}", segment(id));
    let (answer, tell): (Value, fn(&Value)) = match &args.command {
        DiscoveryCommand::Services => {
            let path = Query::of("/v1/discovery/services".to_owned()).number("limit", 200).on_it();
            (client.call("GET", &path, None)?, services)
        }
        DiscoveryCommand::Show { service, all, tag } => {
            let which = if *all { "all" } else { "usable" };
            let query = Query::of(format!("/v1/discovery/services/{}", segment(service))).text("which", Some(which));
            (client.call("GET", &query.text("tag", tag.as_deref()).on_it(), None)?, instances)
        }
        DiscoveryCommand::Register { id, service, address, port, tag, zone, ttl, http } => {
            let ttl = ttl.iter().map(|ttl| json!({ "kind": "ttl", "ttl": ttl }));
            let checks = ttl.chain(http.iter().map(|path| json!({ "kind": "http", "path": path })));
            let body = json!({
                "service": service, "address": address, "port": port, "tags": tag, "zone": zone,
                "checks": checks.collect::<Vec<_>>(),
            });
            (client.call("PUT", &of(id, ""), Some(&body))?, one)
        }
        DiscoveryCommand::Heartbeat { id } => {
            (client.call("POST", &of(id, "/heartbeat"), Some(&json!({})))?, |told| note(text(told, "health")))
        }
        DiscoveryCommand::Deregister { id } => (client.call("DELETE", &of(id, ""), None)?, |told| {
            note(format!("it is out, as of index {}", told["index"]));
        }),
        DiscoveryCommand::Drain { id, reason } => {
            (client.call("POST", &of(id, "/drain"), Some(&json!({ "reason": reason })))?, one)
        }
        DiscoveryCommand::Undrain { id } => (client.call("DELETE", &of(id, "/drain"), None)?, one),
        DiscoveryCommand::Status => (client.call("GET", "/v1/discovery/status", None)?, status),
    };
    if args.client.json {
        line(answer);
    } else {
        tell(&answer);
    }
    Ok(())
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn services(told: &Value) {
    let row = |one: &Value| {
        let well = format!("{} of {}", one["well_count"], one["instance_count"]);
        vec![text(one, "service"), well, one["usable_count"].to_string(), text(one, "guard")]
    };
    line(table(&["SERVICE", "WELL", "GIVEN OUT", "GUARD"], &list(told, "items").map(row).collect::<Vec<_>>()));
}

fn row(one: &Value) -> Vec<String> {
    let at = format!("{}:{}", text(one, "address"), one["port"]);
    let state = match (one["drain"].is_null(), one["is_damped"] == true) {
        (false, _) => "draining".to_owned(),
        (true, true) => "damped".to_owned(),
        (true, false) => text(one, "health"),
    };
    vec![text(one, "id"), at, state, text(one, "zone")]
}

const COLUMNS: [&str; 4] = ["ID", "ADDRESS", "HEALTH", "ZONE"];

fn instances(told: &Value) {
    line(table(&COLUMNS, &list(told, "instances").map(row).collect::<Vec<_>>()));
    if told["guard"] != "none" {
        note(format!("guard: {}", text(told, "guard")));
    }
}

fn one(told: &Value) {
    line(table(&COLUMNS, &[row(told)]));
}

fn status(told: &Value) {
    let row = |node: &Value| {
        let state = if node["is_blind"] == true { "cannot reach Redis" } else { "well" };
        vec![text(node, "name"), state.to_owned()]
    };
    line(table(&["NODE", "STATE"], &list(told, "nodes").map(row).collect::<Vec<_>>()));
    if let Some(why) = told["expiry_suspended"].as_str() {
        note(format!("nobody is declared dead for want of signs of life: {why}"));
    }
}
