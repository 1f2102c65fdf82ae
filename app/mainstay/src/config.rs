//! The configuration of the whole binary: every section there is, and how the layers are found.

use std::path::{Path, PathBuf};

use kernel::{
    Network, Settings,
    config::{ConfigError, Key, Origin, Section, Sources},
    section,
};

use crate::cli::ConfigArgs;

section! {
    /// The process as a whole.
    pub(crate) struct ServerConfig("server") {
        /// Folder for everything that is kept on this machine.
        data_dir: PathBuf = "\"mainstay-data\"", "path";
        /// Name of this node in logs and metrics; empty takes the host's name.
        node_name: String = "\"\"", "";
        /// How long the node still serves after it has reported itself not ready, so that load balancers leave first.
        drain_delay: std::time::Duration = "\"0s\"", "duration";
        /// Longest time that shutdown may take; what has not ended by then is aborted.
        shutdown_timeout: std::time::Duration = "\"20s\"", "duration";
    }
}

section! {
    /// The listener of API, gRPC and console.
    pub(crate) struct ApiConfig("api") {
        /// Address to listen on.
        listen: std::net::SocketAddr = "\"127.0.0.1:7070\"", "host:port";
        /// Certificate chain in PEM; with api.tls_key it turns TLS on. Read again when the file changes.
        tls_cert: Option<PathBuf> = "\"\"", "path";
        /// Private key in PEM.
        tls_key: Option<PathBuf> = "\"\"", "path";
        /// Connections served at once; more wait in the kernel's backlog.
        max_connections: usize = "10000", "connections";
        /// How long a client may take to send a request head, and how long a connection may idle.
        header_timeout: std::time::Duration = "\"30s\"", "duration";
        /// Whether fewer requests than `http.in_flight_limit` are let in while they take longer than they should: files first are
        /// refused, then reads, then writes, the console last.
        shedding: bool = "true", "true or false";
        /// What a request may always take before anything is refused for it; above, it may take three times what it takes on a quiet node.
        acceptable_latency: std::time::Duration = "\"250ms\"", "duration";
        /// So many requests are worked on however long they take.
        shed_floor: u32 = "32", "requests";
        /// How often one API key may ask; bursts up to that pass. 0: not limited. With --dev nothing is.
        key_limit_per_minute: u64 = "120000", "requests";
        /// How often one address may ask (of IPv6, one /64), whatever keys it shows. 0: not limited.
        address_limit_per_minute: u64 = "240000", "requests";
    }
}

section! {
    /// The public listener: the gateway's routes and the redirects of the URL shortener are served here, on one thread per core.
    pub(crate) struct PublicConfig("public") {
        /// Address to listen on.
        listen: std::net::SocketAddr = "\"127.0.0.1:8080\"", "host:port";
        /// Certificate chain in PEM; with public.tls_key it turns TLS on. Read again when the file changes.
        tls_cert: Option<PathBuf> = "\"\"", "path";
        /// Private key in PEM.
        tls_key: Option<PathBuf> = "\"\"", "path";
        /// A second address, with TLS: for each host the certificate that the gateway's document names, else the one of public.tls_cert.
        /// public.listen then speaks no TLS. Empty: there is none.
        tls_listen: Option<std::net::SocketAddr> = "\"\"", "host:port";
        /// Load balancers before this listener whose connections begin with a PROXY header (version 1 or 2), as addresses or networks:
        /// from them it has to come, and from nobody else is it understood.
        proxy_protocol: Vec<Network> = "[]", "networks";
        /// Threads that serve; 0 takes one per core.
        worker_count: usize = "0", "threads";
        /// Connections served at once by each thread; more wait in the kernel's backlog.
        max_connections: usize = "10000", "connections";
        /// How long a client may take to send a request head, and how long a connection may idle.
        header_timeout: std::time::Duration = "\"30s\"", "duration";
        /// Proxies before this listener, as addresses or networks such as "10.0.0.0/8": only their X-Forwarded-For is believed.
        trusted_proxies: Vec<Network> = "[]", "networks";
    }
}

/// Every section, in the order in which `check-config` shows them. A new system adds its line here.
pub(crate) const SECTIONS: &[(&str, &[Key])] = &[
    (ServerConfig::NAME, ServerConfig::KEYS),
    (ApiConfig::NAME, ApiConfig::KEYS),
    (PublicConfig::NAME, PublicConfig::KEYS),
    (web::HttpConfig::NAME, web::HttpConfig::KEYS),
    (database::DatabaseConfig::NAME, database::DatabaseConfig::KEYS),
    (memory::MemoryConfig::NAME, memory::MemoryConfig::KEYS),
    (telemetry::TelemetryConfig::NAME, telemetry::TelemetryConfig::KEYS),
    (access::AccessConfig::NAME, access::AccessConfig::KEYS),
    (limiter::LimiterConfig::NAME, limiter::LimiterConfig::KEYS),
    (gateway::GatewayConfig::NAME, gateway::GatewayConfig::KEYS),
    (shortener::ShortenerConfig::NAME, shortener::ShortenerConfig::KEYS),
    (discovery::DiscoveryConfig::NAME, discovery::DiscoveryConfig::KEYS),
];

const DEFAULT_FILE: &str = "mainstay.toml";

/// The layers merged and checked; what is wrong in any of them is told at once.
pub(crate) fn settings(args: &ConfigArgs) -> Result<Settings, Vec<ConfigError>> {
    let file = match &args.config {
        Some(path) => Some(read(path).map_err(|e| vec![e])?),
        None if Path::new(DEFAULT_FILE).exists() => Some(read(Path::new(DEFAULT_FILE)).map_err(|e| vec![e])?),
        None => None,
    };
    let mut set = args.set.clone();
    if let Some(data) = &args.data {
        set.push(format!("server.data_dir={}", data.display()));
    }
    Settings::build(SECTIONS, &Sources { file, env: std::env::vars().collect(), set: &set })
}

fn read(path: &Path) -> Result<(PathBuf, String), ConfigError> {
    std::fs::read_to_string(path).map(|text| (path.to_path_buf(), text)).map_err(|e| ConfigError {
        key: path.display().to_string(),
        origin: Origin::File(path.to_path_buf()),
        detail: format!("cannot read it: {e}"),
    })
}

/// Every section, loaded.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) api: ApiConfig,
    pub(crate) public: PublicConfig,
    pub(crate) http: web::HttpConfig,
    pub(crate) database: database::DatabaseConfig,
    pub(crate) memory: memory::MemoryConfig,
    pub(crate) telemetry: telemetry::TelemetryConfig,
    pub(crate) access: access::AccessConfig,
    pub(crate) limiter: limiter::LimiterConfig,
    pub(crate) gateway: gateway::GatewayConfig,
    pub(crate) shortener: shortener::ShortenerConfig,
    pub(crate) discovery: discovery::DiscoveryConfig,
}

impl Config {
    /// Loads every section; all errors together.
    pub(crate) fn load(settings: &Settings) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let this = (
            section(settings, &mut errors),
            section(settings, &mut errors),
            section(settings, &mut errors),
            section::<web::HttpConfig>(settings, &mut errors),
            section(settings, &mut errors),
            section(settings, &mut errors),
            section(settings, &mut errors),
            section::<access::AccessConfig>(settings, &mut errors),
            section::<limiter::LimiterConfig>(settings, &mut errors),
            section(settings, &mut errors),
            section::<shortener::ShortenerConfig>(settings, &mut errors),
            section::<discovery::DiscoveryConfig>(settings, &mut errors),
        );
        let (
            Some(server),
            Some(api),
            Some(public),
            Some(http),
            Some(database),
            Some(memory),
            Some(telemetry),
            Some(access),
            Some(limiter),
            Some(gateway),
            Some(shortener),
            Some(discovery),
        ) = this
        else {
            return Err(errors);
        };
        errors.extend(http.check());
        errors.extend(access.validate());
        errors.extend(limiter.validate());
        errors.extend(shortener.validate());
        errors.extend(discovery.validate());
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            server,
            api,
            public,
            http,
            database,
            memory,
            telemetry,
            access,
            limiter,
            gateway,
            shortener,
            discovery,
        })
    }
}

fn section<S: Section>(settings: &Settings, errors: &mut Vec<ConfigError>) -> Option<S> {
    S::load(settings).map_err(|e| errors.extend(e)).ok()
}
