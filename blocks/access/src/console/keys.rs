//! The pages of API keys: the list with its form, and one key.

use std::time::Duration;

use axum::{
    extract::{Extension, State},
    http::StatusCode,
    response::Response,
};
use console::{
    Chrome, Column, Confirm, Event, Field, Flash, Form, Head, KeyValues, Link, Markup, RequestBox, Row, Status, Table,
    Timeline, badge, confirmed, empty, format, html, paths, section,
};
use kernel::{Problem, Timestamp};
use serde::Deserialize;
use serde_json::json;
use web::{PageQuery, Path};

use crate::{
    Access, AuditFilter, Caller, Issued, Key, KeyState, NewKey,
    http::{SYSTEM, parse_scopes},
};

const ROWS: u32 = 50;
const TITLE: &str = "API keys";
const SENTENCE: &str =
    "Programs and people show a key to use this server; it works in one project and does what its scopes say.";

#[derive(Debug, Default, Deserialize)]
pub(super) struct CreateForm {
    name: String,
    scopes: String,
    #[serde(default)]
    expires_at: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct RotateForm {
    #[serde(default)]
    overlap_seconds: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct RevokeForm {
    #[serde(default)]
    confirm: String,
}

fn state_badge(key: &Key, now: Timestamp) -> Markup {
    let state = key.state(now);
    let status = match state {
        KeyState::Active => Status::Ok,
        KeyState::Rotating => Status::Degraded,
        KeyState::Expired | KeyState::Revoked => Status::Down,
    };
    badge(status, state.as_str())
}

fn link_of(key: &Key) -> Link {
    Link::new(format!("{}/{}", paths::KEYS, key.id))
}

fn time_or(at: Option<Timestamp>, now: Timestamp, otherwise: &str) -> Markup {
    at.map_or_else(|| html! { span.quiet { (otherwise) } }, |at| format::time(at, now))
}

// ---- the list

pub(super) async fn list(
    State(access): State<Access>,
    Extension(chrome): Extension<Chrome>,
    caller: Caller,
) -> Response {
    let drawn = draw_list(&access, &chrome, &caller, None).await;
    super::answer(&chrome, drawn)
}

async fn draw_list(
    access: &Access,
    chrome: &Chrome,
    caller: &Caller,
    refused: Option<(&CreateForm, &Problem)>,
) -> Result<Markup, Problem> {
    caller.require(SYSTEM, "read")?;
    let (at, now) = (chrome.at(), access.clock().now());
    let query = PageQuery { limit: ROWS, cursor: at.get("cursor").map(str::to_owned) };
    let page = access.list_keys(caller.project(), &query).await?;
    let rows = page.items.iter().map(|key| {
        Row::new(key.id.to_string())
            .named(&key.name)
            .link(&key.name, &link_of(key))
            .cell(state_badge(key, now))
            .cell(html! { code { (key.scopes.to_string()) } })
            .cell(time_or(key.last_used_at, now, "never"))
            .cell(time_or(key.expires_at, now, "never"))
            .cell(format::time(key.created_at, now))
    });
    let first = RequestBox::post("/v1/keys")
        .json(json!({ "name": "my app", "scopes": ["links:write"] }))
        .cli(["keys", "create", "my app", "--scope", "links:write"])
        .open();
    let table = Table::new("API keys of the project, the newest first", at)
        .column(Column::text("name", "Name"))
        .column(Column::text("state", "State"))
        .column(Column::text("scopes", "Scopes").cut())
        .column(Column::text("used", "Last used"))
        .column(Column::text("expires", "Expires"))
        .column(Column::text("created", "Created"))
        .rows(rows)
        .next_cursor(page.next_cursor)
        .empty(empty("No keys in this project.", "A program needs one to use the API.", chrome.request(&first)));
    let may_write = caller.require(SYSTEM, "write").is_ok();
    let body = html! {
        (table)
        (chrome.request(&RequestBox::get("/v1/keys?limit=50").cli(["keys", "list"])))
        @if may_write { (section("New key", create_form(chrome, refused))) }
    };
    Ok(chrome.page(TITLE, SENTENCE, body))
}

fn create_form(chrome: &Chrome, refused: Option<(&CreateForm, &Problem)>) -> Markup {
    let given = refused.map(|(form, _)| form);
    let value = |read: fn(&CreateForm) -> &String| given.map(read).cloned().unwrap_or_default();
    let request = RequestBox::post("/v1/keys").json(json!({ "name": "my app", "scopes": ["links:write"] })).cli([
        "keys",
        "create",
        "my app",
        "--scope",
        "links:write",
    ]);
    let mut form = Form::post(chrome, paths::KEYS)
        .field(Field::text("name", "Name").value(value(|f| &f.name)).required().longest(100).placeholder("my app"))
        .field(
            Field::text("scopes", "Scopes")
                .value(value(|f| &f.scopes))
                .required()
                .mono()
                .placeholder("links:write")
                .help("<system>:<read|write|admin> with spaces between; *:read is every system, * an administrator."),
        )
        .field(
            Field::date_time("expires_at", "Expires")
                .value(value(|f| &f.expires_at))
                .help("Leave it empty for a key that does not end. In UTC."),
        )
        .submit("Create key");
    if let Some((_, problem)) = refused {
        form = form.problem(problem);
    }
    html! { (form.request(chrome, &request)) }
}

fn new_key_of(form: &CreateForm) -> Result<NewKey, crate::Error> {
    let words: Vec<String> = form.scopes.split([' ', ',']).filter(|w| !w.is_empty()).map(str::to_owned).collect();
    let expires_at = match form.expires_at.trim() {
        "" => None,
        // A browser sends `2026-11-24T06:00`, with seconds if there are any.
        text => {
            let seconds = if text.matches(':').count() == 1 { ":00" } else { "" };
            let parsed = Timestamp::parse(&format!("{text}{seconds}Z")).or_else(|| Timestamp::parse(text));
            Some(parsed.ok_or_else(|| crate::Error::KeyInvalid {
                field: "expires_at",
                detail: "Expected a day and time such as 2026-12-31T12:00.".to_owned(),
            })?)
        }
    };
    Ok(NewKey { name: form.name.trim().to_owned(), scopes: parse_scopes(&words)?, expires_at })
}

pub(super) async fn create(
    State(access): State<Access>,
    Extension(chrome): Extension<Chrome>,
    caller: Caller,
    web::Form(form): web::Form<CreateForm>,
) -> Response {
    let made = async {
        caller.require(SYSTEM, "write")?;
        access.create_key(caller.principal(), &new_key_of(&form)?, None).await
    };
    match made.await {
        Ok(issued) => super::respond(StatusCode::OK, draw_issued(&chrome, &issued, "The key was created.")),
        Err(e) => {
            let problem = Problem::from(e);
            match draw_list(&access, &chrome, &caller, Some((&form, &problem))).await {
                Ok(page) => super::respond(super::refused(&problem), page),
                Err(problem) => super::answer(&chrome, Err(problem)),
            }
        }
    }
}

/// The one page that shows a key.
fn draw_issued(chrome: &Chrome, issued: &Issued, done: &str) -> Markup {
    let Issued { key, text } = issued;
    let body = html! {
        (Flash::warning(format!("{done} Copy it now: it is not kept and cannot be shown again.")))
        (KeyValues::new()
            .copy("Key", &text.expose())
            .item("Name", &key.name)
            .item("Scopes", html! { code { (key.scopes.to_string()) } })
            .item("Project", key.project.as_str()))
        @if let Some(until) = key.previous_until {
            p { "The old secret works until " (format::exact_time(until)) "." }
        }
        (console::command_line("Try it", &format!("export MAINSTAY_KEY={}\ncurl {}/v1/whoami -H \"Authorization: Bearer $MAINSTAY_KEY\"", text.expose(), chrome.base_url)))
        p { a.button href=(paths::KEYS) { "I have copied it" } }
    };
    chrome.page_with(Head::new("Your key", "Shown this once.").crumb(TITLE, Link::new(paths::KEYS)), body)
}

// ---- one key

pub(super) async fn show(
    State(access): State<Access>,
    Extension(chrome): Extension<Chrome>,
    caller: Caller,
    Path(id): Path<String>,
) -> Response {
    let drawn = draw_key(&access, &chrome, &caller, &id, None).await;
    super::answer(&chrome, drawn)
}

async fn draw_key(
    access: &Access,
    chrome: &Chrome,
    caller: &Caller,
    id: &str,
    refused: Option<&Problem>,
) -> Result<Markup, Problem> {
    caller.require(SYSTEM, "read")?;
    let key = access.get_key(caller.project(), id).await?;
    let filter = AuditFilter { object: Some(key.id.to_string()), ..AuditFilter::default() };
    let history = access.list_audit(caller.project(), &filter, &PageQuery::default()).await?;
    let now = access.clock().now();
    let timeline = history.items.iter().fold(Timeline::new(now), |timeline, entry| {
        timeline.event(
            Event::new(entry.at, &entry.action)
                .who(&entry.actor_name)
                .detail(html! { code { (entry.detail.to_string()) } }),
        )
    });
    let works = matches!(key.state(now), KeyState::Active | KeyState::Rotating);
    let values = KeyValues::new()
        .item("State", state_badge(&key, now))
        .copy("Id", &key.id.to_string())
        .item("Scopes", html! { code { (key.scopes.to_string()) } })
        .item("Project", key.project.as_str())
        .item("Created", html! { (format::time(key.created_at, now)) " by " code { (key.created_by) } })
        .item("Last used", time_or(key.last_used_at, now, "never"))
        .item("Expires", time_or(key.expires_at, now, "never"))
        .item("Old secret works until", time_or(key.previous_until, now, "there is none"));
    let body = html! {
        @if let Some(problem) = refused { (console::error_state(problem)) }
        (values)
        (chrome.request(&RequestBox::get(format!("/v1/keys/{}", key.id))))
        @if works && caller.require(SYSTEM, "write").is_ok() {
            (section("Rotate", rotate_form(chrome, &key)))
            (section("Revoke", html! { (revoke_form(chrome, &key)) }))
        }
        (section("What happened", html! { (timeline) }))
    };
    Ok(chrome.page_with(Head::new(&key.name, "One API key.").crumb(TITLE, Link::new(paths::KEYS)), body))
}

fn rotate_form(chrome: &Chrome, key: &Key) -> Markup {
    let request = RequestBox::post(format!("/v1/keys/{}/rotate", key.id))
        .json(json!({ "overlap_seconds": 3600 }))
        .cli(["keys", "rotate", &key.id.to_string(), "--overlap-seconds", "3600"]);
    let form = Form::post(chrome, format!("{}/{}/rotate", paths::KEYS, key.id))
        .field(Field::choice(
            "overlap_seconds",
            "The old secret goes on for",
            [("3600", "1 hour"), ("86400", "1 day"), ("604800", "7 days"), ("0", "no time: it ends now")],
        ))
        .submit("Rotate key")
        .request(chrome, &request);
    html! { p { "The key keeps its id and gets a new secret, so that clients can change over." } (form) }
}

fn revoke_form(chrome: &Chrome, key: &Key) -> Confirm {
    let consequence = "Every program that uses this key is refused from now on, and console sessions opened with it end. This cannot be undone.";
    Confirm::new(chrome, format!("{}/{}/revoke", paths::KEYS, key.id), &key.name, consequence, "Revoke key").request(
        chrome,
        &RequestBox::delete(format!("/v1/keys/{}", key.id)).cli(["keys", "revoke", &key.id.to_string()]),
    )
}

pub(super) async fn rotate(
    State(access): State<Access>,
    Extension(chrome): Extension<Chrome>,
    caller: Caller,
    Path(id): Path<String>,
    web::Form(form): web::Form<RotateForm>,
) -> Response {
    let rotated = async {
        caller.require(SYSTEM, "write")?;
        access.rotate_key(caller.principal(), &id, Duration::from_secs(form.overlap_seconds), None).await
    };
    match rotated.await {
        Ok(issued) => super::respond(StatusCode::OK, draw_issued(&chrome, &issued, "The key has a new secret.")),
        Err(e) => refuse(&access, &chrome, &caller, &id, e.into()).await,
    }
}

pub(super) async fn revoke(
    State(access): State<Access>,
    Extension(chrome): Extension<Chrome>,
    caller: Caller,
    Path(id): Path<String>,
    web::Form(form): web::Form<RevokeForm>,
) -> Response {
    let revoked = async {
        caller.require(SYSTEM, "write")?;
        let key = access.get_key(caller.project(), &id).await?;
        if !confirmed(&form.confirm, &key.name) {
            let detail = "Nothing was done: what was typed is not the name of the key.".to_owned();
            return Err(crate::Error::KeyInvalid { field: "confirm", detail });
        }
        access.revoke_key(caller.principal(), &id).await
    };
    match revoked.await {
        Ok(key) => super::see_other(&link_of(&key).to_string()),
        Err(e) => refuse(&access, &chrome, &caller, &id, e.into()).await,
    }
}

/// The key's page with what was refused on top.
async fn refuse(access: &Access, chrome: &Chrome, caller: &Caller, id: &str, problem: Problem) -> Response {
    match draw_key(access, chrome, caller, id, Some(&problem)).await {
        Ok(page) => super::respond(super::refused(&problem), page),
        Err(problem) => super::answer(chrome, Err(problem)),
    }
}
