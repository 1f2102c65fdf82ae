//! A document's upstream, made ready for use.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use http::HeaderName;
use kernel::{Clock, FieldError};
use resilience::{Breaker, BreakerConfig, OutlierConfig, Window};
use wire::{ClientTls, Target, TlsOptions};

use crate::model::{
    hash,
    spec::{Algorithm, BreakerSpec, HashOn, OutlierSpec, Protocol, ProxyVersion, TlsSpec, UpstreamSpec},
};

/// The largest file of certificates or keys.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// See the module.
pub(crate) struct Settings {
    pub(crate) spec: UpstreamSpec,
    pub(crate) breaker: Option<Breaker>,
    pub(crate) hash_on: Option<KeyOf>,
    tls: Option<TlsTexts>,
}

/// What of a request is its key.
#[derive(Debug, Clone)]
pub(crate) enum KeyOf {
    Header(HeaderName),
    Cookie(String),
    Query(String),
    Address,
    Path,
}

/// TLS as read from its files.
#[derive(PartialEq, Eq)]
struct TlsTexts {
    ca: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
    /// For every endpoint, when the name does not depend on its address.
    shared_name: Option<String>,
}

impl Settings {
    /// Reads the files that it names. `before` is what the upstream has now.
    pub(crate) fn new(
        spec: &UpstreamSpec,
        at: &str,
        clock: &Clock,
        before: Option<&Self>,
    ) -> Result<Self, Vec<FieldError>> {
        let tls = spec.tls.as_ref().map(|tls| TlsTexts::read(spec, tls, at)).transpose()?;
        let breaker = spec.breaker.as_ref().map(|breaker| {
            before
                .filter(|before| before.spec.breaker.as_ref() == Some(breaker))
                .and_then(|before| before.breaker.clone())
                .unwrap_or_else(|| Breaker::new(clock, breaker_config(breaker)))
        });
        let hash_on = spec.balance.hash_on.as_ref().and_then(|on| match on {
            HashOn::Header(name) => HeaderName::try_from(name.as_str()).ok().map(KeyOf::Header),
            HashOn::Cookie(name) => Some(KeyOf::Cookie(name.clone())),
            HashOn::Query(name) => Some(KeyOf::Query(name.clone())),
            HashOn::Address => Some(KeyOf::Address),
            HashOn::Path => Some(KeyOf::Path),
        });
        let settings = Self { spec: spec.clone(), breaker, hash_on, tls };
        // That certificates and keys are ones is seen now, not when the first back end is there.
        settings.tls_to(SocketAddr::from(([127, 0, 0, 1], 443))).map_err(|why| fault(at, "tls", why))?;
        Ok(settings)
    }

    /// Whether nothing differs, the contents of files included.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.spec == other.spec && self.tls == other.tls
    }

    /// Whether connections of the one serve the other.
    pub(crate) fn has_same_targets(&self, other: &Self) -> bool {
        let key = |s: &UpstreamSpec| {
            let limits = &s.limits;
            let kept = (limits.max_idle_per_worker, limits.idle_timeout, limits.max_connection_age);
            (s.protocol, s.connect_timeout, s.proxy_protocol, kept)
        };
        key(&self.spec) == key(&other.spec) && self.spec.tls == other.spec.tls && self.tls == other.tls
    }

    /// A new target for an address.
    pub(crate) fn target(&self, address: SocketAddr) -> Target {
        let (spec, limits) = (&self.spec, &self.spec.limits);
        Target {
            protocol: protocol(spec.protocol),
            // The texts were tried when they were read.
            tls: self.tls_to(address).unwrap_or_default(),
            connect_timeout: spec.connect_timeout.0,
            proxy_header: spec.proxy_protocol.map(|version| match version {
                ProxyVersion::V1 => wire::ProxyVersion::V1,
                ProxyVersion::V2 => wire::ProxyVersion::V2,
            }),
            max_idle: usize::try_from(limits.max_idle_per_worker).unwrap_or(usize::MAX),
            idle_timeout: limits.idle_timeout.0,
            max_age: limits.max_connection_age.map(|age| age.0),
            ..Target::new(address)
        }
    }

    fn tls_to(&self, address: SocketAddr) -> Result<Option<Arc<ClientTls>>, String> {
        let Some(tls) = &self.tls else { return Ok(None) };
        let name = tls.shared_name.clone().unwrap_or_else(|| address.ip().to_string());
        let options = TlsOptions {
            server_name: &name,
            ca: tls.ca.as_deref(),
            client: tls.client.as_ref().map(|(cert, key)| (cert.as_slice(), key.as_slice())),
            protocol: protocol(self.spec.protocol),
        };
        ClientTls::new(&options).map(|tls| Some(Arc::new(tls)))
    }

    pub(crate) fn outlier_config(&self) -> Option<OutlierConfig> {
        self.spec.outlier.as_ref().map(outlier_config)
    }

    /// Below which percentage of well back ends all are used.
    pub(crate) fn panic_percent(&self) -> u32 {
        if self.spec.balance.algorithm == Algorithm::First {
            // One active and its standbys: that those before it are away is what it is there for.
            return 0;
        }
        self.spec.outlier.as_ref().map_or(OutlierSpec::default().panic_percent, |outlier| outlier.panic_percent)
    }

    /// What the hash of a key is made of.
    pub(crate) fn hash_of(key: &[u8]) -> u64 {
        hash::of_key(key)
    }
}

impl TlsTexts {
    fn read(spec: &UpstreamSpec, tls: &TlsSpec, at: &str) -> Result<Self, Vec<FieldError>> {
        let read = |field: &str, path: &Option<String>| -> Result<Option<Vec<u8>>, Vec<FieldError>> {
            path.as_ref().map(|path| read_pem(Path::new(path))).transpose().map_err(|why| fault(at, field, why))
        };
        let ca = read("tls/ca", &tls.ca)?;
        let client = read("tls/client_cert", &tls.client_cert)?.zip(read("tls/client_key", &tls.client_key)?);
        let dns_name = || spec.dns.as_ref().map(|dns| dns.name.trim_end_matches('.').to_owned());
        Ok(Self { ca, client, shared_name: tls.server_name.clone().or_else(dns_name) })
    }
}

fn read_pem(path: &Path) -> Result<Vec<u8>, String> {
    let told = |e: std::io::Error| format!("{}: {e}", path.display());
    let length = std::fs::metadata(path).map_err(told)?.len();
    if length > MAX_PEM_BYTES {
        return Err(format!("{}: larger than 1 MiB", path.display()));
    }
    std::fs::read(path).map_err(told)
}

fn fault(at: &str, field: &str, detail: String) -> Vec<FieldError> {
    vec![FieldError { field: format!("{at}/{field}"), detail }]
}

fn protocol(protocol: Protocol) -> wire::Protocol {
    match protocol {
        Protocol::Http1 => wire::Protocol::Http1,
        Protocol::Http2 => wire::Protocol::Http2,
    }
}

fn breaker_config(spec: &BreakerSpec) -> BreakerConfig {
    BreakerConfig {
        window: Window::Time(spec.window.0),
        minimum_calls: spec.minimum_calls,
        failure_percent: spec.failure_percent,
        slow_call: spec.slow_call.map_or(Duration::from_secs(1), |slow| slow.0),
        // Above 100: never for slowness.
        slow_percent: if spec.slow_call.is_some() { spec.slow_percent } else { 101 },
        open_for: spec.open_for.0,
        open_at_most: spec.open_at_most.0,
        probes: spec.probes,
        probe_patience: Duration::from_secs(30).max(spec.slow_call.unwrap_or_default().0 * 2),
    }
}

fn outlier_config(spec: &OutlierSpec) -> OutlierConfig {
    OutlierConfig {
        consecutive_failures: spec.consecutive_failures,
        interval: spec.interval.0,
        min_hosts: spec.min_hosts,
        min_calls: spec.min_calls,
        deviation_thousandths: spec.deviation_thousandths,
        base_ejection: spec.base_ejection.0,
        max_ejection: spec.max_ejection.0,
        max_ejected_percent: spec.max_ejected_percent,
        panic_percent: spec.panic_percent,
    }
}
