//! Certificates that are got and renewed by themselves (RFC 8555).
//!
//! They are kept in the database, their keys sealed: every node serves them, one at a time gets them, and whichever node the authority
//! reaches answers it.
//!
//! - ACME-1: at most one node at a time gets a certificate: who holds its lease.
//! - ACME-2: what was got is served until something better was; a failure takes nothing away.
//! - ACME-3: failures are tried again after 1 minute, then 4, 16, … and at most 6 hours, so that no limit of an authority is met.

mod http;
mod order;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use database::{Change, Db};
use kernel::{Backoff, Clock, OnPanic, Rng, Shutdown, Tasks, Timestamp};
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use tokio::sync::{Notify, Semaphore, broadcast::error::RecvError};

use super::{
    ACME_TLS, AcmeChallenge, AcmeSpec, CertificateSpec, Certificates,
    material::{Material, hex},
    seal::Seal,
};
use crate::store::acme as store;

/// How often what is due is looked for when nothing wakes this node.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_mins(5);
/// How long the right to get a certificate lasts.
const LEASE: Duration = Duration::from_mins(10);
/// How long an authority is answered.
const CHALLENGE_LIFE: Duration = Duration::from_hours(1);
/// The first pause after a failure, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(6));
/// Lookups for authorities at once: everybody can claim to be one.
const MAX_LOOKUPS: usize = 8;
/// Answers that nobody waits for are deleted so many at a time.
const SWEEP: u32 = 100;

/// What certificates are got with.
pub struct AcmeDeps {
    /// Where they are kept.
    pub db: Db,
    /// What their keys are sealed with; the same on every node.
    pub secret: [u8; 32],
    /// Randomness.
    pub rng: Rng,
}

/// See the module.
pub(super) struct Acme {
    db: Db,
    seal: Seal,
    rng: Rng,
    clock: Clock,
    /// This process, in leases.
    me: String,
    lookups: Semaphore,
    pub(super) wake: Notify,
    /// Which versions are served.
    versions: Mutex<HashMap<String, i64>>,
}

impl Acme {
    pub(super) fn new(deps: AcmeDeps, clock: &Clock) -> Result<Self, String> {
        let AcmeDeps { db, secret, rng } = deps;
        Ok(Self {
            db,
            seal: Seal::new(&secret, &rng)?,
            me: hex(&rng.bytes::<16>()),
            rng,
            clock: clock.clone(),
            lookups: Semaphore::new(MAX_LOOKUPS),
            wake: Notify::new(),
            versions: Mutex::default(),
        })
    }

    /// What an authority is to be answered. `None` when nobody waits for it, or the database cannot tell now.
    pub(super) async fn challenge(&self, kind: AcmeChallenge, name: &str) -> Option<String> {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if !(1..=253).contains(&name.len()) || !name.bytes().all(is_token) {
            return None;
        }
        let _place = self.lookups.try_acquire().ok()?;
        store::challenge(&self.db, kind.name(), name, self.clock.now()).await.unwrap_or_else(|e| {
            tracing::warn!(error = %e, "an authority could not be answered");
            None
        })
    }

    pub(super) fn start(self: &Arc<Self>, certificates: &Certificates, tasks: &Tasks) {
        let (this, certificates) = (self.clone(), certificates.clone());
        tasks.supervise("gateway-acme", OnPanic::Restart(Backoff::STANDARD), move |shutdown| {
            let (this, certificates) = (this.clone(), certificates.clone());
            async move { this.run(&certificates, &shutdown).await }
        });
    }

    async fn run(&self, certificates: &Certificates, shutdown: &Shutdown) {
        let mut changes = self.db.watch(store::TOPIC);
        loop {
            for spec in certificates.acme_specs() {
                if shutdown.or(Box::pin(self.visit(certificates, &spec))).await.is_none() {
                    return;
                }
            }
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(Change::Key(_) | Change::Resync) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                () = self.wake.notified() => {}
                () = self.clock.sleep(INTERVAL) => {
                    drop(store::sweep_challenges(&self.db, self.clock.now(), SWEEP).await);
                }
                () = shutdown.wait() => return,
            }
        }
    }

    /// Serves what is kept of a certificate, and gets it when that is due.
    async fn visit(&self, certificates: &Certificates, spec: &CertificateSpec) {
        let Some(acme) = &spec.acme else { return };
        let id = certificate_id(acme, &spec.hosts);
        if let Err(trouble) = self.try_visit(certificates, acme, spec, &id).await {
            tracing::warn!(hosts = ?spec.hosts, trouble, "a certificate could not be looked after");
            certificates.put_acme(|other| other == spec, &Err(trouble));
        }
    }

    async fn try_visit(
        &self,
        certificates: &Certificates,
        acme: &AcmeSpec,
        spec: &CertificateSpec,
        id: &str,
    ) -> Result<(), String> {
        let told = |e: database::Error| e.to_string();
        let now = self.clock.now();
        let Some(kept) = store::certificate(&self.db, id).await.map_err(told)? else {
            store::want(&self.db, id, &spec.hosts.join(" "), now).await.map_err(told)?;
            self.wake.notify_one();
            return Ok(());
        };
        self.serve(certificates, spec, id, &kept)?;
        let is_due = kept.attempt_at <= now && kept.leased_until <= now;
        if !is_due || !store::lease(&self.db, id, &self.me, now, now.plus(LEASE)).await.map_err(told)? {
            return Ok(());
        }
        tracing::info!(hosts = ?spec.hosts, directory = acme.directory, "getting a certificate");
        let got = self.clock.timeout(ATTEMPT, self.get(acme, &spec.hosts)).await;
        let got = got.unwrap_or_else(|| Err("it took longer than 5 minutes".to_owned()));
        let checked = got.and_then(|(chain, key)| {
            let material = Material::from_pem(chain.as_bytes(), key.as_bytes()).map_err(|(_, e)| e)?;
            match spec.hosts.iter().find(|host| !material.is_for(host)) {
                Some(host) => Err(format!("the authority signed a certificate that is not for {host}")),
                None => Ok((chain, key, material)),
            }
        });
        match checked {
            Ok((chain, key, material)) => {
                let sealed = self.seal.seal(id, key.as_bytes())?;
                let renew_at = self.renew_at(acme, &material);
                store::put(&self.db, id, &self.me, (chain, sealed), renew_at).await.map_err(told)?;
                tracing::info!(hosts = ?spec.hosts, until = %material.facts.not_after, %renew_at, "certificate got");
            }
            Err(trouble) => {
                let again = self.clock.now().plus(self.pause(kept.failure_count));
                tracing::error!(hosts = ?spec.hosts, trouble, %again, "no certificate was got");
                store::fail(&self.db, id, &self.me, &trouble, again).await.map_err(told)?;
            }
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Serves what is kept, unless it is served already.
    fn serve(
        &self,
        certificates: &Certificates,
        spec: &CertificateSpec,
        id: &str,
        kept: &store::Kept,
    ) -> Result<(), String> {
        let is_new = self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(id) != Some(&kept.version)
            || !certificates.has_acme(spec);
        if kept.version > 0 && is_new {
            let key = self.seal.open(id, &kept.private_key)?;
            let material = Material::from_pem(kept.chain.as_bytes(), &key).map_err(|(_, e)| e)?;
            certificates.put_acme(|other| other == spec, &Ok(Arc::new(material)));
            self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), kept.version);
        }
        if !kept.trouble.is_empty() {
            certificates.put_acme(|other| other == spec, &Err(kept.trouble.clone()));
        }
        Ok(())
    }

    /// A third of its life before it ends (or what was said), and up to a tenth of that earlier: certificates that were got together are not
    /// renewed together.
    fn renew_at(&self, acme: &AcmeSpec, material: &Material) -> Timestamp {
        let facts = &material.facts;
        let life = facts.not_after.since(facts.not_before);
        let before = acme.renew_before.map_or(life / 3, |span| span.0).min(life);
        facts.not_after.minus(before + before.mul_f64(self.rng.unit_f64() / 10.0))
    }

    /// After so many failures: 1 minute, 4, 16, … up to 6 hours, and up to half of it less.
    fn pause(&self, failures: i64) -> Duration {
        let factor = 4_u32.saturating_pow(u32::try_from(failures.clamp(0, 15)).unwrap_or(0));
        RETRY.0.saturating_mul(factor).min(RETRY.1).mul_f64(1.0 - self.rng.unit_f64() / 2.0)
    }
}

impl AcmeChallenge {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

/// The same for the same hosts in whatever order: what is got for them does not depend on it.
fn certificate_id(acme: &AcmeSpec, hosts: &[String]) -> String {
    let mut hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hex(digest(&SHA256, format!("{}\n{}", acme.directory, hosts.join("\n")).as_bytes()).as_ref())
}

fn account_id(acme: &AcmeSpec) -> String {
    let email = acme.email.as_deref().unwrap_or_default();
    hex(digest(&SHA256, format!("{}\n{email}", acme.directory).as_bytes()).as_ref())
}

/// What an authority is shown that asks by TLS (RFC 8737 §3): a certificate for the host alone, with the digest in it.
pub(super) fn tls_answer(host: &str, answer: &str) -> Option<Arc<ServerConfig>> {
    let pairs: Vec<_> = answer.as_bytes().chunks(2).map(std::str::from_utf8).collect::<Result<_, _>>().ok()?;
    let bytes: Vec<u8> = pairs.into_iter().map(|pair| u8::from_str_radix(pair, 16)).collect::<Result<_, _>>().ok()?;
    let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).ok()?;
    params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(&<[u8; 32]>::try_from(bytes).ok()?)];
    let key = rcgen::KeyPair::generate().ok()?;
    let certificate = params.self_signed(&key).ok()?;
    let private = rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .ok()?;
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    Some(Arc::new(config))
}
