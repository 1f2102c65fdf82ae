//! The real binary, started as an operator would.

use std::{path::Path, thread, time::Duration};

use serde_json::{Value, json};
use testkit::{Process, Spec, free_port};

use crate::machine;

/// A running server with its data in a temporary folder.
pub(crate) struct Server {
    process: Process,
    _folder: tempfile::TempDir,
    api_port: u16,
    pub(crate) public_port: u16,
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (api_port, public_port) = (free_port(), free_port());
        let binary = machine::target().join("release/mainstay");
        assert!(binary.is_file(), "build it first: cargo build --release --package mainstay");
        let settings = [
            format!("api.listen=127.0.0.1:{api_port}"),
            format!("public.listen=127.0.0.1:{public_port}"),
            format!("shortener.public_url=http://127.0.0.1:{public_port}"),
            "shortener.creation_limit_per_minute=10000000".to_owned(),
        ];
        let mut arguments = vec![
            "serve".to_owned(),
            "--dev".to_owned(),
            "--data".to_owned(),
            folder.path().join("data").display().to_string(),
        ];
        arguments.extend(settings.into_iter().flat_map(|s| ["--set".to_owned(), s]));
        let mut process = Process::start(&Spec::new(binary, arguments, folder.path().join("log")));
        let ready = format!("http://127.0.0.1:{api_port}/health/ready");
        process.await_ready("mainstay", Duration::from_secs(30), || ureq::get(&ready).call().is_ok());
        Self { process, _folder: folder, api_port, public_port }
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
