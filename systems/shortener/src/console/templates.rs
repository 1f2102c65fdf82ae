//! UTM templates: the list, writing one, deleting one.

use access::Caller;
use axum::{
    extract::{Extension, Path, State},
    response::Response,
};
use console::{
    Chrome, Column, Field, Fields, Flash, Form, Head, Link as Address, Markup, RequestBox, Row, Table, empty, format,
    html, post_button, section,
};
use http::StatusCode;
use kernel::{Problem, ProjectId};
use serde_json::json;

use super::{
    Pages, Pairs, SYSTEM, TEMPLATES, accept, answer,
    form::{Sent, read_utm, utm_fields},
    see,
};
use crate::{model::Utm, service::Shortener, store::UtmTemplate};

const PAGE_ROWS: u32 = 50;
const CURSORS: &str = "console templates";

fn page_of(name: &str) -> Address {
    Address::new(format!("{TEMPLATES}/{name}"))
}

/// The list and the form for a new one.
pub(super) async fn list(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
) -> Response {
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        draw_list(&chrome, &shortener, caller.project(), None).await
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

async fn draw_list(
    chrome: &Chrome,
    shortener: &Shortener,
    project: &ProjectId,
    refused: Option<(&Sent, &Problem)>,
) -> Result<Markup, Problem> {
    let at = chrome.at();
    let after = shortener.open_name(CURSORS, project, at.get("cursor"))?;
    let mut templates = shortener.utm_templates(project, &after, PAGE_ROWS + 1).await?;
    let has_more = templates.len() > PAGE_ROWS as usize;
    templates.truncate(PAGE_ROWS as usize);
    let next = templates.last().filter(|_| has_more).map(|last| shortener.seal_name(CURSORS, project, &last.name));
    let first = example("newsletter").open();
    let table = Table::new("UTM templates", &at.clone().without("done").without("name"))
        .column(Column::text("name", "Name"))
        .column(Column::text("parameters", "Parameters"))
        .column(Column::text("written", "Written"))
        .column(Column::text("actions", "Actions"))
        .rows(templates.iter().map(|template| row(chrome, shortener, template)))
        .next_cursor(next)
        .empty(empty(
            "No templates yet.",
            "A template keeps the campaign parameters that your links share, so that reports are not split by spelling.",
            chrome.request(&first),
        ));
    let head = Head::new("UTM templates", "Campaign parameters under a name, for new links to take.");
    let name = at.get("name").unwrap_or_default();
    let body = html! {
        @match at.get("done") {
            Some("saved") => (Flash::done(format!("{name} is saved. Links that are made with it from now on take these parameters."))),
            Some("deleted") => (Flash::done(format!("{name} is deleted. Links that were made with it keep what they took."))),
            _ => {}
        }
        (table)
        (section("New template", form(chrome, None, refused)))
    };
    Ok(chrome.page_with(head, body))
}

fn row(chrome: &Chrome, shortener: &Shortener, template: &UtmTemplate) -> Row {
    let delete = format!("{TEMPLATES}/{}/delete", template.name);
    Row::new(&template.name)
        .link(&template.name, &page_of(&template.name))
        .cell(html! { div { @for (name, value) in template.utm.parameters() { code { (name) "=" (value) } " " } } })
        .cell(html! { div { (format::time(template.updated_at, shortener.now())) " by " (template.updated_by) } })
        .cell(post_button(chrome, &delete, "Delete", &[]))
}

fn example(name: &str) -> RequestBox {
    RequestBox::new("PUT", format!("/v1/utm-templates/{name}"))
        .json(json!({ "source": "newsletter", "medium": "email", "campaign": "spring-sale" }))
        .cli(["utm-templates", "set", name, "--source", "newsletter", "--medium", "email", "--campaign", "spring-sale"])
}

fn form(chrome: &Chrome, known: Option<&UtmTemplate>, refused: Option<(&Sent, &Problem)>) -> Markup {
    let utm = match (refused, known) {
        (Some((sent, _)), _) => read_utm(sent),
        (None, Some(template)) => template.utm.clone(),
        (None, None) => Utm::default(),
    };
    let mut form = Form::post(chrome, TEMPLATES).submit("Save the template");
    let mut fields = Fields::new();
    if let Some(template) = known {
        form = form.hidden("name", template.name.as_str()).cancel(Address::new(TEMPLATES));
    } else {
        fields = fields.field(
            Field::text("name", "Name")
                .value(refused.map(|(sent, _)| sent.get("name")).unwrap_or_default())
                .placeholder("newsletter")
                .help("1 to 50 of A-Z, a-z, 0-9, _, - and dots. A name that is taken is written anew.")
                .longest(50)
                .required()
                .mono(),
        );
    }
    let mut form = form.fields(fields.group("", "", utm_fields(&utm)));
    if let Some((_, problem)) = refused {
        form = form.problem(problem);
    }
    let form = form.request(chrome, &example(known.map_or("newsletter", |template| &template.name)));
    html! { (form) }
}

/// The page of one template.
pub(super) async fn page(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(name): Path<String>,
) -> Response {
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        let template = shortener.utm_template(caller.project(), &name).await?;
        let head =
            Head::new(name.as_str(), "Links that were made with it keep what they took; those to come take this.")
                .crumb("UTM templates", Address::new(TEMPLATES));
        Ok::<_, Problem>(chrome.page_with(head, form(&chrome, Some(&template), None)))
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

/// Writes a template.
pub(super) async fn put(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    pairs: Pairs,
) -> Response {
    let sent = match accept(&caller, &chrome, pairs.0) {
        Ok(sent) => sent,
        Err(problem) => return answer(&chrome, Err(problem), StatusCode::OK),
    };
    let name = sent.get("name").trim();
    match shortener.put_utm_template(caller.principal(), name, read_utm(&sent)).await {
        Ok(template) => see(&Address::new(TEMPLATES).with("done", "saved").with("name", template.name)),
        Err(e) => {
            let problem = Problem::from(e);
            let status = web::status(problem.code.kind);
            let drawn = draw_list(&chrome, &shortener, caller.project(), Some((&sent, &problem))).await;
            answer(&chrome, drawn, status)
        }
    }
}

/// Deletes a template, which can be written again at any time.
pub(super) async fn delete(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(name): Path<String>,
    pairs: Pairs,
) -> Response {
    let deleted = async {
        accept(&caller, &chrome, pairs.0)?;
        Ok::<_, Problem>(shortener.delete_utm_template(caller.project(), &name).await?)
    };
    match deleted.await {
        Ok(()) => see(&Address::new(TEMPLATES).with("done", "deleted").with("name", &name)),
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
}
