//! The developer's commands: `cargo xtask` lists them.
#![allow(clippy::print_stdout, reason = "a command line tool answers on standard output")]

mod lines;
mod setup;
mod step;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use step::{Run, cargo};

const USAGE: &str = "\
cargo xtask COMMAND

  setup             installs what the tests need: Debian packages (as root) and schemathesis in target/venv
  fmt               formats the workspace
  lint              clippy over everything; a warning is an error
  tidy              the rules of the house (tools/tidy)
  test [-p CRATE]   with -p: the tests of one crate; else everything that CI does: setup, format, lint, build, tidy, test
  docs              writes docs/configuration.md and docs/errors/README.md from the declarations in the code
  bench NAME [ARG…] a side-by-side benchmark; without a name, the list
  loc               lines of each crate
  timings           builds everything anew for cargo's report of what took how long
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["setup"] => setup::run(root()),
        ["fmt"] => run(&mut cargo(&["fmt", "--all"])),
        ["lint"] => run(&mut lint()),
        ["tidy"] => tidy(),
        ["test"] => test_everything(),
        ["test", "-p", name] => run(&mut cargo(&["test", "--package", name])),
        ["docs"] => write_docs(),
        ["bench", rest @ ..] => run(cargo(&["run", "--release", "--package", "bench", "--"]).args(rest)),
        ["loc"] => lines::print(),
        ["timings"] => run(&mut cargo(&["test", "--workspace", "--no-run", "--timings"])),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> &'static Path {
    tidy::workspace_root()
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |t| root().join(t))
}

fn run(command: &mut Command) -> Result<(), String> {
    let status = command.current_dir(root()).status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("failed ({status}): {command:?}")) }
}

fn lint() -> Command {
    cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])
}

fn tidy() -> Result<(), String> {
    let mut count = 0;
    for (rule, found) in tidy::check(root())? {
        println!("{} {}: {}", if found.is_empty() { "ok    " } else { "BROKEN" }, rule.name, rule.sentence);
        for finding in &found {
            println!("       {finding}");
        }
        count += found.len();
    }
    if count == 0 { Ok(()) } else { Err(format!("the rules of the house are broken in {count} places")) }
}

fn write_docs() -> Result<(), String> {
    let house = tidy::House::read(root())?;
    let papers = [
        (tidy::papers::CONFIGURATION, tidy::papers::configuration(&house)),
        (tidy::papers::ERROR_INDEX, tidy::papers::error_index(&house)),
    ];
    for (path, text) in papers {
        std::fs::write(root().join(path), text).map_err(|e| format!("{path}: {e}"))?;
        println!("wrote {path}");
    }
    Ok(())
}

/// What CI runs, step by step. Everything is built in the dev profile with the features of the whole workspace, so that
/// nothing compiles twice; tests run the binary of that same build.
fn test_everything() -> Result<(), String> {
    let skipped = target().join("skipped-vectors");
    std::fs::create_dir_all(target()).map_err(|e| e.to_string())?;
    std::fs::write(&skipped, "").map_err(|e| format!("{}: {e}", skipped.display()))?;
    let mut steps = Run::new(6);
    steps.step("setup", || setup::run(root()))?;
    steps.step("format", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
    steps.step("lint", || run(&mut lint()))?;
    steps.step("build", || run(&mut cargo(&["test", "--workspace", "--no-run"])))?;
    steps.step("tidy", tidy)?;
    steps.step("test", || {
        run(cargo(&["test", "--workspace", "--no-fail-fast"]).env("MAINSTAY_SKIPPED_VECTORS", &skipped))
    })?;
    let skipped = std::fs::read_to_string(&skipped).unwrap_or_default();
    steps.summary();
    println!("vector tests skipped for want of vectors: {}", skipped.lines().count());
    Ok(())
}
