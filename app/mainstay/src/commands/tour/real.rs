//! The tour's real input: tens of thousands of URLs that people use, imported, followed by a Zipf draw, and reconciled link by link.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use kernel::Rng;
use serde_json::Value;

use super::{Tour, server::Server};
use crate::{
    commands::{
        client::Client,
        links::transfer::{errors, watch},
    },
    output::line,
};

/// As many URLs as make the draw worth while.
const MIN_URLS: usize = 20_000;
/// How many visits are drawn, and how many visitors come at once.
const VISITS: usize = 20_000;
const VISITORS: usize = 8;
/// How long rollups may lag behind clicks.
const PATIENCE: Duration = Duration::from_secs(40);
/// Found by its path: the tour may run without any environment.
const APT_CACHE: &str = "/usr/bin/apt-cache";

/// What is known of a link.
struct Followed {
    code: String,
    url: String,
}

pub(super) fn run(tour: &mut Tour, server: &Server, folder: &Path, file: Option<&PathBuf>) -> Result<(), String> {
    let (urls, source) = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
            (text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect(), "the file".to_owned())
        }
        None => (homepages(), "Homepage: of apt-cache dumpavail".to_owned()),
    };
    if file.is_none() && urls.len() < MIN_URLS {
        if !tour.json {
            line(format!(
                "  - left out: this machine's package lists name {} homepages, fewer than {MIN_URLS}; run apt-get update, \
                 or give URLs with --urls FILE",
                urls.len()
            ));
        }
        return Ok(());
    }
    let links = import(tour, server, folder, &urls, &source)?;
    let sent = follow(tour, server, &links)?;
    reconcile(tour, server, &sent);
    Ok(())
}

/// The homepages that the package lists of this machine carry, each once. None where there are no lists.
fn homepages() -> BTreeSet<String> {
    let Ok(output) = Command::new(APT_CACHE).arg("dumpavail").stdin(Stdio::null()).stderr(Stdio::null()).output()
    else {
        return BTreeSet::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.strip_prefix("Homepage:"))
        .map(|url| url.trim().to_owned())
        .collect()
}

fn import(
    tour: &mut Tour,
    server: &Server,
    folder: &Path,
    urls: &BTreeSet<String>,
    source: &str,
) -> Result<Vec<Followed>, String> {
    let path = folder.join("urls.jsonl");
    let mut file = File::create(&path).map_err(|e| e.to_string())?;
    let rows: String =
        urls.iter().map(|url| serde_json::json!({ "url": url, "tags": ["real"] }).to_string() + "\n").collect();
    file.write_all(rows.as_bytes()).map_err(|e| e.to_string())?;
    let started = tour.clock.monotonic();
    let file = File::open(&path).map_err(|e| e.to_string())?;
    let headers = [("content-type", "application/x-ndjson"), ("idempotency-key", "tour-real")];
    let answer = server.api.upload("/v1/link-imports?format=jsonl", &headers, file)?;
    tour.expect(&format!("POST /v1/link-imports, {} URLs: {source}", urls.len()), &answer, 202, "");
    let id = answer.json()["id"].as_str().unwrap_or_default().to_owned();
    let over = watch(&server.api, &id)?;
    let took = tour.clock.monotonic().saturating_sub(started);
    let count = |name: &str| over[name].as_u64().unwrap_or(0);
    let (created, failed) = (count("created_count"), count("failed_count"));
    let mut why: BTreeMap<String, usize> = BTreeMap::new();
    for error in errors(&server.api, &id)? {
        *why.entry(error["code"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let why: Vec<String> = why.into_iter().map(|(code, n)| format!("{n} {code}")).collect();
    let seen = format!("{created} links in {:.1} s, {failed} left out: {}", took.as_secs_f64(), why.join(", "));
    tour.saw("GET /v1/link-imports/{id} until it is finished", &seen, created + failed == urls.len() as u64);

    let links: Vec<Followed> =
        exported(&server.api)?.into_iter().map(|(code, (url, _))| Followed { code, url }).collect();
    tour.saw(
        "GET /v1/links/export?tag=real",
        &format!("{} links, each once", links.len()),
        links.len() as u64 == created,
    );
    Ok(links)
}

/// Links with the tag of this chapter by code: where each leads, and how often it was followed.
fn exported(api: &Client) -> Result<BTreeMap<String, (String, u64)>, String> {
    let mut text = Vec::new();
    api.download("/v1/links/export?format=jsonl&tag=real", &mut text)?;
    let mut links = BTreeMap::new();
    for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let link: Value = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        let text = |name: &str| link[name].as_str().unwrap_or_default().to_owned();
        let before = links.insert(text("code"), (text("url"), link["click_count"].as_u64().unwrap_or(0)));
        if before.is_some() {
            return Err(format!("{} is in the export twice", text("code")));
        }
    }
    Ok(links)
}

/// Follows links by a Zipf draw; gives how often each was followed.
fn follow(tour: &mut Tour, server: &Server, links: &[Followed]) -> Result<BTreeMap<String, u64>, String> {
    let drawn = zipf(links.len(), VISITS);
    let sent = Mutex::new(BTreeMap::<String, u64>::new());
    let wrong = Mutex::new(Vec::new());
    let started = tour.clock.monotonic();
    std::thread::scope(|scope| {
        for part in drawn.chunks(VISITS.div_ceil(VISITORS)) {
            let (public, sent, wrong) = (server.public.clone(), &sent, &wrong);
            scope.spawn(move || {
                for place in part {
                    let link = &links[*place];
                    let headers = [("user-agent", "Mozilla/5.0 (tour)")];
                    let answer = public.send("GET", &format!("/{}", link.code), &headers, None);
                    let is_right = answer.as_ref().is_ok_and(|a| a.status == 302 && a.header("location") == link.url);
                    if let (false, Ok(mut wrong)) = (is_right, wrong.lock()) {
                        wrong.push(format!("{}: {answer:?}", link.url));
                    }
                    if let (true, Ok(mut sent)) = (is_right, sent.lock()) {
                        *sent.entry(link.code.clone()).or_default() += 1;
                    }
                }
            });
        }
    });
    let took = tour.clock.monotonic().saturating_sub(started);
    let (sent, wrong) = (sent.into_inner().map_err(|e| e.to_string())?, wrong.into_inner().map_err(|e| e.to_string())?);
    let seen = format!(
        "{} links in {:.1} s, each to where it leads{}",
        sent.len(),
        took.as_secs_f64(),
        wrong.first().map(|w| format!("; {} wrong, such as {w}", wrong.len())).unwrap_or_default()
    );
    tour.saw(&format!("{VISITS} × GET :public/… by a Zipf draw"), &seen, wrong.is_empty());
    Ok(sent)
}

/// Places below `count`, place k with a weight of 1/(k+1); the same draw each time.
#[allow(clippy::cast_precision_loss, reason = "weights")]
fn zipf(count: usize, draws: usize) -> Vec<usize> {
    let mut sums = Vec::with_capacity(count);
    let mut sum = 0.0;
    for k in 0..count {
        sum += 1.0 / (k + 1) as f64;
        sums.push(sum);
    }
    let rng = Rng::seeded(20_000);
    let draw = || {
        let at = rng.unit_f64() * sum;
        sums.partition_point(|s| *s < at).min(count.saturating_sub(1))
    };
    (0..draws).map(|_| draw()).collect()
}

/// The rollups say of every link what was sent to it.
fn reconcile(tour: &mut Tour, server: &Server, sent: &BTreeMap<String, u64>) {
    let mut off = Vec::new();
    let counted = tour.wait(PATIENCE, || {
        let links = exported(&server.api).ok()?;
        off = links
            .iter()
            .filter(|(code, (_, n))| sent.get(*code).copied().unwrap_or(0) != *n)
            .map(|(code, (_, n))| format!("{code} has {n}"))
            .collect();
        off.is_empty().then_some(links.values().map(|(_, n)| n).sum::<u64>())
    });
    let seen = match counted {
        Some(total) => format!("{total} clicks, every link as often as it was followed"),
        None => format!("{} links are off: {}", off.len(), off.iter().take(3).cloned().collect::<Vec<_>>().join(", ")),
    };
    tour.saw("GET /v1/links/export, counts of every link", &seen, counted == Some(sent.values().sum()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_draw_follows_zipf() {
        let drawn = zipf(1000, 20_000);
        let first = drawn.iter().filter(|k| **k == 0).count();
        let tenth = drawn.iter().filter(|k| **k == 9).count();
        // The weights sum to 7.49: the first has 13 %, the tenth a tenth of that.
        assert!((2400..2950).contains(&first) && (200..340).contains(&tenth), "{first} {tenth}");
        assert!(drawn.iter().all(|k| *k < 1000));
    }
}
