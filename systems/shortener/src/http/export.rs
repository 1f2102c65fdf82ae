//! Links on their way out over HTTP.

use access::Caller;
use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{Query, Result};

use super::{SYSTEM, links::Status};
use crate::{model::transfer::Format, service::Shortener, store::ListFilter};

/// What is written.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExportFormat {
    /// RFC 4180 with a header.
    #[default]
    Csv,
    /// A JSON object a line.
    Jsonl,
}

/// Which links, and how they are written.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// `csv` (RFC 4180 with a header) or `jsonl` (an object a line). Left out: `csv`.
    #[serde(default)]
    #[param(inline, required = false, nullable = false)]
    format: ExportFormat,
    /// Only codes that start with this; case matters.
    #[serde(default)]
    #[param(max_length = 64, required = false, nullable = false)]
    code: Option<String>,
    /// Only links with this tag.
    #[serde(default)]
    #[param(max_length = 50, required = false, nullable = false)]
    tag: Option<String>,
    /// Only links on this host.
    #[serde(default)]
    #[param(max_length = 253, required = false, nullable = false)]
    domain: Option<String>,
    /// Only links that are this now.
    #[serde(default)]
    #[param(inline, required = false, nullable = false)]
    status: Option<Status>,
    /// Only links whose code, URL or title holds this, in any case.
    #[serde(default)]
    #[param(max_length = 200, required = false, nullable = false)]
    q: Option<String>,
}

/// Every link that fits, as a file that `POST /v1/link-imports` takes.
///
/// Streams; a link that is there from the beginning to the end is in it once. In CSV, a cell that a spreadsheet would run as a
/// formula begins with an apostrophe, which the import takes away again.
#[utoipa::path(
    get, path = "/v1/links/export", operation_id = "export_links", tag = "links", params(ExportQuery),
    responses((status = 200, description = "The file.", content(
        (String = "text/csv"), (String = "application/x-ndjson"))))
)]
pub(super) async fn export(
    caller: Caller,
    State(shortener): State<Shortener>,
    Query(query): Query<ExportQuery>,
) -> Result<Response> {
    caller.require(SYSTEM, "read")?;
    let ExportQuery { format, code, tag, domain, status, q } = query;
    let domain = match domain {
        None => None,
        Some(host) => Some(shortener.domain_id(caller.project(), Some(&host)).await?),
    };
    let filter = ListFilter { prefix: code, tag, domain, status: status.map(Into::into), text: q };
    let (format, media_type, file) = match format {
        ExportFormat::Csv => {
            (Format::Csv, "text/csv; charset=utf-8; header=present", "attachment; filename=\"links.csv\"")
        }
        ExportFormat::Jsonl => (Format::Jsonl, "application/x-ndjson", "attachment; filename=\"links.jsonl\""),
    };
    // Whoever may write may also take passwords away, so that to see what is kept of them gives nothing more.
    let with_passwords = caller.require(SYSTEM, "write").is_ok();
    let links = shortener.export(caller.project(), filter, format, with_passwords).await?;
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static(file)),
    ];
    // What fails now breaks the connection off, which tells the client that the file is not whole.
    let body = Body::from_stream(futures_util::StreamExt::map(links, |piece| {
        piece.map_err(|problem| {
            tracing::warn!(%problem, "an export broke off");
            std::io::Error::other(problem.to_string())
        })
    }));
    Ok((headers, body).into_response())
}
