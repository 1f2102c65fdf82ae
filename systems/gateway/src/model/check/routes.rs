//! Routes, but for their actions.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use kernel::{ProjectId, Span};

use super::{Check, actions, is_name};
use crate::model::{
    Cors,
    matching::{HostRule, Matcher, PathRule, regex},
    route::{HeaderRulesSpec, JsonRulesSpec, MatchSpec, MessageSpec, RateLimitSpec, RewriteSpec, RouteSpec, ValueSpec},
    template::{Template, Variable},
    units::Size,
};

/// The longest time that a document can name.
const LONGEST: Duration = Duration::from_hours(24);
/// Connection headers, which belong to one hop, and those that say where a message ends: rules must not touch them.
const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

pub(super) fn route(check: &mut Check<'_>, route: &RouteSpec, at: &str) {
    let captures = matching(check, &route.matching, &format!("{at}/match"));
    if route.description.chars().count() > 500 {
        check.error(format!("{at}/description"), "at most 500 characters");
    }
    actions::one(check, route, at, &captures);
    if let Some(rewrite) = &route.rewrite {
        self::rewrite(check, rewrite, route, &format!("{at}/rewrite"), &captures);
    }
    message(check, &route.request, &format!("{at}/request"), &captures);
    message(check, &route.response, &format!("{at}/response"), &captures);
    if route.policies.len() > 16 {
        check.error(format!("{at}/policies"), "at most 16");
    }
    for (i, name) in route.policies.iter().enumerate() {
        if !check.policies.contains(name.as_str()) {
            check.error(format!("{at}/policies/{i}"), format!("there is no policy {name:?}"));
        }
    }
    if let Some(cors) = &route.cors {
        check.found.errors.extend(Cors::compile(cors, &format!("{at}/cors")).err().unwrap_or_default());
    }
    if let Some(limit) = &route.rate_limit {
        rate_limit(check, limit, &format!("{at}/rate_limit"), &captures);
    }
    if route.concurrency.is_some_and(|c| c.max == 0) {
        check.error(format!("{at}/concurrency/max"), "must be at least 1");
    }
    let timeouts = &route.timeouts;
    for (name, span) in [("total", timeouts.total), ("try", timeouts.one_try), ("idle", timeouts.idle)] {
        time(check, &format!("{at}/timeouts/{name}"), span);
    }
    if let Some(retry) = &route.retry {
        if !(1..=10).contains(&retry.attempts) {
            check.error(format!("{at}/retry/attempts"), "must be 1 to 10");
        }
        if retry.on.is_empty() {
            check.error(format!("{at}/retry/on"), "must name at least one reason");
        }
        if !(1..=100).contains(&retry.budget_percent) {
            check.error(format!("{at}/retry/budget_percent"), "must be 1 to 100");
        }
        time(check, &format!("{at}/retry/backoff"), retry.backoff);
        time(check, &format!("{at}/retry/max_backoff"), retry.max_backoff);
    }
    let headers = route.limits.max_request_headers.map_or(1, Size::bytes);
    if !(1..=1 << 20).contains(&headers) {
        check.error(format!("{at}/limits/max_request_headers"), "must be 1 byte to 1 MiB");
    }
}

pub(super) fn time(check: &mut Check<'_>, field: &str, span: Option<Span>) {
    if span.is_some_and(|Span(time)| time.is_zero() || time > LONGEST) {
        check.error(field, "must be 1ms to 24h");
    }
}

/// Checks a template; its captures have to be in the path.
pub(super) fn template(check: &mut Check<'_>, field: &str, text: &str, captures: &[String]) -> Option<Template> {
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(why) => {
            check.error(field, why);
            return None;
        }
    };
    for variable in template.variables() {
        if let Variable::Capture(name) = variable
            && !captures.iter().any(|c| **c == **name)
        {
            check.error(field, format!("`{{{name}}}` is neither a variable nor a name in the route's path"));
        }
    }
    Some(template)
}

/// Checks the conditions; gives the names in the path.
fn matching(check: &mut Check<'_>, spec: &MatchSpec, at: &str) -> Vec<String> {
    if spec.hosts.len() > 64 {
        check.error(format!("{at}/hosts"), "at most 64");
    }
    for (i, host) in spec.hosts.iter().enumerate() {
        if let Err(why) = HostRule::parse(host) {
            check.error(format!("{at}/hosts/{i}"), why);
        } else if spec.hosts[..i].contains(host) {
            check.error(format!("{at}/hosts/{i}"), "is there already");
        }
    }
    for (i, method) in spec.methods.iter().enumerate() {
        let is_upper = method.bytes().all(|b| b.is_ascii_uppercase());
        if !is_upper || Method::from_bytes(method.as_bytes()).is_err() {
            check.error(format!("{at}/methods/{i}"), "expected a method such as GET");
        }
    }
    values(check, &spec.headers, &format!("{at}/headers"), true);
    values(check, &spec.query, &format!("{at}/query"), false);
    let Some(path) = &spec.path else { return Vec::new() };
    let field = match (&path.exact, &path.prefix, &path.pattern, &path.regex) {
        (Some(_), None, None, None) => "/exact",
        (None, Some(_), None, None) => "/prefix",
        (None, None, Some(_), None) => "/pattern",
        (None, None, None, Some(_)) => "/regex",
        _ => "",
    };
    match PathRule::new(path) {
        Ok(rule) => {
            let literal = path.exact.as_ref().or(path.prefix.as_ref());
            if let Some(path) = literal
                && crate::model::path::normal(path).as_deref() != Ok(path.as_str())
            {
                check.error(format!("{at}/path{field}"), "is not in its normal form, so no request has it");
            }
            rule.names().into_iter().map(str::to_owned).collect()
        }
        Err(why) => {
            check.error(format!("{at}/path{field}"), why);
            Vec::new()
        }
    }
}

fn values(check: &mut Check<'_>, specs: &[ValueSpec], at: &str, is_header: bool) {
    if specs.len() > 16 {
        check.error(at, "at most 16");
    }
    for (i, spec) in specs.iter().enumerate() {
        if spec.name.is_empty() || (is_header && HeaderName::try_from(&spec.name).is_err()) {
            check.error(
                format!("{at}/{i}/name"),
                if is_header { "is no name of a header" } else { "must not be empty" },
            );
            continue;
        }
        // What compiles it says what is wrong with it.
        let alone = MatchSpec { query: vec![spec.clone()], ..MatchSpec::default() };
        if let Err(why) = Matcher::new(&alone) {
            let field =
                if spec.regex.is_some() && spec.value.is_none() && spec.present.is_none() { "/regex" } else { "" };
            check.error(format!("{at}/{i}{field}"), why);
        }
    }
}

fn rewrite(check: &mut Check<'_>, spec: &RewriteSpec, route: &RouteSpec, at: &str, captures: &[String]) {
    if route.forward.is_none() {
        check.error(at, "only a route that forwards has something to rewrite");
    }
    if let Some(path) = &spec.path {
        match (&path.prefix, &path.regex, &path.to) {
            (Some(prefix), None, None) => {
                if !prefix.starts_with('/') {
                    check.error(format!("{at}/path/prefix"), "must start with /");
                }
                let spec = route.matching.path.as_ref();
                if spec.is_some_and(|path| path.prefix.is_none()) {
                    check.error(
                        format!("{at}/path/prefix"),
                        "replaces the prefix that the route matches, and it matches none",
                    );
                }
            }
            (None, Some(expression), Some(_)) => {
                if let Err(why) = regex(expression) {
                    check.error(format!("{at}/path/regex"), why);
                }
            }
            (None, None, Some(to)) => {
                template(check, &format!("{at}/path/to"), to, captures);
                if !to.starts_with('/') {
                    check.error(format!("{at}/path/to"), "must start with /");
                }
            }
            _ => check.error(format!("{at}/path"), "exactly one of prefix, to, and regex with to"),
        }
    }
    if let Some(host) = &spec.host
        && (host.is_empty() || HeaderValue::from_str(host).is_err() || host.contains(['/', ' ', '@']))
    {
        check.error(format!("{at}/host"), "is no host");
    }
    for (name, text) in &spec.query.set {
        template(check, &format!("{at}/query/set/{name}"), text, captures);
    }
}

fn message(check: &mut Check<'_>, spec: &MessageSpec, at: &str, captures: &[String]) {
    header_rules(check, &spec.headers, &format!("{at}/headers"), captures);
    json_rules(check, &spec.json, &format!("{at}/json"));
}

fn header_rules(check: &mut Check<'_>, spec: &HeaderRulesSpec, at: &str, captures: &[String]) {
    let name = |check: &mut Check<'_>, field: String, name: &str| {
        if HeaderName::try_from(name).is_err() {
            check.error(field, format!("{name:?} is no name of a header"));
        } else if FRAMING.iter().any(|n| n.eq_ignore_ascii_case(name)) {
            check.error(field, format!("{name} belongs to the connection; for the host there is rewrite.host"));
        }
    };
    for (part, rules) in [("set", &spec.set), ("add", &spec.add)] {
        if rules.len() > 64 {
            check.error(format!("{at}/{part}"), "at most 64");
        }
        for (header, text) in rules {
            let field = format!("{at}/{part}/{header}");
            name(check, field.clone(), header);
            template(check, &field, text, captures);
            if HeaderValue::from_str(text).is_err() {
                check.error(field, "has a character that no header has");
            }
        }
    }
    for (i, header) in spec.remove.iter().enumerate() {
        name(check, format!("{at}/remove/{i}"), header);
    }
}

/// A JSON pointer (RFC 6901) that is not the whole document.
pub(super) fn pointer(check: &mut Check<'_>, field: String, text: &str) {
    if !text.starts_with('/') {
        check.error(field, "expected a JSON pointer such as /user/name");
    }
}

fn json_rules(check: &mut Check<'_>, spec: &JsonRulesSpec, at: &str) {
    for (from, to) in &spec.rename {
        pointer(check, format!("{at}/rename"), from);
        pointer(check, format!("{at}/rename"), to);
        if from.matches('*').count() < to.matches('*').count() {
            check.error(format!("{at}/rename"), format!("{to} has more * than {from}"));
        }
    }
    for (i, place) in spec.remove.iter().enumerate() {
        pointer(check, format!("{at}/remove/{i}"), place);
    }
    for place in spec.set.keys() {
        pointer(check, format!("{at}/set"), place);
    }
    if spec.max_body.is_some_and(|size| !(1..=16 << 20).contains(&size.bytes())) {
        check.error(format!("{at}/max_body"), "must be 1 byte to 16 MiB");
    }
}

fn rate_limit(check: &mut Check<'_>, spec: &RateLimitSpec, at: &str, captures: &[String]) {
    if !is_name(&spec.domain) {
        check.error(format!("{at}/domain"), super::NAME_RULE);
    }
    if spec.project.as_deref().is_some_and(|p| ProjectId::parse(p).is_none()) {
        check.error(format!("{at}/project"), "a project is 1 to 40 of a-z, 0-9 and -, starting with a letter");
    }
    if spec.descriptors.is_empty() || spec.descriptors.len() > 8 {
        check.error(format!("{at}/descriptors"), "1 to 8");
    }
    for (i, descriptor) in spec.descriptors.iter().enumerate() {
        if descriptor.is_empty() || descriptor.len() > 16 {
            check.error(format!("{at}/descriptors/{i}"), "1 to 16 keys");
        }
        for (key, text) in descriptor {
            template(check, &format!("{at}/descriptors/{i}/{key}"), text, captures);
        }
    }
}
