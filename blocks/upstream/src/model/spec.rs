//! Upstreams as people write them, in JSON and TOML alike.

use std::{fmt, net::SocketAddr};

use kernel::Span;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// A service that requests are sent to: which back ends it has, how one is chosen, and how it is told that one is well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSpec {
    /// Its name, unique in the document: 1 to 64 of `A-Z a-z 0-9 _ - .`.
    #[schema(example = "shop", max_length = 64)]
    pub name: String,
    /// What its back ends speak.
    #[serde(default)]
    pub protocol: Protocol,
    /// Back ends by address. Exactly one of `endpoints`, `dns` and `service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_items = 1000)]
    pub endpoints: Option<Vec<EndpointSpec>>,
    /// Back ends by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub dns: Option<DnsSpec>,
    /// Back ends that registered themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub service: Option<ServiceSpec>,
    /// How one of them is chosen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub balance: BalanceSpec,
    /// Active checks. None: every back end is taken for well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub health: Option<HealthSpec>,
    /// Passive checks: back ends that are worse than their peers are left out for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub outlier: Option<OutlierSpec>,
    /// When nothing is sent to the upstream at all, since most of it fails or crawls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub breaker: Option<BreakerSpec>,
    /// How much at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: LimitsSpec,
    /// How long a connection may take to be there, TLS included; 1 ms to 1 min.
    #[serde(default = "one_second")]
    #[schema(value_type = String, example = "1s")]
    pub connect_timeout: Span,
    /// TLS to back ends. None: in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub tls: Option<TlsSpec>,
    /// Connections begin with a PROXY protocol header of this version, which tells the client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub proxy_protocol: Option<ProxyVersion>,
}

impl UpstreamSpec {
    /// An upstream of one endpoint for each address, with everything else as by default.
    pub fn of(name: &str, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            name: name.to_owned(),
            protocol: Protocol::default(),
            endpoints: Some(addresses.into_iter().map(EndpointSpec::at).collect()),
            dns: None,
            service: None,
            balance: BalanceSpec::default(),
            health: None,
            outlier: None,
            breaker: None,
            limits: LimitsSpec::default(),
            connect_timeout: one_second(),
            tls: None,
            proxy_protocol: None,
        }
    }
}

/// What back ends speak. Listeners below HTTP do not look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by ALPN with TLS, with prior knowledge without (RFC 9113 §3.3). `grpc` is the same.
    #[serde(alias = "grpc")]
    Http2,
}

/// A back end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointSpec {
    /// Address and port, such as `127.0.0.1:9001` or `[::1]:9001`. Names are for `dns`.
    #[serde(deserialize_with = "address")]
    #[schema(value_type = String, example = "127.0.0.1:9001")]
    pub address: SocketAddr,
    /// Its share beside the others, up to 1000; 0 takes no new requests.
    #[serde(default = "one")]
    #[schema(default = 1, maximum = 1000)]
    pub weight: u32,
    /// Where it is, such as an availability zone; at most 64 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 64)]
    pub zone: Option<String>,
    /// Lower first, up to 9: endpoints of a higher number take over as those of a lower one become too few.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = 0, maximum = 9)]
    pub priority: u8,
}

impl EndpointSpec {
    /// One at an address, of weight 1 in no zone.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, weight: 1, zone: None, priority: 0 }
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom("expected an address with a port, such as 127.0.0.1:9001; for names there is `dns`")
    })
}

/// Back ends that DNS tells. The last answer is kept while DNS is away, and when it says that there is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsSpec {
    /// The name to ask for. The search list of the machine applies unless it ends with a dot.
    #[schema(example = "shop.internal")]
    pub name: String,
    /// Of `address`: the port of every back end. SRV records tell it themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub port: Option<u16>,
    /// Which records.
    #[serde(default)]
    pub kind: DnsKind,
    /// Name servers to ask instead of those of the machine, at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, max_items = 8)]
    pub servers: Vec<SocketAddr>,
}

/// Which records of DNS tell the back ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DnsKind {
    /// A, or AAAA where there is no A.
    #[default]
    Address,
    /// SRV (RFC 2782): with port, weight and priority.
    Srv,
}

/// Back ends of the service registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// The service's name.
    #[schema(example = "shop")]
    pub name: String,
    /// Only those with this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "v2")]
    pub tag: Option<String>,
}

/// How a back end is chosen. docs/load-balancing.md says which when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct BalanceSpec {
    /// By which rule.
    pub algorithm: Algorithm,
    /// Of `ring_hash` and `maglev`: what of a request decides. A request without it goes to a random back end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub hash_on: Option<HashOn>,
    /// Of `ring_hash` and `maglev`: no back end takes more than this percentage of the mean load; what would be more goes to the next
    /// (101 to 1000). None: the same key always goes to the same back end, however much that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 101, maximum = 1000, example = 125)]
    pub load_bound_percent: Option<u32>,
    /// How long a new or recovered back end takes to grow to its full weight; up to 1 h. Not with `ring_hash`, `maglev` and `first`.
    #[serde(skip_serializing_if = "is_default")]
    #[schema(value_type = String, example = "30s")]
    pub slow_start: Span,
    /// Whether back ends of this node's own zone (`node.zone`) go before others, as long as enough of them are well.
    #[serde(skip_serializing_if = "is_default")]
    pub prefer_zone: bool,
}

/// The rule that chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BalanceAlgorithm)]
pub enum Algorithm {
    /// One after another; weights are not looked at (other than 0).
    #[default]
    RoundRobin,
    /// One after another, as often as weights say, spread evenly (nginx's smooth weighted round robin).
    WeightedRoundRobin,
    /// The one with the fewest requests under way for its weight.
    LeastRequests,
    /// Of two random ones the one with the lower peak-EWMA latency × requests under way ÷ weight (power of two choices).
    P2c,
    /// The same key to the same back end on a ring of points (Ketama); when one leaves, only its keys move.
    RingHash,
    /// The same key to the same back end by Maglev's table (NSDI 2016): more even than a ring, and a few more keys move.
    Maglev,
    /// Any, as often as weights say.
    Random,
    /// The first in the document that is well and not full: active and standby.
    First,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastRequests,
        Self::P2c,
        Self::RingHash,
        Self::Maglev,
        Self::Random,
        Self::First,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::LeastRequests => "least_requests",
            Self::P2c => "p2c",
            Self::RingHash => "ring_hash",
            Self::Maglev => "maglev",
            Self::Random => "random",
            Self::First => "first",
        }
    }

    /// Whether it looks at the key of a request.
    pub const fn is_hashing(self) -> bool {
        matches!(self, Self::RingHash | Self::Maglev)
    }
}

/// What of a request says which back end is its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HashOn {
    /// The value of a header.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
    /// The value of a parameter of the query.
    Query(String),
    /// The client's IP address.
    Address,
    /// The path, without the query.
    Path,
}

/// Active checks of each back end, from each node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthSpec {
    /// What is asked.
    pub kind: ProbeKind,
    /// Of `http`: the path, with its query.
    #[schema(example = "/health")]
    pub path: String,
    /// Of `http` and `grpc`: the `Host`. None: the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub host: Option<String>,
    /// Of `grpc`: the service to ask for; empty is the server as a whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// Of `http`: statuses that are well, such as `200` or `200-399`.
    #[schema(value_type = Vec<String>, max_items = 32)]
    pub expect: Vec<StatusRange>,
    /// How often, 100 ms to 1 h; each time a tenth more or less, so that nodes do not ask in step.
    #[schema(value_type = String, example = "5s")]
    pub interval: Span,
    /// How long an answer may take, 1 ms to 1 min.
    #[schema(value_type = String, example = "1s")]
    pub timeout: Span,
    /// Successes in a row after which an unwell back end is well, 1 to 100.
    #[schema(minimum = 1, maximum = 100)]
    pub healthy_after: u32,
    /// Failures in a row after which a well back end is unwell, 1 to 100.
    #[schema(minimum = 1, maximum = 100)]
    pub unhealthy_after: u32,
    /// A port of its own for checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub port: Option<u16>,
}

impl Default for HealthSpec {
    /// `GET /health` each 5 s, within 1 s, 200 to 399; well after two, unwell after three.
    fn default() -> Self {
        Self {
            kind: ProbeKind::Http,
            path: "/health".to_owned(),
            host: None,
            service: String::new(),
            expect: vec![StatusRange { from: 200, to: 399 }],
            interval: Span::secs(5),
            timeout: Span::secs(1),
            healthy_after: 2,
            unhealthy_after: 3,
            port: None,
        }
    }
}

/// What an active check asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// A GET whose status says it.
    #[default]
    Http,
    /// That a connection is taken.
    Tcp,
    /// `grpc.health.v1.Health/Check` answers SERVING.
    Grpc,
}

/// Statuses of HTTP, written as `200` or `200-399`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatusRange {
    /// The first, at least 100.
    pub from: u16,
    /// The last, at most 599.
    pub to: u16,
}

impl StatusRange {
    /// Whether it holds a status.
    pub fn contains(self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }

    fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        (100 <= from && from <= to && to <= 599).then_some(Self { from, to })
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { write!(f, "{}", self.from) } else { write!(f, "{}-{}", self.from, self.to) }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u16),
            Text(String),
        }
        let text = match Form::deserialize(deserializer) {
            Ok(Form::Number(n)) => n.to_string(),
            Ok(Form::Text(text)) => text,
            Err(_) => String::new(),
        };
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("expected statuses from 100 to 599, such as 200 or \"200-399\""))
    }
}

/// Passive checks, after Envoy's outlier detection; see docs/resilience.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutlierSpec {
    /// So many failures in a row eject a back end, up to 1000; 0: never for that.
    pub consecutive_failures: u32,
    /// How often success rates are compared, 100 ms to 1 h.
    #[schema(value_type = String)]
    pub interval: Span,
    /// Back ends that must have `min_calls` in an interval for rates to be compared; 0: rates are never compared.
    pub min_hosts: u32,
    /// Calls in an interval for a back end's rate to mean something.
    pub min_calls: u32,
    /// A back end is ejected when its rate is below the mean of all by so many thousandths of their standard deviation.
    pub deviation_thousandths: u32,
    /// How long the first ejection lasts; the second twice as long, the third three times; 1 ms to 1 d.
    #[schema(value_type = String)]
    pub base_ejection: Span,
    /// The longest ejection, up to 1 d.
    #[schema(value_type = String)]
    pub max_ejection: Span,
    /// At most this percentage of back ends is ejected at a time; one may always be, and never all.
    pub max_ejected_percent: u32,
    /// When less than this percentage of back ends is well, by active and passive checks, all are used: a few would only be overrun
    /// as well. Without `outlier` it is 50.
    pub panic_percent: u32,
}

impl Default for OutlierSpec {
    /// Five failures in a row, or 1.9 deviations below the mean of at least five with 100 calls in 10 s; 30 s up to 5 min; at most
    /// half; panic below a half.
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            interval: Span::secs(10),
            min_hosts: 5,
            min_calls: 100,
            deviation_thousandths: 1_900,
            base_ejection: Span::secs(30),
            max_ejection: Span::secs(300),
            max_ejected_percent: 50,
            panic_percent: 50,
        }
    }
}

/// The circuit breaker of an upstream; see docs/resilience.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSpec {
    /// Calls of this time count, 10 ms to 1 h.
    #[schema(value_type = String)]
    pub window: Span,
    /// Nothing is concluded from fewer calls than this, 1 to 1,000,000.
    pub minimum_calls: u32,
    /// It opens when so many of a hundred calls failed, 1 to 100.
    pub failure_percent: u32,
    /// A call that takes this long is slow, whatever it answered. None: no call is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub slow_call: Option<Span>,
    /// It opens when so many of a hundred calls were slow, 1 to 100.
    pub slow_percent: u32,
    /// How long it stays open the first time, 1 ms to 1 h; twice as long each time that the probes fail.
    #[schema(value_type = String)]
    pub open_for: Span,
    /// The longest that it stays open, up to 1 d.
    #[schema(value_type = String)]
    pub open_at_most: Span,
    /// Calls that are let in to see whether it is well again, 1 to 1000.
    pub probes: u32,
}

impl Default for BreakerSpec {
    /// Half of the calls of ten seconds, at least 20 of them, failed; open for 10 s up to 1 min; three probes.
    fn default() -> Self {
        Self {
            window: Span::secs(10),
            minimum_calls: 20,
            failure_percent: 50,
            slow_call: None,
            slow_percent: 50,
            open_for: Span::secs(10),
            open_at_most: Span::secs(60),
            probes: 3,
        }
    }
}

/// How much at once, and how long connections are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// Requests under way to the upstream from this node, 1 to 1,000,000. One more is refused.
    pub max_in_flight: u32,
    /// Requests under way to each back end from this node, 1 to 1,000,000. A full one is passed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub max_in_flight_per_endpoint: Option<u32>,
    /// Idle connections that each worker keeps to each back end, up to 10,000.
    pub max_idle_per_worker: u32,
    /// How long a connection may be idle, up to 1 d.
    #[schema(value_type = String)]
    pub idle_timeout: Span,
    /// How long a connection is used for new requests. None: as long as it lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub max_connection_age: Option<Span>,
}

impl Default for LimitsSpec {
    /// 16,384 under way; 64 idle connections, each for 60 s.
    fn default() -> Self {
        Self {
            max_in_flight: 16_384,
            max_in_flight_per_endpoint: None,
            max_idle_per_worker: 64,
            idle_timeout: Span::secs(60),
            max_connection_age: None,
        }
    }
}

/// TLS to back ends.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSpec {
    /// The name that certificates must be for. None: the name of `dns`, else the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub server_name: Option<String>,
    /// A PEM file of authorities to trust. None: those of Mozilla's list.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub ca: Option<String>,
    /// A PEM file with the certificate that is shown to back ends, and those that signed it. With `client_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub client_cert: Option<String>,
    /// A PEM file with its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub client_key: Option<String>,
}

/// Which form of PROXY protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyVersion {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

const fn one() -> u32 {
    1
}

const fn one_second() -> Span {
    Span::secs(1)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
