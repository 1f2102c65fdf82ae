//! Answers that the gateway gives by itself when something is wrong: problem details (RFC 9457), or a status of gRPC to its clients.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use kernel::Code;
use wire::ErrorKind;

use super::body::Body;

kernel::codes! {
    NO_ROUTE = "GATEWAY_NO_ROUTE", NotFound, "No route of the gateway takes this request";
    BAD_TARGET = "GATEWAY_BAD_TARGET", Invalid, "The request's host or path cannot be understood";
    LOOP = "GATEWAY_LOOP", Internal, "The request came through this gateway before";
    BODY_TOO_LARGE = "GATEWAY_BODY_TOO_LARGE", TooLarge, "The request's body is larger than the route takes";
    HEADERS_TOO_LARGE = "GATEWAY_HEADERS_TOO_LARGE", TooLarge, "The request's headers are larger than the route takes";
    REQUEST_BODY = "GATEWAY_REQUEST_BODY", Invalid, "The request's body did not come whole";
    BUSY = "GATEWAY_BUSY", Unavailable, "The route works on as many requests as it may";
    RATE_LIMITED = "GATEWAY_RATE_LIMITED", Limited, "The route's rate limit is used up";
    FILE_NOT_FOUND = "GATEWAY_FILE_NOT_FOUND", NotFound, "There is no such file";
    SERVICE_UNKNOWN = "GATEWAY_SERVICE_UNKNOWN", Internal, "The route names a system that does not serve here";
    UPSTREAM_UNAVAILABLE = "GATEWAY_UPSTREAM_UNAVAILABLE", Unavailable, "No back end can take the request now";
    UPSTREAM_UNREACHABLE = "GATEWAY_UPSTREAM_UNREACHABLE", Unavailable, "The back end cannot be reached";
    UPSTREAM_RESET = "GATEWAY_UPSTREAM_RESET", Unavailable, "The back end ended the connection before it answered";
    UPSTREAM_INVALID = "GATEWAY_UPSTREAM_INVALID", Unavailable, "The back end's answer is not one that can be passed on";
    UPSTREAM_TIMEOUT = "GATEWAY_UPSTREAM_TIMEOUT", Timeout, "The back end did not answer in time";
    AGGREGATE_FAILED = "GATEWAY_AGGREGATE_FAILED", Unavailable, "A part that the answer cannot do without did not come";
}

/// Says in a word what went wrong, on answers of the gateway itself: a client can tell them from those of back ends.
pub(super) const MAINSTAY_ERROR: HeaderName = HeaderName::from_static("mainstay-error");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Why there is no answer of a back end.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) code: &'static Code,
    pub(super) status: StatusCode,
    pub(super) detail: &'static str,
    /// A short stable word, for the access log and the header.
    pub(super) label: &'static str,
    pub(super) retry_after_s: Option<u64>,
}

impl Refusal {
    pub(super) const fn new(
        code: &'static Code,
        status: StatusCode,
        label: &'static str,
        detail: &'static str,
    ) -> Self {
        Self { code, status, detail, label, retry_after_s: None }
    }

    pub(super) const fn after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub(super) const fn no_route() -> Self {
        Self::new(
            &NO_ROUTE,
            StatusCode::NOT_FOUND,
            "no_route",
            "Routes are chosen by host, path, method, headers and query.",
        )
    }

    pub(super) const fn bad_target() -> Self {
        Self::new(
            &BAD_TARGET,
            StatusCode::BAD_REQUEST,
            "bad_target",
            "The host has characters that no host has, or the path has a broken escape or leaves its root.",
        )
    }

    pub(super) const fn looped() -> Self {
        Self::new(&LOOP, StatusCode::LOOP_DETECTED, "loop", "A route leads back to the gateway itself.")
    }

    pub(super) const fn body_too_large() -> Self {
        Self::new(&BODY_TOO_LARGE, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "Send less, or in parts.")
    }

    pub(super) const fn headers_too_large() -> Self {
        Self::new(
            &HEADERS_TOO_LARGE,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers_too_large",
            "Names and values of all headers together count.",
        )
    }

    pub(super) const fn busy() -> Self {
        Self::new(&BUSY, StatusCode::SERVICE_UNAVAILABLE, "busy", "Try again in a moment.").after(1)
    }

    /// When nobody may be asked: nobody is well, the breaker is open, or all are full.
    pub(super) const fn unavailable(label: &'static str) -> Self {
        Self::new(&UPSTREAM_UNAVAILABLE, StatusCode::SERVICE_UNAVAILABLE, label, "Try again in a moment.").after(1)
    }

    pub(super) const fn timeout(label: &'static str) -> Self {
        Self::new(
            &UPSTREAM_TIMEOUT,
            StatusCode::GATEWAY_TIMEOUT,
            label,
            "Whether it acted on the request is not known.",
        )
    }

    /// A back end said that it switches, and did not.
    pub(super) const fn not_switched() -> Self {
        Self::new(
            &UPSTREAM_INVALID,
            StatusCode::BAD_GATEWAY,
            "not_switched",
            "It said that it switches protocols, and did not.",
        )
    }

    /// Of a request's body that had to be read whole.
    pub(super) fn of_body(error: &(dyn std::error::Error + 'static)) -> Self {
        if is_too_long(error) {
            return Self::body_too_large();
        }
        Self::new(
            &REQUEST_BODY,
            StatusCode::BAD_REQUEST,
            "request_body",
            "It ended early, or is not as long as it said.",
        )
    }

    /// Of an answer's body that had to be read whole.
    pub(super) fn unmappable(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::debug!(error, "an answer could not be changed");
        Self::new(
            &UPSTREAM_INVALID,
            StatusCode::BAD_GATEWAY,
            "unmappable",
            "Its body is larger than what the route changes, or did not come whole.",
        )
    }

    /// Whether nobody was asked, so that somebody else, or an answer that is ready, may step in.
    pub(super) fn is_nobody_asked(&self) -> bool {
        [UPSTREAM_UNAVAILABLE.name, UPSTREAM_UNREACHABLE.name].contains(&self.code.name)
    }

    /// Of an error of the exchange with a back end.
    pub(super) fn of(error: &wire::Error) -> Self {
        let label = error.label();
        match error.kind() {
            ErrorKind::Connect(_) | ErrorKind::Tls(_) => Self::new(
                &UPSTREAM_UNREACHABLE,
                StatusCode::BAD_GATEWAY,
                label,
                "No connection came about, so that the request was not acted on.",
            ),
            ErrorKind::ConnectTimeout => Self::new(
                &UPSTREAM_UNREACHABLE,
                StatusCode::GATEWAY_TIMEOUT,
                label,
                "No connection came about in time, so that the request was not acted on.",
            ),
            ErrorKind::FirstByteTimeout | ErrorKind::IdleTimeout => Self::timeout(label),
            ErrorKind::RequestTimeout => {
                Self::new(&REQUEST_BODY, StatusCode::REQUEST_TIMEOUT, label, "No byte of the body came for too long.")
            }
            ErrorKind::RequestBody(e) if is_too_long(&**e) => Self::body_too_large(),
            ErrorKind::RequestBody(_) => Self::new(
                &REQUEST_BODY,
                StatusCode::BAD_REQUEST,
                label,
                "It ended early, or is not as long as it said.",
            ),
            ErrorKind::Reset(_) => Self::new(
                &UPSTREAM_RESET,
                StatusCode::BAD_GATEWAY,
                label,
                "Whether it acted on the request is not known.",
            ),
            ErrorKind::Malformed(_) | ErrorKind::TooLarge(_) => Self::new(
                &UPSTREAM_INVALID,
                StatusCode::BAD_GATEWAY,
                label,
                "It is not HTTP, or is HTTP that means different things to different readers.",
            ),
        }
    }

    /// As an answer. `request_id` is what the log has too.
    pub(super) fn answer(&self, request_id: &[u8], is_grpc: bool) -> Response<Body> {
        if is_grpc {
            return self.grpc_answer();
        }
        let mut text = String::with_capacity(320);
        let (name, title, detail, status) = (self.code.name, self.code.title, self.detail, self.status.as_u16());
        // Nothing in it needs an escape: all of it stands in this file, and ids are hexadecimal.
        text.push_str(&format!(
            "{{\"type\":\"/docs/errors/{name}\",\"title\":\"{title}\",\"status\":{status},\"code\":\"{name}\",\
             \"detail\":\"{detail}\""
        ));
        if let Ok(id) = std::str::from_utf8(request_id)
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !id.is_empty()
        {
            text.push_str(&format!(",\"instance\":\"{id}\""));
        }
        text.push('}');
        let mut response = Response::new(Body::from(Bytes::from(text)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.mark(headers);
        response
    }

    /// Trailers-only (gRPC over HTTP/2): statuses as its documentation maps them from HTTP.
    fn grpc_answer(&self) -> Response<Body> {
        let status = match self.status {
            StatusCode::BAD_REQUEST | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "13",
            StatusCode::PAYLOAD_TOO_LARGE => "8",
            StatusCode::NOT_FOUND => "12",
            StatusCode::GATEWAY_TIMEOUT => "4",
            StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => "14",
            _ => "2",
        };
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS, HeaderValue::from_static(status));
        headers.insert(GRPC_MESSAGE, HeaderValue::from_static(self.code.title));
        self.mark(headers);
        response
    }

    fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(MAINSTAY_ERROR, HeaderValue::from_static(self.label));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
}

/// A body is longer than its route takes.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the body is longer than the route takes")]
pub(super) struct TooLong;

fn is_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut error = Some(error);
    while let Some(e) = error {
        if e.is::<TooLong>() {
            return true;
        }
        error = e.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn refusals_are_problem_details_and_say_whose_they_are() {
        let response = Refusal::unavailable("nobody_well").answer(b"01-ab", false);
        assert_eq!(
            (response.status(), &response.headers()[MAINSTAY_ERROR]),
            (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from_static("nobody_well"))
        );
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&problem["code"], &problem["instance"]), (&"GATEWAY_UPSTREAM_UNAVAILABLE".into(), &"01-ab".into()));
        let evil = Refusal::no_route().answer(b"a\",\"x\":\"", false).into_body().collect().await.unwrap().to_bytes();
        assert!(serde_json::from_slice::<serde_json::Value>(&evil).unwrap().get("instance").is_none());
        let grpc = Refusal::timeout("first_byte_timeout").answer(b"", true);
        assert_eq!((grpc.status(), &grpc.headers()[GRPC_STATUS]), (StatusCode::OK, &HeaderValue::from_static("4")));
    }
}
