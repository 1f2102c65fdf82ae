use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use serde::Deserialize;
use web::{Form, Json, PageQuery, Path, Query, Reject, problem};

use crate::{request, send};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "read by serde only")]
struct Link {
    url: String,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    max_uses: Option<u8>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "read by serde only")]
struct Tag {
    name: String,
}

fn router() -> Router {
    Router::new()
        .route("/json", post(async |Json(_): Json<Link>| "taken"))
        .route("/form", post(async |Form(_): Form<Link>| "taken"))
        .route("/page", get(async |Query(q): Query<PageQuery>| format!("{} {:?}", q.limit, q.cursor)))
        .route("/path/{id}", get(async |Path(id): Path<u32>| id.to_string()))
        .route("/secret", get(async || -> Result<(), Reject> { Err(Reject::internal("password=hunter2")) }))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(64))
}

/// `expected` is `status`, then the code and every `place: detail` of a problem, or the body.
async fn check(line: &str, content_type: &str, body: &str, expected: &str) {
    let headers: Vec<String> =
        if content_type.is_empty() { vec![] } else { vec![format!("content-type: {content_type}")] };
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let answer = send(&router(), request(line, &headers, body.to_owned())).await;
    let mut got = answer.status.as_u16().to_string();
    if answer.status.is_success() {
        got = format!("{got} {}", answer.text());
    } else {
        assert_eq!(answer.header("content-type"), "application/problem+json", "{line}");
        let json = answer.json();
        assert_eq!(json["status"], answer.status.as_u16(), "{line}");
        assert_eq!(json["type"], format!("/docs/errors/{}", json["code"].as_str().unwrap()), "{line}");
        got = format!("{got} {}", json["code"].as_str().unwrap());
        for e in json["errors"].as_array().into_iter().flatten() {
            let at = e["pointer"].as_str().or(e["parameter"].as_str()).unwrap();
            got = format!("{got} | {at}: {}", e["detail"].as_str().unwrap());
        }
    }
    assert_eq!(got, expected, "{line} {body}");
}

#[tokio::test]
async fn extractors_name_what_is_wrong() {
    let json = "application/json";
    let form = "application/x-www-form-urlencoded";
    let unsupported = "415 UNSUPPORTED_MEDIA_TYPE | Content-Type: expected application/json";
    let range = "expected a whole number from 1 to 200";
    let long = format!("{{\"url\":\"{}\"}}", "x".repeat(64));
    let rows: &[(&str, &str, &str, &str)] = &[
        ("POST /json", json, r#"{"url":"x"}"#, "200 taken"),
        ("POST /json", "Application/JSON; charset=utf-8", r#"{"url":"x"}"#, "200 taken"),
        ("POST /json", "application/cloudevents+json", r#"{"url":"x"}"#, "200 taken"),
        ("POST /json", "", r#"{"url":"x"}"#, unsupported),
        ("POST /json", "text/plain", r#"{"url":"x"}"#, unsupported),
        ("POST /json", "application/jsonx", r#"{"url":"x"}"#, unsupported),
        ("POST /json", json, "", "400 INVALID_JSON"),
        ("POST /json", json, "{", "400 INVALID_JSON"),
        ("POST /json", json, r#"{"url":"x"} x"#, "400 INVALID_JSON"),
        ("POST /json", json, "{}", "400 INVALID_JSON | #/url: missing field `url`"),
        ("POST /json", json, "[1]", "400 INVALID_JSON | #/0: invalid type: integer `1`, expected a string"),
        ("POST /json", json, r#"{"url":"x","tags":[{}]}"#, "400 INVALID_JSON | #/tags/0/name: missing field `name`"),
        (
            "POST /json",
            json,
            r#"{"url":"x","max_uses":256}"#,
            "400 INVALID_JSON | #/max_uses: invalid value: integer `256`, expected u8",
        ),
        (
            "POST /json",
            json,
            r#"{"url":"x","a/b":1}"#,
            "400 INVALID_JSON | #/a~1b: unknown field `a/b`, expected one of `url`, `tags`, `max_uses`",
        ),
        ("POST /json", json, r#"{"url":"x","url":"y"}"#, "400 INVALID_JSON | #/url: duplicate field `url`"),
        ("POST /json", json, &long, "413 BODY_TOO_LARGE"),
        ("POST /form", form, "url=x", "200 taken"),
        ("POST /form", form, "", "400 INVALID_FORM | #/url: missing field `url`"),
        (
            "POST /form",
            json,
            "{}",
            "415 UNSUPPORTED_MEDIA_TYPE | Content-Type: expected application/x-www-form-urlencoded",
        ),
        ("GET /page", "", "", "200 50 None"),
        ("GET /page?limit=200&cursor=abc", "", "", "200 200 Some(\"abc\")"),
        ("GET /page?limit=0", "", "", &format!("400 INVALID_QUERY | limit: {range}")),
        ("GET /page?limit=201", "", "", &format!("400 INVALID_QUERY | limit: {range}")),
        ("GET /page?limit=", "", "", &format!("400 INVALID_QUERY | limit: {range}")),
        ("GET /page?limit=-1", "", "", &format!("400 INVALID_QUERY | limit: {range}")),
        ("GET /page?limit=1&limit=2", "", "", "400 INVALID_QUERY | limit: duplicate field `limit`"),
        ("GET /page?limt=1", "", "", "400 INVALID_QUERY | limt: unknown field `limt`, expected `limit` or `cursor`"),
        ("GET /path/7", "", "", "200 7"),
        ("GET /path/x", "", "", "400 INVALID_PATH"),
        ("GET /path/%ff", "", "", "400 INVALID_PATH | id: not UTF-8"),
        ("GET /nowhere", "", "", "404 NOT_FOUND"),
        ("GET /json", "", "", "405 METHOD_NOT_ALLOWED"),
        ("GET /secret", "", "", "500 INTERNAL"),
    ];
    for (line, content_type, body, expected) in rows {
        check(line, content_type, body, expected).await;
    }
}

#[tokio::test]
async fn what_operators_see_never_reaches_the_client() {
    let answer = send(&router(), request("GET /secret", &[], "")).await;
    assert!(!answer.text().contains("hunter2"), "{}", answer.text());
}

#[tokio::test]
async fn a_405_names_the_methods_that_are_taken() {
    let answer = send(&router(), request("DELETE /json", &[], "")).await;
    assert_eq!(answer.header("allow"), "POST");
}
