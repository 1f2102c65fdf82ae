//! Load by wrk.

use std::{path::Path, process::Command};

use serde_json::Value;

/// Follows the paths of a file, which is its argument.
const FOLLOW: &str = include_str!("../lua/zipf.lua");
/// Creates links.
const CREATE: &str = include_str!("../lua/create.lua");
/// Checks rate limits of the server that is its argument.
const LIMITS: &str = include_str!("../lua/limits.lua");

/// Asks for one path, with the API key that is its argument if there is one.
const PROXY: &str = include_str!("../lua/proxy.lua");

/// What one run saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) requests: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Draws paths from a file over 64 connections.
pub(crate) fn follow(port: u16, folder: &Path, paths: &Path, seconds: u64) -> Load {
    run(port, folder, FOLLOW, Some(paths), seconds)
}

/// Creates links over 64 connections.
pub(crate) fn create(port: u16, folder: &Path, seconds: u64) -> Load {
    run(port, folder, CREATE, None, seconds)
}

/// Checks rate limits over 64 connections, as `server` wants to be asked.
pub(crate) fn check(port: u16, folder: &Path, server: &str, seconds: u64) -> Load {
    run(port, folder, LIMITS, Some(Path::new(server)), seconds)
}

/// Asks for one URL over so many connections.
pub(crate) fn get(url: &str, connections: usize, key: Option<&str>, folder: &Path, seconds: u64) -> Load {
    load(url, connections, folder, PROXY, key.map(Path::new), seconds)
}

fn run(port: u16, folder: &Path, text: &str, argument: Option<&Path>, seconds: u64) -> Load {
    load(&format!("http://127.0.0.1:{port}/"), 64, folder, text, argument, seconds)
}

fn load(url: &str, connections: usize, folder: &Path, text: &str, argument: Option<&Path>, seconds: u64) -> Load {
    let script = folder.join("script.lua");
    std::fs::write(&script, text).expect("the folder can be written");
    let mut command = Command::new(testkit::binary("wrk"));
    let (connections, duration) = (connections.to_string(), format!("{seconds}s"));
    command.args(["--threads", "2", "--connections", &connections, "--duration", &duration, "--script"]);
    command.arg(script).arg(url).arg("--").args(argument);
    let output = command.output().expect("wrk can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse(&text).unwrap_or_else(|reason| panic!("{reason}:\n{text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn parse(text: &str) -> Result<Load, &'static str> {
    let line = text.lines().find_map(|l| l.strip_prefix("RESULT ")).ok_or("wrk gave no result")?;
    let value: Value = serde_json::from_str(line).map_err(|_| "wrk's result is not JSON")?;
    let figure = |name: &str| value[name].as_f64().ok_or("wrk's result lacks a figure");
    if figure("errors")? > 0.0 {
        return Err("some requests failed");
    }
    let (requests, micros) = (figure("requests")?, figure("micros")?);
    Ok(Load {
        requests,
        per_second: requests / (micros / 1e6),
        p50_ms: figure("p50")? / 1000.0,
        p99_ms: figure("p99")? / 1000.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_read_and_failed_requests_end_the_run() {
        let line = |errors| {
            format!("x\nRESULT {{\"requests\":200,\"micros\":2000000,\"p50\":500,\"p99\":1500,\"errors\":{errors}}}\n")
        };
        let load = parse(&line(0)).unwrap();
        assert!((load.per_second - 100.0).abs() < 1e-9 && (load.p99_ms - 1.5).abs() < 1e-9);
        assert_eq!(parse(&line(1)).unwrap_err(), "some requests failed");
        assert!(parse("nothing").is_err());
    }
}
