//! Signing in and out, and choosing the project.

use std::{net::SocketAddr, time::Duration};

use axum::{
    extract::{ConnectInfo, Extension, State},
    http::{StatusCode, header},
    response::Response,
};
use console::{Chrome, Field, Form, Markup, html, paths};
use kernel::Problem;
use serde::Deserialize;

use super::{PROJECT_COOKIE, SIGN_IN, guard, plain_chrome, refused, respond, see_other};
use crate::{Access, Caller, SessionToken};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct SignIn {
    key: String,
    #[serde(default)]
    next: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Choice {
    project: String,
    #[serde(default)]
    next: String,
}

type MaybeChrome = Option<Extension<Chrome>>;

fn chrome_or_plain(chrome: MaybeChrome) -> Chrome {
    chrome.map_or_else(|| plain_chrome(SIGN_IN), |Extension(chrome)| chrome)
}

fn draw(chrome: &Chrome, next: &str, problem: Option<&Problem>) -> Markup {
    let mut form = Form::post(chrome, SIGN_IN)
        .hidden("next", paths::back(next))
        .field(
            Field::secret("key", "API key")
                .required()
                .mono()
                .help("It starts with msk_. The first one was printed when this server first started."),
        )
        .submit("Sign in");
    if let Some(problem) = problem {
        form = form.problem(problem);
    }
    let body = html! {
        (form)
        details {
            summary { "No key at hand?" }
            p { "Whoever has the server's data folder makes another one beside it:" }
            (console::command_line("CLI", "mainstay keys recover"))
        }
    };
    chrome.bare("Sign in", "The console is opened with an API key.", body)
}

pub(super) async fn page(
    State(access): State<Access>,
    chrome: MaybeChrome,
    web::Query(Next { next }): web::Query<Next>,
) -> Response {
    if access.is_dev() {
        return see_other(paths::back(&next));
    }
    respond(StatusCode::OK, draw(&chrome_or_plain(chrome), &next, None))
}

pub(super) async fn open(
    State(access): State<Access>,
    chrome: MaybeChrome,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    web::Form(form): web::Form<SignIn>,
) -> Response {
    let peer = peer.map(|Extension(ConnectInfo(address))| address.ip());
    match access.sign_in(&form.key, peer).await {
        Ok((token, _)) => {
            let name = guard::session_cookie_name(&access);
            let cookie = guard::set_cookie(&access, name, token.expose(), access.session_lifetime().as_secs());
            guard::with_cookie(see_other(paths::back(&form.next)), &cookie)
        }
        Err(e) => {
            let problem = Problem::from(e);
            let mut response = respond(refused(&problem), draw(&chrome_or_plain(chrome), &form.next, Some(&problem)));
            if let Some(after) = problem.retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().max(1).into());
            }
            response
        }
    }
}

pub(super) async fn close(
    State(access): State<Access>,
    caller: Caller,
    token: Option<Extension<SessionToken>>,
) -> Response {
    if let Some(Extension(token)) = token
        && let Err(e) = access.sign_out(&token, caller.principal()).await
    {
        let problem = Problem::from(e);
        return respond(refused(&problem), plain_chrome(SIGN_IN).error_page(&problem));
    }
    let name = guard::session_cookie_name(&access);
    guard::with_cookie(see_other(SIGN_IN), &guard::set_cookie(&access, name, "", 0))
}

pub(super) async fn choose_project(
    State(access): State<Access>,
    Extension(chrome): Extension<Chrome>,
    caller: Caller,
    web::Form(form): web::Form<Choice>,
) -> Response {
    match access.choose_project(caller.principal().clone(), Some(&form.project)).await {
        Ok(chosen) => {
            let year = Duration::from_hours(24 * 365).as_secs();
            let cookie = guard::set_cookie(&access, PROJECT_COOKIE, chosen.project.as_str(), year);
            guard::with_cookie(see_other(paths::back(&form.next)), &cookie)
        }
        Err(e) => super::answer(&chrome, Err(e.into())),
    }
}
