//! From nothing to ready, as the tour of the binary itself sees it.

use std::process::Command;

use serde_json::Value;

use crate::{
    machine, mainstay,
    report::{Report, Row, median},
};

pub(crate) fn run(rounds: usize) -> Report {
    let starts: Vec<[f64; 2]> = (0..rounds)
        .map(|_| {
            let output =
                Command::new(mainstay::binary()).args(["tour", "--json"]).output().expect("the binary can be started");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "the tour failed:\n{text}{}", String::from_utf8_lossy(&output.stderr));
            let [ready_ms, kib] = ["mainstay serve --dev", "memory at rest"].map(|sent| seen(&text, sent));
            println!("ready after {ready_ms} ms, {kib} KiB");
            [ready_ms, kib / 1024.0]
        })
        .collect();
    Report {
        name: "start",
        title: "Start and rest".to_owned(),
        conditions: vec![
            machine::describe(),
            format!("median of {rounds} starts in an empty folder, SQLite, release build; noticed within 2 ms"),
            "ready: every table is made and the node reports itself serving; memory: resident, at that moment"
                .to_owned(),
        ],
        columns: vec!["ready after ms", "resident MiB"],
        rows: vec![Row {
            name: "mainstay serve --dev".to_owned(),
            figures: (0..2).map(|column| median(&starts, |s| s[column])[column]).collect(),
        }],
        charted: 0,
    }
}

/// The number in what the tour saw.
fn seen(text: &str, sent: &str) -> f64 {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = lines.into_iter().find(|line| line["sent"] == sent).expect("the tour shows it");
    let seen = line["seen"].as_str().unwrap_or_default();
    seen.split(' ').find_map(|word| word.parse().ok()).expect("it is a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_among_the_words() {
        let text = "{\"sent\":\"a\",\"seen\":\"ready after 42 ms\",\"ok\":true}\n";
        assert!((seen(text, "a") - 42.0).abs() < f64::EPSILON);
    }
}
