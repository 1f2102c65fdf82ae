//! QR codes as files: the API's pictures for readers who are signed in.

use access::Caller;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse as _, Response},
};
use console::{Chrome, Link as Address};
use http::{HeaderValue, StatusCode, header};
use kernel::Problem;

use super::{Pages, SYSTEM, answer, host_of, with_domain};
use crate::model::{
    Link,
    qr::{Correction, Drawing, Qr},
};

/// The length of a side of the PNG, in pixels: enough to print.
const PNG_PIXELS: u32 = 1024;

/// Where the picture of a link is; `format` is `svg` or `png`.
pub(super) fn address(link: &Link, format: &str) -> Address {
    let address = Address::new(format!("{}/{}/{format}", super::QR, link.code));
    with_domain(address, link.host.as_deref())
}

/// The picture.
pub(super) async fn file(
    caller: Caller,
    Extension(chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    Path((code, format)): Path<(String, String)>,
) -> Response {
    let drawn = async {
        caller.require(SYSTEM, "read")?;
        let link = shortener.get_on(caller.project(), host_of(&chrome), &code).await?.link;
        let qr = Qr::new(&shortener.short_url(&link), Correction::default())
            .ok_or_else(|| Problem::internal("the short URL is longer than a QR code holds"))?;
        Ok::<_, Problem>(if format == "png" {
            let drawing = Drawing { size: PNG_PIXELS, ..Drawing::default() };
            ("image/png", qr.png(drawing).map_err(Problem::internal)?)
        } else {
            ("image/svg+xml", qr.svg(Drawing::default()).into_bytes())
        })
    };
    match drawn.await {
        Ok((media_type, bytes)) => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
                (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
                (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            ];
            (headers, bytes).into_response()
        }
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
}
