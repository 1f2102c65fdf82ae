//! Which route a request takes, why not another, and what would be done.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    compiled::{Action, Fallback, RewritePath, Route},
    route::PathSpec,
    table::{RequestHead, Table},
};

/// Routes that an explanation names at most.
const MAX_TRIED: usize = 200;

/// Why a request goes where it goes.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = GatewayExplanation)]
pub struct Explanation {
    /// The host that routes are matched on.
    pub host: String,
    /// The path that routes are matched on, in its normal form.
    pub path: String,
    /// The route; left out: none, which is answered with 404 `GATEWAY_NO_ROUTE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub route: Option<String>,
    /// Routes in the order in which they are tried for this host, at most 200: those that do not fit, the one that is taken, and those
    /// after it.
    pub tried: Vec<Tried>,
    /// What its path found.
    pub captures: Vec<Named>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// The upstreams that it may go to.
    pub upstreams: Vec<String>,
}

/// A route that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = GatewayTried)]
pub struct Tried {
    /// Its name.
    pub route: String,
    /// `no`, `taken`, or `later` (it would fit, and comes after).
    pub outcome: &'static str,
    /// The first condition that does not hold, or what puts it after.
    pub why: String,
}

/// A name and a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = GatewayNamed)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = GatewayStep)]
pub struct Step {
    /// Which: `cors`, `policy`, `rate_limit`, `concurrency`, `rewrite`, `request`, an action, `retry`, `response`, and so on.
    pub step: &'static str,
    /// In words.
    pub about: String,
}

impl Table {
    /// Why a request goes where it goes.
    pub fn explain(&self, head: &RequestHead<'_>) -> Explanation {
        let taken = self.find(head);
        let is_taken = |route: &Route| taken.is_some_and(|t| t.name == route.name);
        let mut tried: Vec<Tried> = Vec::new();
        for route in self.in_order_for(head.host) {
            let (outcome, why) = match route.matcher.explain(head) {
                Err(mismatch) => ("no", mismatch.0),
                Ok(()) if is_taken(route) => ("taken", "everything holds".to_owned()),
                Ok(()) => ("later", taken.map_or_else(String::new, |taken| after(taken, route))),
            };
            // The one that is taken is always among them.
            if tried.len() < MAX_TRIED - 1 || outcome == "taken" {
                tried.push(Tried { route: route.name.to_string(), outcome, why });
            }
        }
        let captures = taken.map(|route| {
            let named = |(name, value): (&str, &str)| Named { name: name.to_owned(), value: value.to_owned() };
            route.captures(head.path).iter().map(named).collect()
        });
        Explanation {
            host: head.host.to_owned(),
            path: head.path.to_owned(),
            route: taken.map(|route| route.name.to_string()),
            tried,
            captures: captures.unwrap_or_default(),
            steps: taken.map(|route| route.steps()).unwrap_or_default(),
            upstreams: taken.map(|route| route.upstreams().map(str::to_owned).collect()).unwrap_or_default(),
        }
    }
}

/// What puts `later` after `taken`.
fn after(taken: &Route, later: &Route) -> String {
    if taken.priority != later.priority {
        return format!("{} has priority {}, this {}", taken.name, taken.priority, later.priority);
    }
    format!("{} is more specific, or stands before it", taken.name)
}

impl Route {
    /// The upstreams that its requests may go to, each once.
    pub fn upstreams(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = Vec::new();
        match &self.action {
            Action::Forward(forward) => {
                names.extend(forward.to.iter().map(|split| &*split.name));
                names.extend(forward.canary.iter().map(|canary| &*canary.name));
                names.extend(forward.mirror.iter().map(|mirror| &*mirror.name));
                if let Some(Fallback::Upstream(name, _)) = &forward.fallback {
                    names.push(name);
                }
            }
            Action::Aggregate(calls) => names.extend(calls.iter().map(|call| &*call.upstream_name)),
            Action::Redirect(_) | Action::Respond(_) | Action::Files(_) | Action::Service(_) => {}
        }
        let mut seen = std::collections::HashSet::new();
        names.into_iter().filter(move |name| seen.insert(*name))
    }

    /// Its path in words.
    pub fn path_text(&self) -> String {
        let Some(path) = &self.spec.matching.path else { return "every path".to_owned() };
        let PathSpec { exact, prefix, pattern, regex } = path;
        let (kind, text) = [("", exact), ("", pattern), ("below ", prefix), ("like ", regex)]
            .into_iter()
            .find_map(|(kind, text)| Some((kind, text.as_deref()?)))
            .unwrap_or_default();
        format!("{kind}{text}")
    }

    /// Its action in one word.
    pub fn kind(&self) -> &'static str {
        match &self.action {
            Action::Forward(_) => "forward",
            Action::Redirect(_) => "redirect",
            Action::Respond(_) => "respond",
            Action::Files(_) => "files",
            Action::Service(_) => "service",
            Action::Aggregate(_) => "aggregate",
        }
    }

    /// Its action in words.
    pub fn about(&self) -> String {
        match &self.action {
            Action::Forward(forward) => {
                let total = forward.total_weight.max(1);
                let to: Vec<String> = match &*forward.to {
                    [one] => vec![one.name.to_string()],
                    many => many.iter().map(|s| format!("{} {}%", s.name, s.weight * 100 / total)).collect(),
                };
                to.join(", ")
            }
            Action::Redirect(redirect) => format!("{} to {}", redirect.status.as_u16(), self.redirect_text()),
            Action::Respond(respond) => format!("{} with {} bytes", respond.status.as_u16(), respond.body.len()),
            Action::Files(files) => files.root.display().to_string(),
            Action::Service(name) => format!("Mainstay's {name}"),
            Action::Aggregate(calls) => calls.iter().map(|call| &*call.name).collect::<Vec<_>>().join(" + "),
        }
    }

    fn redirect_text(&self) -> &str {
        self.spec.redirect.as_ref().map_or("", |redirect| &redirect.to)
    }

    /// What is done with a request, in order.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut add = |step, about: String| steps.push(Step { step, about });
        add(
            "limits",
            format!(
                "headers up to {} bytes, {}",
                self.max_request_headers,
                self.max_body.map_or("a body of any size, streamed".to_owned(), |n| format!("a body up to {n} bytes"))
            ),
        );
        if let Some(cors) = &self.spec.cors {
            add("cors", format!("pages of {}", cors.origins.join(", ")));
        }
        for policy in self.chain.iter().flat_map(|chain| chain.describe()) {
            add("policy", format!("{} ({}): {}", policy.name, policy.kind, policy.about));
        }
        if let Some(limit) = &self.spec.rate_limit {
            let keys: Vec<String> = limit
                .descriptors
                .iter()
                .map(|d| d.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" "))
                .collect();
            let project = limit.project.as_deref().unwrap_or("default");
            add("rate_limit", format!("domain {} of project {project}: {}", limit.domain, keys.join("; ")));
        }
        if let Some(max) = self.max_concurrency {
            add("concurrency", format!("at most {max} at once on a node"));
        }
        if let Some(rewrite) = &self.rewrite {
            let path = rewrite.path.as_ref().map(|path| match path {
                RewritePath::Prefix(to) => format!("{}/ becomes {to}/", self.matched_prefix()),
                RewritePath::Regex(regex, to) => format!("{regex} in the path becomes {to}"),
                RewritePath::Template(_) => {
                    let spec = self.spec.rewrite.as_ref().and_then(|r| r.path.as_ref()?.to.clone());
                    format!("the path becomes {}", spec.unwrap_or_default())
                }
            });
            let host =
                rewrite.host.as_ref().map(|host| format!("the host becomes {}", host.to_str().unwrap_or("another")));
            let query = (!rewrite.set_query.is_empty() || !rewrite.remove_query.is_empty())
                .then(|| "the query changes".to_owned());
            add("rewrite", [path, host, query].into_iter().flatten().collect::<Vec<_>>().join(", "));
        }
        if !self.request.is_empty() {
            add("request", "headers or body change on the way to the back end".to_owned());
        }
        add(self.kind(), self.about());
        if let Action::Forward(forward) = &self.action {
            if let Some(canary) = &forward.canary {
                add("canary", format!("those with the header or cookie go to {}", canary.name));
            }
            if let Some(sticky) = &forward.sticky {
                add("sticky", format!("by the signed cookie {}", sticky.cookie));
            }
            if let Some(mirror) = &forward.mirror {
                let percent = f64::from(mirror.per_million) / 10_000.0;
                add("mirror", format!("{percent}% to {} too", mirror.name));
            }
            match &forward.fallback {
                Some(Fallback::Upstream(name, _)) => add("fallback", format!("{name}, when nobody else can be asked")),
                Some(Fallback::Respond(respond)) => {
                    add("fallback", format!("{}, when nobody can be asked", respond.status.as_u16()));
                }
                None => {}
            }
        }
        if let Action::Forward(_) | Action::Aggregate(_) = &self.action {
            let timeouts = &self.timeouts;
            let shown = kernel::limits::format_duration;
            add(
                "timeouts",
                format!(
                    "total {}, one try {}, idle {}",
                    shown(timeouts.total),
                    shown(timeouts.one_try),
                    shown(timeouts.idle)
                ),
            );
        }
        if let Some(retry) = &self.retry {
            add("retry", format!("up to {} more tries of what is safe to repeat", retry.attempts));
        }
        if !self.response.is_empty() {
            add("response", "headers or body change on the way to the client".to_owned());
        }
        if self.compress {
            add("compress", "for clients that take it".to_owned());
        }
        steps
    }
}
