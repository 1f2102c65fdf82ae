//! The layer around the whole console: who has a session is let in, and only its own forms change anything.

use std::net::IpAddr;

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use console::{Link, paths};
use kernel::Problem;

use super::{PROJECT_COOKIE, SIGN_IN, plain_chrome, refused, respond, see_other};
use crate::{
    Access, Error, Session, SessionToken,
    http::{layer, site},
};

/// The largest form that the console takes, in bytes.
const MAX_FORM_BYTES: usize = 64 * 1024;

/// Lets in who is signed in: `axum::middleware::from_fn_with_state(access, access::console::layer)` around every page.
///
/// - Pages receive a [`crate::Caller`] and a [`Session`] (for the frame: name, CSRF token); with `--dev`, the administrator's.
/// - Nobody signed in: to the sign-in page, and back afterwards. That page and the assets are open.
/// - Anything but GET and HEAD has to come from this site (`Sec-Fetch-Site`, else `Origin`) and, but for signing in, to carry the
///   session's token in the field `csrf` of a form of at most 64 KiB.
pub async fn layer(State(access): State<Access>, mut req: Request, next: Next) -> Response {
    let path = req.uri().path().to_owned();
    let is_open = path == SIGN_IN || path.starts_with(paths::ASSETS);
    let changes = !site::is_safe(req.method());
    if changes && site::is_cross_site(req.headers(), req.uri()) {
        return refuse(&path, Error::CrossSite);
    }
    if access.is_dev()
        && let Err(e) = layer::guard_dev(&req)
    {
        return refuse(&path, e);
    }
    if is_open {
        return next.run(req).await;
    }
    let (token, peer) = (token_of(&access, req.headers()), layer::peer(&req));
    let chosen = cookie(req.headers(), PROJECT_COOKIE).map(str::to_owned);
    let session = match session_of(&access, token.as_ref(), peer, chosen).await {
        Ok(Some(session)) => session,
        Ok(None) => return to_sign_in(&req, changes),
        Err(e) => return refuse(&path, e),
    };
    if changes {
        req = match check_form(req, &session).await {
            Ok(req) => req,
            Err(e) => return refuse(&path, e),
        };
    }
    layer::admit(&mut req, session.principal.clone());
    if let Some(token) = token {
        req.extensions_mut().insert(token);
    }
    req.extensions_mut().insert(session);
    next.run(req).await
}

async fn session_of(
    access: &Access,
    token: Option<&SessionToken>,
    peer: Option<IpAddr>,
    project: Option<String>,
) -> Result<Option<Session>, Error> {
    let session = match (access.dev_session(), token) {
        (Some(session), _) => Some(session),
        (None, Some(token)) => access.session(token, peer).await?,
        (None, None) => None,
    };
    let Some(session) = session else { return Ok(None) };
    // A cookie may name a project of another installation on this host: then it stands for nothing.
    let principal = match access.choose_project(session.principal.clone(), project.as_deref()).await {
        Err(Error::ProjectUnknown | Error::OtherProject) => session.principal.clone(),
        other => other?,
    };
    Ok(Some(Session { principal, ..session }))
}

fn to_sign_in(req: &Request, changes: bool) -> Response {
    let at = req.uri().path_and_query().map_or(paths::HOME, axum::http::uri::PathAndQuery::as_str);
    // What was sent by POST cannot be gone back to.
    let next = if changes { paths::HOME } else { paths::back(at) };
    see_other(&Link::new(SIGN_IN).with("next", next).to_string())
}

fn refuse(path: &str, e: Error) -> Response {
    let problem = Problem::from(e);
    let page = plain_chrome(path).bare(problem.code.title, "", console::error_state(&problem));
    let mut response = respond(refused(&problem), page);
    if let Some(after) = problem.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().max(1).into());
    }
    response
}

/// Reads a form for its `csrf` and gives the request back whole.
async fn check_form(req: Request, session: &Session) -> Result<Request, Error> {
    let (parts, body) = req.into_parts();
    let bytes = to_bytes(body, MAX_FORM_BYTES)
        .await
        .map_err(|_| Problem::new(&web::error::BODY_TOO_LARGE, "The console takes forms of at most 64 KiB."))?;
    // A token is hexadecimal, so no escapes need to be read.
    let csrf = bytes.split(|b| *b == b'&').find_map(|pair| pair.strip_prefix(b"csrf=")).unwrap_or_default();
    if !session.is_own_form(std::str::from_utf8(csrf).unwrap_or_default()) {
        return Err(Error::FormExpired);
    }
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// The value of a cookie (RFC 6265, 5.4).
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(n, value)| (n == name).then_some(value))
}

/// `__Host-` keeps other hosts of the domain from setting it; browsers take that name only with `Secure`.
pub(super) fn session_cookie_name(access: &Access) -> &'static str {
    if access.secure_cookies() { "__Host-mainstay_session" } else { "mainstay_session" }
}

fn token_of(access: &Access, headers: &HeaderMap) -> Option<SessionToken> {
    SessionToken::parse(cookie(headers, session_cookie_name(access))?)
}

/// A `Set-Cookie` that no script reads and no other site sends.
pub(super) fn set_cookie(access: &Access, name: &str, value: &str, max_age_s: u64) -> String {
    let secure = if access.secure_cookies() { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}")
}

/// For pages that a wrong status would hide.
pub(super) fn with_cookie(mut response: Response, cookie: &str) -> Response {
    match cookie.parse() {
        Ok(value) => {
            response.headers_mut().append(header::SET_COOKIE, value);
            response
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
