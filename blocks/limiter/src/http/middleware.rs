//! Limits in front of any routes: [`Guard`].
//!
//! ```no_run
//! # fn f(router: axum::Router, limiter: limiter::Limiter) -> axum::Router {
//! use limiter::http::middleware::Guard;
//! Guard::new(limiter, "shop").user_header(http::HeaderName::from_static("x-user")).around(router)
//! # }
//! ```
//!
//! Every request is one descriptor, with as much of this as is known:
//!
//! | key | value |
//! |---|---|
//! | `key` | the id of the API key, where one was shown |
//! | `user` | the header that [`Guard::user_header`] names, where it is sent |
//! | `address` | the address of the peer; of IPv6 its /64, since one host has all of it |
//! | `method`, `route` | `GET`, `/v1/links/{code}`: the pattern, not the path; `unmatched` where no route takes it |
//!
//! and a rule applies where its keys are among these ([`Matching::Contains`]): a rule without keys limits everything together, one
//! of `address` every address by itself, one of `address` and `route` each address on each route. The rules are those of the
//! caller's project, so the guard belongs inside of [`access::auth_layer`]; whoever shows no key counts to the project `default`.
//!
//! What is refused is a 429 problem with `Retry-After`. Answers tell of the limits in the headers of
//! [`headers`](super::headers). A limit that cannot be decided (the memory plane is away and the rule says so) does what its
//! `when_down` says; any other failure of the limiter lets the request through, and is logged.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use access::Caller;
use axum::{
    Router,
    extract::{ConnectInfo, MatchedPath, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use http::HeaderName;
use identity::Subject;
use kernel::{Problem, ProjectId};
use web::Reject;

use super::headers::{self, Form};
use crate::{
    Check, Descriptor, Limiter, Matching, Outcome,
    error::EXCEEDED,
    model::{MAX_KEY_BYTES, MAX_VALUE_BYTES},
};

type Exempt = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

/// Limits the requests that pass, by the rules of a domain. Cheap to clone.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    limiter: Limiter,
    domain: String,
    form: Form,
    user_header: Option<HeaderName>,
    exempt: Option<Exempt>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("domain", &self.0.domain).finish_non_exhaustive()
    }
}

impl Guard {
    /// By the rules of `domain`.
    pub fn new(limiter: Limiter, domain: &str) -> Self {
        Self(Arc::new(Inner {
            limiter,
            domain: domain.to_owned(),
            form: Form::default(),
            user_header: None,
            exempt: None,
        }))
    }

    fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// Which headers tell of the limits.
    #[must_use]
    pub fn form(self, form: Form) -> Self {
        self.with(|inner| inner.form = form)
    }

    /// The header that names the user. Whoever may send any header may be any user: for callers that are trusted to say.
    #[must_use]
    pub fn user_header(self, name: HeaderName) -> Self {
        self.with(|inner| inner.user_header = Some(name))
    }

    /// Requests that are not limited.
    #[must_use]
    pub fn exempt(self, is_exempt: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.with(|inner| inner.exempt = Some(Arc::new(is_exempt)))
    }

    /// Puts it around `router`.
    pub fn around(self, router: Router) -> Router {
        router.layer(from_fn_with_state(self, guard))
    }

    /// Decides about a request; `None` lets it through untold.
    async fn decide(&self, project: Option<ProjectId>, descriptor: Descriptor) -> Option<Outcome> {
        let this = &*self.0;
        let project = project.unwrap_or_else(ProjectId::default_project);
        let descriptors = [descriptor];
        let check = Check { domain: &this.domain, descriptors: &descriptors, matching: Matching::Contains, cost: 1 };
        let outcome = match this.limiter.try_check(&project, &check) {
            Some(outcome) => outcome,
            None => this.limiter.check(&project, &check).await,
        };
        outcome.inspect_err(|error| tracing::warn!(domain = this.domain, %error, "a limit was not decided")).ok()
    }

    fn descriptor(&self, request: &Request) -> Descriptor {
        let extensions = request.extensions();
        let caller = extensions.get::<Caller>();
        let mut entries = Vec::with_capacity(5);
        let mut tell = |key: &str, value: Option<String>| entries.extend(value.map(|value| (key.to_owned(), value)));
        tell("key", caller.and_then(|caller| caller.principal().key_id).map(|id| id.to_string()));
        let user = self.0.user_header.as_ref().and_then(|name| request.headers().get(name)?.to_str().ok());
        // Longer ones are no users; and what a check does not take must not be a way around the limit.
        tell("user", user.map(|user| user.chars().take(MAX_VALUE_BYTES / 4).collect()));
        tell("address", extensions.get::<ConnectInfo<SocketAddr>>().map(|info| network(info.0.ip())));
        tell("method", Some(request.method().as_str().chars().take(MAX_KEY_BYTES).collect()));
        let route = extensions.get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
        tell("route", Some(route.to_owned()));
        Descriptor { entries, ..Descriptor::default() }
    }
}

/// Who is behind an address, as it is counted.
fn network(address: IpAddr) -> String {
    match Subject::of_address(address) {
        Subject::Address(IpAddr::V6(v6)) => format!("{v6}/64"),
        Subject::Address(v4) => v4.to_string(),
        Subject::Key(_) | Subject::Thing(_) => address.to_string(),
    }
}

async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if guard.0.exempt.as_ref().is_some_and(|is_exempt| is_exempt(&request)) {
        return next.run(request).await;
    }
    let project = request.extensions().get::<Caller>().map(|caller| caller.project().clone());
    let descriptor = guard.descriptor(&request);
    let Some(outcome) = guard.decide(project, descriptor).await else { return next.run(request).await };
    let mut response =
        if outcome.is_allowed { next.run(request).await } else { Reject::from(refusal(&outcome)).into_response() };
    headers::add(response.headers_mut(), &outcome, guard.0.form);
    response
}

/// A refusal as a problem, for whoever stands in front of a limit: with the rule that refuses longest.
pub fn refusal(outcome: &Outcome) -> Problem {
    let refusing = outcome.decisions.iter().filter(|d| !d.is_allowed && !d.is_shadow);
    let longest = refusing.max_by_key(|d| d.retry_after.unwrap_or(std::time::Duration::MAX));
    let detail = longest.map_or_else(String::new, |d| {
        let (limit, window) = (d.limit, kernel::limits::format_duration(d.window));
        match d.retry_after {
            Some(_) => format!("The limit `{}` is used up: {limit} in {window}. Try again after Retry-After.", d.rule),
            None => format!("The limit `{}` never allows this: {limit} in {window}.", d.rule),
        }
    });
    let problem = Problem::new(&EXCEEDED, detail);
    match outcome.retry_after {
        Some(after) => problem.retry_after(after),
        None => problem,
    }
}
