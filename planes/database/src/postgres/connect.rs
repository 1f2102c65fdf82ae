//! How connections are made.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio_postgres::{
    Config, NoTls,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{Error, PostgresOptions, Result};

/// A silent peer is noticed within about 25 seconds even when nothing is sent.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_COUNT: u32 = 3;

/// Where and how to connect.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) tls: Option<MakeRustlsConnect>,
}

impl Target {
    pub(super) fn new(options: &PostgresOptions) -> Result<Self> {
        let url = options.url.expose();
        // The client library knows only `require`; here every TLS connection is verified in full.
        let url_known =
            url.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
        // Not with the URL: it holds the password.
        let mut config: Config =
            url_known.parse().map_err(|_| Error::Other("database.url is not a PostgreSQL URL".to_owned()))?;
        let wants_tls = url_known.contains("sslmode=") && config.get_ssl_mode() != SslMode::Disable;
        config
            .ssl_mode(if wants_tls { SslMode::Require } else { SslMode::Disable })
            .connect_timeout(options.connect_timeout)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_COUNT);
        if config.get_application_name().is_none() {
            config.application_name("mainstay");
        }
        if !wants_tls && !config.get_hosts().iter().all(is_near) {
            tracing::warn!("the database is reached over the network without TLS: add sslmode=require to database.url");
        }
        let tls = if wants_tls { Some(MakeRustlsConnect::new(client_config(options)?)) } else { None };
        Ok(Self { config, tls })
    }

    /// A pool whose connections live on the runtime that first asks for them.
    pub(super) fn pool(&self, size: usize, options: &PostgresOptions) -> Result<Pool> {
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match &self.tls {
            Some(tls) => Manager::from_config(self.config.clone(), tls.clone(), manager_config),
            None => Manager::from_config(self.config.clone(), NoTls, manager_config),
        };
        Pool::builder(manager)
            .max_size(size)
            .wait_timeout(Some(options.queue_wait))
            .create_timeout(Some(options.connect_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| Error::Other(e.to_string()))
    }

    /// Asks the server to stop what `client` runs; best effort.
    pub(super) async fn cancel(&self, token: tokio_postgres::CancelToken) {
        let sent = match &self.tls {
            Some(tls) => token.cancel_query(tls.clone()).await,
            None => token.cancel_query(NoTls).await,
        };
        if let Err(e) = sent {
            tracing::debug!(error = %e, "a slow statement could not be cancelled");
        }
    }
}

fn is_near(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

fn client_config(options: &PostgresOptions) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &options.ca_file {
        Some(path) => {
            let fail = |what: String| Error::Other(format!("database.ca_file {}: {what}", path.display()));
            let certificates = CertificateDer::pem_file_iter(path).map_err(|e| fail(e.to_string()))?;
            for certificate in certificates {
                roots.add(certificate.map_err(|e| fail(e.to_string()))?).map_err(|e| fail(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(fail("holds no certificate".to_owned()));
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Other(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
