//! From what is written to what is carried out.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use kernel::{Backoff, FieldError, ProjectId, Span};
use resilience::RetryBudget;

use super::{
    Chain, Cors, CorsSpec, Document, Origin, Table, Upstream,
    action::{FallbackSpec, ForwardSpec, RespondSpec},
    check::toml_path,
    compiled::{
        Action, Call, Canary, Fallback, Files, Forward, MessageRules, Mirror, RateLimit, Redirect, Respond, RetryRules,
        Rewrite, RewritePath, Route, Split, Sticky, Timeouts,
    },
    json::JsonRules,
    matching::{Matcher, regex},
    route::{JsonRulesSpec, MessageSpec, RewriteSpec, RouteSpec},
    stats::RouteStats,
    template::Template,
    units::Size,
};

/// The time a route has when it says nothing.
const TOTAL: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_mins(1);
const MAX_JSON_BODY: usize = 1 << 20;
const MAX_REQUEST_HEADERS: u64 = 64 << 10;
/// Retries of a route that are there at once, before its requests have earned any.
const RETRY_BURST: u32 = 10;

/// Finds policies by their names.
pub type ChainOf<'a> = dyn Fn(&[String]) -> Result<Arc<Chain>, FieldError> + 'a;

/// What a document is compiled with: the parts that run already.
pub struct Parts<'a> {
    /// An upstream by its name.
    pub upstream: &'a dyn Fn(&str) -> Option<Arc<Upstream>>,
    /// Policies in order.
    pub chain: &'a ChainOf<'a>,
    /// The route of this name that runs now.
    pub before: &'a dyn Fn(&str) -> Option<Arc<Route>>,
}

/// Compiles a document that [`super::check()`] found nothing wrong with. Errors are what only the parts know.
pub fn compile(
    document: Arc<Document>,
    origin: Origin,
    version: i64,
    parts: &Parts<'_>,
) -> Result<Table, Vec<FieldError>> {
    let (mut routes, mut faults) = (Vec::with_capacity(document.routes.len()), Vec::new());
    for (i, spec) in document.routes.iter().enumerate() {
        match route(spec, parts) {
            Ok(route) => routes.push(Arc::new(route)),
            Err((field, detail)) => faults.push(FieldError { field: format!("/routes/{i}{field}"), detail }),
        }
    }
    if faults.is_empty() { Ok(Table::new(document, origin, version, routes)) } else { Err(faults) }
}

/// Where in the route, and what.
type Fault = (String, String);

fn at<E: ToString>(field: &str) -> impl Fn(E) -> Fault + '_ {
    move |e| (field.to_owned(), e.to_string())
}

fn route(spec: &RouteSpec, parts: &Parts<'_>) -> Result<Route, Fault> {
    let before = (parts.before)(&spec.name);
    let total = time(spec.timeouts.total, TOTAL);
    let chain = if spec.policies.is_empty() {
        None
    } else {
        Some((parts.chain)(&spec.policies).map_err(|e| ("/policies".to_owned(), e.detail))?)
    };
    let budget = |percent: u32| {
        // The same budget goes on, so that a reload does not hand out retries anew.
        let same = before.as_ref().filter(|b| b.spec.retry.as_ref().is_some_and(|r| r.budget_percent == percent));
        same.and_then(|b| Some(b.retry.as_ref()?.budget.clone()))
            .unwrap_or_else(|| RetryBudget::new(RETRY_BURST, percent))
    };
    Ok(Route {
        name: spec.name.as_str().into(),
        priority: spec.priority,
        matcher: Matcher::new(&spec.matching).map_err(at("/match"))?,
        action: action(spec, parts)?,
        rewrite: spec.rewrite.as_ref().map(rewrite).transpose()?,
        request: message(&spec.request).map_err(at("/request"))?,
        response: message(&spec.response).map_err(at("/response"))?,
        chain,
        cors: spec.cors.as_ref().map(cors).transpose()?,
        rate_limit: rate_limit(spec)?,
        max_concurrency: spec.concurrency.map(|c| c.max),
        timeouts: Timeouts {
            total,
            one_try: time(spec.timeouts.one_try, total).min(total),
            idle: time(spec.timeouts.idle, IDLE),
        },
        retry: spec.retry.as_ref().map(|retry| RetryRules {
            attempts: retry.attempts,
            on: retry.on.clone(),
            budget: budget(retry.budget_percent),
            backoff: Backoff {
                base: time(retry.backoff, Duration::from_millis(25)),
                cap: time(retry.max_backoff, Duration::from_secs(1)),
            },
        }),
        max_body: spec.limits.max_body.map(Size::bytes),
        max_request_headers: spec.limits.max_request_headers.map_or(MAX_REQUEST_HEADERS, Size::bytes),
        compress: spec.compress,
        stats: before.map_or_else(|| Arc::new(RouteStats::default()), |before| before.stats.clone()),
        spec: spec.clone(),
    })
}

fn cors(spec: &CorsSpec) -> Result<Arc<Cors>, Fault> {
    Cors::compile(spec, "/cors").map(Arc::new).map_err(|faults| {
        faults.into_iter().next().map_or_else(|| ("/cors".to_owned(), String::new()), |f| (f.field, f.detail))
    })
}

fn time(given: Option<Span>, default: Duration) -> Duration {
    given.map_or(default, |Span(time)| time)
}

fn upstream(parts: &Parts<'_>, name: &str, field: &str) -> Result<Arc<Upstream>, Fault> {
    (parts.upstream)(name).ok_or_else(|| (field.to_owned(), format!("there is no upstream {name:?}")))
}

fn action(spec: &RouteSpec, parts: &Parts<'_>) -> Result<Action, Fault> {
    if let Some(spec) = &spec.forward {
        return Ok(Action::Forward(Box::new(forward(spec, parts)?)));
    }
    if let Some(spec) = &spec.redirect {
        let to = Template::parse(&spec.to).map_err(at("/redirect/to"))?;
        return Ok(Action::Redirect(Redirect { to, status: status(spec.status, "/redirect")? }));
    }
    if let Some(spec) = &spec.respond {
        return Ok(Action::Respond(respond(spec)?));
    }
    if let Some(spec) = &spec.files {
        return Ok(Action::Files(Files {
            root: spec.root.clone(),
            index: spec.index.as_deref().unwrap_or("index.html").into(),
            fallback: spec.fallback.as_deref().map(Into::into),
            cache_control: spec.cache_control.as_ref().map(HeaderValue::try_from).transpose().map_err(at("/files"))?,
        }));
    }
    if let Some(name) = &spec.service {
        return Ok(Action::Service(name.as_str().into()));
    }
    let Some(spec) = &spec.aggregate else { return Err((String::new(), "has no action".to_owned())) };
    let call = |call: &super::action::CallSpec| {
        Ok(Call {
            name: call.name.as_str().into(),
            upstream_name: call.upstream.as_str().into(),
            upstream: upstream(parts, &call.upstream, "/aggregate")?,
            path: Template::parse(&call.path).map_err(at("/aggregate"))?,
            required: call.required,
            timeout: call.timeout.map(|Span(time)| time),
        })
    };
    Ok(Action::Aggregate(spec.calls.iter().map(call).collect::<Result<_, Fault>>()?))
}

fn status(status: u16, field: &str) -> Result<StatusCode, Fault> {
    StatusCode::from_u16(status).map_err(at(field))
}

fn respond(spec: &RespondSpec) -> Result<Respond, Fault> {
    let mut headers = HeaderMap::new();
    for (name, value) in &spec.headers {
        let name = HeaderName::try_from(name).map_err(at("/respond/headers"))?;
        headers.insert(name, HeaderValue::try_from(value).map_err(at("/respond/headers"))?);
    }
    if !spec.body.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    Ok(Respond { status: status(spec.status, "/respond")?, headers, body: Bytes::from(spec.body.clone()) })
}

fn fallback(spec: &FallbackSpec, parts: &Parts<'_>) -> Result<Fallback, Fault> {
    if let Some(name) = &spec.upstream {
        return Ok(Fallback::Upstream(name.as_str().into(), upstream(parts, name, "/forward/fallback")?));
    }
    let headers = spec.content_type.iter().map(|value| ("content-type".to_owned(), value.clone())).collect();
    let (status, body) = (spec.status.unwrap_or(503), spec.body.clone().unwrap_or_default());
    Ok(Fallback::Respond(respond(&RespondSpec { status, body, headers })?))
}

fn forward(spec: &ForwardSpec, parts: &Parts<'_>) -> Result<Forward, Fault> {
    let split = |split: &super::action::SplitSpec| {
        let to = upstream(parts, &split.upstream, "/forward/to")?;
        Ok(Split { name: split.upstream.as_str().into(), upstream: to, weight: split.weight })
    };
    let to: Box<[Split]> = spec.to.iter().map(split).collect::<Result<_, Fault>>()?;
    let canary = |canary: &super::action::CanarySpec| {
        let value = |v: &String| HeaderValue::try_from(v).map_err(at("/forward/canary"));
        let header = canary.header.as_ref().map(|h| {
            let name = HeaderName::try_from(&h.name).map_err(at("/forward/canary"))?;
            Ok::<_, Fault>((name, h.value.as_ref().map(value).transpose()?))
        });
        let cookie = canary.cookie.as_ref().map(|c| (c.name.as_str().into(), c.value.as_deref().map(Into::into)));
        Ok::<_, Fault>(Canary {
            name: canary.upstream.as_str().into(),
            upstream: upstream(parts, &canary.upstream, "/forward/canary")?,
            header: header.transpose()?,
            cookie,
        })
    };
    let mirror = |mirror: &super::action::MirrorSpec| {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 100, as was checked; a cast saturates"
        )]
        let per_million = (mirror.percent * 10_000.0).round() as u32;
        Ok::<_, Fault>(Mirror {
            name: mirror.upstream.as_str().into(),
            upstream: upstream(parts, &mirror.upstream, "/forward/mirror")?,
            per_million,
            compare: mirror.compare.clone(),
        })
    };
    Ok(Forward {
        total_weight: to.iter().map(|split| split.weight).sum(),
        to,
        canary: spec.canary.as_ref().map(canary).transpose()?,
        sticky: spec
            .sticky
            .as_ref()
            .map(|sticky| Sticky { cookie: sticky.cookie.as_str().into(), ttl: sticky.ttl.map(|Span(ttl)| ttl) }),
        mirror: spec.mirror.as_ref().map(mirror).transpose()?,
        fallback: spec.fallback.as_ref().map(|spec| fallback(spec, parts)).transpose()?,
    })
}

fn rewrite(spec: &RewriteSpec) -> Result<Rewrite, Fault> {
    let path = spec.path.as_ref().map(|path| match (&path.prefix, &path.regex, &path.to) {
        (Some(prefix), ..) => Ok(RewritePath::Prefix(prefix.trim_end_matches('/').into())),
        (None, Some(expression), Some(to)) => {
            Ok(RewritePath::Regex(regex(expression).map_err(at("/rewrite/path/regex"))?, to.as_str().into()))
        }
        (None, _, to) => {
            let to = to.as_deref().unwrap_or("/");
            Template::parse(to).map(RewritePath::Template).map_err(at("/rewrite/path/to"))
        }
    });
    let set = |(name, text): (&String, &String)| Ok((name.as_str().into(), Template::parse(text)?));
    Ok(Rewrite {
        path: path.transpose()?,
        host: spec.host.as_ref().map(HeaderValue::try_from).transpose().map_err(at("/rewrite/host"))?,
        set_query: spec.query.set.iter().map(set).collect::<Result<_, String>>().map_err(at("/rewrite/query"))?,
        remove_query: spec.query.remove.iter().map(|name| name.as_str().into()).collect(),
    })
}

fn message(spec: &MessageSpec) -> Result<MessageRules, String> {
    let name = |name: &String| HeaderName::try_from(name).map_err(|e| format!("{name}: {e}"));
    let rules = |of: &std::collections::BTreeMap<String, String>| {
        of.iter().map(|(n, text)| Ok((name(n)?, Template::parse(text)?))).collect::<Result<Vec<_>, String>>()
    };
    Ok(MessageRules {
        remove: spec.headers.remove.iter().map(name).collect::<Result<_, _>>()?,
        set: rules(&spec.headers.set)?,
        add: rules(&spec.headers.add)?,
        json: (spec.json != JsonRulesSpec::default()).then(|| json(&spec.json)).transpose()?,
    })
}

fn json(spec: &JsonRulesSpec) -> Result<JsonRules, String> {
    let renames = spec.rename.iter().map(|(from, to)| (from.as_str(), to.as_str()));
    let sets = spec.set.iter().map(|(place, value)| (place.as_str(), value.clone()));
    let max_bytes = spec.max_body.map_or(MAX_JSON_BODY, |size| size.0.as_usize());
    JsonRules::new(renames, spec.remove.iter().map(String::as_str), sets, max_bytes)
        .map_err(|place| format!("json: {place:?} is no place, or has not as many * as its other"))
}

fn rate_limit(spec: &RouteSpec) -> Result<Option<RateLimit>, Fault> {
    let Some(limit) = &spec.rate_limit else { return Ok(None) };
    let descriptor = |keys: &std::collections::BTreeMap<String, String>| {
        keys.iter()
            .map(|(key, text)| Ok((key.as_str().into(), Template::parse(text)?)))
            .collect::<Result<Vec<_>, String>>()
    };
    let project = match &limit.project {
        None => ProjectId::default_project(),
        Some(name) => {
            ProjectId::parse(name).ok_or_else(|| ("/rate_limit/project".to_owned(), "is no project".to_owned()))?
        }
    };
    let descriptors = limit.descriptors.iter().map(descriptor).collect::<Result<_, _>>().map_err(at("/rate_limit"))?;
    Ok(Some(RateLimit { project, domain: limit.domain.as_str().into(), descriptors }))
}

/// Every mistake in one line, as paths of a TOML file; the first five.
pub(crate) fn told(faults: &[FieldError]) -> String {
    let shown = faults.iter().take(5).map(|f| format!("{}: {}", toml_path(&f.field), f.detail));
    let more = if faults.len() > 5 { format!("; and {} more", faults.len() - 5) } else { String::new() };
    shown.collect::<Vec<_>>().join("; ") + &more
}
