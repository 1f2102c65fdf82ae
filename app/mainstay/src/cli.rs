//! The command line: what can be typed, with its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

mod discovery;
mod gateway;
mod limits;
mod links;

pub(crate) use discovery::*;
pub(crate) use gateway::*;
pub(crate) use limits::*;
pub(crate) use links::*;

/// Every backend system that a product stands on, in one binary.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version, about, max_term_width = 100, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server: API and console on one port, the public listener on another
    Serve(ServeArgs),
    /// Show the effective configuration and where each value came from
    CheckConfig(CheckConfigArgs),
    /// Manage API keys of a running server
    Keys(KeysArgs),
    /// Write a consistent snapshot of the data, while the server runs
    Backup(BackupArgs),
    /// Lay a snapshot into an empty data folder or an empty PostgreSQL database
    Restore(RestoreArgs),
    /// Move a whole embedded installation to PostgreSQL and verify it
    Migrate(MigrateArgs),
    /// Start a throw-away server, drive it with real requests and print what it saw
    Tour(TourArgs),
    /// Short links of a running server
    Links(Box<LinksArgs>),
    /// Rate limits of a running server: ask, reserve, change rules
    Limits(Box<LimitsArgs>),
    /// The gateway of a running server: its document, routes, back ends, and why a request goes where it goes
    Gateway(Box<GatewayArgs>),
    /// The service registry of a running server: who serves what, and is it well
    Discovery(Box<DiscoveryArgs>),
    /// Hosts on which short links answer
    Domains(DomainsArgs),
    /// Campaign parameters under a name, for new links
    UtmTemplates(TemplatesArgs),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Where the configuration comes from; the same for every command that opens the data.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file [default: mainstay.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "MAINSTAY_CONFIG", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Data folder; short for --set server.data_dir=DIR
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data: Option<PathBuf>,
    /// Set one configuration key, over file and environment; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// No key needed, human logs; refuses to listen beyond loopback
    #[arg(long)]
    pub(crate) dev: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckConfigArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// List every key with its default, unit and meaning instead
    #[arg(long)]
    pub(crate) keys: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a client command reaches the server.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientArgs {
    /// The server's API address
    #[arg(long, value_name = "URL", env = "MAINSTAY_URL", default_value = "http://127.0.0.1:7070", global = true)]
    pub(crate) url: String,
    /// API key; a server started with --dev needs none
    #[arg(long, value_name = "KEY", env = "MAINSTAY_KEY", hide_env_values = true, global = true)]
    pub(crate) key: Option<String>,
    /// Project to act in; needs an admin key
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) project: Option<String>,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key; it is shown once
    Create {
        /// What it is for
        name: String,
        /// What it may do, such as links:read or *:admin; may be repeated
        #[arg(long = "scope", value_name = "SYSTEM:VERB", required = true)]
        scopes: Vec<String>,
        /// When it stops working (RFC 3339)
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// List keys
    List,
    /// Give a key a new secret; the old one works on for the overlap
    Rotate {
        /// The key's id
        id: String,
        /// How long the old secret still works, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        overlap_seconds: u64,
    },
    /// Make a key stop working now
    Revoke {
        /// The key's id
        id: String,
    },
    /// Make a new admin key straight in the database, when every key was lost
    Recover {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The file to write; must not exist
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The snapshot to read
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) from: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The empty PostgreSQL database to move to, as postgres://user@host/name
    #[arg(long, value_name = "URL", env = "MAINSTAY_MIGRATE_TO", hide_env_values = true)]
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct TourArgs {
    /// Print one JSON line a step
    #[arg(long)]
    pub(crate) json: bool,
    /// Import the URLs in this file, one a line, instead of the homepages that Debian's package lists carry
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) urls: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    /// Names of arguments that meet in one subcommand are found here, not by whoever types it.
    #[test]
    fn every_command_can_be_typed() {
        super::Cli::command().debug_assert();
    }
}
