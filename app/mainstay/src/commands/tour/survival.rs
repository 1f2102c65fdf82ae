//! The tour's hard part: `kill -9` under load, backup while writing, restore elsewhere, orderly shutdown.

use std::{
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;

use super::{Tour, server::Server};
use crate::commands::client::{Client, segment};

/// Writers that run while the server is killed.
const WRITERS: usize = 8;
/// Links acknowledged before the blow falls.
const BEFORE_KILL: usize = 400;

pub(super) fn run(tour: &mut Tour, server: Server, folder: &Path) -> Result<(), String> {
    let data = server.data().to_path_buf();
    let acknowledged = write_until(server, BEFORE_KILL)?;
    let server = Server::start(&data, &tour.clock)?;
    let restarted = format!("ready again after {} ms", server.ready_after.as_millis());
    tour.saw(&format!("kill -9 while {WRITERS} clients write"), &restarted, true);
    let lost = missing(&server.api, &acknowledged)?;
    tour.saw(
        &format!("GET each of the {} links acknowledged before", acknowledged.len()),
        &format!("{lost} lost"),
        lost == 0,
    );

    let snapshot = folder.join("snapshot.db");
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let backup = mainstay(&exe, folder, &["backup", "--data", path(&data), "--to", path(&snapshot)])?;
    tour.saw("mainstay backup, while it runs", &backup, snapshot.exists());
    let took = server.stop()?;
    tour.saw("SIGTERM", &format!("drained and ended in {} ms", took.as_millis()), took < Duration::from_secs(20));

    let elsewhere = folder.join("restored");
    let restored = mainstay(&exe, folder, &["restore", "--from", path(&snapshot), "--data", path(&elsewhere)])?;
    tour.saw("mainstay restore, into another folder", &restored, elsewhere.exists());
    let server = Server::start(&elsewhere, &tour.clock)?;
    let lost = missing(&server.api, &acknowledged)?;
    tour.saw("GET each of them from the restored server", &format!("{lost} lost"), lost == 0);
    server.stop().map(drop)
}

fn path(p: &Path) -> &str {
    p.to_str().unwrap_or_default()
}

fn mainstay(exe: &Path, folder: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new(exe).args(args).current_dir(folder).env_clear().output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        Ok(text.lines().last().unwrap_or_default().to_owned())
    } else {
        Err(format!("mainstay {}: {}", args[0], String::from_utf8_lossy(&output.stderr)))
    }
}

/// Creates links from several threads, kills the server in the middle, and returns the codes whose creation was answered.
fn write_until(server: Server, enough: usize) -> Result<Vec<String>, String> {
    let acknowledged = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let (api, acknowledged, stop) = (server.api.clone(), &acknowledged, &stop);
            writers.push(scope.spawn(move || {
                for n in 0.. {
                    let url = format!("https://example.com/survive/{writer}/{n}");
                    let Ok(link) = api.call("POST", "/v1/links", Some(&json!({ "url": url }))) else { return };
                    if let (Some(code), Ok(mut all)) = (link["code"].as_str(), acknowledged.lock()) {
                        all.push(code.to_owned());
                        if all.len() >= enough {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
            }));
        }
        // A writer ends when it is refused or the server is gone.
        while !stop.load(Ordering::Relaxed) && writers.iter().any(|w| !w.is_finished()) {
            super::server::pause(Duration::from_millis(1));
        }
        server.kill_9()
    })?;
    let acknowledged = acknowledged.into_inner().map_err(|e| e.to_string())?;
    if acknowledged.len() < enough {
        Err(format!("only {} creations were answered", acknowledged.len()))
    } else {
        Ok(acknowledged)
    }
}

fn missing(api: &Client, codes: &[String]) -> Result<usize, String> {
    let mut lost = 0;
    for code in codes {
        if api.send("GET", &format!("/v1/links/{}", segment(code)), &[], None)?.status != 200 {
            lost += 1;
        }
    }
    Ok(lost)
}
