//! `mainstay links …`: the client of the URL shortener.

use serde_json::{Value, json};

use super::client::{Client, segment};
use crate::{
    cli::{LinksArgs, LinksCommand},
    output::{line, note, table},
};

/// Runs one of the commands.
pub(crate) fn run(args: &LinksArgs) -> Result<(), String> {
    let client = Client::new(&args.client);
    let as_json = args.client.json;
    match &args.command {
        LinksCommand::Create { destination, alias, expires_at } => {
            let mut body = json!({ "url": destination });
            if let Some(alias) = alias {
                body["alias"] = json!(alias);
            }
            if let Some(at) = expires_at {
                body["expires_at"] = json!(at);
            }
            let link = client.call("POST", "/v1/links", Some(&body))?;
            if as_json { line(link) } else { line(text(&link, "short_url")) }
        }
        LinksCommand::List { limit, cursor } => {
            let mut path = format!("/v1/links?limit={limit}");
            if let Some(cursor) = cursor {
                path += &format!("&cursor={}", segment(cursor));
            }
            let page = client.call("GET", &path, None)?;
            if as_json {
                line(page);
            } else {
                let rows: Vec<_> = page["items"].as_array().into_iter().flatten().map(row).collect();
                line(table(&HEADER, &rows));
                if let Some(next) = page["next_cursor"].as_str() {
                    note(format!("more: mainstay links list --cursor {next}"));
                }
            }
        }
        LinksCommand::Get { code } => {
            let mut link = client.call("GET", &format!("/v1/links/{}", segment(code)), None)?;
            // Kept apart by the API, so that a link's ETag stays true while people click.
            let series = client.call("GET", &format!("/v1/links/{}/clicks?step=day", segment(code)), None)?;
            link["click_count"] = series["total_click_count"].clone();
            if as_json { line(link) } else { line(table(&HEADER, &[row(&link)])) }
        }
        LinksCommand::Delete { code } => {
            client.call("DELETE", &format!("/v1/links/{}", segment(code)), None)?;
            if as_json { line(json!({ "deleted": code })) } else { note(format!("deleted {code}")) }
        }
        LinksCommand::Clicks { code, step } => {
            let series = client.call("GET", &format!("/v1/links/{}/clicks?step={step}", segment(code)), None)?;
            if as_json { line(series) } else { clicks(&series) }
        }
    }
    Ok(())
}

const HEADER: [&str; 5] = ["CODE", "CLICKS", "CREATED", "EXPIRES", "URL"];

fn row(link: &Value) -> Vec<String> {
    vec![
        text(link, "code"),
        text(link, "click_count"),
        text(link, "created_at"),
        text(link, "expires_at"),
        text(link, "url"),
    ]
}

fn text(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::String(s) => s.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// Bars of at most 40 characters, scaled to the largest step.
fn clicks(series: &Value) {
    let points: Vec<(String, u64)> = series["points"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| (text(p, "at"), p["click_count"].as_u64().unwrap_or(0)))
        .collect();
    let most = points.iter().map(|(_, n)| *n).max().unwrap_or(0).max(1);
    let rows: Vec<_> = points
        .into_iter()
        .map(|(at, n)| {
            let width = usize::try_from(n * 40 / most).unwrap_or(0);
            vec![at, n.to_string(), "█".repeat(width)]
        })
        .collect();
    line(table(&["FROM", "CLICKS", ""], &rows));
}
