//! The auth layer of the API.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use identity::Principal;
use web::{IdempotencyScope, Reject, RequestContext};

use super::site;
use crate::{Access, Caller, Error};

/// Finds out who asks: `axum::middleware::from_fn_with_state(access, access::auth_layer)` around the API's routes.
///
/// - `Authorization: Bearer msk_…` that holds: handlers receive a [`Caller`]. One that does not hold: 401 (429 after too many),
///   also where no key is needed, so that a wrong key is noticed.
/// - No `Authorization`: nobody; a handler that takes a [`Caller`] refuses with 401. With `--dev`: the administrator, if the
///   request comes from this machine's own pages or from no page at all.
/// - `Mainstay-Project` chooses the project for administrators.
/// - It sets web's [`IdempotencyScope`] (project and actor) and the project of the [`RequestContext`].
///
/// The peer's address is axum's `ConnectInfo<SocketAddr>`, where the listener gives it.
pub async fn auth_layer(State(access): State<Access>, mut req: Request, next: Next) -> Response {
    match identify(&access, Shown::by(&req)).await {
        Ok(Some(principal)) => {
            admit(&mut req, principal);
            next.run(req).await
        }
        Ok(None) => next.run(req).await,
        Err(e) => Reject::from(e).into_response(),
    }
}

/// Who asks, where that is known without waiting, for listeners that answer some requests by themselves. `None` says nothing about the
/// caller: then [`auth_layer`] has to decide. Only for requests that no page caused: without `Origin`, `Sec-Fetch-Site` and
/// `Mainstay-Project`.
pub fn try_identify(access: &Access, authorization: Option<&str>, host: &str) -> Option<Principal> {
    match authorization {
        Some(text) => access.try_authenticate(bearer_of(text)?),
        None => (access.is_dev() && site::is_loopback_name(host)).then(Principal::dev),
    }
}

/// Puts the caller where handlers, logs and the idempotency layer look.
pub(crate) fn admit(req: &mut Request, principal: Principal) {
    let scope = format!("{}/{}", principal.project, principal.actor());
    if let Some(context) = req.extensions().get::<RequestContext>().cloned().or_else(RequestContext::current) {
        context.set_project(&principal.project);
    }
    req.extensions_mut().insert(IdempotencyScope(scope));
    req.extensions_mut().insert(Caller::new(principal));
}

/// What of a request says who asks. A request itself cannot be held over an await: its body is not shared between threads.
struct Shown {
    key: Option<Result<String, Error>>,
    project: Result<Option<String>, Error>,
    peer: Option<IpAddr>,
    is_allowed_in_dev: Result<(), Error>,
}

impl Shown {
    fn by(req: &Request) -> Self {
        Self {
            key: bearer(req.headers()).map(|key| key.map(str::to_owned)),
            project: super::named_project(req.headers()).map(|name| name.map(str::to_owned)),
            peer: peer(req),
            is_allowed_in_dev: guard_dev(req),
        }
    }
}

async fn identify(access: &Access, shown: Shown) -> Result<Option<Principal>, Error> {
    let principal = match shown.key {
        Some(text) => access.authenticate(&text?, shown.peer).await?,
        None if access.is_dev() => {
            shown.is_allowed_in_dev?;
            Principal::dev()
        }
        None => return Ok(None),
    };
    access.choose_project(principal, shown.project?.as_deref()).await.map(Some)
}

/// A page of another site must not be able to use a server that asks for no key.
pub(crate) fn guard_dev(req: &Request) -> Result<(), Error> {
    let (headers, uri) = (req.headers(), req.uri());
    let from_elsewhere = !site::is_safe(req.method()) && site::is_cross_site(headers, uri);
    if from_elsewhere || !site::is_loopback_host(headers, uri) { Err(Error::CrossSite) } else { Ok(()) }
}

/// The address of the peer, where the listener tells it.
pub(crate) fn peer(req: &Request) -> Option<IpAddr> {
    req.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip())
}

/// The key in `Authorization`; an error when there is one of another sort.
fn bearer(headers: &HeaderMap) -> Option<Result<&str, Error>> {
    let value = headers.get(header::AUTHORIZATION)?;
    let key = value.to_str().ok().and_then(bearer_of);
    Some(key.ok_or(Error::KeyMalformed(identity::KeyError::Form)))
}

fn bearer_of(text: &str) -> Option<&str> {
    let (scheme, key) = text.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key)
}
