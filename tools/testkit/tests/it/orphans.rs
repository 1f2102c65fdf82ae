//! Nothing outlives the test process, even when that is killed.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use testkit::{Chromedriver, Options, Postgres, Redis, wait_until};

const CHILD: &str = "TESTKIT_CHILD";

/// The part that is killed: does nothing unless the test below starts it.
#[test]
fn child_that_starts_servers() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let postgres = Postgres::start(Options::default());
    let redis = Redis::start();
    let driver = Chromedriver::start();
    let profile =
        driver.chromium_arguments().into_iter().find_map(|a| a.strip_prefix("--user-data-dir=").map(PathBuf::from));
    let browser_folder = profile.as_deref().and_then(Path::parent).unwrap();
    println!("\nSERVERS {} {} {}", postgres.pid().unwrap(), redis.pid().unwrap(), browser_folder.display());
    std::io::stdout().flush().unwrap();
    // Waits for a line that never comes.
    std::io::stdin().lines().next();
}

#[test]
fn servers_end_and_leave_nothing_when_the_test_process_is_killed() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "orphans::child_that_starts_servers", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|l| l.starts_with("SERVERS")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let processes: Vec<PathBuf> = words[1..3].iter().map(|pid| PathBuf::from("/proc").join(pid)).collect();
    let browser_folder = PathBuf::from(words[3]);
    assert!(processes.iter().all(|p| p.exists()) && browser_folder.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until(Duration::from_secs(30), "the servers to end", || processes.iter().all(|p| !p.exists()));
    wait_until(Duration::from_secs(30), "their folders to go", || !browser_folder.exists());
}
