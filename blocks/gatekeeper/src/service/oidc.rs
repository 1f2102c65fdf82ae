//! Sign-in with a browser at an OpenID provider.
//!
//! - OIDC-1: a session begins only in the browser that began the login: the code, its PKCE verifier, state and nonce are of one sealed cookie.
//! - OIDC-2: a browser is sent nowhere but to the provider and to paths of the host that it asked.
//! - OIDC-3: a session ends after `lifetime`, after `idle` without a request, at logout on this node, and (with `refresh`) when the provider says so.
//! - OIDC-4: one refresh token is used once by this node, however many requests come with it.

mod cookies;
mod provider;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, Response, StatusCode, header, request::Parts};
use kernel::{Clock, FieldError, Rng, Secret, Timestamp};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use url::Url;

use super::{
    claims::{self, Forwarded},
    condition::Condition,
    discovery::check_url,
    going::{Checked, Going, Said, Seen, Stop, Strip},
    jwt::{self, Verifier, sha256},
    keys::{Ages, Source},
    places,
};
use crate::{Error, Identity, Method, OidcSpec, model::token::Rules, telemetry};
use cookies::{Jar, Sealer, set_cookie};
use provider::{NoTokens, Provider, Tokens};

/// How long a login may take.
const LOGIN_TIME: Duration = Duration::from_mins(10);
/// More logins than this under way in one browser are forgotten.
const MAX_LOGINS: usize = 5;
const MAX_RETURN_BYTES: usize = 2_048;
/// How long a session goes on while the provider, which should refresh it, does not answer.
const GRACE: Duration = Duration::from_mins(10);
/// How long the outcome of a refresh is kept for requests that came with the old cookie.
const REFRESHED_FOR: Duration = Duration::from_mins(1);
const ENDED_ENTRIES: usize = 100_000;
const STRIPES: usize = 16;
/// Claims that say nothing of the user.
const DROPPED: [&str; 9] = ["nonce", "at_hash", "c_hash", "s_hash", "jti", "aud", "azp", "iat", "nbf"];
/// Parameters of the authorization request that the policy sets itself.
const RESERVED: [&str; 9] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "response_mode",
];

pub(super) struct Oidc {
    policy: Arc<str>,
    provider: Provider,
    clock: Clock,
    rng: Rng,
    sealer: Sealer,
    jar: Jar,
    /// What cookies are sealed for; other policies and other providers have another.
    purpose: String,
    scope: String,
    authorize: BTreeMap<String, String>,
    callback_path: String,
    logout_path: String,
    after_logout: String,
    external: Option<String>,
    lifetime: Duration,
    idle: Duration,
    refreshes: bool,
    forwarded: Forwarded,
    forward_token: Option<HeaderName>,
    require: Option<Condition>,
    ended: Cache<[u8; 16], ()>,
    refreshed: Cache<[u8; 32], (Arc<Refreshed>, Duration)>,
    refreshing: [Mutex<()>; STRIPES],
    counters: telemetry::Logins,
}

/// A session, as its cookie holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    id: [u8; 16],
    began_at: i64,
    seen_at: i64,
    claims: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access_until: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh: Option<String>,
}

/// A login under way, as its cookie holds it.
#[derive(Debug, Serialize, Deserialize)]
struct Login {
    state: String,
    nonce: String,
    verifier: String,
    /// Where the browser wanted to go.
    to: String,
    began_at: i64,
}

enum Refreshed {
    To(Box<Session>),
    Ended,
    Away(String),
}

impl Oidc {
    pub(super) fn compile(
        spec: &OidcSpec,
        policy: &Arc<str>,
        gatekeeper: &super::Gatekeeper,
        at: &str,
        errors: &mut Vec<FieldError>,
    ) -> Self {
        let deps = &gatekeeper.0.deps;
        let mut wrong =
            |field: &str, detail: String| errors.push(FieldError { field: format!("{at}/{field}"), detail });
        if let Err(detail) = check_url(&spec.issuer) {
            wrong("issuer", detail);
        }
        if spec.client_id.is_empty() {
            wrong("client_id", "what the provider calls this application".to_owned());
        }
        let client_secret = spec.client_secret_file.as_ref().and_then(|path| {
            let text =
                std::fs::read_to_string(path).map_err(|e| wrong("client_secret_file", format!("{path}: {e}"))).ok()?;
            let first = text.lines().next().unwrap_or_default().trim();
            if first.is_empty() {
                wrong("client_secret_file", format!("{path}: its first line is empty"));
            }
            Some(Secret::new(first))
        });
        for name in spec.authorize.keys().filter(|name| RESERVED.contains(&name.as_str())) {
            wrong(&format!("authorize/{name}"), "the policy sets this itself".to_owned());
        }
        let path = |field: &str, given: Option<&str>, default: &str, wrong: &mut dyn FnMut(&str, String)| {
            let path = given.map_or_else(|| format!("/.mainstay/{policy}/{default}"), str::to_owned);
            if !is_own_path(&path) || path.contains('?') {
                wrong(field, "a path, such as /signed-in".to_owned());
            }
            path
        };
        let callback_path = path("callback_path", spec.callback_path.as_deref(), "callback", &mut wrong);
        let logout_path = path("logout_path", spec.logout_path.as_deref(), "logout", &mut wrong);
        if callback_path == logout_path {
            wrong("logout_path", "another path than callback_path".to_owned());
        }
        if !is_own_path(&spec.after_logout) {
            wrong("after_logout", "a path, such as /".to_owned());
        }
        let external = spec.external_url.as_ref().and_then(|text| {
            let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.path() == "/");
            if url.is_none() {
                wrong("external_url", "scheme and host, such as https://app.example.com".to_owned());
            }
            url.map(|url| url.origin().ascii_serialization())
        });
        let session = &spec.session;
        if !(Duration::from_mins(1)..=Duration::from_hours(30 * 24)).contains(&session.lifetime.0) {
            wrong("session/lifetime", "1m to 30d".to_owned());
        }
        if session.idle.0.is_zero() || session.idle.0 > session.lifetime.0 {
            wrong("session/idle", "more than 0s, at most lifetime".to_owned());
        }
        let base = session.cookie.clone().unwrap_or_else(|| format!("ms_{policy}"));
        if base.is_empty() || base.len() > 80 || !base.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        {
            let usable = session.cookie.is_none() && policy.contains('.');
            let hint =
                if usable { "a name of its own: that of the policy has a dot" } else { "letters, digits, _ and -" };
            wrong("session/cookie", hint.to_owned());
        }
        let forward_token = spec
            .forward_token
            .as_ref()
            .and_then(|name| claims::header_name(name).map_err(|detail| wrong("forward_token", detail)).ok());
        let algorithms = jwt::algorithms(&spec.algorithms, &format!("{at}/algorithms"), errors);
        let verifier = Verifier {
            keys: gatekeeper.keys(Source::Issuer(spec.issuer.clone()), Ages::DEFAULT),
            algorithms,
            rules: Rules {
                issuer: spec.issuer.clone(),
                audience: vec![spec.client_id.clone()],
                skew: Duration::from_mins(1),
                max_age: None,
            },
            kind: None,
            clock: deps.clock.clone(),
        };
        let mut scopes = vec!["openid"];
        scopes.extend(spec.scopes.iter().map(String::as_str).filter(|scope| *scope != "openid"));
        Self {
            policy: policy.clone(),
            provider: Provider {
                issuer: spec.issuer.clone(),
                client_id: spec.client_id.clone(),
                client_secret,
                discovery: gatekeeper.discovery(&spec.issuer),
                verifier,
                fetch: deps.fetch.clone(),
            },
            clock: deps.clock.clone(),
            rng: deps.rng.clone(),
            sealer: Sealer::new(&deps.access.secret("gatekeeper.oidc"), &deps.rng),
            jar: Jar::new(&base),
            purpose: format!("{}\n{}\n{policy}", spec.issuer, spec.client_id),
            scope: scopes.join(" "),
            authorize: spec.authorize.clone(),
            callback_path,
            logout_path,
            after_logout: spec.after_logout.clone(),
            external,
            lifetime: session.lifetime.0,
            idle: session.idle.0,
            refreshes: session.refresh,
            forwarded: Forwarded::compile(&spec.forward_claims, &format!("{at}/forward_claims"), errors),
            forward_token,
            require: Condition::required(spec.require.as_deref(), &deps.clock, at, errors),
            ended: Cache::new(ENDED_ENTRIES),
            refreshed: Cache::new(1_000),
            refreshing: std::array::from_fn(|_| Mutex::new(())),
            counters: gatekeeper.0.telemetry.logins.clone(),
        }
    }

    pub(super) fn protected(&self) -> impl Iterator<Item = &HeaderName> {
        // `authorization` is the client's own too; it is replaced when there is a session, and not protected.
        self.forwarded.names().chain(self.forward_token.iter().filter(|name| **name != header::AUTHORIZATION))
    }

    /// Paths that have to come to a route with this policy.
    pub(super) fn own_paths(&self) -> [&str; 2] {
        [&self.callback_path, &self.logout_path]
    }

    pub(super) async fn check(&self, seen: &Seen<'_>, going: &mut Going) -> Checked {
        let path = seen.parts.uri.path();
        if path == self.callback_path {
            let finished = self.finish_login(seen).await;
            if finished.is_err() {
                self.counters.failed.inc();
            }
            return Err(finished?.answer("the sign-in is done"));
        }
        if path == self.logout_path {
            return Err(self.log_out(seen).await?.answer("signed out"));
        }
        let Some(session) = self.session(seen) else {
            return Err(self.ask_to_sign_in(seen).await?);
        };
        let Some(session) = self.kept_fresh(session, seen, going).await? else {
            return Err(self.ask_to_sign_in(seen).await?);
        };
        let identity = Identity {
            policy: self.policy.clone(),
            method: Method::Oidc,
            subject: session.claims.get("sub").and_then(Value::as_str).unwrap_or_default().into(),
            project: None,
            claims: session.claims.clone().into(),
        };
        if let Some(require) = &self.require {
            require.must_hold(seen, Some(&identity))?;
        }
        self.forwarded.put(&identity, &mut going.set);
        if let (Some(name), Some(token)) = (&self.forward_token, &session.access)
            && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}"))
        {
            value.set_sensitive(true);
            going.set.push((name.clone(), value));
        }
        going.identity = Some(identity);
        let jar = self.jar.clone();
        going.strip.push(Strip::Cookies(Arc::new(move |name: &str| jar.is_mine(name))));
        Ok(Said::passed("a session"))
    }

    // ---- session

    fn session(&self, seen: &Seen<'_>) -> Option<Session> {
        let text = self.jar.read(&seen.parts.headers, is_tls(seen))?;
        let session: Session = self.sealer.open(&format!("session\n{}", self.purpose), &text)?;
        let now = self.clock.now();
        let (began_at, seen_at) = (Timestamp::from_millis(session.began_at), Timestamp::from_millis(session.seen_at));
        let is_alive = now < began_at.plus(self.lifetime) && now < seen_at.plus(self.idle);
        (is_alive && self.ended.get(&session.id).is_none()).then_some(session)
    }

    /// The session with tokens that hold, its cookie written again where that is due; `None` when the provider ended it.
    async fn kept_fresh(&self, session: Session, seen: &Seen<'_>, going: &mut Going) -> Result<Option<Session>, Error> {
        let now = self.clock.now();
        let until = session.access_until.map(Timestamp::from_millis);
        let (mut session, is_new) = match (until, &session.refresh) {
            (Some(until), Some(token)) if self.refreshes && now >= until => {
                match &*self.refresh_once(token, &session).await {
                    Refreshed::To(next) => ((**next).clone(), true),
                    Refreshed::Ended => return Ok(None),
                    Refreshed::Away(_) if now < until.plus(GRACE) => (session, false),
                    Refreshed::Away(why) => return Err(Error::unavailable(why)),
                }
            }
            (Some(until), None) if self.refreshes && now >= until => return Ok(None),
            _ => (session, false),
        };
        let seen_at = Timestamp::from_millis(session.seen_at);
        if is_new || now.since(seen_at) >= self.idle / 8 {
            session.seen_at = now.as_millis();
            self.write(&session, seen, &mut going.response)?;
        }
        Ok(Some(session))
    }

    async fn refresh_once(&self, token: &str, session: &Session) -> Arc<Refreshed> {
        let name = sha256(token.as_bytes());
        let known = || {
            let now = self.clock.monotonic();
            self.refreshed.get(&name).filter(|(_, at)| now.saturating_sub(*at) < REFRESHED_FOR).map(|(known, _)| known)
        };
        if let Some(known) = known() {
            return known;
        }
        let _one_at_a_time = self.refreshing[usize::from(name[0]) % STRIPES].lock().await;
        if let Some(known) = known() {
            return known;
        }
        let outcome = match self.provider.refresh(token).await {
            Ok(tokens) => {
                let same = |claims: &Map<String, Value>| claims.get("sub") == session.claims.get("sub");
                if tokens.claims.as_ref().is_none_or(same) {
                    self.counters.refreshed.inc();
                    let mut next = session.clone();
                    self.take(tokens, &mut next);
                    Refreshed::To(Box::new(next))
                } else {
                    // OpenID Connect Core §12.2.
                    tracing::warn!(
                        policy = &*self.policy,
                        "a refresh brought the tokens of another user; the session ends"
                    );
                    Refreshed::Ended
                }
            }
            Err(NoTokens::Refused(why)) => {
                tracing::info!(policy = &*self.policy, why, "the provider ended a session");
                self.counters.ended.inc();
                Refreshed::Ended
            }
            Err(NoTokens::Away(why)) => Refreshed::Away(why),
        };
        let outcome = Arc::new(outcome);
        self.refreshed.insert(name, (outcome.clone(), self.clock.monotonic()));
        outcome
    }

    fn take(&self, tokens: Tokens, session: &mut Session) {
        if let Some(mut claims) = tokens.claims {
            for name in DROPPED {
                claims.remove(name);
            }
            session.claims = claims;
        }
        let now = self.clock.now();
        session.access = self.forward_token.is_some().then_some(tokens.access).filter(|token| !token.is_empty());
        session.access_until = tokens.expires_in.map(|span| now.plus(span).as_millis());
        if self.refreshes && tokens.refresh.is_some() {
            session.refresh = tokens.refresh;
        }
    }

    fn write(&self, session: &Session, seen: &Seen<'_>, response: &mut HeaderMap) -> Result<(), Error> {
        let left = Timestamp::from_millis(session.began_at).plus(self.lifetime).since(self.clock.now());
        let sealed = self.sealer.seal(&format!("session\n{}", self.purpose), session);
        let is_written = sealed.is_some_and(|text| {
            self.jar.write(&text, is_tls(seen), left.as_secs().max(1), &seen.parts.headers, response)
        });
        if is_written {
            Ok(())
        } else {
            Err(Error::login(
                "The provider says more of you than fits into cookies. The operator has to ask for fewer scopes.",
            ))
        }
    }

    // ---- login

    fn external(&self, seen: &Seen<'_>) -> String {
        self.external.clone().unwrap_or_else(|| format!("{}://{}", seen.scheme, seen.host))
    }

    fn redirect_uri(&self, seen: &Seen<'_>) -> String {
        format!("{}{}", self.external(seen), self.callback_path)
    }

    /// Browsers that go somewhere are sent to the provider; whatever else asks is told no.
    async fn ask_to_sign_in(&self, seen: &Seen<'_>) -> Result<Stop, Error> {
        if !is_navigation(seen.parts) {
            return Ok(Stop::Refused(Error::Unauthenticated("Sign in with a browser first."), None));
        }
        let metadata = self.provider.metadata().await?;
        let mut url = metadata.authorization_endpoint.ok_or_else(|| Error::unavailable("no authorization_endpoint"))?;
        let random = || BASE64URL.encode(self.rng.bytes::<32>());
        let target = seen.parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let login = Login {
            state: random(),
            nonce: random(),
            verifier: random(),
            to: if is_own_path(target) && target.len() <= MAX_RETURN_BYTES { target } else { "/" }.to_owned(),
            began_at: self.clock.now().as_millis(),
        };
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.provider.client_id)
            .append_pair("redirect_uri", &self.redirect_uri(seen))
            .append_pair("scope", &self.scope)
            .append_pair("state", &login.state)
            .append_pair("nonce", &login.nonce)
            .append_pair("code_challenge", &BASE64URL.encode(sha256(login.verifier.as_bytes())))
            .append_pair("code_challenge_method", "S256")
            .extend_pairs(&self.authorize);
        let mut answer = Redirect::to(url.as_str())?;
        let is_tls = is_tls(seen);
        let under_way = self.jar.logins(&seen.parts.headers, is_tls);
        if under_way.len() >= MAX_LOGINS {
            for name in under_way {
                set_cookie(answer.headers(), &name, "", is_tls, 0);
            }
        }
        let sealed = self
            .sealer
            .seal(&format!("login\n{}", self.purpose), &login)
            .ok_or_else(|| Error::unavailable("sealing"))?;
        let name = self.jar.login_name(&login.state, is_tls);
        set_cookie(answer.headers(), &name, &sealed, is_tls, LOGIN_TIME.as_secs());
        self.counters.started.inc();
        Ok(answer.answer("sent to the sign-in"))
    }

    async fn finish_login(&self, seen: &Seen<'_>) -> Result<Redirect, Error> {
        let mut given: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in places::query_pairs(seen.parts.uri.query().unwrap_or_default()) {
            if given.insert(name, value).is_some() {
                return Err(Error::login("A parameter came twice."));
            }
        }
        let text = |name: &str| given.get(name).map(String::as_str);
        let (is_tls, headers) = (is_tls(seen), &seen.parts.headers);
        let lost = || Error::login("This sign-in was not begun in this browser, or too long ago. Start again.");
        let state = text("state").ok_or_else(lost)?;
        let name = self.jar.login_name(state, is_tls);
        let sealed = places::cookies(headers).find(|(n, _)| *n == name).map(|(_, value)| value).ok_or_else(lost)?;
        let login: Login = self.sealer.open(&format!("login\n{}", self.purpose), sealed).ok_or_else(lost)?;
        let now = self.clock.now();
        if login.state != state || now >= Timestamp::from_millis(login.began_at).plus(LOGIN_TIME) {
            return Err(lost());
        }
        let metadata = self.provider.metadata().await?;
        match text("iss") {
            Some(issuer) if issuer != self.provider.issuer => {
                return Err(Error::login("Another provider answered than was asked."));
            }
            None if metadata.names_itself => return Err(Error::login("It is not clear which provider answered.")),
            _ => {}
        }
        if let Some(error) = text("error") {
            let reason = format!("{error} {}", text("error_description").unwrap_or_default());
            let reason = Some(kernel::Internal::new(reason));
            return Err(Error::Login { message: "The provider did not let you in.".into(), reason });
        }
        let code = text("code").ok_or_else(|| Error::login("The provider gave no code."))?;
        let tokens = self.provider.redeem(code, &login.verifier, &self.redirect_uri(seen), &login.nonce).await?;
        let mut session = Session {
            id: self.rng.bytes(),
            began_at: now.as_millis(),
            seen_at: now.as_millis(),
            claims: Map::new(),
            access: None,
            access_until: None,
            refresh: None,
        };
        self.take(tokens, &mut session);
        let mut answer = Redirect::to(&login.to)?;
        self.write(&session, seen, answer.headers())?;
        set_cookie(answer.headers(), &name, "", is_tls, 0);
        self.counters.finished.inc();
        Ok(answer)
    }

    async fn log_out(&self, seen: &Seen<'_>) -> Result<Redirect, Error> {
        // Another site's page must not be able to end a session (it could not read anything, but annoy).
        let site = seen.parts.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        if matches!(site, Some(b"cross-site" | b"same-site")) {
            return Err(Error::forbidden("Sign out from this site itself.", "logout from another site"));
        }
        if let Some(session) = self.session(seen) {
            self.ended.insert(session.id, ());
            self.counters.ended.inc();
        }
        let back = format!("{}{}", self.external(seen), self.after_logout);
        // A provider that is away keeps nobody signed in here.
        let end = self.provider.metadata().await.ok().and_then(|metadata| metadata.end_session_endpoint);
        let mut answer = match end {
            Some(mut url) => {
                url.query_pairs_mut()
                    .append_pair("client_id", &self.provider.client_id)
                    .append_pair("post_logout_redirect_uri", &back);
                Redirect::to(url.as_str())?
            }
            None => Redirect::to(&self.after_logout)?,
        };
        self.jar.clear(is_tls(seen), &seen.parts.headers, answer.headers());
        Ok(answer)
    }
}

/// A redirect that no cache keeps.
struct Redirect(Box<Response<Bytes>>);

impl Redirect {
    fn to(location: &str) -> Result<Self, Error> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::SEE_OTHER;
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, HeaderValue::from_str(location).map_err(Error::unavailable)?);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Ok(Self(Box::new(response)))
    }

    fn headers(&mut self) -> &mut HeaderMap {
        self.0.headers_mut()
    }

    fn answer(self, detail: &'static str) -> Stop {
        Stop::Answer(self.0, detail.into())
    }
}

fn is_tls(seen: &Seen<'_>) -> bool {
    seen.scheme == "https"
}

/// A path of this host: `//other.example` and `/\other.example` are URLs of other hosts to browsers.
fn is_own_path(text: &str) -> bool {
    text.starts_with('/')
        && !text.starts_with("//")
        && !text.contains('\\')
        && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether a person's browser goes there, rather than a script or a program (Fetch Metadata; older browsers: what they take).
fn is_navigation(parts: &Parts) -> bool {
    if !matches!(parts.method, HttpMethod::GET | HttpMethod::HEAD) {
        return false;
    }
    if let Some(mode) = parts.headers.get("sec-fetch-mode") {
        return mode.as_bytes() == b"navigate";
    }
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|types| types.contains("text/html"))
}
