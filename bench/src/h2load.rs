//! Load over HTTP/2 by h2load.

use std::{path::Path, process::Command};

use crate::wrk::Load;

/// Streams of one connection at a time.
pub(crate) const STREAMS: usize = 8;

/// Asks for one URL, `at_once` requests at a time over [`STREAMS`] streams a connection, with the API key if there is one.
pub(crate) fn get(url: &str, at_once: usize, key: Option<&str>, folder: &Path, seconds: u64) -> Load {
    let log = folder.join("h2load.log");
    drop(std::fs::remove_file(&log));
    let mut command = Command::new(testkit::binary("h2load"));
    command.args(["--threads", "2", "--clients", &(at_once / STREAMS).max(1).to_string()]);
    command.args(["--max-concurrent-streams", &STREAMS.to_string(), "--duration", &seconds.to_string()]);
    command.arg("--log-file").arg(&log);
    if let Some(key) = key {
        command.args(["--header", &format!("x-api-key: {key}")]);
    }
    let output = command.arg(url).output().expect("h2load can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let requests = std::fs::read_to_string(&log).unwrap_or_default();
    parse(&text, &requests)
        .unwrap_or_else(|reason| panic!("{reason}:\n{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Of the summary the rate and the failures; the log has a line a request: start, status, duration in microseconds.
fn parse(text: &str, log: &str) -> Result<Load, &'static str> {
    let after = |start: &str| text.lines().find_map(|l| l.strip_prefix(start)).ok_or("h2load gave no summary");
    let number = |words: &str, before: &str| -> Option<f64> {
        let (figure, _) = words.split_once(before)?;
        figure.rsplit(' ').next()?.parse().ok()
    };
    let per_second = number(after("finished in ")?, " req/s").ok_or("h2load's rate is missing")?;
    let failed = number(after("requests: ")?, " failed").ok_or("h2load's failures are missing")?;
    let statuses = after("status codes: ")?;
    let good = number(statuses, " 2xx").ok_or("h2load's statuses are missing")?;
    let bad: f64 = [" 3xx", " 4xx", " 5xx"].iter().filter_map(|of| number(statuses, of)).sum();
    if failed > 0.0 || bad > 0.0 || good < 1.0 {
        return Err("some requests failed");
    }
    let mut took: Vec<f64> = log.lines().filter_map(|l| l.split('\t').nth(2)?.parse().ok()).collect();
    took.sort_by(f64::total_cmp);
    let percentile =
        |of: usize| took.get((took.len() * of / 100).min(took.len().saturating_sub(1))).map(|us| us / 1000.0);
    Ok(Load {
        requests: good,
        per_second,
        p50_ms: percentile(50).ok_or("h2load's log is empty")?,
        p99_ms: percentile(99).ok_or("h2load's log is empty")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read_and_failed_requests_end_the_run() {
        let text = |failed, five| {
            format!(
                "\nfinished in 1.00s, 2000.50 req/s, 1.0MB/s\nrequests: 2001 total, 2001 started, 2001 done, 2000 succeeded, {failed} failed, 0 errored, 0 timeout\n\
                 status codes: 2000 2xx, 0 3xx, 0 4xx, {five} 5xx\n"
            )
        };
        let log = (1..=100).map(|n| format!("1\t200\t{}", n * 1000)).collect::<Vec<_>>().join("\n");
        let load = parse(&text(0, 0), &log).unwrap();
        assert!((load.requests - 2000.0).abs() < 0.1 && (load.per_second - 2000.5).abs() < 0.1);
        assert!((load.p50_ms - 51.0).abs() < 0.1 && (load.p99_ms - 100.0).abs() < 0.1);
        assert!(parse(&text(1, 0), &log).is_err() && parse(&text(0, 3), &log).is_err() && parse("", "").is_err());
    }
}
