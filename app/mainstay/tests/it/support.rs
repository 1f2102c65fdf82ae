//! Starts `mainstay serve` as its users do and talks to it over the network.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A command of the binary under test, with none of the developer's own settings.
pub(crate) fn mainstay(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    command
}

pub(crate) fn output(folder: &Path, args: &[&str]) -> Output {
    mainstay(folder).args(args).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Looks until it finds something; what did not come within a minute fails the test with `what`.
#[allow(clippy::disallowed_methods, reason = "another process gives no event to wait for")]
pub(crate) fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A running server; killed when dropped.
pub(crate) struct Node {
    pub(crate) child: Child,
    pub(crate) api: String,
    pub(crate) public: String,
    pub(crate) log: PathBuf,
}

impl Node {
    /// `mainstay serve` with its data in `folder/name` on free ports.
    pub(crate) fn start(folder: &Path, name: &str, args: &[&str]) -> Self {
        let data = folder.join(name);
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let node = data.join("node.json");
        drop(std::fs::remove_file(&node));
        let mut child = mainstay(folder)
            .arg("serve")
            .arg("--data")
            .arg(&data)
            .args(["--set", "api.listen=127.0.0.1:0", "--set", "public.listen=127.0.0.1:0"])
            .args(args)
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let addresses: Value = wait("the node reports itself ready", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("{name} ended with {status}:\n{}", std::fs::read_to_string(&log).unwrap());
            }
            serde_json::from_slice(&std::fs::read(&node).ok()?).ok()
        });
        let address = |key: &str| addresses[key].as_str().unwrap().to_owned();
        Self { api: address("api_url"), public: address("public_url"), child, log }
    }

    pub(crate) fn dev(folder: &Path, name: &str, args: &[&str]) -> Self {
        Self::start(folder, name, &[&["--dev"], args].concat())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// SIGTERM by id; the exit must be clean.
    pub(crate) fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = wait("the node ends", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}:\n{}", self.log());
    }

    pub(crate) fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into()
}

/// One request; an error is a connection that failed.
pub(crate) fn try_send(
    agent: &ureq::Agent,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Result<Answer, ureq::Error> {
    let mut request = http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let bytes = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
    let response = agent.run(request.body(bytes).unwrap())?;
    let (parts, mut body) = response.into_parts();
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: text(&body.read_to_vec()?) })
}

pub(crate) fn send(method: &str, url: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
    try_send(&agent(), method, url, headers, body).unwrap_or_else(|e| panic!("{method} {url}: {e}"))
}

pub(crate) fn get(url: &str) -> Answer {
    send("GET", url, &[], None)
}

/// Clicks of a link that are in the rollups.
pub(crate) fn clicks(api: &str, code: &str) -> u64 {
    get(&format!("{api}/v1/links/{code}/clicks?step=day")).json()["total_click_count"].as_u64().unwrap()
}
