//! What the tests need beside Rust: servers from Debian, and schemathesis from PyPI.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The API fuzzer's version; the tests read its report.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// A Debian package and how to see that what it brings is here.
struct Package {
    name: &'static str,
    what_for: &'static str,
    is_here: fn() -> bool,
}

const PACKAGES: &[Package] = &[
    Package { name: "postgresql", what_for: "the database plane's second engine", is_here: has_postgres },
    Package { name: "redis-server", what_for: "the memory plane's second engine", is_here: || has("redis-server") },
    Package { name: "redis-tools", what_for: "forms a Redis Cluster", is_here: || has("redis-cli") },
    Package { name: "nginx", what_for: "benchmarks compare with it", is_here: || has("nginx") },
    Package { name: "haproxy", what_for: "benchmarks compare with it", is_here: || has("haproxy") },
    Package { name: "nghttp2-client", what_for: "load over HTTP/2 for benchmarks", is_here: || has("h2load") },
    Package { name: "pebble", what_for: "an ACME server", is_here: || has("pebble") },
    Package { name: "wrk", what_for: "load for benchmarks", is_here: || has("wrk") },
    Package { name: "bind9-dnsutils", what_for: "dig asks the DNS server", is_here: || has("dig") },
    Package { name: "chromium", what_for: "the console is tried in it", is_here: || has("chromium") },
    Package { name: "chromium-driver", what_for: "drives it", is_here: || has("chromedriver") },
    Package { name: "python3-jwt", what_for: "makes tokens that the gatekeeper's tests verify", is_here: has_pyjwt },
    Package { name: "python3-cryptography", what_for: "signs them", is_here: has_pyjwt },
    Package { name: "python3-venv", what_for: "a place for schemathesis", is_here: has_venv },
];

/// Installs what is missing, saying what.
/// Real input of the tests: the homepages that Debian's package lists carry.
const MIN_HOMEPAGES: usize = 20_000;

pub(crate) fn run(root: &Path) -> Result<(), String> {
    packages()?;
    lists()?;
    schemathesis(root)
}

fn packages() -> Result<(), String> {
    let missing: Vec<&Package> = PACKAGES.iter().filter(|p| !(p.is_here)()).collect();
    if missing.is_empty() {
        println!("Debian packages: all here");
        return Ok(());
    }
    for package in &missing {
        println!("missing: {} ({})", package.name, package.what_for);
    }
    let names: Vec<&str> = missing.iter().map(|p| p.name).collect();
    let line = format!("apt-get install --yes --no-install-recommends {}", names.join(" "));
    if !is_root() {
        return Err(format!("run as root:\n\n    apt-get update && {line}\n"));
    }
    println!("{line}");
    apt(&["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&names);
    apt(&install)
}

/// Has the package lists, which container images come without.
fn lists() -> Result<(), String> {
    if homepage_count() >= MIN_HOMEPAGES {
        println!("package lists: here");
        return Ok(());
    }
    if !is_root() {
        return Err("run as root:\n\n    apt-get update\n".to_owned());
    }
    println!("apt-get update");
    apt(&["update"])?;
    match homepage_count() {
        count if count >= MIN_HOMEPAGES => Ok(()),
        count => Err(format!(
            "the package lists name {count} homepages, and the tests import {MIN_HOMEPAGES}: do the sources of apt have a whole release?"
        )),
    }
}

/// How many homepages `apt-cache dumpavail` tells of.
fn homepage_count() -> usize {
    let output = Command::new("apt-cache").arg("dumpavail").stderr(Stdio::null()).output();
    output.map_or(0, |o| {
        let text = String::from_utf8_lossy(&o.stdout).into_owned();
        text.lines().filter_map(|l| l.strip_prefix("Homepage:")).collect::<std::collections::BTreeSet<_>>().len()
    })
}

fn apt(arguments: &[&str]) -> Result<(), String> {
    crate::run(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()))
}

fn schemathesis(root: &Path) -> Result<(), String> {
    let venv = crate::target().join("venv");
    let stamp = venv.join("installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|text| text == SCHEMATHESIS) {
        println!("{SCHEMATHESIS}: here");
        return Ok(());
    }
    println!("installing {SCHEMATHESIS} from PyPI into {}", venv.strip_prefix(root).unwrap_or(&venv).display());
    crate::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let pip = venv.join("bin/pip");
    crate::run(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check", SCHEMATHESIS]))?;
    std::fs::write(&stamp, SCHEMATHESIS).map_err(|e| format!("{}: {e}", stamp.display()))
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .any(|folder| folder.join(program).is_file())
}

fn has_postgres() -> bool {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    has("initdb") || debian.map(|e| e.path().join("bin/initdb")).any(|p| p.is_file())
}

fn has_pyjwt() -> bool {
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", "import jwt, cryptography"]).stderr(Stdio::null());
    python.status().is_ok_and(|status| status.success())
}

fn has_venv() -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", "import ensurepip, venv"]).stderr(Stdio::null());
    python.status().is_ok_and(|s| s.success())
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|l| l.strip_prefix("Uid:"))
        .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name() {
        assert!(has("sh"));
        assert!(!has("surely-not-installed"));
    }
}
