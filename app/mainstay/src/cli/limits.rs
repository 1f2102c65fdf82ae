//! `mainstay limits …`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::ClientArgs;

#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: LimitsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LimitsCommand {
    /// Ask whether something may go on, and charge it; exits with 3 when it may not
    Check(CheckArgs),
    /// As check, for what is not known exactly yet: prints the text that settles it
    Reserve {
        #[command(flatten)]
        check: CheckArgs,
        /// How long it can be settled, in seconds: 1 to 3600
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        lease: u64,
    },
    /// Say what a reservation cost in the end
    Settle {
        /// The text that the reservation gave
        reservation: String,
        /// What it cost; 0 gives everything back
        cost: u64,
    },
    /// Rules: list, get, put, versions, diff, rollback
    Rules {
        #[command(subcommand)]
        command: RulesCommand,
    },
    /// Rules by how often they refuse, and the keys that are refused most
    Top,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The set of rules
    pub(crate) domain: String,
    /// What is done, as key=value; `+` between entries starts another descriptor
    #[arg(value_name = "KEY=VALUE", required = true)]
    pub(crate) entries: Vec<String>,
    /// What it costs
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) cost: u64,
    /// Only rules whose keys are exactly these, as Envoy has it
    #[arg(long)]
    pub(crate) exact: bool,
    /// Charge nothing
    #[arg(long)]
    pub(crate) peek: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Domains that have rules
    List,
    /// The rules of a domain, as JSON that `put` takes
    Get {
        /// The domain
        domain: String,
        /// An old version of them
        #[arg(long, value_name = "N")]
        at: Option<i64>,
    },
    /// Put the rules of a file in the place of those of a domain
    Put {
        /// The domain
        domain: String,
        /// A file of JSON: the rules, or an object with `rules`
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Why
        #[arg(long, short, value_name = "TEXT", default_value = "")]
        message: String,
        /// Only when they are still at this version
        #[arg(long, value_name = "N")]
        if_version: Option<i64>,
    },
    /// Versions, the newest first
    Versions {
        /// The domain
        domain: String,
    },
    /// What differs between two versions
    Diff {
        /// The domain
        domain: String,
        /// The version before
        from: i64,
        /// The version after; left out: the rules as they hold now
        to: Option<i64>,
    },
    /// Make an old version the newest, in one step
    Rollback {
        /// The domain
        domain: String,
        /// The number of the version
        #[arg(value_name = "VERSION")]
        to: i64,
        /// Why
        #[arg(long, short, value_name = "TEXT", default_value = "")]
        message: String,
    },
}
