//! `mainstay domains …` and `mainstay utm-templates …`.

use serde_json::{Value, json};

use super::{
    client::{Client, segment},
    links::{items, text},
};
use crate::{
    cli::{DomainPages, DomainsArgs, DomainsCommand, TemplatesArgs, TemplatesCommand},
    output::{line, note, table},
};

/// Runs one of the commands on domains.
pub(crate) fn run(args: &DomainsArgs) -> Result<(), String> {
    let client = Client::new(&args.client);
    let path = |host: &str| format!("/v1/domains/{}", segment(host));
    let shown = match &args.command {
        DomainsCommand::List => {
            return list(&client, "/v1/domains", args.client.json, &HOST_HEADER, host);
        }
        DomainsCommand::Get { host } => client.call("GET", &path(host), None)?,
        DomainsCommand::Add { host, ignore_case, pages: given } => {
            let mut body = json!({ "host": host, "is_case_sensitive": !ignore_case });
            pages(&mut body, given);
            client.call("POST", "/v1/domains", Some(&body))?
        }
        DomainsCommand::Update { host, pages: given } => {
            let mut body = json!({});
            pages(&mut body, given);
            client.call("PATCH", &path(host), Some(&body))?
        }
        DomainsCommand::Remove { host } => {
            client.call("DELETE", &path(host), None)?;
            if args.client.json {
                line(json!({ "removed": host }));
            } else {
                note(format!("removed {host}"));
            }
            return Ok(());
        }
    };
    if args.client.json {
        line(shown);
    } else {
        line(table(&HOST_HEADER, &[host(&shown)]));
    }
    Ok(())
}

const HOST_HEADER: [&str; 5] = ["HOST", "CASE MATTERS", "ROOT", "UNKNOWN CODES", "ADDED"];

fn host(domain: &Value) -> Vec<String> {
    ["host", "is_case_sensitive", "root_url", "unknown_url", "created_at"].map(|name| text(domain, name)).to_vec()
}

fn pages(body: &mut Value, given: &DomainPages) {
    for (name, url) in [("root_url", &given.root_url), ("unknown_url", &given.unknown_url)] {
        if let Some(url) = url {
            body[name] = if url == "none" { Value::Null } else { json!(url) };
        }
    }
}

/// Runs one of the commands on templates.
pub(crate) fn templates(args: &TemplatesArgs) -> Result<(), String> {
    let client = Client::new(&args.client);
    let path = |name: &str| format!("/v1/utm-templates/{}", segment(name));
    match &args.command {
        TemplatesCommand::List => list(&client, "/v1/utm-templates", args.client.json, &TEMPLATE_HEADER, template),
        TemplatesCommand::Set { name, source, medium, campaign, term, content } => {
            let utm =
                json!({ "source": source, "medium": medium, "campaign": campaign, "term": term, "content": content });
            let written = client.call("PUT", &path(name), Some(&utm))?;
            if args.client.json {
                line(written);
            } else {
                note(format!("written {name}"));
            }
            Ok(())
        }
        TemplatesCommand::Remove { name } => {
            client.call("DELETE", &path(name), None)?;
            if args.client.json {
                line(json!({ "removed": name }));
            } else {
                note(format!("removed {name}"));
            }
            Ok(())
        }
    }
}

const TEMPLATE_HEADER: [&str; 6] = ["NAME", "SOURCE", "MEDIUM", "CAMPAIGN", "TERM", "CONTENT"];

fn template(template: &Value) -> Vec<String> {
    let utm = |name: &str| text(&template["utm"], name);
    [text(template, "name"), utm("source"), utm("medium"), utm("campaign"), utm("term"), utm("content")].to_vec()
}

/// Every page of a list.
fn list(
    client: &Client,
    path: &str,
    as_json: bool,
    header: &[&str],
    row: fn(&Value) -> Vec<String>,
) -> Result<(), String> {
    let mut all = Vec::new();
    let mut next = format!("{path}?limit=200");
    loop {
        let page = client.call("GET", &next, None)?;
        all.extend(items(&page).cloned());
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("{path}?limit=200&cursor={}", segment(cursor)),
            None => break,
        }
    }
    if as_json {
        line(Value::Array(all));
    } else {
        let rows: Vec<_> = all.iter().map(row).collect();
        line(table(header, &rows));
    }
    Ok(())
}
