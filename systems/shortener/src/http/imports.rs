//! Imports over HTTP. The route that takes files stands outside of the Idempotency-Key layer, which would hold a whole file in
//! memory: it keeps the same promise with the database.

use access::Caller;
use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use kernel::{Problem, Timestamp};
use ring::digest;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{
    Json, Page, PageQuery, Path, Query, Reject, Result,
    idempotency::{self, IdempotencyScope},
};

use super::SYSTEM;
use crate::{
    error::Error,
    model::{
        import::{self, ImportId, ImportState},
        transfer::Format,
    },
    service::{Begun, NewImport, Received, Shortener, Spool},
};

/// What a file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FormatName {
    /// Our own: CSV with a header.
    Csv,
    /// Our own: a JSON object a line.
    Jsonl,
    /// What Shlink's web client exports, or what Shlink's importer takes.
    ShlinkCsv,
    /// Answers of Shlink's `GET /rest/v3/short-urls`.
    ShlinkJson,
    /// What YOURLS's import/export plugin writes, or its table of URLs with a header.
    YourlsCsv,
    /// Answers of YOURLS's `action=stats`.
    YourlsJson,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Csv => Self::Csv,
            FormatName::Jsonl => Self::Jsonl,
            FormatName::ShlinkCsv => Self::ShlinkCsv,
            FormatName::ShlinkJson => Self::ShlinkJson,
            FormatName::YourlsCsv => Self::YourlsCsv,
            FormatName::YourlsJson => Self::YourlsJson,
        }
    }
}

impl From<Format> for FormatName {
    fn from(format: Format) -> Self {
        match format {
            Format::Csv => Self::Csv,
            Format::Jsonl => Self::Jsonl,
            Format::ShlinkCsv => Self::ShlinkCsv,
            Format::ShlinkJson => Self::ShlinkJson,
            Format::YourlsCsv => Self::YourlsCsv,
            Format::YourlsJson => Self::YourlsJson,
        }
    }
}

/// What the file is.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ImportQuery {
    /// What the file looks like.
    #[param(inline)]
    format: FormatName,
    /// The host on which every link of the file shall answer: one of `/v1/domains`, or the installation's own. Left out: as each row
    /// says.
    #[serde(default)]
    #[param(max_length = 253, required = false, nullable = false)]
    domain: Option<String>,
}

/// Where an import stands.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StateName {
    /// Its file is arriving.
    Receiving,
    /// Its file is there; nothing is made yet.
    Queued,
    /// Links are being made.
    Running,
    /// Every row is a link, or is told of.
    Finished,
    /// It was stopped; links made until then are there.
    Cancelled,
}

/// A file of links on its way in.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Import {
    /// Its name.
    #[schema(value_type = String, example = "imp_0198f6c2a1b27c3d8e4f5a6b7c8d9e0f")]
    id: ImportId,
    /// What the file looks like.
    format: FormatName,
    /// The host on which every link of the file shall answer; `null`: as each row says.
    domain: Option<String>,
    /// Where it stands.
    state: StateName,
    /// Rows of the file; 0 while it arrives.
    row_count: u64,
    /// Rows that became links.
    created_count: u64,
    /// Rows that were left out; `…/errors` tells of the first 1000.
    failed_count: u64,
    /// Rows that were left out beyond those.
    unlisted_error_count: u64,
    /// How much is done, from 0 to 1.
    progress: f64,
    /// Rows done in a second, on average since the start.
    rows_per_second: Option<f64>,
    /// When the file arrived.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The name of the key that sent it.
    created_by: String,
    /// When the first rows were taken on.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// When it was over.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
}

/// Why a row was left out.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ImportError {
    /// Which row, from 1; a header is not counted.
    row: u64,
    /// The row's code, else its destination.
    name: String,
    /// A code of `/docs/errors`, the same as the API answers with.
    #[schema(example = "SHORTENER_ALIAS_TAKEN")]
    code: String,
    /// What is wrong and what to do.
    detail: String,
}

/// Imports a file of links.
///
/// Answers when the whole file is stored; the links are made in the background. A row that breaks a rule is
/// told of by `…/errors` and stops no other. Codes, times and click counts are kept. Send an `Idempotency-Key` to be able to repeat the
/// request: the file is imported once.
#[utoipa::path(
    post, path = "/v1/link-imports", operation_id = "create_link_import", tag = "links", params(ImportQuery),
    request_body(
        description = "The file, as its format says: at most `shortener.import_body_limit` and `shortener.import_row_limit` rows.",
        content(
            (String = "text/csv", example = json!("url,code,tags\r\nhttps://example.com/,example,\"one,two\"\r\n")),
            (String = "application/x-ndjson"),
            (String = "application/octet-stream"),
        ),
    ),
    responses(
        (status = 202, description = "It will be worked on.", body = Import, headers(
            ("Location" = String, description = "Where its progress is read."))),
    )
)]
pub(super) async fn create(
    caller: Caller,
    State(shortener): State<Shortener>,
    Query(query): Query<ImportQuery>,
    scope: Option<Extension<IdempotencyScope>>,
    request: Request,
) -> Result<Response> {
    caller.require(SYSTEM, "write")?;
    check_media_type(request.headers())?;
    let key = idempotency::read_key(request.headers())?;
    let token = key.map(|key| token(scope.as_ref().map_or("", |s| &s.0.0), &key));
    let new = NewImport { format: query.format.into(), domain: query.domain, token };
    let spool = match shortener.begin_import(caller.principal(), new).await? {
        Begun::Send(spool) => *spool,
        Begun::Running => {
            let problem = Problem::new(
                &web::error::IDEMPOTENCY_KEY_RUNNING,
                "Send the same request again after Retry-After: it will be answered as the first was.",
            );
            return Err(problem.retry_after(std::time::Duration::from_secs(1)).into());
        }
    };
    let (import, is_new) = match receive(spool, request.into_body()).await? {
        Received::New(import) => (import, true),
        Received::Before(import) => (import, false),
        Received::OtherFile => {
            return Err(Reject::new(
                &web::error::IDEMPOTENCY_KEY_REUSED,
                "This key stands for another file, format or domain. Use a fresh key for a new import.",
            )
            .parameter("Idempotency-Key", "used with another request"));
        }
    };
    let location = HeaderValue::try_from(format!("/v1/link-imports/{}", import.id)).map_err(Reject::internal)?;
    let mut response =
        (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(show(&shortener, &import))).into_response();
    if !is_new {
        response.headers_mut().insert(idempotency::IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

async fn receive(mut spool: Spool, body: Body) -> Result<Received> {
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let Ok(piece) = piece else {
            spool.discard().await;
            return Err(Reject::new(
                &web::error::BODY_UNREADABLE,
                "The connection ended or broke before the file was whole; nothing was imported.",
            ));
        };
        spool.push(&piece).await?;
    }
    Ok(spool.finish().await?)
}

/// A file is never what a form of another site can send.
fn check_media_type(headers: &HeaderMap) -> Result<()> {
    const TYPES: [&str; 5] =
        ["text/csv", "application/json", "application/x-ndjson", "application/jsonl", "application/octet-stream"];
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let given = given.split(';').next().unwrap_or_default().trim();
    if TYPES.iter().any(|t| t.eq_ignore_ascii_case(given)) {
        return Ok(());
    }
    Err(Reject::new(
        &web::error::UNSUPPORTED_MEDIA_TYPE,
        "Send the file as text/csv, application/x-ndjson, application/json or application/octet-stream; the format is said by ?format.",
    )
    .parameter("Content-Type", "expected one of those"))
}

fn token(scope: &str, key: &str) -> String {
    let tag = digest::digest(&digest::SHA256, format!("{}\n{scope}\n{key}", scope.len()).as_bytes());
    tag.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Imports of the project, newest first.
#[utoipa::path(
    get, path = "/v1/link-imports", operation_id = "list_link_imports", tag = "links", params(PageQuery),
    responses((status = 200, description = "A page of imports.", body = Page<Import>))
)]
pub(super) async fn list(
    caller: Caller,
    State(shortener): State<Shortener>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<Import>>> {
    caller.require(SYSTEM, "read")?;
    let (imports, next_cursor) = shortener.imports(caller.project(), query.cursor.as_deref(), query.limit).await?;
    Ok(Json(Page { items: imports.iter().map(|i| show(&shortener, i)).collect(), next_cursor }))
}

/// How far an import is.
#[utoipa::path(
    get, path = "/v1/link-imports/{id}", operation_id = "get_link_import", tag = "links",
    params(("id" = String, Path, description = "The import.", max_length = 36)),
    responses((status = 200, description = "The import.", body = Import))
)]
pub(super) async fn read(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(id): Path<String>,
) -> Result<Json<Import>> {
    caller.require(SYSTEM, "read")?;
    let import = shortener.import(caller.project(), parse(&id)?).await?;
    Ok(Json(show(&shortener, &import)))
}

/// Why rows were left out, in the order of the file; at most the first 1000.
#[utoipa::path(
    get, path = "/v1/link-imports/{id}/errors", operation_id = "list_link_import_errors", tag = "links",
    params(("id" = String, Path, description = "The import.", max_length = 36), PageQuery),
    responses((status = 200, description = "A page of errors.", body = Page<ImportError>))
)]
pub(super) async fn errors(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(id): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<ImportError>>> {
    caller.require(SYSTEM, "read")?;
    let (errors, next_cursor) =
        shortener.import_errors(caller.project(), parse(&id)?, query.cursor.as_deref(), query.limit).await?;
    let items = errors
        .into_iter()
        .map(|e| ImportError { row: e.number, name: e.name, code: e.code, detail: e.detail })
        .collect();
    Ok(Json(Page { items, next_cursor }))
}

/// Stops an import. Links that it made stay; rows that were not reached are dropped.
#[utoipa::path(
    delete, path = "/v1/link-imports/{id}", operation_id = "cancel_link_import", tag = "links",
    params(("id" = String, Path, description = "The import.", max_length = 36)),
    responses((status = 200, description = "The import, stopped.", body = Import), (status = 409, description = "It was over."))
)]
pub(super) async fn cancel(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(id): Path<String>,
) -> Result<Json<Import>> {
    caller.require(SYSTEM, "write")?;
    let import = shortener.cancel_import(caller.principal(), parse(&id)?).await?;
    Ok(Json(show(&shortener, &import)))
}

fn parse(id: &str) -> Result<ImportId> {
    Ok(ImportId::parse(id).ok_or(Error::ImportUnknown)?)
}

fn show(shortener: &Shortener, import: &import::Import) -> Import {
    Import {
        id: import.id,
        format: import.format.into(),
        domain: import.host.clone(),
        state: match import.state {
            ImportState::Receiving | ImportState::Discarded => StateName::Receiving,
            ImportState::Queued => StateName::Queued,
            ImportState::Running => StateName::Running,
            ImportState::Finished => StateName::Finished,
            ImportState::Cancelled => StateName::Cancelled,
        },
        row_count: import.row_count,
        created_count: import.created_count,
        failed_count: import.failed_count,
        unlisted_error_count: import.unlisted_count(),
        progress: import.progress(),
        rows_per_second: import.rows_per_second(shortener.now()),
        created_at: import.created_at,
        created_by: import.created_by.clone(),
        started_at: import.started_at,
        finished_at: import.finished_at,
    }
}
