//! `mainstay discovery …`

use clap::{Args, Subcommand};

use super::ClientArgs;

#[derive(Debug, Args)]
pub(crate) struct DiscoveryArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: DiscoveryCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DiscoveryCommand {
    /// Services that have instances
    Services,
    /// Instances of a service
    Show {
        /// Its name
        service: String,
        /// All that are registered, not only those to be used
        #[arg(long)]
        all: bool,
        /// Only with this tag
        #[arg(long)]
        tag: Option<String>,
    },
    /// Register an instance
    Register {
        /// Its id, one in the project
        id: String,
        /// The service that it is one of
        #[arg(long)]
        service: String,
        /// Its address; left out: the one that the server sees
        #[arg(long, default_value = "")]
        address: String,
        /// Its port
        #[arg(long)]
        port: u16,
        /// Words to choose by
        #[arg(long)]
        tag: Vec<String>,
        /// Where it is
        #[arg(long, default_value = "")]
        zone: String,
        /// It says that it is alive at least once in this time, such as 15s
        #[arg(long, value_name = "TIME")]
        ttl: Option<String>,
        /// The server asks for this path
        #[arg(long, value_name = "PATH")]
        http: Option<String>,
    },
    /// Say that an instance is alive
    Heartbeat {
        /// Its id
        id: String,
    },
    /// Take an instance out, before it stops
    Deregister {
        /// Its id
        id: String,
    },
    /// Let an instance take no more work
    Drain {
        /// Its id
        id: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let an instance take work again
    Undrain {
        /// Its id
        id: String,
    },
    /// The nodes of the registry, and what is suspended
    Status,
}
