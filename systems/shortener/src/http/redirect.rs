//! What visitors get: the redirect, or a small page that says why not.
//!
//! Made for the public listener: [`Redirector::try_cached`] answers from memory without waiting, and only what is not in
//! memory goes through [`Redirector::ask`]; [`Redirector::resolve`] is the one after the other. None needs a router.
//!
//! | path | answer |
//! |---|---|
//! | `/CODE` | the way on, or the page that says why not |
//! | `/CODE+` | a page that shows where it leads |
//! | `/` | where the domain says, or a small page |
//! | `/robots.txt` | by `shortener.robots` |
//! | `/favicon.ico` | 404, to be kept for a day |
//! | anything else | where the domain says, or 404 |

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT_LANGUAGE, CACHE_CONTROL, HOST, LOCATION, REFERER, REFERRER_POLICY, USER_AGENT},
};
use http_body_util::Full;
use kernel::{Problem, Timestamp};

use super::pages::{Page, Pages, Preview, X_ROBOTS_TAG};
use crate::{
    config::Robots,
    model::{Domain, DomainId, Facts, Takedown, Ways, is_bot, looks_like_code},
    service::{Gate, Known, Shortener, Target},
};

/// The most bytes of a form that [`Redirector::submit`] takes.
pub const MAX_FORM_BYTES: usize = 16 * 1024;

/// What of a request decides the answer. Texts of headers are as they came: any bytes but controls.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// The method: GET and HEAD are answered, only GET is a click; POST goes to [`Redirector::submit`].
    pub method: &'a Method,
    /// The host that was asked, with its port where one was given.
    pub host: Option<&'a [u8]>,
    /// The path, from its slash.
    pub path: &'a str,
    /// What follows the `?`.
    pub query: Option<&'a str>,
    /// `User-Agent`, by which bots are counted apart.
    pub user_agent: Option<&'a [u8]>,
    /// `Accept-Language`; the first one where there are several.
    pub accept_language: Option<&'a [u8]>,
    /// `Referer`.
    pub referer: Option<&'a [u8]>,
    /// Who asks: the peer, or whom a trusted proxy named. An IPv4 address is never mapped into IPv6.
    pub client: IpAddr,
}

impl<'a> Visit<'a> {
    /// Of a client that says nothing about itself.
    pub fn new(method: &'a Method, path: &'a str) -> Self {
        Self {
            method,
            host: None,
            path,
            query: None,
            user_agent: None,
            accept_language: None,
            referer: None,
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }

    /// Of a whole request.
    pub fn of<B>(request: &'a Request<B>, client: IpAddr) -> Self {
        let header = |name| request.headers().get(name).map(HeaderValue::as_bytes);
        let uri = request.uri();
        Self {
            method: request.method(),
            // An absolute URI wins over the header: RFC 9112, 3.2.2; HTTP/2 has its authority there.
            host: uri.authority().map(|a| a.as_str().as_bytes()).or_else(|| header(HOST)),
            path: uri.path(),
            query: uri.query(),
            user_agent: header(USER_AGENT),
            accept_language: header(ACCEPT_LANGUAGE),
            referer: header(REFERER),
            client,
        }
    }
}

/// The answer to a visit: whole and in memory.
#[derive(Debug)]
pub enum Answer {
    /// The way on. Apart from pages, so that the listener can write its few lines without a map of headers.
    Redirect(Redirect),
    /// Everything else.
    Page(Response<Full<Bytes>>),
}

/// A redirect without a body.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// A status of class 3xx.
    pub status: StatusCode,
    /// Where to.
    pub location: HeaderValue,
    /// Who may keep it, and for how long.
    pub cache_control: &'static str,
    /// What search engines are told, if anything.
    pub robots: Option<&'static str>,
}

impl Redirect {
    /// Every header that it has, `Date` and `Content-Length` apart.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, &[u8])> {
        [
            (LOCATION, self.location.as_bytes()),
            (CACHE_CONTROL, self.cache_control.as_bytes()),
            (REFERRER_POLICY, b"strict-origin-when-cross-origin".as_slice()),
        ]
        .into_iter()
        .chain(self.robots.map(|robots| (X_ROBOTS_TAG, robots.as_bytes())))
    }
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Redirect(redirect) => redirect.status,
            Self::Page(page) => page.status(),
        }
    }

    /// As any HTTP server sends it.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        match self {
            Self::Redirect(redirect) => {
                let mut response = Response::new(Full::new(Bytes::new()));
                *response.status_mut() = redirect.status;
                let mut headers = HeaderMap::with_capacity(8);
                headers.insert(LOCATION, redirect.location.clone());
                for (name, value) in redirect.headers() {
                    if let (false, Ok(value)) = (name == LOCATION, HeaderValue::from_bytes(value)) {
                        headers.insert(name, value);
                    }
                }
                *response.headers_mut() = headers;
                response
            }
            Self::Page(page) => page,
        }
    }
}

/// Answers visits. Cheap to clone; each worker of a listener has one of its own, so that workers do not share a queue of
/// clicks.
#[derive(Debug, Clone)]
pub struct Redirector {
    pub(super) shortener: Shortener,
    worker: usize,
    pub(super) pages: Arc<Pages>,
    robots: Robots,
}

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    /// To be led on by a code.
    Link(&'a str),
    /// To see where a code leads.
    Preview(&'a str),
    /// The domain itself.
    Root,
    /// `/robots.txt`
    Robots,
    /// `/favicon.ico`
    Icon,
    /// What no link can be.
    Nothing,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(path: &'a str) -> Self {
        let rest = path.strip_prefix('/').unwrap_or(path);
        if looks_like_code(rest) {
            return Self::Link(rest);
        }
        // Some clients escape the plus, which means a space in forms only.
        if let Some(code) = rest.strip_suffix('+').or_else(|| rest.strip_suffix("%2B")).filter(|c| looks_like_code(c)) {
            return Self::Preview(code);
        }
        match rest {
            "" => Self::Root,
            "robots.txt" => Self::Robots,
            "favicon.ico" => Self::Icon,
            _ => Self::Nothing,
        }
    }
}

/// On which domain a code is meant, and how else it may be written there.
#[derive(Debug)]
pub(super) struct Place {
    /// `None` is the installation's own.
    pub(super) domain: Option<Arc<Domain>>,
    /// The code in lower case, where case does not matter.
    other: Option<String>,
}

impl Place {
    pub(super) fn id(&self) -> DomainId {
        self.domain.as_ref().map_or(DomainId::OWN, |domain| domain.id)
    }

    /// The code as it is written, then as it is looked for where case does not matter.
    pub(super) fn spellings<'a>(&'a self, code: &'a str) -> impl Iterator<Item = &'a str> {
        std::iter::once(code).chain(self.other.as_deref())
    }
}

impl Redirector {
    /// For worker 0; see [`Redirector::for_worker`].
    pub fn new(shortener: Shortener) -> Self {
        let robots = shortener.config().robots;
        let pages = Arc::new(Pages::new(robots, shortener.public_url()));
        Self { shortener, worker: 0, pages, robots }
    }

    /// The same for another worker, numbered from 0.
    #[must_use]
    pub fn for_worker(&self, worker: usize) -> Self {
        Self { worker, ..self.clone() }
    }

    /// Answers from memory: what is cached, what can be no code, a method that is not allowed. `None` when the database has to
    /// be asked: then call [`Redirector::ask`]. Never waits.
    pub fn try_cached(&self, visit: &Visit<'_>) -> Option<Answer> {
        if visit.method != Method::GET && visit.method != Method::HEAD {
            self.shortener.telemetry().refused.inc();
            return Some(self.pages.method.answer(visit.method));
        }
        let wanted = Wanted::of(visit.path);
        let (Wanted::Link(code) | Wanted::Preview(code)) = wanted else {
            return Some(self.without_code(visit, wanted));
        };
        let place = self.place(visit, code);
        let mut known = self.shortener.known(place.id(), code)?;
        if known.is_none()
            && let Some(other) = &place.other
        {
            known = self.shortener.known(place.id(), other)?;
        }
        self.answer(visit, wanted, &place, &known)
    }

    /// Answers, asking the database when memory does not know. Visits of one code share one question.
    pub async fn resolve(&self, visit: &Visit<'_>) -> Answer {
        match self.try_cached(visit) {
            Some(answer) => answer,
            None => self.ask(visit).await,
        }
    }

    /// Answers what [`Redirector::try_cached`] did not know.
    pub async fn ask(&self, visit: &Visit<'_>) -> Answer {
        let wanted = Wanted::of(visit.path);
        let (Wanted::Link(code) | Wanted::Preview(code)) = wanted else { return self.without_code(visit, wanted) };
        let place = self.place(visit, code);
        let known = match self.look_up(&place, code).await {
            Ok(known) => known,
            Err(problem) => return self.unavailable(visit, &problem),
        };
        match (self.answer(visit, wanted, &place, &known), known) {
            (Some(answer), _) => answer,
            (None, Some(target)) => self.follow_counted(visit, &target, false).await,
            (None, None) => self.unknown(visit, &place),
        }
    }

    /// What a form gets that is too large, or did not come in time.
    pub fn refuse_form(&self, is_too_large: bool) -> Answer {
        self.shortener.telemetry().refused.inc();
        let page = if is_too_large { &self.pages.too_large } else { &self.pages.too_slow };
        page.answer(&Method::POST)
    }

    pub(super) fn place(&self, visit: &Visit<'_>, code: &str) -> Place {
        let domain = self.shortener.domain_of(visit.host);
        let ignores_case = domain.as_ref().is_some_and(|domain| !domain.is_case_sensitive);
        let other = (ignores_case && code.bytes().any(|b| b.is_ascii_uppercase())).then(|| code.to_ascii_lowercase());
        Place { domain, other }
    }

    /// What memory or the database know of a code as it is written, else of its other spelling.
    pub(super) async fn look_up(&self, place: &Place, code: &str) -> Result<Known, Problem> {
        for code in place.spellings(code) {
            let known = match self.shortener.known_by_now(place.id(), code) {
                Some(known) => known,
                None => self.shortener.learn(place.id(), code).await?,
            };
            if known.is_some() {
                return Ok(known);
            }
        }
        Ok(None)
    }

    /// What is known of a code, as an answer; `None` when the visit is to be counted in the database first.
    fn answer(&self, visit: &Visit<'_>, wanted: Wanted<'_>, place: &Place, known: &Known) -> Option<Answer> {
        let Some(target) = known else { return Some(self.unknown(visit, place)) };
        let now = self.shortener.now();
        let gate = target.gate(now);
        if let Some(page) = self.closed(gate) {
            return Some(page.answer(visit.method));
        }
        let telemetry = self.shortener.telemetry();
        if let Wanted::Preview(code) = wanted {
            telemetry.previews.inc();
            return Some(self.preview(visit, place, code, target, gate));
        }
        match gate {
            Gate::Password => {
                telemetry.asked.inc();
                Some(self.pages.password.answer(visit.method))
            }
            // Who only looks gets no Location: it would have been followed without being counted.
            Gate::Counted if visit.method == Method::HEAD || visit.user_agent.is_some_and(is_bot) => {
                telemetry.previews.inc();
                Some(self.pages.counted.answer(visit.method))
            }
            Gate::Counted => None,
            _ => Some(self.follow(visit, target, now)),
        }
    }

    /// The page of a link that cannot be followed now; `None` for one that can.
    pub(super) fn closed(&self, gate: Gate) -> Option<&Page> {
        let (telemetry, pages) = (self.shortener.telemetry(), &*self.pages);
        let (page, counter) = match gate {
            Gate::Open | Gate::Password | Gate::Counted => return None,
            Gate::Early => (&pages.early, &telemetry.early),
            Gate::Expired => (&pages.expired, &telemetry.expired),
            Gate::UsedUp => (&pages.used_up, &telemetry.expired),
            Gate::Disabled => (&pages.disabled, &telemetry.closed),
            Gate::TakenDown(Takedown::Abuse) => (&pages.abuse, &telemetry.closed),
            Gate::TakenDown(Takedown::Legal) => (&pages.legal, &telemetry.closed),
        };
        counter.inc();
        Some(page)
    }

    /// Leads on, and counts a GET.
    fn follow(&self, visit: &Visit<'_>, target: &Target, now: Timestamp) -> Answer {
        self.shortener.telemetry().found.inc();
        // HEAD is what checkers of links send; a person's browser never does.
        let location = if visit.method == Method::HEAD {
            self.location(visit, target, None)
        } else {
            let facts = self.shortener.facts(self.worker, visit);
            self.shortener.click(self.worker, target, now, visit.client, &facts);
            self.location(visit, target, Some(&facts))
        };
        Answer::Redirect(Redirect {
            status: target.status,
            location,
            // Not kept by anybody, a permanent one neither: every visit is seen, and a deleted link stops to lead anywhere.
            cache_control: "private, max-age=0",
            robots: self.robots_of(target.status),
        })
    }

    /// Leads on after a form: by GET, whatever the link says, so that the form goes nowhere else.
    pub(super) fn follow_form(&self, visit: &Visit<'_>, target: &Target) -> Answer {
        match self.follow(visit, target, self.shortener.now()) {
            Answer::Redirect(redirect) => Answer::Redirect(Redirect {
                status: StatusCode::SEE_OTHER,
                cache_control: "no-store",
                robots: self.robots_of(StatusCode::SEE_OTHER),
                ..redirect
            }),
            page @ Answer::Page(_) => page,
        }
    }

    /// Leads on when the visit is one of those that the link has left.
    pub(super) async fn follow_counted(&self, visit: &Visit<'_>, target: &Target, is_form: bool) -> Answer {
        match self.shortener.take_use(target).await {
            Ok(true) if is_form => self.follow_form(visit, target),
            Ok(true) => self.follow(visit, target, self.shortener.now()),
            Ok(false) => {
                self.shortener.telemetry().expired.inc();
                self.pages.used_up.answer(visit.method)
            }
            Err(problem) => self.unavailable(visit, &problem),
        }
    }

    /// Where a visitor goes; the facts are read where they are not known yet.
    fn location(&self, visit: &Visit<'_>, target: &Target, facts: Option<&Facts>) -> HeaderValue {
        match &target.ways {
            Ways::One(location) => location.clone(),
            Ways::Many(routes) => {
                let visitor = || self.shortener.visitor(target.link, visit.client, visit.user_agent);
                match facts {
                    Some(facts) => routes.location(facts, visitor, visit.query),
                    None => routes.location(&self.shortener.facts(self.worker, visit), visitor, visit.query),
                }
            }
        }
    }

    /// A permanent redirect is made to hand its standing on, which `noindex` would undo.
    fn robots_of(&self, status: StatusCode) -> Option<&'static str> {
        let is_permanent = status == StatusCode::MOVED_PERMANENTLY || status == StatusCode::PERMANENT_REDIRECT;
        (self.robots != Robots::Index && !is_permanent).then_some("noindex")
    }

    fn preview(&self, visit: &Visit<'_>, place: &Place, code: &str, target: &Target, gate: Gate) -> Answer {
        let location = self.location(visit, target, None);
        let short_url = self.shortener.short_url_of(place.domain.as_ref().map(|d| d.host.as_str()), code);
        let page = Page::preview(&Preview {
            short_url: &short_url,
            path: &format!("/{code}"),
            title: &target.title,
            created_at: target.created_at,
            // What asks for a password, or is led only so many times, would be told to who did neither.
            destination: location.to_str().ok().filter(|_| gate == Gate::Open),
            is_for_some: matches!(&target.ways, Ways::Many(routes) if routes.differs()),
        });
        page.answer(visit.method)
    }

    /// Where the domain wants unknown codes to lead, or the page.
    pub(super) fn unknown(&self, visit: &Visit<'_>, place: &Place) -> Answer {
        self.shortener.telemetry().unknown.inc();
        let url = place.domain.as_ref().and_then(|domain| domain.unknown_url.as_deref());
        self.lead(url).unwrap_or_else(|| self.pages.unknown.answer(visit.method))
    }

    fn without_code(&self, visit: &Visit<'_>, wanted: Wanted<'_>) -> Answer {
        let telemetry = self.shortener.telemetry();
        match wanted {
            Wanted::Root => {
                telemetry.others.inc();
                let domain = self.shortener.domain_of(visit.host);
                let url = domain.as_ref().and_then(|domain| domain.root_url.as_deref());
                self.lead(url).unwrap_or_else(|| self.pages.root.answer(visit.method))
            }
            Wanted::Robots => {
                telemetry.others.inc();
                self.pages.robots.answer(visit.method)
            }
            Wanted::Icon => {
                telemetry.others.inc();
                self.pages.icon.answer(visit.method)
            }
            Wanted::Link(_) | Wanted::Preview(_) | Wanted::Nothing => {
                self.unknown(visit, &Place { domain: self.shortener.domain_of(visit.host), other: None })
            }
        }
    }

    /// To an address of a domain's own.
    fn lead(&self, url: Option<&str>) -> Option<Answer> {
        Some(Answer::Redirect(Redirect {
            status: StatusCode::FOUND,
            location: HeaderValue::from_str(url?).ok()?,
            cache_control: "private, max-age=0",
            robots: self.robots_of(StatusCode::FOUND),
        }))
    }

    pub(super) fn unavailable(&self, visit: &Visit<'_>, problem: &Problem) -> Answer {
        let reason = problem.internal.as_ref().map_or("", kernel::Internal::for_operators);
        if problem.retry_after.is_some() {
            // The breaker refuses at once, thousands of times a second perhaps.
            tracing::debug!(code = problem.code.name, reason, "a short URL could not be resolved");
        } else {
            tracing::warn!(code = problem.code.name, reason, "a short URL could not be resolved");
        }
        self.shortener.telemetry().unavailable.inc();
        self.pages.unavailable.answer(visit.method)
    }
}
