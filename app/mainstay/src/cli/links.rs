//! What can be typed about short links.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::ClientArgs;

#[derive(Debug, Args)]
pub(crate) struct LinksArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: LinksCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LinksCommand {
    /// Shorten a URL
    Create {
        /// Where the link leads
        #[arg(value_name = "URL")]
        destination: String,
        /// A code of your own
        #[arg(long)]
        alias: Option<String>,
        /// Name of the UTM template that fills what --utm-… leaves out
        #[arg(long, value_name = "NAME")]
        utm_template: Option<String>,
        /// The host it answers on [default: the installation's own]
        #[arg(long, value_name = "HOST")]
        domain: Option<String>,
        #[command(flatten)]
        fields: LinkFields,
    },
    /// List links, newest first
    List {
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Where the last page ended
        #[arg(long)]
        cursor: Option<String>,
        #[command(flatten)]
        filter: LinkFilter,
    },
    /// Show one link
    Get {
        #[command(flatten)]
        link: LinkName,
    },
    /// Change a link; what is not named stays
    Update {
        #[command(flatten)]
        link: LinkName,
        /// Where it leads
        #[arg(long = "to", value_name = "URL")]
        destination: Option<String>,
        /// Switch it off: it answers 403
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// Switch it on again
        #[arg(long)]
        enable: bool,
        /// Change it only if it still has this ETag
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
        #[command(flatten)]
        fields: LinkFields,
    },
    /// Delete a link; its code answers 404 afterwards
    Delete {
        #[command(flatten)]
        link: LinkName,
    },
    /// Show what was changed about a link, newest first
    History {
        #[command(flatten)]
        link: LinkName,
        /// How many changes at most
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show a link's clicks over time, from the first step with clicks to the last
    Clicks {
        #[command(flatten)]
        link: LinkName,
        /// Width of a step
        #[arg(long, default_value = "hour", value_parser = ["minute", "hour", "day"])]
        step: String,
        /// From this time on (RFC 3339)
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Up to this time
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
    },
    /// Show who follows a link, by what they have in common
    Stats {
        #[command(flatten)]
        link: LinkName,
        /// What visitors are told apart by
        #[arg(long, default_value = "referrer", value_parser = ["referrer", "browser", "system", "device", "country", "language"])]
        by: String,
        /// From the day of this time on (RFC 3339) [default: 30 days ago]
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Up to the day of this time
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
        /// How many values at most
        #[arg(long, default_value_t = 10)]
        limit: u32,
    },
    /// Draw a link's QR code
    Qr {
        #[command(flatten)]
        link: LinkName,
        /// What is drawn
        #[arg(long, default_value = "svg", value_parser = ["svg", "png"])]
        format: String,
        /// The length of a side in pixels
        #[arg(long, default_value_t = 512)]
        size: u32,
        /// How much may be dirty or hidden: l 7 %, m 15 %, q 25 %, h 30 %
        #[arg(long, default_value = "m", value_parser = ["l", "m", "q", "h"])]
        ecc: String,
        /// The file to write; must not exist [default: standard output]
        #[arg(long = "to", value_name = "FILE", value_hint = ValueHint::FilePath)]
        to: Option<PathBuf>,
    },
    /// Import a file of links; see docs/shortener-import.md
    Import {
        /// The file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// What the file looks like [default: by its ending, csv or jsonl]
        #[arg(long)]
        format: Option<ImportFormat>,
        /// The host on which every link of the file shall answer [default: as each row says]
        #[arg(long, value_name = "HOST")]
        domain: Option<String>,
        /// Return when the file is received, not when it is worked through
        #[arg(long)]
        no_wait: bool,
    },
    /// List imports, or show one with the rows that were left out
    Imports {
        /// Its id
        id: Option<String>,
        /// Stop it; links that it made stay
        #[arg(long, requires = "id")]
        cancel: bool,
    },
    /// Write links into a file or to standard output
    Export {
        /// What to write
        #[arg(long, default_value = "csv", value_parser = ["csv", "jsonl"])]
        format: String,
        /// The file to write; must not exist [default: standard output]
        #[arg(long = "to", value_name = "FILE", value_hint = ValueHint::FilePath)]
        to: Option<PathBuf>,
        #[command(flatten)]
        filter: LinkFilter,
    },
}

/// Which link.
#[derive(Debug, Args)]
pub(crate) struct LinkName {
    /// Its code
    pub(crate) code: String,
    /// The host it answers on [default: the installation's own]
    #[arg(long, value_name = "HOST")]
    pub(crate) domain: Option<String>,
}

/// Which links.
#[derive(Debug, Args)]
pub(crate) struct LinkFilter {
    /// Only codes that start with this
    #[arg(long, value_name = "PREFIX")]
    pub(crate) code: Option<String>,
    /// Only links with this tag
    #[arg(long)]
    pub(crate) tag: Option<String>,
    /// Only links on this host
    #[arg(long, value_name = "HOST")]
    pub(crate) domain: Option<String>,
    /// Only links that are this now
    #[arg(long, value_parser = ["active", "scheduled", "expired", "disabled", "taken_down"])]
    pub(crate) status: Option<String>,
    /// Only links whose code, URL or title holds this
    #[arg(long = "search", value_name = "TEXT")]
    pub(crate) text: Option<String>,
}

/// What can be said of a new link and changed of another. `none` takes a time, number, password or the tags away.
#[derive(Debug, Args)]
pub(crate) struct LinkFields {
    /// Its name for people
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// What you want to remember
    #[arg(long)]
    pub(crate) notes: Option<String>,
    /// A word to find it by; may be repeated
    #[arg(long = "tag")]
    pub(crate) tags: Vec<String>,
    /// Before that it leads nowhere (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) starts_at: Option<String>,
    /// When it stops working (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) expires_at: Option<String>,
    /// How often it may be followed
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_clicks: Option<String>,
    /// What visitors have to know first; better from the environment than typed
    #[arg(long, env = "MAINSTAY_LINK_PASSWORD", hide_env_values = true)]
    pub(crate) password: Option<String>,
    /// Status of the redirect
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(301..=308))]
    pub(crate) redirect: Option<u16>,
    /// Whether the visitor's query is handed on to the destination
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) forward_query: Option<bool>,
    /// utm_source, added to the destination
    #[arg(long, value_name = "TEXT")]
    pub(crate) utm_source: Option<String>,
    /// utm_medium
    #[arg(long, value_name = "TEXT")]
    pub(crate) utm_medium: Option<String>,
    /// utm_campaign
    #[arg(long, value_name = "TEXT")]
    pub(crate) utm_campaign: Option<String>,
    /// utm_term
    #[arg(long, value_name = "TEXT")]
    pub(crate) utm_term: Option<String>,
    /// utm_content
    #[arg(long, value_name = "TEXT")]
    pub(crate) utm_content: Option<String>,
    /// Who gets another destination: [{"device": […], "language": […], "country": […], "to": [{"url": …}]}]
    #[arg(long, value_name = "JSON")]
    pub(crate) rules: Option<String>,
    /// Destinations that share the visitors: [{"url": …, "weight": 1}, …]
    #[arg(long, value_name = "JSON")]
    pub(crate) split: Option<String>,
}

/// What a file to be imported looks like.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ImportFormat {
    /// Our own CSV
    Csv,
    /// Our own JSON, an object a line
    Jsonl,
    /// What Shlink's web client exports, or what Shlink's importer takes
    ShlinkCsv,
    /// Answers of Shlink's GET /rest/v3/short-urls
    ShlinkJson,
    /// What YOURLS's import/export plugin writes, or its table of URLs with a header
    YourlsCsv,
    /// Answers of YOURLS's action=stats
    YourlsJson,
}

#[derive(Debug, Args)]
pub(crate) struct DomainsArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: DomainsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DomainsCommand {
    /// List the project's hosts
    List,
    /// Show one
    Get {
        /// Its name
        host: String,
    },
    /// Add a host whose visitors reach the public listener
    Add {
        /// Its name, without scheme and port
        host: String,
        /// Codes that differ in case are the same; stays so
        #[arg(long)]
        ignore_case: bool,
        #[command(flatten)]
        pages: DomainPages,
    },
    /// Change where its / and unknown codes lead
    Update {
        /// Its name
        host: String,
        #[command(flatten)]
        pages: DomainPages,
    },
    /// Remove a host that has no links
    Remove {
        /// Its name
        host: String,
    },
}

/// Where visitors go who bring no code that is known. `none` takes it away.
#[derive(Debug, Args)]
pub(crate) struct DomainPages {
    /// Where / leads
    #[arg(long, value_name = "URL")]
    pub(crate) root_url: Option<String>,
    /// Where unknown codes lead
    #[arg(long, value_name = "URL")]
    pub(crate) unknown_url: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TemplatesArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: TemplatesCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TemplatesCommand {
    /// List the project's templates
    List,
    /// Write one, in place of what it was
    Set {
        /// Its name
        name: String,
        /// utm_source
        #[arg(long)]
        source: Option<String>,
        /// utm_medium
        #[arg(long)]
        medium: Option<String>,
        /// utm_campaign
        #[arg(long)]
        campaign: Option<String>,
        /// utm_term
        #[arg(long)]
        term: Option<String>,
        /// utm_content
        #[arg(long)]
        content: Option<String>,
    },
    /// Remove one; links made with it stay as they are
    Remove {
        /// Its name
        name: String,
    },
}
