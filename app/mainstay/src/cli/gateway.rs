//! `mainstay gateway …`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::ClientArgs;

#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: GatewayCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Say what is wrong with a document, without a server; with --server as the server sees it, and what would change
    Check {
        /// TOML, or JSON where it ends in .json
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Ask the server: it also reads the files that the document names
        #[arg(long)]
        server: bool,
    },
    /// Make a document the one that holds, on every node within a second
    Apply {
        /// TOML, or JSON where it ends in .json
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Why
        #[arg(long, short, value_name = "TEXT", default_value = "")]
        message: String,
        /// Only when it is still at this version
        #[arg(long, value_name = "N")]
        if_version: Option<i64>,
    },
    /// The document that holds, as JSON that `apply` takes
    Get {
        /// An old version of it
        #[arg(long, value_name = "N")]
        at: Option<i64>,
    },
    /// Versions, the newest first
    Versions,
    /// What differs between two versions
    Diff {
        /// The version before
        from: i64,
        /// The version after; left out: the document as it holds now
        to: Option<i64>,
    },
    /// Make an old version the newest, in one step
    Rollback {
        /// The number of the version
        #[arg(value_name = "VERSION")]
        to: i64,
        /// Why
        #[arg(long, short, value_name = "TEXT", default_value = "")]
        message: String,
    },
    /// Routes, and what each has done on the node that answers
    Routes,
    /// Upstreams and their endpoints
    Upstreams,
    /// Say which route a request would take, why not another, and what would be done; exits with 3 when there is none
    Explain {
        /// GET, POST, …
        method: String,
        /// An absolute URL
        #[arg(value_hint = ValueHint::Url)]
        address: String,
        /// A header, as name: value; may be given more than once
        #[arg(long, short = 'H', value_name = "NAME: VALUE")]
        header: Vec<String>,
    },
    /// Take requests away from an endpoint, on every node; those under way end by themselves
    Drain {
        /// The upstream
        upstream: String,
        /// The address of the endpoint
        endpoint: String,
    },
    /// Give requests back to an endpoint
    Undrain {
        /// The upstream
        upstream: String,
        /// The address of the endpoint
        endpoint: String,
    },
}
