#![allow(clippy::disallowed_methods, reason = "it tells the developer how long a step took")]

use std::{
    process::Command,
    time::{Duration, Instant},
};

/// A cargo command with the cargo that runs us.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// Steps in order, each with a line before and after; the first that fails ends the run.
pub(crate) struct Run {
    count: usize,
    done: Vec<(&'static str, Duration)>,
}

impl Run {
    pub(crate) fn new(count: usize) -> Self {
        Self { count, done: Vec::new() }
    }

    pub(crate) fn step(&mut self, name: &'static str, body: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        let number = self.done.len() + 1;
        println!("\n=== {number}/{} {name}", self.count);
        let start = Instant::now();
        let outcome = body();
        let took = start.elapsed();
        match outcome {
            Ok(()) => {
                println!("=== {number}/{} {name}: ok in {:.1} s", self.count, took.as_secs_f64());
                self.done.push((name, took));
                Ok(())
            }
            Err(message) => {
                self.summary();
                Err(format!("{name:>8}  FAILED after {:.1} s\n\n{message}", took.as_secs_f64()))
            }
        }
    }

    pub(crate) fn summary(&self) {
        println!();
        for (name, took) in &self.done {
            println!("{name:>8}  ok  {:>7.1} s", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        println!("{:>8}      {:>7.1} s", "total", total.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_ends_the_run_and_is_named() {
        let mut run = Run::new(2);
        assert_eq!(run.step("good", || Ok(())), Ok(()));
        let error = run.step("bad", || Err("because".to_owned())).unwrap_err();
        assert!(error.contains("bad  FAILED") && error.ends_with("because"), "{error}");
        assert_eq!(run.done.len(), 1);
    }
}
