//! Rules that were checked: every mistake is found, and named by its JSON pointer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kernel::FieldError;
use memory::Rate;

use super::{
    Algorithm, LimitSpec, MAX_KEY_BYTES, MAX_LIMIT, MAX_LOG_LIMIT, MAX_NAME_CHARS, MAX_OVERRIDE_SHAPES, MAX_OVERRIDES,
    MAX_RULE_KEYS, MAX_RULES, MAX_VALUE_BYTES, Mode, OverrideSpec, RuleSpec, Sharing, Span, WhenDown,
    calendar::Calendar,
};

/// The most mistakes that are told at once.
pub(crate) const MAX_FAULTS: usize = 50;
const DEFAULT_LEASE: Duration = Duration::from_mins(1);
const MAX_DESCRIPTION_CHARS: usize = 500;
const DAY: Duration = Duration::from_hours(24);
/// Shortest and longest period and window.
pub(crate) const WINDOWS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_hours(366 * 24));
/// Shortest and longest lease.
const LEASES: (Duration, Duration) = (Duration::from_secs(1), DAY);

/// Which values of a key a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    Any,
    Exact(Box<str>),
    Prefix(Box<str>),
}

impl Pattern {
    fn new(value: Option<&str>) -> Self {
        match value {
            None => Self::Any,
            Some(value) => {
                value.strip_suffix('*').map_or_else(|| Self::Exact(value.into()), |p| Self::Prefix(p.into()))
            }
        }
    }

    pub(crate) fn matches(&self, value: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => **exact == *value,
            Self::Prefix(prefix) => value.starts_with(&**prefix),
        }
    }
}

/// A key of a rule.
#[derive(Debug)]
pub(crate) struct RuleKey {
    pub(crate) key: Box<str>,
    pub(crate) pattern: Pattern,
    pub(crate) is_shared: bool,
}

/// How much is allowed.
#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) form: Form,
    /// As decisions show it.
    pub(crate) most: u64,
    /// As decisions show it; of a calendar the window of now is shown instead.
    pub(crate) window: Duration,
}

#[derive(Debug)]
pub(crate) enum Form {
    /// The same at all times.
    Rate(Rate),
    /// By the windows of a calendar.
    Calendar(Calendar),
}

/// What a rule does with a key.
#[derive(Debug)]
pub(crate) enum Effect {
    Limit(Limit),
    Unlimited,
    Blocked,
}

/// An override, with its values in the order of the rule's keys.
#[derive(Debug)]
pub(crate) struct Override {
    /// Bit `i`: it names the rule's key `i`.
    pub(crate) shape: u8,
    pub(crate) values: Vec<Box<str>>,
    pub(crate) effect: Effect,
}

/// A rule as it is carried out.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: Arc<str>,
    pub(crate) keys: Vec<RuleKey>,
    pub(crate) effect: Effect,
    pub(crate) cost_from: Option<Box<str>>,
    pub(crate) mode: Mode,
    pub(crate) when_down: WhenDown,
    /// How many percent of the limit a node may hold in a slice.
    pub(crate) share: Option<u8>,
    pub(crate) overrides: Vec<Override>,
}

/// Mistakes found so far, and where one is.
struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, field: String, detail: impl Into<String>) {
        if self.0.len() < MAX_FAULTS {
            self.0.push(FieldError { field, detail: detail.into() });
        }
    }

    fn check(&mut self, is_right: bool, field: impl FnOnce() -> String, detail: &str) {
        if !is_right {
            self.add(field(), detail);
        }
    }
}

/// Checks the rules of one domain. `base` is where they stand: `/rules`.
pub(crate) fn check(specs: &[RuleSpec], base: &str) -> Result<Vec<Rule>, Vec<FieldError>> {
    let mut faults = Faults(Vec::new());
    if specs.len() > MAX_RULES {
        faults.add(base.to_owned(), format!("a project has at most {MAX_RULES} rules"));
        return Err(faults.0);
    }
    let mut names = BTreeSet::new();
    let mut rules = Vec::with_capacity(specs.len());
    for (i, spec) in specs.iter().enumerate() {
        let at = format!("{base}/{i}");
        faults.check(names.insert(&spec.name), || format!("{at}/name"), "another rule of the domain has this name");
        rules.extend(rule(spec, &at, &mut faults));
    }
    if faults.0.is_empty() { Ok(rules) } else { Err(faults.0) }
}

/// Whether a text is the name of a rule or domain.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// What a name has to be.
pub(crate) const NAME_RULE: &str = "expected 1 to 64 of A-Z, a-z, 0-9, _, - and .";

fn is_text(text: &str, max_bytes: usize) -> bool {
    (1..=max_bytes).contains(&text.len()) && !text.contains(char::is_control)
}

fn rule(spec: &RuleSpec, at: &str, faults: &mut Faults) -> Option<Rule> {
    faults.check(is_name(&spec.name), || format!("{at}/name"), NAME_RULE);
    faults.check(
        spec.description.chars().count() <= MAX_DESCRIPTION_CHARS && !spec.description.contains('\0'),
        || format!("{at}/description"),
        "at most 500 characters",
    );
    let keys = keys(spec, at, faults);
    let limit = limit(&spec.limit, &format!("{at}/limit"), faults);
    let is_concurrency = spec.limit.algorithm == Algorithm::Concurrency;
    if let Some(key) = &spec.cost_from {
        let field = || format!("{at}/cost_from");
        faults.check(is_text(key, MAX_KEY_BYTES), field, "expected 1 to 128 bytes without control characters");
        faults.check(!is_concurrency, field, "a place is a place: concurrency has no cost");
    }
    if let Sharing::Leased(share) = spec.sharing {
        let field = || format!("{at}/sharing");
        faults.check((1..=50).contains(&share), field, "expected a share of 1 to 50 percent");
        let is_divisible = !is_concurrency && spec.limit.algorithm != Algorithm::SlidingLog;
        faults.check(is_divisible, field, "a sliding_log or concurrency limit cannot be held in slices");
    }
    let overrides = overrides(spec, &keys, at, faults);
    Some(Rule {
        name: spec.name.as_str().into(),
        keys,
        effect: limit?,
        cost_from: spec.cost_from.as_deref().map(Into::into),
        mode: spec.mode,
        when_down: spec.when_down,
        share: match spec.sharing {
            Sharing::Exact => None,
            Sharing::Leased(share) => Some(share),
        },
        overrides,
    })
}

fn keys(spec: &RuleSpec, at: &str, faults: &mut Faults) -> Vec<RuleKey> {
    faults.check(spec.keys.len() <= MAX_RULE_KEYS, || format!("{at}/keys"), "at most 8 keys");
    let mut seen = BTreeSet::new();
    let keys = spec.keys.iter().take(MAX_RULE_KEYS).enumerate().map(|(i, key)| {
        let field = |name: &str| format!("{at}/keys/{i}/{name}");
        let is_right = is_text(&key.key, MAX_KEY_BYTES);
        faults.check(is_right, || field("key"), "expected 1 to 128 bytes without control characters");
        faults.check(seen.insert(&key.key), || field("key"), "the rule has this key already");
        if let Some(value) = &key.value {
            let is_right = is_text(value, MAX_VALUE_BYTES);
            faults.check(is_right, || field("value"), "expected 1 to 1024 bytes without control characters");
            let is_plain = !value.trim_end_matches('*').contains('*') && !value.ends_with("**");
            faults.check(is_plain, || field("value"), "a * stands only at the end, for everything that starts so");
        }
        RuleKey { key: key.key.as_str().into(), pattern: Pattern::new(key.value.as_deref()), is_shared: key.is_shared }
    });
    keys.collect()
}

fn limit(spec: &LimitSpec, at: &str, faults: &mut Faults) -> Option<Effect> {
    use Algorithm::{Calendar as Days, Concurrency, FixedWindow, Gcra, SlidingCounter, SlidingLog, TokenBucket};
    let before = faults.0.len();
    let kind = spec.algorithm;
    let remembers = matches!(kind, SlidingLog | Concurrency);
    let most = if remembers { MAX_LOG_LIMIT } else { MAX_LIMIT };
    faults.check(
        spec.limit <= most,
        || format!("{at}/limit"),
        if remembers { "at most 10000" } else { "at most 1000000000" },
    );
    let mut span = |value: Option<Span>, name: &str, is_used: bool, (least, longest): (Duration, Duration)| {
        let field = || format!("{at}/{name}");
        match value {
            None if is_used => faults.add(field(), format!("{} needs a {name}", kind.as_str())),
            Some(_) if !is_used => faults.add(field(), format!("{} has no {name}", kind.as_str())),
            Some(Span(length)) if !(least..=longest).contains(&length) => {
                faults.add(field(), format!("expected {} to {}", Span(least), Span(longest)));
            }
            _ => {}
        }
        value.map_or(WINDOWS.0, |span| span.0)
    };
    let period = span(spec.period, "period", matches!(kind, TokenBucket | Gcra), WINDOWS);
    let window = span(spec.window, "window", matches!(kind, FixedWindow | SlidingLog | SlidingCounter), WINDOWS);
    let lease = match kind {
        Concurrency => span(Some(spec.lease.unwrap_or(Span(DEFAULT_LEASE))), "lease", true, LEASES),
        _ => span(spec.lease, "lease", false, LEASES),
    };
    if let Some(burst) = spec.burst {
        let field = || format!("{at}/burst");
        faults.check(matches!(kind, TokenBucket | Gcra), field, "only token_bucket and gcra have a burst");
        faults.check((1..=MAX_LIMIT).contains(&burst), field, "expected 1 to 1000000000");
    }
    let calendar = match (&spec.calendar, kind) {
        (Some(days), Days) => {
            let calendar = Calendar::new(days);
            let detail = "no such time zone; expected an IANA name such as Europe/Berlin";
            faults.check(calendar.is_some(), || format!("{at}/calendar/zone"), detail);
            calendar
        }
        (Some(_), _) => {
            faults.add(format!("{at}/calendar"), format!("{} has no calendar", kind.as_str()));
            None
        }
        (None, Days) => {
            faults.add(format!("{at}/calendar"), "calendar needs a unit (day, week or month) and a zone");
            None
        }
        (None, _) => None,
    };
    if faults.0.len() > before {
        return None;
    }
    let limit = spec.limit;
    if limit == 0 {
        return Some(Effect::Blocked);
    }
    let (rate, shown) = match kind {
        TokenBucket => (Rate::TokenBucket { capacity: spec.burst.unwrap_or(limit), refill: limit, period }, period),
        Gcra => (Rate::Gcra { limit, period, burst: spec.burst.unwrap_or(1) }, period),
        FixedWindow => (Rate::FixedWindow { limit, window }, window),
        SlidingLog => (Rate::SlidingLog { limit, window }, window),
        SlidingCounter => (Rate::SlidingCounter { limit, window }, window),
        Concurrency => (Rate::Concurrency { limit, lease }, lease),
        Days => {
            let form = Form::Calendar(calendar?);
            return Some(Effect::Limit(Limit { form, most: limit, window: DAY }));
        }
    };
    // What the engines cannot count exactly, such as a prime number of tokens in a prime number of milliseconds.
    if let Err(error) = rate.check() {
        faults.add(at.to_owned(), error.to_string());
        return None;
    }
    Some(Effect::Limit(Limit { form: Form::Rate(rate), most: limit, window: shown }))
}

fn overrides(spec: &RuleSpec, keys: &[RuleKey], at: &str, faults: &mut Faults) -> Vec<Override> {
    let base = format!("{at}/overrides");
    if spec.overrides.len() > MAX_OVERRIDES {
        faults.add(base, format!("at most {MAX_OVERRIDES} overrides"));
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    let mut shapes = BTreeSet::new();
    let mut all = Vec::with_capacity(spec.overrides.len());
    for (i, one) in spec.overrides.iter().enumerate() {
        let at = format!("{base}/{i}");
        faults.check(seen.insert(&one.values), || format!("{at}/values"), "another override has these values");
        let (shape, values) = values(&one.values, keys, &at, faults);
        if shapes.insert(shape) && shapes.len() == MAX_OVERRIDE_SHAPES + 1 {
            faults.add(format!("{at}/values"), "the overrides of a rule name at most 8 different sets of keys");
        }
        all.extend(effect(one, spec, &at, faults).map(|effect| Override { shape, values, effect }));
    }
    all
}

/// The values in the order of the rule's keys, and which keys they are of.
fn values(given: &BTreeMap<String, String>, keys: &[RuleKey], at: &str, faults: &mut Faults) -> (u8, Vec<Box<str>>) {
    faults.check(!given.is_empty(), || format!("{at}/values"), "expected a value of at least one key of the rule");
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    for key in given.keys().filter(|key| keys.iter().all(|known| *known.key != ***key)) {
        faults.add(format!("{at}/values/{}", escape(key)), "the rule has no such key");
    }
    let (mut shape, mut values) = (0, Vec::with_capacity(given.len()));
    for (i, key) in keys.iter().enumerate() {
        let Some(value) = given.get(&*key.key) else { continue };
        let field = || format!("{at}/values/{}", escape(&key.key));
        faults.check(value.len() <= MAX_VALUE_BYTES, field, "at most 1024 bytes");
        faults.check(key.pattern.matches(value), field, "the rule is not for this value");
        faults.check(!key.is_shared, field, "values of this key count together; they have no limits of their own");
        shape |= 1 << i;
        values.push(value.as_str().into());
    }
    (shape, values)
}

fn effect(one: &OverrideSpec, rule: &RuleSpec, at: &str, faults: &mut Faults) -> Option<Effect> {
    match (&one.limit, one.is_unlimited, one.is_blocked) {
        (Some(limit_spec), false, false) => {
            let is_place = |spec: &LimitSpec| spec.algorithm == Algorithm::Concurrency;
            let is_same = is_place(limit_spec) == is_place(&rule.limit);
            let field = || format!("{at}/limit/algorithm");
            faults.check(is_same, field, "concurrency and rates do not stand in for one another");
            limit(limit_spec, &format!("{at}/limit"), faults)
        }
        (None, true, false) => Some(Effect::Unlimited),
        (None, false, true) => Some(Effect::Blocked),
        _ => {
            faults.add(at.to_owned(), "expected exactly one of limit, is_unlimited and is_blocked");
            None
        }
    }
}
