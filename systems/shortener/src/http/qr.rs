//! QR codes of links over HTTP.

use access::Caller;
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, header};
use serde::{Deserialize, Deserializer};
use utoipa::{IntoParams, ToSchema};
use web::{
    Path, Query, Result,
    conditional::{Conditions, ETag},
};

use super::SYSTEM;
use crate::{
    model::qr::{Correction, Drawing, MAX_QR_MARGIN, MAX_QR_SIZE, MIN_QR_SIZE, Qr},
    service::Shortener,
};

/// How long a code may be kept: it shows the short URL, which changes only with `shortener.public_url`.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, max-age=3600");

/// How a code is drawn.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct QrQuery {
    /// The host that the link answers on. Left out: the installation's own.
    #[serde(default)]
    #[param(max_length = 253, required = false, nullable = false)]
    domain: Option<String>,
    /// `svg` or `png`. Left out: `svg`.
    #[serde(default)]
    #[param(inline, required = false, nullable = false)]
    format: Format,
    /// The length of a side in pixels, 64 to 2048; a PNG that would show a module in less than 2 pixels is larger. Left out: 512.
    #[serde(default = "usual_size", deserialize_with = "size")]
    #[param(minimum = 64, maximum = 2048, default = 512, required = false)]
    size: u32,
    /// The quiet zone around the code in modules, 0 to 16; readers are promised 4. Left out: 4.
    #[serde(default = "usual_margin", deserialize_with = "margin")]
    #[param(minimum = 0, maximum = 16, default = 4, required = false)]
    margin: u32,
    /// How much may be dirty or hidden: `l` 7 %, `m` 15 %, `q` 25 %, `h` 30 %. Left out: `m`.
    #[serde(default)]
    #[param(inline, required = false, nullable = false)]
    ecc: Ecc,
}

/// What an image is written as.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    /// Scales without loss.
    #[default]
    Svg,
    /// One bit a pixel.
    Png,
}

/// How much of a code may be dirty or hidden.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ecc {
    /// About 7 %.
    L,
    /// About 15 %.
    #[default]
    M,
    /// About 25 %.
    Q,
    /// About 30 %: for a logo on top.
    H,
}

fn usual_size() -> u32 {
    Drawing::default().size
}

fn usual_margin() -> u32 {
    Drawing::default().margin
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u32, D::Error> {
    u32::deserialize(deserializer)
        .ok()
        .filter(|n| (MIN_QR_SIZE..=MAX_QR_SIZE).contains(n))
        .ok_or_else(|| serde::de::Error::custom("expected a whole number from 64 to 2048"))
}

fn margin<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u32, D::Error> {
    u32::deserialize(deserializer)
        .ok()
        .filter(|n| *n <= MAX_QR_MARGIN)
        .ok_or_else(|| serde::de::Error::custom("expected a whole number from 0 to 16"))
}

/// The QR code of a link's short URL.
#[utoipa::path(
    get, path = "/v1/links/{code}/qr", operation_id = "link_qr", tag = "links",
    params(("code" = String, Path, description = "Its code; case matters.", max_length = 64), QrQuery),
    responses(
        (status = 200, description = "The image, black on white.", content((String = "image/svg+xml"), (Vec<u8> = "image/png")),
            headers(("ETag" = String, description = "Changes with the image."))),
        (status = 304, description = "The image is still the one in If-None-Match."),
    )
)]
pub(super) async fn qr(
    caller: Caller,
    State(shortener): State<Shortener>,
    Path(code): Path<String>,
    Query(query): Query<QrQuery>,
    conditions: Conditions,
) -> Result<Response> {
    caller.require(SYSTEM, "read")?;
    let link = shortener.get_on(caller.project(), query.domain.as_deref(), &code).await?.link;
    let correction = match query.ecc {
        Ecc::L => Correction::Low,
        Ecc::M => Correction::Medium,
        Ecc::Q => Correction::Quartile,
        Ecc::H => Correction::High,
    };
    let qr = Qr::new(&shortener.short_url(&link), correction)
        .ok_or_else(|| web::Reject::internal("the short URL is longer than a QR code holds"))?;
    let drawing = Drawing { size: query.size, margin: query.margin };
    let (media_type, image) = match query.format {
        Format::Svg => ("image/svg+xml", qr.svg(drawing).into_bytes()),
        Format::Png => ("image/png", qr.png(drawing).map_err(web::Reject::internal)?),
    };
    let etag = ETag::of_bytes(&image);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CACHE_CONTROL, CACHE_CONTROL),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok(conditions.answer(&etag, || (headers, image).into_response()))
}
