//! gRPC through the same stack (the gRPC over HTTP/2 protocol, "PROTOCOL-HTTP2.md" of gRPC): a client's deadline is read from
//! `grpc-timeout`, and a refusal by any layer or handler, which is a [`Reject`], reaches it as a status.
//!
//! A refusal is an answer without messages ("Trailers-Only"): status 200, `grpc-status` with the code of [`code`], `grpc-message`
//! with `CODE: detail` and the fields that are wrong, `mainstay-code` with the stable code alone, and where trying again makes sense, `grpc-retry-pushback-ms`,
//! which gRPC clients obey (gRFC A6).

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use kernel::Kind;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{Reject, error};

/// The request header with what is left of the client's time: up to eight digits and a unit (`H M S m u n`).
pub(super) const TIMEOUT: &str = "grpc-timeout";
/// The header or trailer with the code of the outcome.
const STATUS: &str = "grpc-status";

/// "Percent-Byte-Unencoded" is 0x20 to 0x7E without `%`.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// Whether a request speaks gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|v| {
        let rest = v.as_bytes().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// The one table from kinds of failure to gRPC's status codes.
pub const fn code(kind: Kind) -> u16 {
    match kind {
        Kind::Invalid | Kind::NotAcceptable | Kind::UnsupportedMedia | Kind::Unprocessable => 3, // INVALID_ARGUMENT
        Kind::Timeout => 4,                                                                      // DEADLINE_EXCEEDED
        Kind::NotFound | Kind::Gone => 5,                                                        // NOT_FOUND
        Kind::Forbidden | Kind::Legal => 7,                                                      // PERMISSION_DENIED
        Kind::Limited | Kind::TooLarge => 8,                                                     // RESOURCE_EXHAUSTED
        Kind::PreconditionFailed => 9,                                                           // FAILED_PRECONDITION
        Kind::Conflict => 10,                                                                    // ABORTED
        Kind::MethodNotAllowed => 12,                                                            // UNIMPLEMENTED
        Kind::Internal => 13,                                                                    // INTERNAL
        Kind::Unavailable => 14,                                                                 // UNAVAILABLE
        Kind::Unauthenticated => 16,                                                             // UNAUTHENTICATED
    }
}

/// A refusal as the headers that a gRPC client reads, for a service that has to tell it by itself. Logged as any other is.
pub fn refusal_headers(reject: &Reject) -> HeaderMap {
    let response = reject.clone().into_response();
    refusal(reject, response).into_parts().0.headers
}

/// A refusal as a gRPC client reads it. Keeps what the layers put into the response beside its content.
pub(super) fn refusal(reject: &Reject, refused: Response) -> Response {
    let problem = reject.problem();
    // What no route took is a method that this server does not have.
    let code = if problem.code.name == error::NOT_FOUND.name { 12 } else { code(problem.code.kind) };
    let (mut parts, _) = refused.into_parts();
    parts.status = StatusCode::OK;
    let headers = &mut parts.headers;
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static(STATUS), HeaderValue::from(code));
    let fields = problem.fields.iter().map(|f| format!(" {}: {}.", f.field.trim_start_matches('?'), f.detail));
    let message = format!("{}: {}{}", problem.code.name, problem.detail, fields.collect::<String>());
    if let Ok(message) = HeaderValue::from_str(&utf8_percent_encode(&message, ESCAPED).to_string()) {
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
    headers.insert(HeaderName::from_static("mainstay-code"), HeaderValue::from_static(problem.code.name));
    if let Some(after) = problem.retry_after {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1);
        headers.insert(HeaderName::from_static("grpc-retry-pushback-ms"), HeaderValue::from(ms));
    }
    Response::from_parts(parts, Body::empty())
}

/// The status that stands in logs and golden signals for a gRPC answer: that of HTTP, which is 200 whatever happened, translated
/// where the answer's head already says how the call went.
pub(super) fn seen_status(response: &Response) -> StatusCode {
    let Some(code) = response.headers().get(STATUS).and_then(|v| v.to_str().ok()) else { return response.status() };
    // As google.rpc.Code has it.
    let status = match code {
        "0" => 200,
        "1" => 499,
        "3" | "9" | "11" => 400,
        "4" => 504,
        "5" => 404,
        "6" | "10" => 409,
        "7" => 403,
        "8" => 429,
        "12" => 501,
        "14" => 503,
        "16" => 401,
        _ => 500,
    };
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (value, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_grpc(&headers), is, "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
