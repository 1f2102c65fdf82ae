//! Changing one link: its form, switching it off and on, deleting it.

use access::Caller;
use axum::{
    extract::{Extension, Path, State},
    response::Response,
};
use console::{Chrome, Confirm, Form, Head, Link as Address, Markup, RequestBox, confirmed};
use http::StatusCode;
use kernel::{Problem, ProjectId};
use serde_json::json;

use super::{
    PATH, Pages, Pairs, SYSTEM, a_week, accept, action_of, answer, api_path, detail,
    form::{Choices, LinkText, Sent},
    host_of, page_of, see,
};
use crate::{
    model::Link,
    service::{LinkPatch, Shortener},
};

/// The form that changes a link.
pub(super) async fn page(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(code): Path<String>,
) -> Response {
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        let link = shortener.get_on(caller.project(), host_of(&chrome), &code).await?.link;
        draw(&chrome, &shortener, caller.project(), &link, None).await
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

async fn draw(
    chrome: &Chrome,
    shortener: &Shortener,
    project: &ProjectId,
    link: &Link,
    refused: Option<(&Sent, &Problem)>,
) -> Result<Markup, Problem> {
    let choices = Choices::load(shortener, project).await?.without_templates();
    let shown = LinkText::of(link);
    let text = refused.map_or_else(|| shown.clone(), |(sent, _)| LinkText::read(sent));
    let mut words = super::cli(link, "update");
    words.extend(["--title", "Spring sale"]);
    let request = RequestBox::new("PATCH", api_path(link, "")).json(json!({ "title": "Spring sale" })).cli(words);
    let mut form = Form::post(chrome, action_of(link, "edit"))
        .hidden("has_password", if link.settings.password.is_some() { "yes" } else { "no" })
        .hidden("version", refused.map_or_else(|| link.version.to_string(), |(sent, _)| sent.get("version").to_owned()))
        .fields(text.edit_fields(&choices))
        .submit("Save changes")
        .cancel(page_of(link));
    if let Some((_, problem)) = refused {
        form = form.problem(problem);
    }
    let form = form.request(chrome, &request);
    let head = Head::new(
        format!("Edit {}", link.code),
        "What visitors meet changes at once, on every node; what was is kept in its history.",
    )
    .crumb("Links", Address::new(PATH))
    .crumb(link.code.as_str(), page_of(link));
    Ok(chrome.page_with(head, console::html! { (form) }))
}

/// Saves what was changed, unless somebody else changed the link meanwhile.
pub(super) async fn change(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(code): Path<String>,
    pairs: Pairs,
) -> Response {
    let host = host_of(&chrome);
    let sent = match accept(&caller, &chrome, pairs.0) {
        Ok(sent) => sent,
        Err(problem) => return answer(&chrome, Err(problem), StatusCode::OK),
    };
    let before = match shortener.get_on(caller.project(), host, &code).await {
        Ok(listed) => listed.link,
        Err(e) => return answer(&chrome, Err(e.into()), StatusCode::OK),
    };
    let saved = async {
        let patch = LinkText::read(&sent).patch(&LinkText::of(&before))?;
        // The version that the form was drawn with; what cannot be read is none that a link has.
        let version = sent.get("version").parse().unwrap_or(-1);
        Ok::<_, Problem>(shortener.update(caller.principal(), host, &code, Some(version), patch).await?)
    };
    match saved.await {
        Ok(link) => see(&page_of(&link).with("done", "saved")),
        Err(problem) => {
            let status = web::status(problem.code.kind);
            let drawn = draw(&chrome, &shortener, caller.project(), &before, Some((&sent, &problem))).await;
            answer(&chrome, drawn, status)
        }
    }
}

/// Switches a link off, or on again.
pub(super) async fn switch(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(code): Path<String>,
    pairs: Pairs,
) -> Response {
    let switched = async {
        let sent = accept(&caller, &chrome, pairs.0)?;
        let is_disabled = sent.get("to") == "disabled";
        let patch = LinkPatch { is_disabled: Some(is_disabled), ..LinkPatch::default() };
        let link = shortener.update(caller.principal(), host_of(&chrome), &code, None, patch).await?;
        Ok::<_, Problem>(page_of(&link).with("done", if is_disabled { "disabled" } else { "enabled" }))
    };
    match switched.await {
        Ok(to) => see(&to),
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
}

/// Deletes a link whose code was typed.
pub(super) async fn delete(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(code): Path<String>,
    pairs: Pairs,
) -> Response {
    let deleted = async {
        let sent = accept(&caller, &chrome, pairs.0)?;
        if !confirmed(sent.get(Confirm::FIELD), &code) {
            return Ok(false);
        }
        shortener.delete(caller.principal(), host_of(&chrome), &code, None).await?;
        Ok::<_, Problem>(true)
    };
    match deleted.await {
        Ok(true) => see(&Address::new(PATH).with("deleted", &code)),
        Ok(false) => {
            let chrome = a_week(chrome);
            let drawn = detail::page(&chrome, &shortener, caller.project(), &code, detail::Asked::Delete).await;
            answer(&chrome, drawn, StatusCode::UNPROCESSABLE_ENTITY)
        }
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
}
