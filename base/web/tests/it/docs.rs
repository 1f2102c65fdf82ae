use axum::Router;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{OpenApi, ToSchema};
use web::{
    Page, PageQuery,
    docs::{self, ErrorPage},
    openapi::{Document, Info, document},
};

use crate::{request, send};

/// A short link.
#[derive(Serialize, Deserialize, ToSchema)]
struct Link {
    /// Where it leads.
    #[schema(format = "uri", max_length = 2048)]
    url: String,
    /// What it is filed under.
    tags: Option<Vec<Tag>>,
}

#[derive(Serialize, Deserialize, ToSchema)]
struct Tag {
    /// The `<b>name</b>` of it.
    name: String,
    /// Tags under this one.
    #[schema(no_recursion)]
    inner: Vec<Tag>,
}

/// Create a link.
#[utoipa::path(post, path = "/v1/links", tag = "links", request_body = Link, responses(
    (status = 201, description = "Created", body = Link), (status = 409, description = "The alias is taken")))]
fn create() {}

/// List links.
#[utoipa::path(get, path = "/v1/links", tag = "links", params(PageQuery), responses(
    (status = 200, description = "A page", body = Page<Link>)))]
fn list() {}

/// Delete a link.
#[utoipa::path(delete, path = "/v1/links/{code}", tag = "links", params(("code" = String, Path, description = "Its code")),
    responses((status = 204, description = "Gone")))]
fn delete() {}

/// Is it alive?
#[utoipa::path(get, path = "/health/live", tag = "health", security(()), responses((status = 200, description = "Yes")))]
fn live() {}

#[derive(OpenApi)]
#[openapi(paths(create, list, delete), tags((name = "links", description = "Short **links**.")))]
struct Links;

#[derive(OpenApi)]
#[openapi(paths(live))]
struct Health;

fn merged() -> Document {
    let info = Info { title: "Test".into(), version: "1".into(), description: "An API.".into() };
    document(&info, vec![Links::openapi(), Health::openapi()]).unwrap()
}

fn check(doc: &Document, method: &str, path: &str, expected: &str) {
    let operation = &doc.json()["paths"][path][method];
    let statuses: Vec<&str> = operation["responses"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(statuses.join(" "), expected, "{method} {path}");
}

#[test]
fn every_operation_names_every_status() {
    let doc = merged();
    check(&doc, "post", "/v1/links", "201 400 401 403 409 413 415 422 429 500 503 504");
    check(&doc, "get", "/v1/links", "200 400 401 403 422 429 500 503 504");
    check(&doc, "delete", "/v1/links/{code}", "204 400 401 403 404 429 500 503 504");
    check(&doc, "get", "/health/live", "200 400 500 503 504");
    let post = &doc.json()["paths"]["/v1/links"]["post"];
    assert_eq!(post["responses"]["409"]["description"], "The alias is taken", "the room's own words stay");
    assert!(post["responses"]["409"]["content"]["application/problem+json"].is_object());
    assert!(post["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "Idempotency-Key"));
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(doc: &Document, value: &Value) {
        if let Some(r) = value["$ref"].as_str() {
            assert!(doc.json().pointer(r.strip_prefix('#').unwrap()).is_some(), "{r} leads nowhere");
        }
        match value {
            Value::Object(map) => map.values().for_each(|v| walk(doc, v)),
            Value::Array(list) => list.iter().for_each(|v| walk(doc, v)),
            _ => {}
        }
    }
    let doc = merged();
    walk(&doc, doc.json());
}

#[test]
fn page_parameters_say_their_bounds() {
    let doc = merged();
    let parameters = doc.json()["paths"]["/v1/links"]["get"]["parameters"].as_array().unwrap();
    let limit = parameters.iter().find(|p| p["name"] == "limit").unwrap();
    assert_eq!((&limit["required"], &limit["in"]), (&json!(false), &json!("query")));
    let schema = &limit["schema"];
    assert_eq!((&schema["minimum"], &schema["maximum"], &schema["default"]), (&json!(1), &json!(200), &json!(50)));
    let cursor = parameters.iter().find(|p| p["name"] == "cursor").unwrap();
    assert_eq!((&cursor["required"], &cursor["schema"]["type"]), (&json!(false), &json!("string")));
}

#[test]
fn rooms_that_disagree_are_told() {
    mod other {
        /// Something else.
        #[derive(utoipa::ToSchema)]
        #[allow(dead_code, reason = "described only")]
        pub(super) struct Link {
            name: String,
        }

        #[derive(utoipa::OpenApi)]
        #[openapi(components(schemas(Link)))]
        pub(super) struct Other;
    }
    let info = Info { title: "Test".into(), version: "1".into(), description: String::new() };
    let collision = document(&info, vec![Links::openapi(), other::Other::openapi()]).unwrap_err();
    assert_eq!(collision.name, "schemas Link");
    assert!(document(&info, vec![Links::openapi(), Links::openapi()]).is_ok(), "the same twice is no collision");
}

fn router() -> Router {
    let text = "# NOT_FOUND\n\nNothing is **here**, see [docs](/docs) or [not](javascript:x) <script>.\n\n## What to do\n\n\
                - look at\n  `/docs`\n- try again\n\n```sh\ncurl <x>\n```\n";
    docs::routes(&merged(), &[ErrorPage { code: &web::error::NOT_FOUND, text: text.to_owned() }])
}

#[tokio::test]
async fn pages_need_no_script_and_no_internet() {
    for (path, needles) in [
        (
            "/docs",
            vec![
                "/v1/links",
                "Create a link",
                "curl -X POST",
                "$MAINSTAY_URL/v1/links/text",
                "&lt;b&gt;name",
                "<strong>links</strong>",
                "at most 2048 characters",
            ],
        ),
        ("/docs/errors", vec!["/docs/errors/NOT_FOUND", "404"]),
        (
            "/docs/errors/NOT_FOUND",
            vec![
                "<strong>here</strong>",
                "<a href=\"/docs\">docs</a>",
                "[not](javascript:x) &lt;script&gt;",
                "<li>look at <code>/docs</code></li><li>try again</li>",
                "<pre class=\"sh\"><code>curl &lt;x&gt;</code></pre>",
            ],
        ),
    ] {
        let answer = send(&router(), request(&format!("GET {path}"), &[], "")).await;
        assert_eq!(answer.status, 200, "{path}");
        for needle in needles {
            assert!(answer.text().contains(needle), "{path} lacks {needle}: {}", answer.text());
        }
        for bad in ["<script", "style=", " onclick", "http://", "src="] {
            assert!(!answer.text().contains(bad), "{path} holds {bad}");
        }
        assert_eq!(answer.header("content-security-policy"), docs::CONTENT_SECURITY_POLICY);
    }
    let css = send(&router(), request("GET /docs/docs.css", &[], "")).await;
    assert_eq!(css.header("content-type"), "text/css; charset=utf-8");
    assert!(!css.text().contains("url(") && css.body.len() < 20_000);
}

#[tokio::test]
async fn documents_are_conditional_and_unknown_codes_are_404() {
    let first = send(&router(), request("GET /openapi.json", &[], "")).await;
    assert_eq!(first.json()["openapi"], "3.1.0");
    let again = format!("if-none-match: {}", first.header("etag"));
    let second = send(&router(), request("GET /openapi.json", &[&again], "")).await;
    assert_eq!((second.status.as_u16(), second.body.len()), (304, 0));
    let unknown = send(&router(), request("GET /docs/errors/NOPE", &[], "")).await;
    assert_eq!(unknown.json()["code"], "NOT_FOUND");
}

#[test]
fn every_code_has_a_page_that_says_why_and_what_to_do() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    for code in web::error::CODES.iter().chain(kernel::error::CODES) {
        let text = std::fs::read_to_string(folder.join(format!("{}.md", code.name))).expect(code.name);
        for part in [&format!("# {}\n", code.name), "\n## Why it happens\n", "\n## What to do\n"] {
            assert!(text.contains(part), "{} lacks {part:?}", code.name);
        }
    }
}
