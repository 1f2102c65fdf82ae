//! The page of the audit log.

use axum::{
    extract::{Extension, State},
    response::Response,
};
use console::{Chrome, Column, Filters, Markup, RequestBox, Row, Table, empty, format, html};
use kernel::Problem;
use web::PageQuery;

use crate::{Access, AuditFilter, Caller, http::SYSTEM};

const ROWS: u32 = 50;

pub(super) async fn list(
    State(access): State<Access>,
    Extension(chrome): Extension<Chrome>,
    caller: Caller,
) -> Response {
    let drawn = draw(&access, &chrome, &caller).await;
    super::answer(&chrome, drawn)
}

async fn draw(access: &Access, chrome: &Chrome, caller: &Caller) -> Result<Markup, Problem> {
    caller.require(SYSTEM, "read")?;
    let at = chrome.at();
    let given = |name: &str| at.get(name).map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned);
    let filter = AuditFilter { actor: given("actor"), action: given("action"), object: given("object") };
    let query = PageQuery { limit: ROWS, cursor: given("cursor") };
    let page = access.list_audit(caller.project(), &filter, &query).await?;
    let now = access.clock().now();
    let rows = page.items.into_iter().map(|entry| {
        let by_actor = at.clone().without("cursor").with("actor", &entry.actor);
        let by_object = at.clone().without("cursor").with("object", &entry.object);
        let by_action = at.clone().without("cursor").with("action", &entry.action);
        Row::new(entry.id.to_string())
            .cell(format::time(entry.at, now))
            .cell(html! { a href=(by_actor) title=(entry.actor) { (entry.actor_name) } })
            .cell(html! { a href=(by_action) { code { (entry.action) } } })
            .cell(html! { a href=(by_object) { code { (entry.object) } } })
            .cell(html! { code { (entry.detail.to_string()) } })
    });
    let table = Table::new("The audit log, the newest first", at)
        .column(Column::text("at", "When"))
        .column(Column::text("actor", "Who"))
        .column(Column::text("action", "What"))
        .column(Column::text("object", "To what").cut())
        .column(Column::text("detail", "Detail").cut())
        .filters(
            Filters::new()
                .text("actor", "Who", "key_…, dev or system")
                .text("action", "What", "access.key.create")
                .text("object", "To what", "key_…"),
        )
        .rows(rows)
        .next_cursor(page.next_cursor)
        .empty(empty(
            "Nothing has been changed yet.",
            "Keys that are made or revoked, links that are deleted, domains that are added: each is written down here, in the \
             same transaction.",
            html! {},
        ));
    let parameters: String = [("actor", &filter.actor), ("action", &filter.action), ("object", &filter.object)]
        .iter()
        .filter_map(|(name, value)| value.as_ref().map(|v| format!("&{name}={}", console::link::escape(v))))
        .collect();
    let request = RequestBox::get(format!("/v1/audit?limit={ROWS}{parameters}"));
    let body = html! { (table) (chrome.request(&request)) };
    Ok(chrome.page(
        "Audit",
        "Every administrative change of this project, with who made it. Entries are never changed.",
        body,
    ))
}
