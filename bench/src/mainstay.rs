//! The real binary, started as an operator would.

use std::{
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{Process, Spec};

use crate::machine;

/// A running server with its data in a temporary folder.
pub(crate) struct Server {
    process: Process,
    _folder: tempfile::TempDir,
    pub(crate) api_port: u16,
    pub(crate) public_port: u16,
}

impl Server {
    /// With its defaults, except for free ports, no limit on creations, and `settings`.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let data = folder.path().join("data");
        let mut arguments = vec!["serve", "--dev", "--data", data.to_str().expect("temporary folders are UTF-8")];
        let always = ["api.listen=127.0.0.1:0", "public.listen=127.0.0.1:0", "shortener.creation_limit_per_minute=0"];
        arguments.extend(always.iter().chain(settings).flat_map(|setting| ["--set", setting]));
        let mut process = Process::start(&Spec::new(binary(), arguments, folder.path().join("log")));
        let mut node = Value::Null;
        process.await_ready("mainstay", Duration::from_secs(30), || {
            // It appears whole.
            let read = std::fs::read(data.join("node.json")).ok();
            node = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
            node.is_object()
        });
        let port = |name: &str| {
            let url = node[name].as_str().unwrap_or_default();
            url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("node.json names its addresses")
        };
        Self { process, _folder: folder, api_port: port("api_url"), public_port: port("public_url") }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Creates a link for each destination, over 16 connections; their codes in the same order.
    pub(crate) fn create_links(&self, destinations: &[String]) -> Vec<String> {
        let url = format!("http://127.0.0.1:{}/v1/links", self.api_port);
        let share = destinations.len().div_ceil(16).max(1);
        thread::scope(|scope| {
            let workers: Vec<_> = destinations
                .chunks(share)
                .map(|part| {
                    let url = &url;
                    scope.spawn(move || {
                        let agent = ureq::Agent::new_with_defaults();
                        part.iter().map(|destination| create(&agent, url, destination)).collect::<Vec<String>>()
                    })
                })
                .collect();
            workers.into_iter().flat_map(|w| w.join().expect("no worker panics")).collect()
        })
    }
}

/// The release binary beside this program.
pub(crate) fn binary() -> PathBuf {
    let binary = machine::target().join("release/mainstay");
    assert!(binary.is_file(), "build it first: cargo build --release --package mainstay");
    binary
}

fn create(agent: &ureq::Agent, url: &str, destination: &str) -> String {
    let mut answer = agent.post(url).send_json(json!({ "url": destination })).expect("a link can be made");
    let link: Value = answer.body_mut().read_json().expect("the answer is JSON");
    link["code"].as_str().expect("a link has a code").to_owned()
}

/// Writes paths, one a line.
pub(crate) fn write_paths(file: &Path, paths: impl Iterator<Item = String>) {
    let text: String = paths.map(|path| path + "\n").collect();
    std::fs::write(file, text).expect("the folder can be written");
}
