//! `mainstay serve`: configuration, sockets, planes, rooms, listeners; then wait, and come down in order.

use std::{net::SocketAddr, path::Path};

use kernel::{Clock, Lifecycle, Rng, Secret, Stage};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::ServeArgs,
    config::{Config, settings},
    house::House,
    listen::{self, tls::Tls},
    output::{line, note},
};

/// How a command ends that did not go well.
pub(crate) struct Failed {
    pub(crate) message: String,
    pub(crate) exit_code: u8,
}

impl From<String> for Failed {
    fn from(message: String) -> Self {
        Self { message, exit_code: 1 }
    }
}

impl From<Vec<kernel::config::ConfigError>> for Failed {
    fn from(errors: Vec<kernel::config::ConfigError>) -> Self {
        let lines: Vec<_> = errors.iter().map(|e| format!("  {e}")).collect();
        Self { message: format!("the configuration does not hold:\n{}", lines.join("\n")), exit_code: 2 }
    }
}

/// Runs the server until it is told to stop.
pub(crate) async fn run(args: &ServeArgs) -> Result<(), Failed> {
    let settings = settings(&args.config)?;
    let config = Config::load(&settings)?;
    if args.dev {
        loopback_only(config.api.listen, "api.listen")?;
        loopback_only(config.public.listen, "public.listen")?;
        if let Some(addr) = config.public.tls_listen {
            loopback_only(addr, "public.tls_listen")?;
        }
    }
    let tls_api = Tls::load("api", config.api.tls_cert.as_deref(), config.api.tls_key.as_deref())?;
    let tls_public = Tls::load("public", config.public.tls_cert.as_deref(), config.public.tls_key.as_deref())?;

    // Sockets first: a taken port is told before any state is touched.
    let api = listen::bind(config.api.listen, "api.listen", false)?;
    let api_addr = api.local_addr().map_err(|e| e.to_string())?;
    let publics = bind_public(&config, config.public.listen, "public.listen")?;
    let secures = match config.public.tls_listen {
        Some(addr) => bind_public(&config, addr, "public.tls_listen")?,
        None => Vec::new(),
    };
    let public_addr = publics[0].local_addr().map_err(|e| e.to_string())?;
    let addresses = Addresses {
        api: url(api_addr, tls_api.is_some()),
        public: url(public_addr, tls_public.is_some() && secures.is_empty()),
    };

    let clock = Clock::system();
    let lifecycle = Lifecycle::new(clock.clone(), Rng::system());
    let process = telemetry::Process {
        version: env!("CARGO_PKG_VERSION"),
        node: node_name(&config),
        clock: clock.clone(),
        rng: Rng::system(),
        tasks: lifecycle.tasks(Stage::Telemetry),
    };
    let telemetry = telemetry::init(&config.telemetry, &process).map_err(|e| e.to_string())?;
    let opened = House::open(config.clone(), addresses.clone(), args.dev, &clock, &lifecycle).await;
    let house = match opened {
        Ok(house) => house,
        Err(e) => {
            lifecycle.shutdown(config.server.shutdown_timeout).await;
            return Err(e.into());
        }
    };

    // At once: it is in the database now, and whatever fails from here on must not take it along unseen.
    if let Some(key) = house.first_admin_key() {
        first_key(key);
    }
    house.metrics().registry("telemetry").add_collector(telemetry.collector());
    let tasks = lifecycle.tasks(Stage::Listeners);
    for tls in [&tls_api, &tls_public].into_iter().flatten() {
        tls.watch(&tasks, clock.clone());
    }
    let router = house.router()?;
    listen::api::serve(api, router, house.checks(), tls_api, &config.api, &clock, &tasks).map_err(|e| e.to_string())?;
    let door = listen::public::Door::new(house.gateway().certificates(), tls_public.as_ref(), &config.public);
    listen::public::serve((publics, secures), &house.public(), &door, &config.public, &clock, &tasks);
    house.set_started();
    until_ready(&house, &lifecycle).await;
    write_node_file(&config.server.data_dir, &addresses)?;
    banner(&addresses, &house, args.dev);

    let reason = until_stopped(&lifecycle).await;
    tracing::info!(reason, "stopping");
    drop(std::fs::remove_file(config.server.data_dir.join(NODE_FILE)));
    house.set_draining();
    clock.sleep(config.server.drain_delay).await;
    let report = lifecycle.shutdown(config.server.shutdown_timeout).await;
    house.close().await;
    tracing::info!(took_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX), aborted = ?report.aborted, "stopped");
    drop(telemetry);
    match lifecycle.stop_reason() {
        Some(reason) => Err(reason.into()),
        None => Ok(()),
    }
}

/// Where this node answers.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    /// Base URL of API and console.
    pub(crate) api: String,
    /// Base URL of the public listener.
    pub(crate) public: String,
}

fn url(addr: SocketAddr, tls: bool) -> String {
    format!("{}://{addr}", if tls { "https" } else { "http" })
}

fn loopback_only(addr: SocketAddr, option: &str) -> Result<(), Failed> {
    if addr.ip().is_loopback() {
        return Ok(());
    }
    Err(format!("--dev needs no key and therefore listens on loopback only, but {option} is {addr}: leave --dev out")
        .into())
}

/// One socket a worker, all on the same port; with port 0 the first one's choice holds for all.
fn bind_public(config: &Config, addr: SocketAddr, option: &str) -> Result<Vec<std::net::TcpListener>, Failed> {
    let count = match config.public.worker_count {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    // Bound alone first: with SO_REUSEPORT a port that another process holds the same way would not be refused.
    drop(listen::bind(addr, option, false)?);
    let first = listen::bind(addr, option, true)?;
    let addr = first.local_addr().map_err(|e| e.to_string())?;
    let mut all = vec![first];
    for _ in 1..count {
        all.push(listen::bind(addr, option, true)?);
    }
    Ok(all)
}

/// What this node is called.
pub(crate) fn node_name(config: &Config) -> String {
    if config.server.node_name.is_empty() {
        nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_else(|| "node".to_owned())
    } else {
        config.server.node_name.clone()
    }
}

/// Says where a running node answers; there while it serves, so that scripts need not guess a port.
const NODE_FILE: &str = "node.json";

fn write_node_file(data_dir: &Path, addresses: &Addresses) -> Result<(), String> {
    let body = json!({ "api_url": addresses.api, "public_url": addresses.public, "pid": std::process::id() });
    let (whole, part) = (data_dir.join(NODE_FILE), data_dir.join("node.json.part"));
    std::fs::write(&part, body.to_string())
        .and_then(|()| std::fs::rename(&part, &whole))
        .map_err(|e| format!("cannot write {}: {e}", whole.display()))
}

fn banner(addresses: &Addresses, house: &House, dev: bool) {
    line(format!("Mainstay {} is ready", env!("CARGO_PKG_VERSION")));
    line(format!("  console  {}/console", addresses.api));
    line(format!("  API      {}/docs", addresses.api));
    line(format!("  public   {}", addresses.public));
    line(format!("  state    {}", house.describe_state()));
    if dev {
        line("  --dev: no key needed, loopback only");
    }
}

fn first_key(key: &Secret) {
    line("The admin key, shown this once; keep it where secrets are kept:");
    line(format!("\n  {}\n", key.expose()));
}

/// Health is asked for the first time in a moment; until then the node would report itself unready.
async fn until_ready(house: &House, lifecycle: &Lifecycle) {
    let stopping = lifecycle.stopping();
    while !house.health().is_ready() && !stopping.is_triggered() {
        house.clock().sleep(std::time::Duration::from_millis(2)).await;
    }
}

/// Waits for SIGINT, SIGTERM or a task that nothing works without. A second signal ends the process at once.
#[allow(clippy::disallowed_methods, reason = "the signal watch outlives every stage of the task set")]
async fn until_stopped(lifecycle: &Lifecycle) -> &'static str {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        lifecycle.stopping().wait().await;
        return "a task failed";
    };
    let stopping = lifecycle.stopping();
    let reason = tokio::select! {
        _ = interrupt.recv() => "interrupt",
        _ = terminate.recv() => "terminate",
        () = stopping.wait() => "a task failed",
    };
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        note("second signal: ending at once");
        std::process::exit(130);
    });
    reason
}
