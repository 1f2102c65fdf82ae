//! TLS by rustls with certificates from files, read again when they change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use kernel::{Clock, OnPanic, Tasks};
use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// The current certificate of one listener.
#[derive(Clone)]
pub(crate) struct Tls {
    cert: PathBuf,
    key: PathBuf,
    current: Arc<ArcSwap<Loaded>>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    pem: (Vec<u8>, Vec<u8>),
}

impl Tls {
    /// Reads the files of `section`; `None` when neither is set.
    pub(crate) fn load(section: &str, cert: Option<&Path>, key: Option<&Path>) -> Result<Option<Self>, String> {
        match (cert, key) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => {
                let loaded = read(cert, key)?;
                Ok(Some(Self {
                    cert: cert.to_path_buf(),
                    key: key.to_path_buf(),
                    current: Arc::new(ArcSwap::from_pointee(loaded)),
                }))
            }
            _ => Err(format!("{section}.tls_cert and {section}.tls_key go together: set both or neither")),
        }
    }

    /// An acceptor with the certificate of this moment.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.current.load().config.clone().into()
    }

    /// What is served at this moment.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.current.load().config.clone()
    }

    /// Watches the files. A pair that cannot be used leaves the last good one in place and is logged.
    pub(crate) fn watch(&self, tasks: &Tasks, clock: Clock) {
        let this = self.clone();
        tasks.supervise("tls-reload", OnPanic::Restart(kernel::Backoff::STANDARD), move |shutdown| {
            let (this, clock) = (this.clone(), clock.clone());
            async move {
                let mut failed = None;
                while shutdown.or(clock.sleep(RELOAD_INTERVAL)).await.is_some() {
                    match this.reload() {
                        Ok(true) => tracing::info!(cert = %this.cert.display(), "certificate reloaded"),
                        Ok(false) => failed = None,
                        Err(e) if failed.as_ref() != Some(&e) => {
                            tracing::error!(error = e, "certificate not reloaded; the last good one stays");
                            failed = Some(e);
                        }
                        Err(_) => {}
                    }
                }
            }
        });
    }

    fn reload(&self) -> Result<bool, String> {
        let pem = read_files(&self.cert, &self.key)?;
        if pem == self.current.load().pem {
            return Ok(false);
        }
        self.current.store(Arc::new(parse(pem, &self.cert, &self.key)?));
        Ok(true)
    }
}

fn read_files(cert: &Path, key: &Path) -> Result<(Vec<u8>, Vec<u8>), String> {
    let read = |path: &Path| std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()));
    Ok((read(cert)?, read(key)?))
}

fn read(cert: &Path, key: &Path) -> Result<Loaded, String> {
    parse(read_files(cert, key)?, cert, key)
}

fn parse(pem: (Vec<u8>, Vec<u8>), cert: &Path, key: &Path) -> Result<Loaded, String> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem.0)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("{} is not a PEM certificate chain: {e}", cert.display()))?;
    let private = PrivateKeyDer::from_pem_slice(&pem.1)
        .map_err(|e| format!("{} is not a PEM private key: {e}", key.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| format!("{} and {} do not make a pair: {e}", cert.display(), key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Loaded { config: Arc::new(config), pem })
}
