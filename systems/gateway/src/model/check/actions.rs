//! Actions of routes.

use http::{HeaderName, HeaderValue};

use super::{Check, is_name, routes};
use crate::model::{
    action::{AggregateSpec, CanarySpec, FallbackSpec, FilesSpec, ForwardSpec, RedirectSpec, RespondSpec, StickySpec},
    route::RouteSpec,
};

/// The largest answer that stands in a document.
const MAX_RESPOND_BYTES: usize = 64 << 10;

/// Exactly one action, which can hold.
pub(super) fn one(check: &mut Check<'_>, route: &RouteSpec, at: &str, captures: &[String]) {
    let given = [
        route.forward.is_some(),
        route.redirect.is_some(),
        route.respond.is_some(),
        route.files.is_some(),
        route.service.is_some(),
        route.aggregate.is_some(),
    ];
    if given.iter().filter(|is| **is).count() != 1 {
        check.error(at, "exactly one of forward, redirect, respond, files, service and aggregate");
    }
    if let Some(spec) = &route.forward {
        forward(check, spec, &format!("{at}/forward"));
    }
    if let Some(spec) = &route.redirect {
        redirect(check, spec, &format!("{at}/redirect"), captures);
    }
    if let Some(spec) = &route.respond {
        respond(check, spec, &format!("{at}/respond"));
    }
    if let Some(spec) = &route.files {
        files(check, spec, &format!("{at}/files"));
    }
    if let Some(name) = &route.service
        && !check.services.contains(&name.as_str())
    {
        let known = check.services.join(", ");
        check.error(format!("{at}/service"), format!("there is no system {name:?} to route to; there are: {known}"));
    }
    if let Some(spec) = &route.aggregate {
        aggregate(check, spec, &format!("{at}/aggregate"), captures);
    }
}

fn forward(check: &mut Check<'_>, spec: &ForwardSpec, at: &str) {
    if spec.to.is_empty() || spec.to.len() > 16 {
        check.error(format!("{at}/to"), "1 to 16 upstreams");
    } else if spec.to.iter().all(|split| split.weight == 0) {
        check.error(format!("{at}/to"), "not every weight can be 0");
    }
    for (i, split) in spec.to.iter().enumerate() {
        check.upstream(&format!("{at}/to/{i}/upstream"), &split.upstream);
        if split.weight > 1_000_000 {
            check.error(format!("{at}/to/{i}/weight"), "must be 0 to 1000000");
        }
        if spec.to[..i].iter().any(|before| before.upstream == split.upstream) {
            check.error(format!("{at}/to/{i}/upstream"), "is there already");
        }
    }
    if let Some(canary) = &spec.canary {
        self::canary(check, canary, &format!("{at}/canary"));
    }
    if let Some(StickySpec { cookie, ttl }) = &spec.sticky {
        cookie_name(check, &format!("{at}/sticky/cookie"), cookie);
        routes::time(check, &format!("{at}/sticky/ttl"), *ttl);
    }
    if let Some(mirror) = &spec.mirror {
        check.upstream(&format!("{at}/mirror/upstream"), &mirror.upstream);
        if !(0.0..=100.0).contains(&mirror.percent) {
            check.error(format!("{at}/mirror/percent"), "must be 0 to 100");
        }
        if let Some(compare) = &mirror.compare {
            for (i, header) in compare.headers.iter().enumerate() {
                if HeaderName::try_from(header).is_err() {
                    check.error(format!("{at}/mirror/compare/headers/{i}"), "is no name of a header");
                }
            }
            for (i, place) in compare.ignore_json.iter().enumerate() {
                routes::pointer(check, format!("{at}/mirror/compare/ignore_json/{i}"), place);
            }
            if !compare.status && !compare.body && compare.headers.is_empty() {
                check.error(
                    format!("{at}/mirror/compare"),
                    "compares nothing: at least one of status, headers and body",
                );
            }
        }
    }
    if let Some(fallback) = &spec.fallback {
        self::fallback(check, fallback, &format!("{at}/fallback"));
    }
}

fn canary(check: &mut Check<'_>, spec: &CanarySpec, at: &str) {
    check.upstream(&format!("{at}/upstream"), &spec.upstream);
    if spec.header.is_none() && spec.cookie.is_none() {
        check.error(at, "needs a header or a cookie");
    }
    if let Some(header) = &spec.header {
        let is_value = header.value.as_ref().is_none_or(|v| HeaderValue::from_str(v).is_ok());
        if HeaderName::try_from(&header.name).is_err() || !is_value {
            check.error(format!("{at}/header"), "is no header");
        }
    }
    if let Some(cookie) = &spec.cookie {
        cookie_name(check, &format!("{at}/cookie/name"), &cookie.name);
    }
}

/// RFC 6265 §4.1.1: a token.
fn cookie_name(check: &mut Check<'_>, field: &str, name: &str) {
    if HeaderName::try_from(name).is_err() {
        check.error(field, "is no name of a cookie");
    }
}

fn fallback(check: &mut Check<'_>, spec: &FallbackSpec, at: &str) {
    match (&spec.upstream, spec.status) {
        (Some(name), None) => {
            check.upstream(&format!("{at}/upstream"), name);
            if spec.body.is_some() || spec.content_type.is_some() {
                check.error(at, "either an upstream, or an answer with status and body");
            }
        }
        (None, Some(status)) => {
            respond_parts(check, at, status, spec.body.as_deref().unwrap_or_default());
            if spec.content_type.as_ref().is_some_and(|t| HeaderValue::from_str(t).is_err()) {
                check.error(format!("{at}/content_type"), "has a character that no header has");
            }
        }
        _ => check.error(at, "exactly one of upstream and status"),
    }
}

fn respond_parts(check: &mut Check<'_>, at: &str, status: u16, body: &str) {
    if !(200..=599).contains(&status) {
        check.error(format!("{at}/status"), "must be 200 to 599");
    }
    if body.len() > MAX_RESPOND_BYTES {
        check.error(format!("{at}/body"), "at most 64 KiB");
    }
    if matches!(status, 204 | 205 | 304) && !body.is_empty() {
        check.error(format!("{at}/body"), format!("an answer {status} has none"));
    }
}

fn redirect(check: &mut Check<'_>, spec: &RedirectSpec, at: &str, captures: &[String]) {
    routes::template(check, &format!("{at}/to"), &spec.to, captures);
    if HeaderValue::from_str(&spec.to).is_err() || spec.to.is_empty() {
        check.error(format!("{at}/to"), "has a character that no address has");
    }
    // A path of two slashes at the start of an address would be a host.
    if spec.to.starts_with("{path}") {
        check.warn(format!("{at}/to"), "leads to the same path on the same host: is that meant?");
    }
    if !matches!(spec.status, 301 | 302 | 303 | 307 | 308) {
        check.error(format!("{at}/status"), "must be 301, 302, 303, 307 or 308");
    }
}

fn respond(check: &mut Check<'_>, spec: &RespondSpec, at: &str) {
    respond_parts(check, at, spec.status, &spec.body);
    for (name, value) in &spec.headers {
        let fits = HeaderName::try_from(name).is_ok() && HeaderValue::from_str(value).is_ok();
        if !fits || ["content-length", "transfer-encoding", "connection"].contains(&name.to_ascii_lowercase().as_str())
        {
            check.error(format!("{at}/headers/{name}"), "is no header that an answer can be given");
        }
    }
}

fn files(check: &mut Check<'_>, spec: &FilesSpec, at: &str) {
    if !spec.root.is_absolute() {
        check.error(format!("{at}/root"), "must be an absolute path");
    }
    for (name, file) in [("index", &spec.index), ("fallback", &spec.fallback)] {
        let is_one = |f: &String| !f.is_empty() && !f.starts_with('.') && !f.contains(['/', '\\', '\0']);
        if file.as_ref().is_some_and(|f| !is_one(f)) {
            check.error(format!("{at}/{name}"), "must be the name of a file");
        }
    }
    if spec.cache_control.as_ref().is_some_and(|v| HeaderValue::from_str(v).is_err()) {
        check.error(format!("{at}/cache_control"), "has a character that no header has");
    }
}

fn aggregate(check: &mut Check<'_>, spec: &AggregateSpec, at: &str, captures: &[String]) {
    if spec.calls.is_empty() || spec.calls.len() > 16 {
        check.error(format!("{at}/calls"), "1 to 16");
    }
    for (i, call) in spec.calls.iter().enumerate() {
        let at = format!("{at}/calls/{i}");
        if !is_name(&call.name) || call.name == "_errors" {
            check.error(format!("{at}/name"), format!("{}; not _errors", super::NAME_RULE));
        }
        if spec.calls[..i].iter().any(|before| before.name == call.name) {
            check.error(format!("{at}/name"), "is there already");
        }
        check.upstream(&format!("{at}/upstream"), &call.upstream);
        routes::template(check, &format!("{at}/path"), &call.path, captures);
        if !call.path.starts_with('/') {
            check.error(format!("{at}/path"), "must start with /");
        }
        routes::time(check, &format!("{at}/timeout"), call.timeout);
    }
}
