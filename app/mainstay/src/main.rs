//! The `mainstay` binary: command line, composition root, listeners, console. The only place that names every system.

mod cli;
mod commands;
mod config;
mod console;
mod front;
mod house;
mod http;
mod limits;
mod listen;
mod numbers;
mod output;
mod public;
mod registry;
mod rooms;
mod shed;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::{
    cli::{Cli, Command, KeysCommand},
    commands::serve::Failed,
    output::note,
};

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            note(format!("error: {}", failed.message));
            ExitCode::from(failed.exit_code)
        }
    }
}

fn run(command: Command) -> Result<(), Failed> {
    match command {
        Command::Serve(args) => block_on(commands::serve::run(&args)),
        Command::CheckConfig(args) => {
            commands::check_config::run(&args).map_err(|message| Failed { message, exit_code: 2 })
        }
        Command::Keys(args) => match &args.command {
            KeysCommand::Recover { config } => block_on(commands::keys::recover(config)),
            _ => commands::keys::run(&args).map_err(Failed::from),
        },
        Command::Backup(args) => block_on(commands::backup::backup(&args)),
        Command::Restore(args) => block_on(commands::backup::restore(&args)),
        Command::Migrate(args) => block_on(commands::migrate::run(&args)),
        Command::Tour(args) => commands::tour::run(&args).map_err(Failed::from),
        Command::Links(args) => commands::links::run(&args).map_err(Failed::from),
        Command::Limits(args) => {
            let may_go_on = commands::limits::run(&args)?;
            let refused = || Failed { message: "it may not go on".to_owned(), exit_code: 3 };
            may_go_on.then_some(()).ok_or_else(refused)
        }
        Command::Gateway(args) => {
            let is_there = commands::gateway::run(&args)?;
            let refused = || Failed { message: "not as asked".to_owned(), exit_code: 3 };
            is_there.then_some(()).ok_or_else(refused)
        }
        Command::Discovery(args) => commands::discovery::run(&args).map_err(Failed::from),
        Command::Domains(args) => commands::domains::run(&args).map_err(Failed::from),
        Command::UtmTemplates(args) => commands::domains::templates(&args).map_err(Failed::from),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "mainstay", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn block_on(future: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failed::from(format!("cannot start the runtime: {e}")))?;
    runtime.block_on(future)
}
