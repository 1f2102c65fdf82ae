//! Rules as people write them, in JSON and TOML alike.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// Its name, unique in the domain: 1 to 64 of `A-Z a-z 0-9 _ - .`. What was counted stays with the name when a limit changes.
    #[schema(example = "per-user", max_length = 64)]
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 500)]
    pub description: String,
    /// The keys of descriptors that it applies to: each different list of values has a limit of its own. None: one limit for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 8)]
    pub keys: Vec<KeySpec>,
    /// How much is allowed.
    pub limit: LimitSpec,
    /// A key of the descriptor whose value is what it costs, such as a number of tokens or bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "tokens", max_length = 128)]
    pub cost_from: Option<String>,
    /// Whether it refuses.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// What it does while the memory plane (Redis) is away.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_down: WhenDown,
    /// Whether every check asks the memory plane, or nodes hold slices of the limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sharing: Sharing,
    /// Other limits for some values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 10_000)]
    pub overrides: Vec<OverrideSpec>,
}

/// A key of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    /// Its name.
    #[schema(example = "user", max_length = 128)]
    pub key: String,
    /// Only this value; `/api/*` is every value that starts with `/api/`. Left out: every value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 1024)]
    pub value: Option<String>,
    /// Whether the values that match count together. If not, each has a limit of its own.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = false)]
    pub is_shared: bool,
}

/// How limits are counted. Each one's exact guarantee is in the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// A bucket of `burst` that is refilled with `limit` each `period`.
    TokenBucket,
    /// One each `period / limit`, and up to `burst` at once (leaky bucket).
    Gcra,
    /// `limit` in each `window`; windows are aligned to the Unix epoch.
    FixedWindow,
    /// `limit` in any `window`, exactly; at most 10,000.
    SlidingLog,
    /// About `limit` in any `window`, estimated from two fixed ones.
    SlidingCounter,
    /// `limit` in each day, week or month of a time zone.
    Calendar,
    /// `limit` at once; a place is given back when it is settled, or after `lease`.
    Concurrency,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::TokenBucket,
        Self::Gcra,
        Self::FixedWindow,
        Self::SlidingLog,
        Self::SlidingCounter,
        Self::Calendar,
        Self::Concurrency,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenBucket => "token_bucket",
            Self::Gcra => "gcra",
            Self::FixedWindow => "fixed_window",
            Self::SlidingLog => "sliding_log",
            Self::SlidingCounter => "sliding_counter",
            Self::Calendar => "calendar",
            Self::Concurrency => "concurrency",
        }
    }
}

/// How much is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitSpec {
    /// How it is counted.
    pub algorithm: Algorithm,
    /// How much, up to 1,000,000,000 (10,000 for `sliding_log`); 0 refuses everything.
    #[schema(example = 100, maximum = 1_000_000_000)]
    pub limit: u64,
    /// Of `token_bucket` and `gcra`: the time in which `limit` comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, example = "1m")]
    pub period: Option<Span>,
    /// Of `fixed_window`, `sliding_log` and `sliding_counter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, example = "1h")]
    pub window: Option<Span>,
    /// Of `calendar`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub calendar: Option<CalendarSpec>,
    /// Of `token_bucket` (left out: `limit`) and `gcra` (left out: 1): how much at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 1_000_000_000)]
    pub burst: Option<u64>,
    /// Of `concurrency` (left out: `1m`): how long a place is held when nobody gives it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, example = "30s")]
    pub lease: Option<Span>,
}

/// Windows of the calendar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CalendarSpec {
    /// How long they are.
    pub unit: CalendarUnit,
    /// The IANA time zone whose midnight they start at.
    #[serde(default = "utc", skip_serializing_if = "is_utc")]
    #[schema(example = "Europe/Berlin", default = "UTC")]
    pub zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn is_utc(zone: &str) -> bool {
    zone == "UTC"
}

/// A stretch of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CalendarUnit {
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday (ISO 8601).
    Week,
    /// From the first to the first.
    Month,
}

impl CalendarUnit {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

/// Whether a rule refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It counts, and tells what it would have refused.
    Shadow,
    /// It is not looked at.
    Off,
}

impl Mode {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
            Self::Off => "off",
        }
    }
}

/// What a rule does while the memory plane is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenDown {
    /// Lets everything through.
    Open,
    /// Refuses everything.
    Closed,
    /// Each node counts for itself: up to the limit on each.
    #[default]
    Local,
}

impl WhenDown {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Local => "local",
        }
    }
}

/// How a limit is shared by the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Every check asks the memory plane.
    #[default]
    Exact,
    /// A node takes so many percent of the limit at once (1 to 50) and serves from them.
    Leased(u8),
}

/// Another limit for some values. Exactly one of `limit`, `is_unlimited` and `is_blocked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideSpec {
    /// The values of some or all keys of the rule. Where several overrides fit, the one with more keys holds.
    pub values: BTreeMap<String, String>,
    /// The limit that holds instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub limit: Option<LimitSpec>,
    /// The rule does not apply.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = false)]
    pub is_unlimited: bool,
    /// Everything is refused.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(default = false)]
    pub is_blocked: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A time as people write it: `250ms`, `5s`, `10m`, `2h`, `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&kernel::limits::format_duration(self.0))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        kernel::limits::parse_duration(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("expected a time such as 250ms, 5s, 10m, 2h or 30d"))
    }
}
