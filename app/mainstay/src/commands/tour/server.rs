//! A throw-away server for the tour: the same binary, in a temporary folder, on free ports.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use kernel::Clock;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::commands::client::Client;

/// How long a start or a stop may take before the tour gives up.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(2);

/// A running server.
pub(crate) struct Server {
    child: Child,
    data: PathBuf,
    log: PathBuf,
    clock: Clock,
    /// Where its API answers.
    pub(crate) api: Client,
    /// Where it redirects.
    pub(crate) public: Client,
    /// From the start of the process until it reported itself ready.
    pub(crate) ready_after: Duration,
}

impl Server {
    /// Starts one on `data`.
    pub(crate) fn start(data: &Path, clock: &Clock) -> Result<Self, String> {
        let exe = std::env::current_exe().map_err(|e| e.to_string())?;
        let log = data.with_extension("log");
        let output = File::options().create(true).append(true).open(&log).map_err(|e| e.to_string())?;
        let errors = output.try_clone().map_err(|e| e.to_string())?;
        let node = data.join("node.json");
        drop(std::fs::remove_file(&node));
        let started = clock.monotonic();
        let mut child = Command::new(exe)
            .arg("serve")
            .arg("--dev")
            .arg("--data")
            .arg(data)
            .args(["--set", "api.listen=127.0.0.1:0", "--set", "public.listen=127.0.0.1:0"])
            // The developer's own settings must not lead the throw-away server to real data.
            .env_clear()
            .current_dir(data.parent().unwrap_or(data))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|e| format!("cannot start the server: {e}"))?;
        loop {
            // The file appears complete: the server writes it beside and renames it, once it is ready.
            if let Some(node) = std::fs::read(&node).ok().and_then(|b| serde_json::from_slice::<Value>(&b).ok()) {
                let client = |name: &str| Client::to(node[name].as_str().unwrap_or_default(), None, None);
                return Ok(Self {
                    child,
                    data: data.to_path_buf(),
                    log,
                    api: client("api_url"),
                    public: client("public_url"),
                    ready_after: clock.monotonic().saturating_sub(started),
                    clock: clock.clone(),
                });
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("the server ended with {status}:\n{}", tail(&log)));
            }
            if clock.monotonic().saturating_sub(started) > PATIENCE {
                drop(child.kill());
                return Err(format!("the server was not ready after {PATIENCE:?}:\n{}", tail(&log)));
            }
            pause(POLL);
        }
    }

    /// `kill -9`: no handler runs, nothing is flushed.
    pub(crate) fn kill_9(mut self) -> Result<(), String> {
        self.child.kill().map_err(|e| e.to_string())?;
        self.child.wait().map(drop).map_err(|e| e.to_string())
    }

    /// SIGTERM, and how long it took to end.
    pub(crate) fn stop(mut self) -> Result<Duration, String> {
        let started = self.clock.monotonic();
        let pid = i32::try_from(self.child.id()).map_err(|e| e.to_string())?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|e| e.to_string())?;
        loop {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                let took = self.clock.monotonic().saturating_sub(started);
                return if status.success() {
                    Ok(took)
                } else {
                    Err(format!("it ended with {status}:\n{}", tail(&self.log)))
                };
            }
            if self.clock.monotonic().saturating_sub(started) > PATIENCE {
                return Err(format!("it had not ended after {PATIENCE:?}"));
            }
            pause(POLL);
        }
    }

    /// Memory in use, in bytes, as the kernel counts it.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Waits a little between two looks at another process.
#[allow(clippy::disallowed_methods, reason = "another process gives no event to wait for")]
pub(crate) fn pause(d: Duration) {
    std::thread::sleep(d);
}
