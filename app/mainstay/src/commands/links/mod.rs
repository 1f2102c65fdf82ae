//! `mainstay links …`: the client of the URL shortener.

mod fields;
pub(super) mod transfer;

use serde_json::{Value, json};

use super::client::{Answer, Client, Query, refusal, segment};
use crate::{
    cli::{LinkFilter, LinkName, LinksArgs, LinksCommand},
    output::{line, note, table},
};

/// Runs one of the commands.
pub(crate) fn run(args: &LinksArgs) -> Result<(), String> {
    let client = Client::new(&args.client);
    let as_json = args.client.json;
    match &args.command {
        LinksCommand::Create { destination, alias, utm_template, domain, fields } => {
            let mut body = json!({ "url": destination });
            for (name, value) in [("alias", alias), ("utm_template", utm_template), ("domain", domain)] {
                if let Some(value) = value {
                    body[name] = json!(value);
                }
            }
            fields::add(&mut body, fields)?;
            let link = client.call("POST", "/v1/links", Some(&body))?;
            if as_json { line(link) } else { line(text(&link, "short_url")) }
        }
        LinksCommand::List { limit, cursor, filter } => {
            let query = filtered(filter).number("limit", *limit).text("cursor", cursor.as_deref());
            let page = client.call("GET", &query.on("/v1/links"), None)?;
            if as_json {
                line(page);
            } else {
                let rows: Vec<_> = items(&page).map(row).collect();
                line(table(&HEADER, &rows));
                if let Some(next) = page["next_cursor"].as_str() {
                    note(format!("more: the same with --cursor {next}"));
                }
            }
        }
        LinksCommand::Get { link } => {
            let mut found = client.call("GET", &path(link, "").on_it(), None)?;
            // Kept apart by the API, so that a link's ETag stays true while people click.
            let series = client.call("GET", &path(link, "/clicks").text("step", Some("day")).on_it(), None)?;
            found["click_count"] = series["total_click_count"].clone();
            if as_json { line(found) } else { details(&found) }
        }
        LinksCommand::Update { link, destination, disable, enable, if_match, fields } => {
            let mut body = json!({});
            if let Some(url) = destination {
                body["url"] = json!(url);
            }
            if *disable || *enable {
                body["is_disabled"] = json!(disable);
            }
            fields::add(&mut body, fields)?;
            if body == json!({}) {
                return Err("nothing to change: name what shall change, such as --to URL or --title TEXT".to_owned());
            }
            let headers: Vec<_> = if_match.iter().map(|etag| ("if-match", etag.as_str())).collect();
            let answer = client.send("PATCH", &path(link, "").on_it(), &headers, Some(&body))?;
            let changed = accepted(&answer)?;
            if as_json { line(changed) } else { details(&changed) }
        }
        LinksCommand::Delete { link } => {
            client.call("DELETE", &path(link, "").on_it(), None)?;
            if as_json { line(json!({ "deleted": link.code })) } else { note(format!("deleted {}", link.code)) }
        }
        LinksCommand::History { link, limit } => {
            let page = client.call("GET", &path(link, "/history").number("limit", *limit).on_it(), None)?;
            if as_json { line(page) } else { history(&page) }
        }
        LinksCommand::Clicks { link, step, from, to } => {
            let query =
                path(link, "/clicks").text("step", Some(step)).text("from", from.as_deref()).text("to", to.as_deref());
            let series = client.call("GET", &query.on_it(), None)?;
            if as_json { line(series) } else { clicks(&series) }
        }
        LinksCommand::Stats { link, by, from, to, limit } => {
            let query = path(link, "/analytics")
                .text("dimension", Some(by))
                .text("from", from.as_deref())
                .text("to", to.as_deref())
                .number("limit", *limit);
            let stats = client.call("GET", &query.on_it(), None)?;
            if as_json { line(stats) } else { analytics(&stats) }
        }
        LinksCommand::Qr { link, format, size, ecc, to } => {
            let query = path(link, "/qr").text("format", Some(format)).number("size", *size).text("ecc", Some(ecc));
            transfer::save(&client, &query.on_it(), to.as_deref())?;
        }
        LinksCommand::Import { file, format, domain, no_wait } => {
            transfer::import(&client, file, *format, domain.as_deref(), *no_wait, as_json)?;
        }
        LinksCommand::Imports { id, cancel } => transfer::imports(&client, id.as_deref(), *cancel, as_json)?,
        LinksCommand::Export { format, to, filter } => {
            transfer::export(&client, &filtered(filter).text("format", Some(format)), to.as_deref())?;
        }
    }
    Ok(())
}

const HEADER: [&str; 5] = ["CODE", "CLICKS", "CREATED", "STATUS", "URL"];

fn row(link: &Value) -> Vec<String> {
    ["code", "click_count", "created_at", "status", "url"].map(|name| text(link, name)).to_vec()
}

/// Everything of one link that is set, a line each.
fn details(link: &Value) {
    let Some(fields) = link.as_object() else { return };
    let rows: Vec<_> = fields
        .iter()
        .filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)) && !is_empty(value))
        .map(|(name, _)| vec![name.clone(), text(link, name)])
        .collect();
    line(table(&["FIELD", "VALUE"], &rows));
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(s) => s.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(Value::is_null),
        _ => false,
    }
}

fn history(page: &Value) {
    let mut rows = Vec::new();
    for change in items(page) {
        for (field, values) in change["changes"].as_object().into_iter().flatten() {
            rows.push(vec![
                text(change, "version"),
                text(change, "at"),
                text(change, "by"),
                field.clone(),
                format!("{} → {}", shown(&values[0]), shown(&values[1])),
            ]);
        }
    }
    line(table(&["VERSION", "AT", "BY", "FIELD", "CHANGE"], &rows));
}

fn analytics(stats: &Value) {
    let mut rows: Vec<_> = stats["values"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|v| vec![text(v, "value"), text(v, "click_count")])
        .collect();
    if stats["other_click_count"].as_u64().is_some_and(|n| n > 0) {
        rows.push(vec!["(others)".to_owned(), text(stats, "other_click_count")]);
    }
    line(table(&[text(stats, "dimension").to_uppercase().as_str(), "CLICKS"], &rows));
    note(format!(
        "{} clicks of {} visitors from {} to {}, and {} visits of bots",
        text(stats, "click_count"),
        text(stats, "visitor_count"),
        text(stats, "from"),
        text(stats, "to"),
        text(stats, "bot_count")
    ));
}

/// Bars of at most 40 characters, scaled to the largest step; from the first step with clicks to the last.
fn clicks(series: &Value) {
    let points: Vec<(String, u64)> = series["points"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| (text(p, "at"), p["click_count"].as_u64().unwrap_or(0)))
        .collect();
    let total = text(series, "total_click_count");
    let Some(first) = points.iter().position(|(_, n)| *n > 0) else {
        note(format!("no clicks from {} to {}; {total} in all", text(series, "from"), text(series, "to")));
        return;
    };
    let last = points.iter().rposition(|(_, n)| *n > 0).unwrap_or(first);
    let points = &points[first..=last];
    let most = points.iter().map(|(_, n)| *n).max().unwrap_or(0).max(1);
    let rows: Vec<_> = points
        .iter()
        .map(|(at, n)| {
            let width = usize::try_from(n * 40 / most).unwrap_or(0);
            vec![at.clone(), n.to_string(), "█".repeat(width)]
        })
        .collect();
    line(table(&["FROM", "CLICKS", ""], &rows));
    note(format!("{total} in all"));
}

/// The path of a link, with its domain.
fn path(link: &LinkName, rest: &str) -> Query {
    Query::of(format!("/v1/links/{}{rest}", segment(&link.code))).text("domain", link.domain.as_deref())
}

fn filtered(filter: &LinkFilter) -> Query {
    Query::default()
        .text("code", filter.code.as_deref())
        .text("tag", filter.tag.as_deref())
        .text("domain", filter.domain.as_deref())
        .text("status", filter.status.as_deref())
        .text("q", filter.text.as_deref())
}

/// The body of an answer that should be a success.
fn accepted(answer: &Answer) -> Result<Value, String> {
    if (200..300).contains(&answer.status) { Ok(answer.json()) } else { Err(refusal(answer)) }
}

/// The items of a page.
pub(super) fn items(page: &Value) -> impl Iterator<Item = &Value> {
    page["items"].as_array().into_iter().flatten()
}

/// A field as people read it.
pub(super) fn text(value: &Value, name: &str) -> String {
    shown(&value[name])
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
