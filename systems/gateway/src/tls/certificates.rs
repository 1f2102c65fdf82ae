//! The certificates of this node, by host, and what they are made of.
//!
//! - CERT-1: a document is applied whole or not at all; a file that turns bad later leaves what was read of it before.
//! - CERT-2: what did not change keeps its sessions: a reload costs no client a full handshake.
//! - CERT-3: a session that was begun under one rule for clients is never resumed under another, and a request never reaches a host
//!   whose rule the connection was not checked by ([`Certificates::admit`]).

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use kernel::{Clock, FieldError, Tasks};
use rustls::{
    ServerConfig,
    crypto::ring::{self, Ticketer},
    server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, danger::ClientCertVerifier},
    sign::CertifiedKey,
};

use super::{
    AcmeChallenge, AcmeDeps, CertificateSpec, ClientMode, ClientSpec, Facts, Hosts,
    accept::refusal,
    acme::{Acme, tls_answer},
    material::{Material, Stamp, Which, read, verifier},
};

/// Certificates by host. Cheap to clone.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    clock: Clock,
    refusal: Arc<ServerConfig>,
    /// Of those without rules for clients.
    tickets: Arc<dyn ProducesTickets>,
    table: ArcSwap<Table>,
    /// Who changes the table holds it.
    change: Mutex<()>,
    next_rule: AtomicU64,
    acme: Option<Arc<Acme>>,
}

/// A moment of it.
#[derive(Default)]
struct Table {
    loaded: Vec<Loaded>,
    /// Of those hosts whose certificate is here.
    hosts: Hosts<Arc<Entry>>,
    /// Of every host of the document; empty when none has a rule.
    rules: Hosts<Option<Arc<Rule>>>,
    has_rules: bool,
    /// How authorities may look at a host.
    challenges: Vec<AcmeChallenge>,
}

impl Table {
    fn has(&self, challenge: AcmeChallenge) -> bool {
        self.challenges.contains(&challenge)
    }
}

/// One `[[certificates]]`.
#[derive(Clone)]
struct Loaded {
    spec: Arc<CertificateSpec>,
    stamp: Stamp,
    /// `None`: not got yet.
    material: Option<Arc<Material>>,
    rule: Option<Arc<Rule>>,
    /// Why what is on the disk is not what is used.
    trouble: Option<String>,
}

/// What is asked of clients, with what was read for it. A number of its own each time that changes.
struct Rule {
    number: u64,
    mode: ClientMode,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// What a host is served with.
pub(super) struct Entry {
    pub(super) config: Arc<ServerConfig>,
    pub(super) rule: Option<u64>,
    made_of: Vec<usize>,
}

/// A certificate for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateState {
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Whether it is got by itself.
    pub is_acme: bool,
    /// Whether clients have to show one, may, or are not asked (`None`).
    pub client: Option<ClientMode>,
    /// What it says of itself; `None` before there is one.
    pub facts: Option<Facts>,
    /// Why what is on the disk, or what should have been got, is not what is used.
    pub trouble: Option<String>,
}

/// The request's host belongs to another connection: one that was checked by that host's rule (RFC 9110 §15.5.20).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misdirected;

impl Certificates {
    /// None yet. Without `acme` none is got by itself.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(clock: &Clock, acme: Option<AcmeDeps>) -> Result<Self, String> {
        Ok(Self(Arc::new(Inner {
            clock: clock.clone(),
            refusal: refusal()?,
            tickets: Ticketer::new().map_err(|e| e.to_string())?,
            table: ArcSwap::default(),
            change: Mutex::default(),
            next_rule: AtomicU64::new(1),
            acme: acme.map(|deps| Acme::new(deps, clock)).transpose()?.map(Arc::new),
        })))
    }

    /// Takes over a document's `[[certificates]]`, which passed [`super::validate`]. On an error nothing changes; `at` is the JSON
    /// pointer of the list. Reads files: call it where that may take a moment.
    pub fn apply(&self, specs: &[CertificateSpec], at: &str) -> Result<(), Vec<FieldError>> {
        let _guard = self.0.change.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = self.load(specs, at)?;
        self.0.put(loaded);
        if let Some(acme) = &self.0.acme {
            acme.wake.notify_one();
        }
        Ok(())
    }

    /// What is wrong with the files of a document; nothing is changed.
    pub fn check(&self, specs: &[CertificateSpec], at: &str) -> Vec<FieldError> {
        self.load(specs, at).err().unwrap_or_default()
    }

    fn load(&self, specs: &[CertificateSpec], at: &str) -> Result<Vec<Loaded>, Vec<FieldError>> {
        let before = self.0.table.load();
        let known: HashMap<_, _> = before.loaded.iter().map(|l| (&l.spec.hosts, l)).collect();
        let (mut all, mut errors) = (Vec::with_capacity(specs.len()), Vec::new());
        for (i, spec) in specs.iter().enumerate() {
            let stamp = Stamp::of(files(spec));
            // Two with the same hosts (RSA and ECDSA) share a place in `known`: then the other is read again.
            if let Some(same) = known.get(&spec.hosts).filter(|l| *l.spec == *spec && l.stamp == stamp) {
                all.push(Loaded { trouble: None, ..(*same).clone() });
                continue;
            }
            match self.0.read(spec, stamp) {
                Ok(loaded) => all.push(loaded),
                Err((field, detail)) => errors.push(FieldError { field: format!("{at}/{i}/{field}"), detail }),
            }
        }
        if errors.is_empty() { Ok(all) } else { Err(errors) }
    }

    /// Reads again what was written since; whether anything changed. What cannot be used leaves what was read before.
    pub(super) fn reload(&self) -> bool {
        let _guard = self.0.change.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.0.table.load();
        let mut has_changed = false;
        let loaded = before.loaded.iter().map(|old| {
            let stamp = Stamp::of(files(&old.spec));
            if stamp == old.stamp {
                return old.clone();
            }
            has_changed = true;
            match self.0.read(&old.spec, stamp.clone()) {
                Ok(new) => {
                    tracing::info!(hosts = ?old.spec.hosts, "certificate reloaded");
                    Loaded { material: new.material.or_else(|| old.material.clone()), ..new }
                }
                Err((field, detail)) => {
                    tracing::error!(hosts = ?old.spec.hosts, field, detail, "certificate not reloaded; the last good one stays");
                    Loaded { stamp, trouble: Some(format!("{field}: {detail}")), ..old.clone() }
                }
            }
        });
        let loaded: Vec<_> = loaded.collect();
        if has_changed {
            self.0.put(loaded);
        }
        has_changed
    }

    /// Puts what was got (or why nothing was) into every place that `is_it` finds.
    pub(super) fn put_acme(&self, is_it: impl Fn(&CertificateSpec) -> bool, got: &Result<Arc<Material>, String>) {
        let _guard = self.0.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut loaded = self.0.table.load().loaded.clone();
        for one in loaded.iter_mut().filter(|l| l.spec.acme.is_some() && is_it(&l.spec)) {
            match got {
                Ok(material) => (one.material, one.trouble) = (Some(material.clone()), None),
                Err(trouble) => one.trouble = Some(trouble.clone()),
            }
        }
        self.0.put(loaded);
    }

    /// Whether one that is got by itself is here.
    pub(super) fn has_acme(&self, spec: &CertificateSpec) -> bool {
        self.0.table.load().loaded.iter().any(|l| *l.spec == *spec && l.material.is_some())
    }

    /// Those that are got by themselves.
    pub(super) fn acme_specs(&self) -> Vec<Arc<CertificateSpec>> {
        self.0.table.load().loaded.iter().filter(|l| l.spec.acme.is_some()).map(|l| l.spec.clone()).collect()
    }

    /// What there is, in the order of the document.
    pub fn states(&self) -> Vec<CertificateState> {
        let state = |l: &Loaded| CertificateState {
            hosts: l.spec.hosts.clone(),
            is_acme: l.spec.acme.is_some(),
            client: l.rule.as_ref().map(|r| r.mode),
            facts: l.material.as_ref().map(|m| m.facts.clone()),
            trouble: l.trouble.clone().or_else(|| {
                let has_ended = l.material.as_ref().is_some_and(|m| m.facts.not_after <= self.0.clock.now());
                has_ended.then(|| "it has ended: clients refuse it".to_owned())
            }),
        };
        self.0.table.load().loaded.iter().map(state).collect()
    }

    /// Files are looked at, again and again, and what is to be got is got.
    pub fn start(&self, tasks: &Tasks) {
        self.watch_files(tasks);
        if let Some(acme) = &self.0.acme {
            acme.start(self, tasks);
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// What an authority is shown that looks at a host (RFC 8737); `None` when nobody waits for it to.
    pub(crate) async fn challenge(&self, host: Option<&str>) -> Option<Arc<ServerConfig>> {
        let (host, acme) = (host?, self.0.acme.as_ref()?);
        if !self.0.table.load().has(AcmeChallenge::TlsAlpn01) {
            return None;
        }
        tls_answer(host, &acme.challenge(AcmeChallenge::TlsAlpn01, host).await?)
    }

    /// What an authority is answered that asks for `/.well-known/acme-challenge/TOKEN` (RFC 8555 §8.3).
    pub async fn http_challenge(&self, token: &str) -> Option<String> {
        self.0.acme.as_ref()?.challenge(AcmeChallenge::Http01, token).await
    }

    /// Whether an authority may ask for such a path.
    pub fn expects_http_challenges(&self) -> bool {
        self.0.acme.is_some() && self.0.table.load().has(AcmeChallenge::Http01)
    }

    pub(super) fn refusal(&self) -> Arc<ServerConfig> {
        self.0.refusal.clone()
    }

    /// What a host in lower case is served with below HTTP: with other protocols offered by ALPN.
    pub(crate) fn config(&self, host: Option<&str>, alpn: &[Vec<u8>]) -> Option<Arc<ServerConfig>> {
        let entry = self.entry(host?)?;
        let mut config = (*entry.config).clone();
        config.alpn_protocols = alpn.to_vec();
        Some(Arc::new(config))
    }

    /// What a host in lower case is served with.
    pub(super) fn entry(&self, host: &str) -> Option<Arc<Entry>> {
        self.0.table.load().hosts.get(host).cloned()
    }

    /// Whether no request has to be looked at for certificates' sake: no host has a rule for clients, and no authority may come to look.
    pub fn is_plain(&self) -> bool {
        let table = self.0.table.load();
        !table.has_rules && !table.has(AcmeChallenge::Http01)
    }

    /// Whether a request for `host` may come over a connection that was checked by `rule`, and then whether its client's certificate
    /// counts there. A connection outlives its handshake and may ask for any host (HTTP/2 does so by design, RFC 9113 §9.1.1), so
    /// this is asked for each request; without any rule in the document it is one comparison.
    pub fn admit(&self, rule: Option<u64>, host: &str) -> Result<bool, Misdirected> {
        let table = self.0.table.load();
        if !table.has_rules {
            return Ok(false);
        }
        let bare =
            host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(h, _)| h);
        let lower = bare.trim_end_matches('.').to_ascii_lowercase();
        match table.rules.get(&lower) {
            Some(Some(asked)) if rule == Some(asked.number) => Ok(true),
            Some(Some(asked)) if asked.mode == ClientMode::Required => Err(Misdirected),
            _ => Ok(false),
        }
    }
}

fn files(spec: &CertificateSpec) -> impl Iterator<Item = &PathBuf> {
    let client = spec.client.iter().flat_map(|c| std::iter::once(&c.ca).chain(&c.crl));
    spec.cert.iter().chain(&spec.key).chain(client)
}

impl Inner {
    fn read(&self, spec: &CertificateSpec, stamp: Stamp) -> Result<Loaded, (String, String)> {
        let material = match (&spec.cert, &spec.key) {
            (Some(cert), Some(key)) => {
                let pem = read(cert).map_err(|e| ("cert".to_owned(), e))?;
                let private = read(key).map_err(|e| ("key".to_owned(), e))?;
                let material = Material::from_pem(&pem, &private).map_err(|(which, e)| {
                    let (field, path) = if which == Which::Chain { ("cert", cert) } else { ("key", key) };
                    (field.to_owned(), format!("{}: {e}", path.display()))
                })?;
                if let Some(i) = spec.hosts.iter().position(|host| !material.is_for(host)) {
                    let detail = format!("the certificate in {} is not for {}", cert.display(), spec.hosts[i]);
                    return Err((format!("hosts/{i}"), detail));
                }
                Some(Arc::new(material))
            }
            _ => None,
        };
        let rule = spec.client.as_ref().map(|client| self.rule(client)).transpose();
        let rule = rule.map_err(|(field, e)| (format!("client/{field}"), e))?;
        Ok(Loaded { spec: Arc::new(spec.clone()), stamp, material, rule, trouble: None })
    }

    fn rule(&self, spec: &ClientSpec) -> Result<Arc<Rule>, (&'static str, String)> {
        let ca = read(&spec.ca).map_err(|e| ("ca", e))?;
        let crl = spec.crl.as_ref().map(|path| read(path)).transpose().map_err(|e| ("crl", e))?;
        let verifier = verifier(spec, &ca, crl.as_deref())?;
        let number = self.next_rule.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Rule { number, mode: spec.mode, verifier }))
    }

    /// Makes the table of what is loaded; what is made of the same stays the same.
    fn put(&self, loaded: Vec<Loaded>) {
        let before = self.table.load();
        let old: HashMap<_, _> = before.hosts.values().map(|entry| (&entry.made_of, entry)).collect();
        // Of one key and another for the same host (RSA and ECDSA) the client's abilities choose.
        let mut by_host: HashMap<&str, Vec<&Loaded>> = HashMap::new();
        for one in loaded.iter().filter(|l| l.material.is_some()) {
            for host in &one.spec.hosts {
                by_host.entry(host).or_default().push(one);
            }
        }
        let mut made: HashMap<Vec<usize>, Arc<Entry>> = HashMap::new();
        let mut hosts = Hosts::default();
        for (host, of) in by_host {
            let key = identity(&of);
            let entry = match made.get(&key).or_else(|| old.get(&key).copied()) {
                Some(same) => same.clone(),
                None => match self.entry(&of) {
                    Ok(entry) => Arc::new(entry),
                    Err(e) => {
                        tracing::error!(host, error = e, "a certificate cannot be served");
                        continue;
                    }
                },
            };
            made.insert(key, entry.clone());
            hosts.insert(host, entry);
        }
        let has_rules = loaded.iter().any(|l| l.rule.is_some());
        let mut rules = Hosts::default();
        for one in loaded.iter().filter(|_| has_rules) {
            for host in &one.spec.hosts {
                rules.insert(host, one.rule.clone());
            }
        }
        let mut challenges: Vec<_> = loaded.iter().filter_map(|l| Some(l.spec.acme.as_ref()?.challenge)).collect();
        challenges.dedup();
        self.table.store(Arc::new(Table { loaded, hosts, rules, has_rules, challenges }));
    }

    fn entry(&self, of: &[&Loaded]) -> Result<Entry, String> {
        let keys = of.iter().filter_map(|l| l.material.as_ref()).map(|m| m.key.clone()).collect();
        let rule = of.iter().find_map(|l| l.rule.as_ref());
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let builder = match rule {
            None => builder.with_no_client_auth(),
            Some(rule) => builder.with_client_cert_verifier(rule.verifier.clone()),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Choice(keys)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // A ticket carries who the client is: where clients are checked it must not outlive what they were checked with.
        config.ticketer = match rule {
            None => self.tickets.clone(),
            Some(_) => Ticketer::new().map_err(|e| e.to_string())?,
        };
        Ok(Entry { config: Arc::new(config), rule: rule.map(|r| r.number), made_of: identity(of) })
    }
}

/// What an entry is made of: the addresses of materials and rules, which live as long as the table.
fn identity(of: &[&Loaded]) -> Vec<usize> {
    let material = |l: &&Loaded| l.material.as_ref().map_or(0, |m| Arc::as_ptr(m).addr());
    let rule = |l: &&Loaded| l.rule.as_ref().map_or(0, |r| Arc::as_ptr(r).addr());
    of.iter().flat_map(|l| [material(l), rule(l)]).collect()
}

/// Keys of one host, of which the first is taken that the client can check.
#[derive(Debug)]
struct Choice(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_fit = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(is_fit).or(self.0.first()).cloned()
    }
}
