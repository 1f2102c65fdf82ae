//! Files of links: in with a view of how far it is, and out.

use std::{
    fs::File,
    io::{IsTerminal as _, Write as _},
    path::Path,
    time::Duration,
};

use clap::ValueEnum as _;
use kernel::{Clock, Rng};
use serde_json::{Value, json};

use super::{accepted, items, text};
use crate::{
    cli::ImportFormat,
    commands::client::{Client, Query, segment},
    output::{line, note, table},
};

/// How often the server is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a file is sent when connections break.
const ATTEMPTS: u32 = 3;
/// How many rows that were left out are printed.
const MAX_SHOWN: usize = 50;

/// Sends a file, waits until it is worked through, and prints the rows that were left out.
pub(super) fn import(
    client: &Client,
    file: &Path,
    format: Option<ImportFormat>,
    domain: Option<&str>,
    no_wait: bool,
    as_json: bool,
) -> Result<(), String> {
    let format = match format {
        Some(format) => format,
        None => by_ending(file)?,
    };
    let name = format.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
    let query = Query::of("/v1/link-imports".to_owned()).text("format", Some(&name)).text("domain", domain);
    let started = send(client, &query.on_it(), file)?;
    let id = text(&started, "id");
    if no_wait {
        if as_json {
            line(started);
        } else {
            line(id);
        }
        return Ok(());
    }
    let over = watch(client, &id)?;
    let failed = over["failed_count"].as_u64().unwrap_or(0);
    let errors = if failed == 0 { Vec::new() } else { errors(client, &id)? };
    if as_json {
        line(json!({ "import": over, "errors": errors }));
    } else {
        show_errors(&errors, failed);
        let (rows, created) = (text(&over, "row_count"), text(&over, "created_count"));
        note(format!("{created} of {rows} rows imported, {failed} left out ({id})"));
    }
    match (text(&over, "state").as_str(), failed) {
        ("finished", 0) => Ok(()),
        ("finished", _) => Err(format!("{failed} rows were left out; correct them and import those alone")),
        (state, _) => Err(format!("the import is {state}")),
    }
}

fn by_ending(file: &Path) -> Result<ImportFormat, String> {
    match file.extension().and_then(|e| e.to_str()) {
        Some("csv") => Ok(ImportFormat::Csv),
        Some("jsonl" | "ndjson") => Ok(ImportFormat::Jsonl),
        _ => Err("say with --format what the file looks like".to_owned()),
    }
}

/// Sends the file under one key, so that a connection that breaks does not import it twice.
fn send(client: &Client, path: &str, file: &Path) -> Result<Value, String> {
    let open = || File::open(file).map_err(|e| format!("{}: {e}", file.display()));
    let key = kernel::id::uuid_v7(&Clock::system(), &Rng::system()).to_string();
    let headers = [("content-type", "application/octet-stream"), ("idempotency-key", key.as_str())];
    let mut attempt = 1;
    loop {
        match client.upload(path, &headers, open()?) {
            Ok(answer) => return accepted(&answer),
            Err(why) if attempt == ATTEMPTS => return Err(why),
            Err(why) => note(format!("{why}; sending the file again")),
        }
        attempt += 1;
    }
}

/// Shows how far an import is until it is over.
pub(crate) fn watch(client: &Client, id: &str) -> Result<Value, String> {
    let is_terminal = std::io::stderr().is_terminal();
    loop {
        let import = client.call("GET", &format!("/v1/link-imports/{}", segment(id)), None)?;
        let is_over = matches!(import["state"].as_str(), Some("finished" | "cancelled"));
        if is_terminal {
            let mut err = std::io::stderr().lock();
            drop(write!(err, "\r{}\x1b[K{}", bar(&import), if is_over { "\n" } else { "" }));
            drop(err.flush());
        }
        if is_over {
            return Ok(import);
        }
        pause(LOOK_EVERY);
    }
}

/// `████████░░░░  62%  12500 of 20000 rows  3400 rows/s  2 s left`
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a picture")]
fn bar(import: &Value) -> String {
    const WIDTH: f64 = 24.0;
    let progress = import["progress"].as_f64().unwrap_or(0.0).clamp(0.0, 1.0);
    let full = (progress * WIDTH) as usize;
    let rate = import["rows_per_second"].as_f64().unwrap_or(0.0);
    let count = |name: &str| import[name].as_u64().unwrap_or(0);
    let (total, done) = (count("row_count"), count("created_count") + count("failed_count"));
    let left = total.saturating_sub(done) as f64 / rate;
    let left = if left.is_finite() { format!("{left:.0} s left") } else { text(import, "state") };
    format!(
        "{}{} {:>3.0}%  {done} of {total} rows  {rate:.0} rows/s  {left}",
        "█".repeat(full),
        "░".repeat(WIDTH as usize - full),
        progress * 100.0
    )
}

/// Every row that is told of.
pub(crate) fn errors(client: &Client, id: &str) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let query = Query::of(format!("/v1/link-imports/{}/errors", segment(id)))
            .number("limit", 200)
            .text("cursor", cursor.as_deref());
        let page = client.call("GET", &query.on_it(), None)?;
        all.extend(items(&page).cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return Ok(all),
        }
    }
}

fn show_errors(errors: &[Value], failed: u64) {
    if errors.is_empty() {
        return;
    }
    let rows: Vec<_> = errors
        .iter()
        .take(MAX_SHOWN)
        .map(|e| ["row", "name", "code", "detail"].map(|name| text(e, name)).to_vec())
        .collect();
    line(table(&["ROW", "NAME", "CODE", "DETAIL"], &rows));
    let shown = u64::try_from(rows.len()).unwrap_or(0);
    if failed > shown {
        note(format!("and {} rows more; --json shows up to 1000", failed - shown));
    }
}

/// Lists imports, or shows or stops one.
pub(super) fn imports(client: &Client, id: Option<&str>, cancel: bool, as_json: bool) -> Result<(), String> {
    let Some(id) = id else {
        let page = client.call("GET", "/v1/link-imports?limit=50", None)?;
        if as_json {
            line(page);
        } else {
            let names = ["id", "format", "state", "row_count", "created_count", "failed_count", "created_at"];
            let rows: Vec<_> = items(&page).map(|i| names.map(|name| text(i, name)).to_vec()).collect();
            line(table(&["ID", "FORMAT", "STATE", "ROWS", "CREATED", "LEFT OUT", "AT"], &rows));
        }
        return Ok(());
    };
    let path = format!("/v1/link-imports/{}", segment(id));
    let import = client.call(if cancel { "DELETE" } else { "GET" }, &path, None)?;
    let errors = errors(client, id)?;
    if as_json {
        line(json!({ "import": import, "errors": errors }));
    } else {
        line(format!("{}  {}", text(&import, "state"), bar(&import)));
        show_errors(&errors, import["failed_count"].as_u64().unwrap_or(0));
    }
    Ok(())
}

/// Writes links into a file, or to standard output.
pub(super) fn export(client: &Client, query: &Query, to: Option<&Path>) -> Result<(), String> {
    save(client, &query.on("/v1/links/export"), to)
}

/// Writes an answer into a file that is not there yet, or to standard output.
pub(super) fn save(client: &Client, path: &str, to: Option<&Path>) -> Result<(), String> {
    match to {
        None => client.download(path, &mut std::io::stdout().lock()),
        Some(to) => {
            let failed = |e: std::io::Error| format!("{}: {e}", to.display());
            let mut file = File::options().write(true).create_new(true).open(to).map_err(failed)?;
            client.download(path, &mut file)?;
            file.sync_all().map_err(failed)
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "another process gives no event to wait for")]
fn pause(d: Duration) {
    std::thread::sleep(d);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_how_far() {
        let import = json!({ "progress": 0.5, "row_count": 1000, "created_count": 490, "failed_count": 10, "rows_per_second": 250.0 });
        assert_eq!(
            bar(&import),
            format!("{}{}  50%  500 of 1000 rows  250 rows/s  2 s left", "█".repeat(12), "░".repeat(12))
        );
        let queued = json!({ "progress": 0.0, "row_count": 10, "created_count": 0, "failed_count": 0, "rows_per_second": null, "state": "queued" });
        assert!(bar(&queued).ends_with("0 rows/s  queued"), "{}", bar(&queued));
    }
}
