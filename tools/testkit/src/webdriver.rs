use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use tempfile::TempDir;

use crate::{Process, Spec, binary, free_port, is_root};

/// Chromium's WebDriver server on a free port. Dropping it ends it and the browsers it started.
#[derive(Debug)]
pub struct Chromedriver {
    _process: Process,
    folder: TempDir,
    port: u16,
}

impl Chromedriver {
    /// Starts one.
    ///
    /// # Panics
    /// When Chromium or its driver are not installed, or it does not come up; with its log.
    pub fn start() -> Self {
        binary("chromium");
        let folder =
            tempfile::Builder::new().prefix("testkit-chromium-").tempdir().expect("a temporary folder can be made");
        let port = free_port();
        let mut spec = Spec::new(binary("chromedriver"), [format!("--port={port}")], folder.path().join("log"));
        spec.folder = Some(folder.path().to_path_buf());
        // Chromium keeps its own locks and sockets there too.
        spec.environment = vec![("TMPDIR".to_owned(), folder.path().display().to_string())];
        let mut process = Process::start(&spec);
        process.await_ready("chromedriver", Duration::from_secs(30), || {
            get(port, "/status").is_some_and(|answer| answer.contains("\"ready\":true"))
        });
        Self { _process: process, folder, port }
    }

    /// Where a WebDriver client connects.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The arguments for Chromium (`goog:chromeOptions.args`): headless, a profile of its own, no sandbox where the tests run as root.
    pub fn chromium_arguments(&self) -> Vec<String> {
        let profile = format!("--user-data-dir={}", self.folder.path().join("profile").display());
        let mut arguments: Vec<String> =
            ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"]
                .map(str::to_owned)
                .into();
        arguments.push(profile);
        if is_root() {
            arguments.push("--no-sandbox".to_owned());
        }
        arguments
    }
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    // The driver may keep the connection open: what came until then is enough.
    stream.read_to_end(&mut answer).ok();
    Some(String::from_utf8_lossy(&answer).into_owned())
}
