//! The server's own limits: the rules of the domain `mainstay` that hold until a project has its own of the same name.

use axum::extract::Request;
use limiter::{
    RuleSpec,
    model::{Algorithm, KeySpec, LimitSpec, Mode, Sharing, Span, WhenDown},
};

use crate::config::Config;

/// How often the API may be asked, by key and by address. With `--dev` it is not limited: whoever asks is this machine.
pub(crate) fn built_in(config: &Config, dev: bool) -> Vec<RuleSpec> {
    let api = [
        ("api-key", "key", config.api.key_limit_per_minute, "Requests of one API key"),
        ("api-address", "address", config.api.address_limit_per_minute, "Requests from one address (of IPv6, one /64)"),
    ];
    api.into_iter()
        .filter(|(_, _, limit, _)| *limit > 0 && !dev)
        .map(|(name, key, limit, what)| rule(name, key, limit, what))
        .chain(config.shortener.built_in_limits())
        .collect()
}

/// A bucket that holds a minute's worth: bursts pass, and what is used comes back evenly.
fn rule(name: &str, key: &str, per_minute: u64, description: &str) -> RuleSpec {
    RuleSpec {
        name: name.to_owned(),
        description: description.to_owned(),
        keys: vec![KeySpec { key: key.to_owned(), value: None, is_shared: false }],
        limit: LimitSpec {
            algorithm: Algorithm::TokenBucket,
            limit: per_minute,
            period: Some(Span(std::time::Duration::from_mins(1))),
            window: None,
            calendar: None,
            burst: None,
            lease: None,
        },
        cost_from: None,
        mode: Mode::Enforce,
        when_down: WhenDown::Local,
        // A round trip for each request would cost more than most requests do.
        sharing: Sharing::Leased(5),
        overrides: Vec::new(),
    }
}

/// What the API's own limits leave alone: questions about limits, which are what they would cost to limit.
pub(crate) fn is_exempt(request: &Request) -> bool {
    let path = request.uri().path();
    ["/v1/limits/check", "/v1/limits/reserve", "/v1/limits/settle"].contains(&path)
        || path.starts_with("/envoy.service.ratelimit.")
}
