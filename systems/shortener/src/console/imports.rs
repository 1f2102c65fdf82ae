//! Imports: sending a file, watching it become links, reading what was left out. And every link as a file.

use access::Caller;
use axum::{
    body::Body,
    extract::{Extension, Multipart, Path, Query, State, multipart::Field as Piece},
    response::{IntoResponse as _, Response},
};
use console::{
    Chrome, Column, Field, Flash, Form, Head, KeyValues, Link as Address, Markup, RequestBox, Row, Status, Table,
    badge, columns, empty, format, html, live, paths, post_button, progress, section,
};
use futures_util::StreamExt as _;
use http::{HeaderValue, StatusCode, header};
use kernel::{Problem, ProjectId};
use serde::Deserialize;

use super::{
    Fragments, PATH, Pages, Pairs, SYSTEM, accept, answer, counted, events,
    form::{Choices, Sent, check_csrf, token},
    see, shown_url,
};
use crate::{
    error::Error,
    model::{
        import::{Import, ImportId, ImportState, MAX_LISTED_ERRORS},
        transfer::Format,
    },
    service::{Begun, NewImport, Received, Shortener, Spool},
    store::ListFilter,
};

/// The page of imports; below it, the page of each.
pub(super) const IMPORTS: &str = "/console/link-imports";
/// Every link as a file.
pub(super) const EXPORT: &str = "/console/link-export";
/// The stream of the page of imports; below it, the one of each.
pub(super) const STREAM: &str = "/console/live/link-imports";
const PAGE_ROWS: u32 = 25;
/// The most errors on one page.
const ERROR_ROWS: u32 = 50;
/// The longest field of the form beside the file, in bytes.
const MAX_FIELD_BYTES: usize = 1024;

fn page_of(id: ImportId) -> Address {
    Address::new(format!("{IMPORTS}/{id}"))
}

const fn words(format: Format) -> &'static str {
    match format {
        Format::Csv => "CSV with a header",
        Format::Jsonl => "JSON lines",
        Format::ShlinkCsv => "Shlink: CSV",
        Format::ShlinkJson => "Shlink: JSON of its API",
        Format::YourlsCsv => "YOURLS: CSV",
        Format::YourlsJson => "YOURLS: JSON of its API",
    }
}

fn full(n: u64) -> String {
    format::full(i64::try_from(n).unwrap_or(i64::MAX))
}

/// The list of imports and the form to send a file.
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
    let choices = Choices::load(shortener, project).await?;
    let head =
        Head::new("Imports", "Files of links on their way in: our own formats, and what Shlink and YOURLS export.")
            .live(list_stream_address(chrome));
    let export = RequestBox::get("/v1/links/export?format=csv").cli(["links", "export"]);
    let body = html! {
        @for (id, content) in list_fragments(chrome, shortener, project).await? { (live::fragment(id, content)) }
        (columns(
            section("Import a file", form(chrome, shortener, &choices, refused)),
            section("Export", html! {
                p { "Every link of this project as a file that can be imported again." }
                div.buttons {
                    a.button href=(Address::new(EXPORT).with("format", "csv")) download { "Download CSV" }
                    a.button href=(Address::new(EXPORT).with("format", "jsonl")) download { "Download JSON lines" }
                }
                (chrome.request(&export))
            }),
        ))
    };
    Ok(chrome.page_with(head, body))
}

fn list_stream_address(chrome: &Chrome) -> Address {
    match chrome.at().get("cursor") {
        Some(cursor) => Address::new(STREAM).with("cursor", cursor),
        None => Address::new(STREAM),
    }
}

async fn list_fragments(chrome: &Chrome, shortener: &Shortener, project: &ProjectId) -> Result<Fragments, Problem> {
    let cursor = chrome.at().get("cursor");
    let (imports, next) = shortener.imports(project, cursor, PAGE_ROWS).await?;
    let at = cursor.map_or_else(|| Address::new(IMPORTS), |cursor| Address::new(IMPORTS).with("cursor", cursor));
    let table = Table::new("Imports, the newest first", &at)
        .column(Column::text("import", "Import"))
        .column(Column::text("state", "State"))
        .column(Column::text("progress", "Progress"))
        .column(Column::number("made", "Links made"))
        .column(Column::number("failed", "Left out"))
        .column(Column::text("sent", "Sent"))
        .rows(imports.iter().map(|import| row(shortener, import)))
        .next_cursor(next)
        .empty(empty(
            "No imports yet.",
            "A file becomes links in the background, thousands a second; what cannot become one is told of row by row.",
            chrome.request(&example().open()),
        ));
    Ok(vec![("imports", html! { (table) })])
}

fn example() -> RequestBox {
    RequestBox::post("/v1/link-imports?format=csv").header("Content-Type", "text/csv").file("links.csv").cli([
        "links",
        "import",
        "links.csv",
    ])
}

fn row(shortener: &Shortener, import: &Import) -> Row {
    Row::new(import.id.to_string())
        .link(words(import.format), &page_of(import.id))
        .cell(state(import))
        .cell(html! { div { (bar(import)) } })
        .cell(full(import.created_count))
        .cell(full(import.failed_count))
        .cell(html! { div { (format::time(import.created_at, shortener.now())) " by " (import.created_by) } })
}

fn state(import: &Import) -> Markup {
    let (status, word) = match import.state {
        ImportState::Receiving => (Status::Unknown, "receiving"),
        ImportState::Queued => (Status::Unknown, "queued"),
        ImportState::Running => (Status::Degraded, "running"),
        ImportState::Finished if import.failed_count > 0 => (Status::Degraded, "finished, some left out"),
        ImportState::Finished => (Status::Ok, "finished"),
        ImportState::Cancelled => (Status::Unknown, "stopped"),
        ImportState::Discarded => (Status::Unknown, "gone"),
    };
    badge(status, word)
}

fn bar(import: &Import) -> Markup {
    let done = import.created_count + import.failed_count;
    progress("Rows done", done, import.row_count, &format!("{} of {}", full(done), counted_rows(import.row_count)))
}

fn counted_rows(rows: u64) -> String {
    counted(usize::try_from(rows).unwrap_or(usize::MAX), "row")
}

fn form(chrome: &Chrome, shortener: &Shortener, choices: &Choices, refused: Option<(&Sent, &Problem)>) -> Markup {
    let given = |name: &str| refused.map(|(sent, _)| sent.get(name)).unwrap_or_default();
    let formats = Format::ALL.map(|format| (format.as_str(), words(format)));
    let once = shortener.form_token();
    let mut form = Form::post(chrome, IMPORTS)
        .multipart()
        .hidden("once", once)
        .field(Field::choice("format", "Format", formats).value(given("format")).required());
    if !choices.hosts.is_empty() {
        let hosts = choices.hosts.iter().map(|host| (host.clone(), host.clone()));
        let options = std::iter::once((String::new(), "as each row says".to_owned())).chain(hosts);
        form = form.field(Field::choice("domain", "Domain", options).value(given("domain")).required());
    }
    let mut form = form
        .field(
            Field::file("file", "File")
                .help("Columns of our CSV: url, and any of code, title, tags, expires_at and more."),
        )
        .field(
            Field::lines("text", "Or paste it", 4)
                .placeholder("url,code,tags\nhttps://example.com/,example,\"one,two\"")
                .mono(),
        )
        .submit("Import");
    if let Some((_, problem)) = refused {
        form = form.problem(problem);
    }
    let form = form.request(chrome, &example());
    html! { (form) }
}

/// Takes a file.
pub(super) async fn create(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    pieces: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Response {
    let mut sent = Sent::default();
    let received = async {
        caller.require(SYSTEM, "write")?;
        let pieces = pieces.map_err(|_| unreadable())?;
        receive(&caller, &chrome, &shortener, pieces, &mut sent).await
    };
    match received.await {
        Ok(import) => see(&page_of(import.id)),
        Err(problem) => {
            let status = web::status(problem.code.kind);
            let drawn = draw_list(&chrome, &shortener, caller.project(), Some((&sent, &problem))).await;
            answer(&chrome, drawn, status)
        }
    }
}

fn unreadable() -> Problem {
    Problem::new(&web::error::BODY_UNREADABLE, "The form did not arrive whole; nothing was imported.")
}

/// Reads the form. What says how the file is read comes before the file, as the page has it.
async fn receive(
    caller: &Caller,
    chrome: &Chrome,
    shortener: &Shortener,
    mut pieces: Multipart,
    sent: &mut Sent,
) -> Result<Import, Problem> {
    while let Some(mut piece) = pieces.next_field().await.map_err(|_| unreadable())? {
        let name = piece.name().unwrap_or_default().to_owned();
        if name != "file" && name != "text" {
            sent.push(name, read_field(&mut piece).await?);
            continue;
        }
        check_csrf(chrome, sent)?;
        // Browsers send an empty file where none was chosen.
        let first = loop {
            match piece.chunk().await.map_err(|_| unreadable())? {
                Some(bytes) if bytes.is_empty() => {}
                first => break first,
            }
        };
        let Some(first) = first else { continue };
        let mut spool = begin(caller, shortener, sent).await?;
        let mut chunk = Some(first);
        while let Some(bytes) = chunk {
            spool.push(&bytes).await?;
            let Ok(next) = piece.chunk().await else {
                spool.discard().await;
                return Err(unreadable());
            };
            chunk = next;
        }
        return match spool.finish().await? {
            Received::New(import) | Received::Before(import) => Ok(import),
            Received::OtherFile => Err(Problem::new(
                &access::error::FORM_EXPIRED,
                "This form has sent another file before. Load the page again to send the next.",
            )),
        };
    }
    check_csrf(chrome, sent)?;
    Err(Error::ImportInvalid("Choose a file, or paste what it holds.".to_owned()).into())
}

async fn begin(caller: &Caller, shortener: &Shortener, sent: &Sent) -> Result<Spool, Problem> {
    let format = Format::parse(sent.get("format"))
        .ok_or_else(|| Problem::from(Error::ImportInvalid("Choose the format of the file.".to_owned())))?;
    let domain = Some(sent.get("domain").to_owned()).filter(|host| !host.is_empty());
    let new = NewImport { format, domain, token: token(sent) };
    match shortener.begin_import(caller.principal(), new).await? {
        Begun::Send(spool) => Ok(*spool),
        Begun::Running => Err(Problem::new(
            &web::error::IDEMPOTENCY_KEY_RUNNING,
            "This file is being received already; look at the list in a moment.",
        )),
    }
}

async fn read_field(piece: &mut Piece<'_>) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = piece.chunk().await.map_err(|_| unreadable())? {
        if bytes.len() + chunk.len() > MAX_FIELD_BYTES {
            return Err(unreadable());
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| unreadable())
}

fn read_id(id: &str) -> Result<ImportId, Problem> {
    Ok(ImportId::parse(id).ok_or(Error::ImportUnknown)?)
}

/// The page of one import.
pub(super) async fn page(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(id): Path<String>,
) -> Response {
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        let id = read_id(&id)?;
        let import = shortener.import(caller.project(), id).await?;
        let mut head = Head::new(format!("Import: {}", words(import.format)), "A file of links on its way in.")
            .crumb("Imports", Address::new(IMPORTS));
        if !import.state.is_over() {
            let stop = post_button(&chrome, &format!("{IMPORTS}/{id}/stop"), "Stop", &[]);
            head = head.live(Address::new(format!("{STREAM}/{id}"))).actions(stop);
        }
        let parts = fragments(&chrome, &shortener, caller.project(), id).await?;
        let read = RequestBox::get(format!("/v1/link-imports/{id}")).cli(["links", "imports", &id.to_string()]);
        let read_errors = RequestBox::get(format!("/v1/link-imports/{id}/errors"));
        let body = html! {
            @if chrome.at().get("stopped").is_some() {
                (Flash::done("Stopped. Links that were made until then are there."))
            }
            @for (id, content) in parts { (live::fragment(id, content)) }
            (columns(chrome.request(&read), chrome.request(&read_errors)))
        };
        Ok::<_, Problem>(chrome.page_with(head, body))
    };
    answer(&chrome, drawn.await, StatusCode::OK)
}

/// How far an import is, and what was left out.
async fn fragments(
    chrome: &Chrome,
    shortener: &Shortener,
    project: &ProjectId,
    id: ImportId,
) -> Result<Fragments, Problem> {
    let import = shortener.import(project, id).await?;
    let now = shortener.now();
    let mut values = KeyValues::new()
        .item("State", state(&import))
        .item("Rows", full(import.row_count))
        .item("Links made", full(import.created_count))
        .item("Left out", full(import.failed_count))
        .item("Domain", import.host.clone().unwrap_or_else(|| "as each row says".to_owned()))
        .item("Sent", html! { (format::time(import.created_at, now)) " by " (import.created_by) });
    if let Some(rate) = import.rows_per_second(now) {
        values = values.item("Speed", console::Unit::PerSecond.format(rate.round()));
    }
    if let Some(at) = import.finished_at {
        values = values.item("Ended", format::time(at, now));
    }
    let cursor = chrome.at().get("cursor");
    let (errors, next) = shortener.import_errors(project, id, cursor, ERROR_ROWS).await?;
    let at = cursor.map_or_else(|| page_of(id), |cursor| page_of(id).with("cursor", cursor));
    let nothing = if import.state.is_over() { "Every row became a link." } else { "Nothing was left out so far." };
    let table = Table::new("Rows that were left out", &at)
        .column(Column::number("row", "Row"))
        .column(Column::text("name", "Code or URL").cut())
        .column(Column::text("why", "Why"))
        .column(Column::text("code", "Code of the error"))
        .rows(errors.iter().map(|e| {
            Row::new(e.number.to_string())
                .cell(full(e.number))
                .cell(html! { code title=(e.name) { (shown_url(&e.name)) } })
                .cell(&e.detail)
                .cell(html! { a.code href=(paths::error_doc(&e.code)) { (e.code) } })
        }))
        .next_cursor(next)
        .empty(html! { p.quiet { (nothing) } });
    let beyond = import.unlisted_count();
    Ok(vec![
        (
            "import",
            html! { div { (bar(&import)) } (values) @if import.created_count > 0 { p { a href=(PATH) { "Look at the links" } } } },
        ),
        (
            "import-errors",
            section(
                "Rows that were left out",
                html! {
                    (table)
                    @if beyond > 0 {
                        p.quiet { (full(beyond)) " more were left out; only the first " (full(MAX_LISTED_ERRORS)) " are told of." }
                    }
                },
            ),
        ),
    ])
}

/// Stops an import.
pub(super) async fn stop(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Response {
    let stopped = async {
        accept(&caller, &chrome, pairs.0)?;
        Ok::<_, Problem>(shortener.cancel_import(caller.principal(), read_id(&id)?).await?)
    };
    match stopped.await {
        Ok(import) => see(&page_of(import.id).with("stopped", "1")),
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
}

/// Keeps the list fresh.
pub(super) async fn list_stream(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(pages): State<Pages>,
) -> Response {
    match caller.require(SYSTEM, "read") {
        Ok(()) => {
            let (project, shortener) = (caller.project().clone(), pages.shortener.clone());
            events(&pages, move || {
                let (chrome, shortener, project) = (chrome.clone(), shortener.clone(), project.clone());
                async move { list_fragments(&chrome, &shortener, &project).await }
            })
        }
        Err(e) => answer(&chrome, Err(e.into()), StatusCode::OK),
    }
}

/// Keeps the page of one import fresh.
pub(super) async fn stream(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(pages): State<Pages>,
    Path(id): Path<String>,
) -> Response {
    let allowed = caller.require(SYSTEM, "read").map_err(Problem::from).and_then(|()| read_id(&id));
    match allowed {
        Ok(id) => {
            let (project, shortener) = (caller.project().clone(), pages.shortener.clone());
            events(&pages, move || {
                let (chrome, shortener, project) = (chrome.clone(), shortener.clone(), project.clone());
                async move { fragments(&chrome, &shortener, &project, id).await }
            })
        }
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ExportQuery {
    #[serde(default)]
    format: String,
}

/// Every link of the project as a file.
pub(super) async fn export(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Query(query): Query<ExportQuery>,
) -> Response {
    let (format, media_type, file) = if query.format == "jsonl" {
        (Format::Jsonl, "application/x-ndjson", "attachment; filename=\"links.jsonl\"")
    } else {
        (Format::Csv, "text/csv; charset=utf-8; header=present", "attachment; filename=\"links.csv\"")
    };
    let begun = async {
        caller.require(SYSTEM, "read")?;
        let with_passwords = caller.require(SYSTEM, "write").is_ok();
        Ok::<_, Problem>(shortener.export(caller.project(), ListFilter::default(), format, with_passwords).await?)
    };
    match begun.await {
        Ok(links) => {
            // What fails now breaks the download off, which the browser shows.
            let body = Body::from_stream(links.map(|piece| {
                piece.map_err(|problem| {
                    tracing::warn!(%problem, "an export broke off");
                    std::io::Error::other(problem.to_string())
                })
            }));
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
                (header::CONTENT_DISPOSITION, HeaderValue::from_static(file)),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            (headers, body).into_response()
        }
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
}
