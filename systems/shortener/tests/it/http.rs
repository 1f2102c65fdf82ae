//! The API, as its clients see it.

use ::http::{Method, Request, StatusCode, header};
use axum::{Extension, Router, body::Body};
use http_body_util::BodyExt as _;
use identity::{Principal, Scope, Scopes};
use kernel::{Clock, ProjectId, Rng};
use serde_json::{Value, json};
use shortener::NewLink;
use tower::ServiceExt as _;

use access::Caller;

use crate::world::{Engine, Node, START, World, link};

/// The routes as a key with these scopes sees them.
pub(crate) fn as_key(node: &Node, project: &str, scopes: &[&str]) -> Router {
    let scopes = Scopes::new(scopes.iter().map(|s| s.parse::<Scope>().unwrap())).unwrap();
    let id = identity::ApiKey::generate(&Clock::system(), &Rng::seeded(3)).id();
    let principal = Principal::of_key(ProjectId::parse(project).unwrap(), id, "test", scopes);
    let routes = shortener::http::routes(node.shortener.clone());
    routes.merge(shortener::http::file_routes(node.shortener.clone())).layer(Extension(Caller::new(principal)))
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: ::http::HeaderMap,
    pub(crate) json: Value,
}

pub(crate) async fn send(
    app: &Router,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = match body {
        Some(json) => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            Body::from(json.to_string())
        }
        None => Body::empty(),
    };
    let response = app.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let json = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    Answer { status: parts.status.as_u16(), headers: parts.headers, json }
}

#[tokio::test]
async fn a_link_from_creation_to_deletion() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let app = as_key(&node, "default", &["links:write"]);
    let made = send(&app, Method::POST, "/v1/links", &[], Some(json!({ "url": "https://Example.com" }))).await;
    assert_eq!(made.status, 201);
    let code = made.json["code"].as_str().unwrap().to_owned();
    assert_eq!(
        made.json,
        json!({
            "code": code, "short_url": format!("https://go.example.com/{code}"), "url": "https://example.com/",
            "domain": null, "title": "", "notes": "", "tags": [],
            "is_alias": false, "status": "active", "is_blocked": false, "created_at": START.to_string(), "created_by": "test",
            "updated_at": START.to_string(), "starts_at": null, "expires_at": null, "max_clicks": null,
            "has_password": false, "redirect": 302, "forward_query": false, "utm": {}, "rules": [], "split": [],
        })
    );
    let path = format!("/v1/links/{code}");
    assert_eq!(made.headers[header::LOCATION], path);
    let etag = made.headers[header::ETAG].to_str().unwrap().to_owned();

    let read = send(&app, Method::GET, &path, &[], None).await;
    assert_eq!((read.status, &read.json), (200, &made.json));
    assert_eq!(read.headers[header::ETAG], etag);
    assert_eq!(send(&app, Method::GET, &path, &[("if-none-match", &etag)], None).await.status, 304);
    // Clicks do not change the link itself, so that busy links can be changed under If-Match.
    node.status(&code).await;
    node.shortener.flush_clicks().await.unwrap();
    assert_eq!(send(&app, Method::GET, &path, &[("if-none-match", &etag)], None).await.status, 304);
    let list = send(&app, Method::GET, "/v1/links", &[], None).await;
    assert_eq!(list.json["items"][0]["code"], code);
    assert_eq!(
        (list.json["items"][0]["click_count"].as_u64(), list.json["items"].as_array().unwrap().len()),
        (Some(1), 1)
    );
    assert_eq!(list.json["next_cursor"], Value::Null);

    let refused = send(&app, Method::DELETE, &path, &[("if-match", "\"v99\"")], None).await;
    assert_eq!((refused.status, refused.json["code"].as_str()), (412, Some("SHORTENER_LINK_CHANGED")));
    assert_eq!(send(&app, Method::DELETE, &path, &[("if-match", &etag)], None).await.status, 204);
    let gone = send(&app, Method::GET, &path, &[], None).await;
    assert_eq!((gone.status, gone.json["code"].as_str()), (404, Some("SHORTENER_LINK_UNKNOWN")));
    assert_eq!(node.status(&code).await, 404);
}

#[tokio::test]
async fn a_merge_patch_changes_what_it_names() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let app = as_key(&node, "default", &["links:write"]);
    let made = json!({
        "url": "https://a.example/", "alias": "mine", "title": "T", "expires_at": "2036-01-01T00:00:00Z", "max_clicks": 5,
        "redirect": 307, "utm": { "source": "x" }, "split": [{ "url": "https://b.example", "weight": 2 }],
    });
    let made = send(&app, Method::POST, "/v1/links", &[], Some(made)).await;
    assert_eq!((made.status, made.json["redirect"].as_u64()), (201, Some(307)));
    let etag = made.headers[header::ETAG].to_str().unwrap().to_owned();
    let patch = json!({ "expires_at": null, "is_disabled": true, "utm": {}, "tags": ["A"] });
    let changed = send(&app, Method::PATCH, "/v1/links/mine", &[("if-match", &etag)], Some(patch.clone())).await;
    assert_eq!(changed.status, 200);
    let mut expected = made.json.clone();
    for (name, value) in
        [("expires_at", Value::Null), ("utm", json!({})), ("tags", json!(["a"])), ("status", json!("disabled"))]
    {
        expected[name] = value;
    }
    assert_eq!(changed.json, expected);
    let stale = send(&app, Method::PATCH, "/v1/links/mine", &[("if-match", &etag)], Some(patch)).await;
    assert_eq!((stale.status, stale.json["code"].as_str()), (412, Some("SHORTENER_LINK_CHANGED")));
    assert_ne!(changed.headers[header::ETAG], etag.as_str());
    let history = send(&app, Method::GET, "/v1/links/mine/history", &[], None).await;
    assert_eq!(history.json["items"][0]["changes"]["is_disabled"], json!([false, true]));
    let reader = as_key(&node, "default", &["links:read"]);
    assert_eq!(send(&reader, Method::PATCH, "/v1/links/mine", &[], Some(json!({}))).await.status, 403);
    assert_eq!(send(&reader, Method::POST, "/v1/domains", &[], Some(json!({ "host": "a.example" }))).await.status, 403);
}

#[tokio::test]
async fn every_refusal_has_its_status_and_code() {
    let world = World::with(Engine::Sqlite, |c| c.creation_limit_per_minute = 12).await;
    let node = world.node().await;
    node.alias("taken", "https://example.com/").await.unwrap();
    let ends = NewLink {
        alias: Some("ends".to_owned()),
        expires_at: Some(START.plus(std::time::Duration::from_secs(1))),
        ..link("https://example.com/")
    };
    node.create(ends).await.unwrap();
    world.sim.advance(std::time::Duration::from_secs(1));
    let app = as_key(&node, "default", &["links:write"]);
    let url = "https://example.com/";
    let (post, get, patch, delete) = (Method::POST, Method::GET, Method::PATCH, Method::DELETE);
    let series = "/v1/links/taken/clicks";
    for (method, path, body, status, code) in [
        (&post, "/v1/links", Some(json!({ "url": "nope" })), 422, "SHORTENER_INVALID_URL"),
        (&post, "/v1/links", Some(json!({ "url": "javascript:alert(1)" })), 422, "SHORTENER_INVALID_URL"),
        (&post, "/v1/links", Some(json!({ "url": "https://a:b@example.com/" })), 422, "SHORTENER_INVALID_URL"),
        (&post, "/v1/links", Some(json!({ "url": url, "alias": "a b" })), 422, "SHORTENER_ALIAS_INVALID"),
        (&post, "/v1/links", Some(json!({ "url": url, "alias": "metrics" })), 422, "SHORTENER_ALIAS_RESERVED"),
        (&post, "/v1/links", Some(json!({ "url": url, "alias": "taken" })), 409, "SHORTENER_ALIAS_TAKEN"),
        (
            &post,
            "/v1/links",
            Some(json!({ "url": url, "expires_at": "2020-01-01T00:00:00Z" })),
            422,
            "SHORTENER_EXPIRY_INVALID",
        ),
        (&post, "/v1/links", Some(json!({ "url": url, "expires_at": "tomorrow" })), 400, "INVALID_JSON"),
        (&post, "/v1/links", Some(json!({ "url": 7 })), 400, "INVALID_JSON"),
        (&post, "/v1/links", Some(json!({})), 400, "INVALID_JSON"),
        (&post, "/v1/links", Some(json!({ "url": url, "colour": "red" })), 400, "INVALID_JSON"),
        (&post, "/v1/links", None, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (&post, "/v1/links", Some(json!({ "url": url, "domain": "no.example" })), 422, "SHORTENER_DOMAIN_UNKNOWN"),
        (&post, "/v1/links", Some(json!({ "url": url, "utm_template": "no" })), 422, "SHORTENER_LINK_INVALID"),
        (&post, "/v1/links", Some(json!({ "url": url, "redirect": 303 })), 400, "INVALID_JSON"),
        (&post, "/v1/links", Some(json!({ "url": url, "max_clicks": 0 })), 422, "SHORTENER_LINK_INVALID"),
        (&post, "/v1/links", Some(json!({ "url": url, "split": [{ "url": "x" }] })), 422, "SHORTENER_INVALID_URL"),
        (&patch, "/v1/links/taken", Some(json!({ "url": null, "code": "x" })), 400, "INVALID_JSON"),
        (&patch, "/v1/links/taken", Some(json!({ "title": "t".repeat(201) })), 422, "SHORTENER_LINK_INVALID"),
        (&patch, "/v1/links/nowhere", Some(json!({ "title": "t" })), 404, "SHORTENER_LINK_UNKNOWN"),
        (&patch, "/v1/links/taken?domain=no.example", Some(json!({})), 422, "SHORTENER_DOMAIN_UNKNOWN"),
        (&get, "/v1/links?domain=no.example", None, 422, "SHORTENER_DOMAIN_UNKNOWN"),
        (&get, "/v1/links?status=sleepy", None, 400, "INVALID_QUERY"),
        (&get, "/v1/links/nowhere/history", None, 404, "SHORTENER_LINK_UNKNOWN"),
        (&get, "/v1/domains/no.example", None, 404, "SHORTENER_DOMAIN_NOT_FOUND"),
        (&post, "/v1/domains", Some(json!({ "host": "https://a.example" })), 422, "SHORTENER_DOMAIN_INVALID"),
        (&post, "/v1/domains", Some(json!({ "host": "go.example.com" })), 409, "SHORTENER_DOMAIN_TAKEN"),
        (&delete, "/v1/utm-templates/none", None, 404, "SHORTENER_TEMPLATE_UNKNOWN"),
        (&get, "/v1/links?limit=0", None, 400, "INVALID_QUERY"),
        (&get, "/v1/links?limit=201", None, 400, "INVALID_QUERY"),
        (&get, "/v1/links?limet=1", None, 400, "INVALID_QUERY"),
        (&get, "/v1/links?cursor=forged", None, 400, "INVALID_CURSOR"),
        (&get, "/v1/links/nowhere", None, 404, "SHORTENER_LINK_UNKNOWN"),
        (&get, "/v1/links/no%20code", None, 404, "SHORTENER_LINK_UNKNOWN"),
        (&get, "/v1/links/nul%00", None, 404, "SHORTENER_LINK_UNKNOWN"),
        (&delete, "/v1/links/nowhere", None, 404, "SHORTENER_LINK_UNKNOWN"),
        (&get, "/v1/links/nowhere/clicks", None, 404, "SHORTENER_LINK_UNKNOWN"),
        (&get, &format!("{series}?step=week"), None, 400, "INVALID_QUERY"),
        (
            &get,
            &format!("{series}?from=2026-11-24T00:00:00Z&to=2026-11-23T00:00:00Z"),
            None,
            400,
            "SHORTENER_RANGE_INVALID",
        ),
        (&get, &format!("{series}?step=minute&from=2020-01-01T00:00:00Z"), None, 400, "SHORTENER_RANGE_INVALID"),
        (&get, &format!("{series}?from=0001-01-01T00:00:00Z"), None, 400, "SHORTENER_RANGE_INVALID"),
        (&get, &format!("{series}?from=yesterday"), None, 400, "INVALID_QUERY"),
    ] {
        let got = send(&app, method.clone(), path, &[], body.clone()).await;
        assert_eq!(
            (got.status, got.json["code"].as_str()),
            (status, Some(code)),
            "{method} {path} {body:?}: {}",
            got.json
        );
        assert_eq!(got.headers[header::CONTENT_TYPE], "application/problem+json");
        assert!(got.json["detail"].as_str().unwrap().len() > 10);
    }
    // An expired link is still there for its owner.
    assert_eq!(send(&app, Method::GET, "/v1/links/ends", &[], None).await.json["status"], "expired");
    // Only creations that were valid count: `taken` twice and `ends` so far.
    for i in 0..20 {
        let made = send(&app, Method::POST, "/v1/links", &[], Some(json!({ "url": url }))).await;
        if made.status == 429 {
            assert_eq!((i, made.json["code"].as_str()), (9, Some("SHORTENER_RATE_LIMITED")));
            assert_eq!(made.headers[header::RETRY_AFTER], "59");
            // The next minute is a new one, and another project has its own.
            let other = as_key(&node, "other", &["links:write"]);
            assert_eq!(send(&other, Method::POST, "/v1/links", &[], Some(json!({ "url": url }))).await.status, 201);
            world.sim.advance(std::time::Duration::from_secs(59));
            assert_eq!(send(&app, Method::POST, "/v1/links", &[], Some(json!({ "url": url }))).await.status, 201);
            return;
        }
        assert_eq!(made.status, 201);
    }
    panic!("never limited");
}

#[tokio::test]
async fn scopes_and_projects_hold() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    node.alias("mine", "https://example.com/").await.unwrap();
    let body = || Some(json!({ "url": "https://example.com/" }));
    for (project, scopes, method, path, body, status) in [
        ("default", ["links:read"], Method::GET, "/v1/links", None, 200),
        ("default", ["links:read"], Method::GET, "/v1/links/mine", None, 200),
        ("default", ["links:read"], Method::GET, "/v1/links/mine/clicks", None, 200),
        ("default", ["links:read"], Method::POST, "/v1/links", body(), 403),
        ("default", ["links:read"], Method::DELETE, "/v1/links/mine", None, 403),
        ("default", ["jobs:admin"], Method::GET, "/v1/links", None, 403),
        ("default", ["jobs:admin"], Method::GET, "/v1/links/mine/clicks", None, 403),
        ("other", ["links:write"], Method::GET, "/v1/links/mine", None, 404),
        ("other", ["links:write"], Method::DELETE, "/v1/links/mine", None, 404),
        ("other", ["links:write"], Method::GET, "/v1/links/mine/clicks", None, 404),
        ("default", ["*:write"], Method::DELETE, "/v1/links/mine", None, 204),
    ] {
        let got = send(&as_key(&node, project, &scopes), method.clone(), path, &[], body).await;
        assert_eq!(got.status, status, "{project} {scopes:?} {method} {path}: {}", got.json);
    }
    // Without anybody: 401.
    let nobody = shortener::http::routes(node.shortener.clone());
    assert_eq!(send(&nobody, Method::GET, "/v1/links", &[], None).await.status, 401);
}

#[tokio::test]
async fn a_series_has_every_step() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    node.alias("mine", "https://example.com/").await.unwrap();
    for _ in 0..3 {
        node.status("mine").await;
    }
    node.shortener.flush_clicks().await.unwrap();
    let app = as_key(&node, "default", &["links:read"]);
    for (query, points, from) in [
        ("", 49, "2026-11-22T00:00:00Z"),
        ("?step=minute", 121, "2026-11-23T22:00:00Z"),
        ("?step=day", 31, "2026-10-25T00:00:00Z"),
        ("?step=minute&from=2026-11-24T00:00:00Z&to=2026-11-24T00:03:00Z", 3, "2026-11-24T00:00:00Z"),
    ] {
        world.sim.jump_wall_to(START.plus(std::time::Duration::from_secs(30)));
        let got = send(&app, Method::GET, &format!("/v1/links/mine/clicks{query}"), &[], None).await;
        assert_eq!(got.status, 200, "{}", got.json);
        let all = got.json["points"].as_array().unwrap();
        assert_eq!((all.len(), got.json["from"].as_str()), (points, Some(from)), "{query}");
        assert_eq!(all.iter().map(|p| p["click_count"].as_u64().unwrap()).sum::<u64>(), 3, "{query}");
        assert_eq!(got.json["total_click_count"], 3);
        assert_eq!(got.json["code"], "mine");
    }
}

#[test]
fn the_document_names_every_route_and_status() {
    let info = web::openapi::Info { title: "t".to_owned(), version: "1".to_owned(), description: String::new() };
    let document = web::openapi::document(&info, vec![shortener::http::openapi()]).unwrap();
    let seen: Vec<String> = document.operations().map(|(path, method, _)| format!("{method} {path}")).collect();
    for expected in [
        "delete /v1/links/{code}",
        "get /v1/links",
        "get /v1/links/{code}",
        "get /v1/links/{code}/clicks",
        "get /v1/links/{code}/history",
        "patch /v1/links/{code}",
        "post /v1/links",
        "post /v1/domains",
        "put /v1/utm-templates/{name}",
    ] {
        assert!(seen.iter().any(|s| s == expected), "{expected} is missing in {seen:?}");
    }
    for (path, method, operation) in document.operations() {
        let statuses: Vec<&String> = operation["responses"].as_object().unwrap().keys().collect();
        for expected in match (method, path) {
            ("post", "/v1/link-imports") => vec!["202", "400", "401", "403", "409", "413", "415", "422", "429", "503"],
            ("post", "/v1/link-reports") => vec!["202", "400", "401", "403", "422", "429"],
            ("post", path) if path.contains('{') => vec!["400", "401", "403", "404", "409", "422"],
            ("post", _) => vec!["201", "400", "401", "403", "409", "413", "415", "422", "429", "503"],
            ("delete", "/v1/links/{code}") => vec!["204", "401", "403", "404", "412"],
            ("delete", "/v1/link-imports/{id}") => vec!["200", "401", "403", "404", "409"],
            ("delete", _) => vec!["204", "401", "403", "404"],
            ("get", "/v1/links/{code}") => vec!["200", "304", "404", "412"],
            _ => vec!["200", "400", "401", "403"],
        } {
            assert!(statuses.iter().any(|s| *s == expected), "{method} {path} lacks {expected}: {statuses:?}");
        }
    }
    assert_eq!(StatusCode::CREATED, 201);
}

#[tokio::test]
async fn settings_of_a_link_are_refused_by_field() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let app = as_key(&node, "default", &["links:write"]);
    let to = json!([{ "url": "https://example.com/" }]);
    for (settings, code, field) in [
        (json!({ "password": "abc" }), "SHORTENER_LINK_INVALID", "/password"),
        (json!({ "password": "x".repeat(201) }), "SHORTENER_LINK_INVALID", "/password"),
        (json!({ "max_clicks": 0 }), "SHORTENER_LINK_INVALID", "/max_clicks"),
        (json!({ "rules": [{ "to": to }] }), "SHORTENER_LINK_INVALID", "/rules/0"),
        (json!({ "rules": [{ "device": ["mobile"], "to": [] }] }), "SHORTENER_LINK_INVALID", "/rules/0/to"),
        (
            json!({ "rules": [{ "device": ["mobile"], "to": to }, { "language": ["de"], "to": [{ "url": "ftp://a.example/" }] }] }),
            "SHORTENER_INVALID_URL",
            "/rules/1/to/0/url",
        ),
        (json!({ "rules": [{ "country": vec!["DE"; 301], "to": to }] }), "SHORTENER_LINK_INVALID", "/rules/0/country"),
        (json!({ "rules": [{ "device": ["fridge"], "to": to }] }), "INVALID_JSON", "/rules/0/device/0"),
        (json!({ "rules": [{ "language": ["de", "german"], "to": to }] }), "INVALID_JSON", "/rules/0/language/1"),
        (json!({ "rules": [{ "country": ["Germany"], "to": to }] }), "INVALID_JSON", "/rules/0/country/0"),
        (json!({ "split": [{ "url": "https://a.example/", "weight": 0 }] }), "SHORTENER_LINK_INVALID", "/split"),
        (json!({ "redirect": 303 }), "INVALID_JSON", "/redirect"),
    ] {
        let mut body = json!({ "url": "https://example.com/" });
        body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let got = send(&app, Method::POST, "/v1/links", &[], Some(body)).await;
        assert_eq!(got.json["code"], code, "{settings}: {}", got.json);
        assert_eq!(
            got.json["errors"][0]["pointer"].as_str().unwrap_or_default().trim_start_matches('#'),
            field,
            "{}",
            got.json
        );
    }
    // What is known of visitors is written as it is compared.
    let rules = json!([{ "device": ["tablet"], "language": ["DE"], "country": ["ch"], "to": to }]);
    let body = json!({ "url": "https://example.com/", "password": "swordfish", "rules": rules });
    let made = send(&app, Method::POST, "/v1/links", &[], Some(body)).await;
    assert_eq!(made.status, 201, "{}", made.json);
    assert_eq!(
        (&made.json["rules"][0]["language"][0], &made.json["rules"][0]["country"][0]),
        (&json!("de"), &json!("CH"))
    );
    assert_eq!(made.json["has_password"], true);
    assert!(!made.json.to_string().contains("pbkdf2") && !made.json.to_string().contains("swordfish"));
    let path = format!("/v1/links/{}", made.json["code"].as_str().unwrap());
    let got = send(&app, Method::PATCH, &path, &[], Some(json!({ "password": null }))).await;
    assert_eq!((got.status, &got.json["has_password"]), (200, &json!(false)));
}

#[tokio::test]
async fn a_link_as_a_qr_code() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    node.alias("spring", "https://example.com/").await.unwrap();
    let app = as_key(&node, "default", &["links:read"]);
    let get = async |query: &str, etag: &str| {
        let request = Request::get(format!("/v1/links/spring/qr{query}")).header(header::IF_NONE_MATCH, etag);
        let (parts, body) = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().into_parts();
        (parts, body.collect().await.unwrap().to_bytes())
    };
    for (query, media_type, size) in [
        ("", "image/svg+xml", None),
        ("?format=svg&size=64&margin=0&ecc=h", "image/svg+xml", None),
        ("?format=png", "image/png", Some(512)),
        ("?format=png&size=300&margin=1&ecc=l", "image/png", Some(300)),
        ("?format=png&size=2048&margin=16&ecc=q", "image/png", Some(2048)),
    ] {
        let (parts, body) = get(query, "\"\"").await;
        assert_eq!(
            (parts.status, &parts.headers[header::CONTENT_TYPE]),
            (StatusCode::OK, &media_type.parse().unwrap())
        );
        assert_eq!(parts.headers[header::CACHE_CONTROL], "private, max-age=3600");
        if let Some(size) = size {
            let mut reader = png::Decoder::new(std::io::Cursor::new(&body)).read_info().unwrap();
            assert_eq!((reader.info().width, reader.info().height), (size, size));
            let mut bits = vec![0; reader.output_buffer_size().unwrap()];
            let line = reader.next_frame(&mut bits).unwrap().line_size;
            let size = size as usize;
            let mut image = rqrr::PreparedImage::prepare_from_greyscale(size, size, |x, y| {
                if bits[y * line + x / 8] & (0x80 >> (x % 8)) == 0 { 0 } else { 255 }
            });
            assert_eq!(image.detect_grids()[0].decode().unwrap().1, "https://go.example.com/spring");
        } else {
            assert!(body.starts_with(b"<svg "));
        }
        let etag = parts.headers[header::ETAG].to_str().unwrap();
        assert_eq!(get(query, etag).await.0.status, StatusCode::NOT_MODIFIED);
    }
    for (query, field) in [
        ("?size=63", "size"),
        ("?size=2049", "size"),
        ("?margin=17", "margin"),
        ("?ecc=x", "ecc"),
        ("?format=gif", "format"),
    ] {
        let refused = send(&app, Method::GET, &format!("/v1/links/spring/qr{query}"), &[], None).await;
        assert_eq!((refused.status, refused.json["code"].as_str()), (400, Some("INVALID_QUERY")), "{query}");
        assert!(refused.json.to_string().contains(field), "{}", refused.json);
    }
    let refused = send(&app, Method::GET, "/v1/links/nowhere/qr", &[], None).await;
    assert_eq!((refused.status, refused.json["code"].as_str()), (404, Some("SHORTENER_LINK_UNKNOWN")));
}

#[tokio::test]
async fn moderation_is_for_moderators() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let owner = as_key(&node, "shop", &["*:admin"]);
    let made = send(&owner, Method::POST, "/v1/links", &[], Some(json!({ "url": "https://example.com" }))).await;
    let code = made.json["code"].as_str().unwrap().to_owned();
    let takedown = format!("/v1/links/{code}/takedown");
    let body = || Some(json!({ "kind": "abuse", "reason": "phishing" }));
    for (project, scopes, expected) in [
        ("shop", "*:admin", 403),
        ("shop", "moderation:admin", 403),
        ("default", "*:admin", 403),
        ("default", "links:admin", 403),
        ("default", "moderation:read", 403),
        ("default", "moderation:write", 204),
        ("other", "*", 409),
    ] {
        let app = as_key(&node, project, &[scopes]);
        let answer = send(&app, Method::POST, &takedown, &[], body()).await;
        assert_eq!(answer.status, expected, "{project} {scopes}: {}", answer.json);
        let may_read = expected != 403 || scopes == "moderation:read";
        let read = send(&app, Method::GET, "/v1/link-reports", &[], None).await;
        assert_eq!(read.status, if may_read { 200 } else { 403 }, "{project} {scopes}");
    }
    let appeal = format!("/v1/links/{code}/appeal");
    let text = || Some(json!({ "text": "it is ours" }));
    assert_eq!(send(&owner, Method::POST, &appeal, &[], text()).await.status, 202);
    let told = send(&owner, Method::GET, &takedown, &[], None).await;
    assert_eq!(
        (told.status, told.json["state"].as_str(), told.json["reason"].as_str()),
        (200, Some("appealed"), Some("phishing"))
    );
    let moderator = as_key(&node, "default", &["moderation:write"]);
    let waiting = send(&moderator, Method::GET, "/v1/link-takedowns", &[], None).await;
    assert_eq!(
        (waiting.json["items"][0]["link"]["project"].as_str(), waiting.json["items"][0]["appeal"].as_str()),
        (Some("shop"), Some("it is ours"))
    );
    let nothing = send(&moderator, Method::POST, &format!("{appeal}/reject"), &[], Some(json!({}))).await;
    assert_eq!(
        (nothing.status, nothing.json["code"].as_str()),
        (422, Some("SHORTENER_LINK_INVALID")),
        "a rejection says why"
    );
    assert_eq!(send(&moderator, Method::POST, &format!("{appeal}/grant"), &[], Some(json!({}))).await.status, 204);
    assert_eq!(node.status(&code).await, 302);

    let report = json!({ "code": code, "reason": "spam", "detail": "sent unasked" });
    assert_eq!(send(&owner, Method::POST, "/v1/link-reports", &[], Some(report)).await.status, 202);
    let reports = send(&moderator, Method::GET, "/v1/link-reports?state=open", &[], None).await;
    let id = reports.json["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(reports.json["items"][0]["reason"], "spam");
    let path = format!("/v1/link-reports/{id}/dismiss");
    let dismissed = send(&moderator, Method::POST, &path, &[], Some(json!({ "all_of_link": true }))).await;
    assert_eq!((dismissed.status, dismissed.json["count"].as_u64()), (200, Some(1)));
    assert_eq!(send(&moderator, Method::POST, &path, &[], Some(json!({}))).await.status, 409);

    let entry = json!({ "entry": "Evil.example", "reason": "phishing" });
    let block = send(&moderator, Method::POST, "/v1/link-blocks", &[], Some(entry)).await;
    assert_eq!((block.status, block.json["entry"].as_str()), (201, Some("evil.example")));
    let refused =
        send(&owner, Method::POST, "/v1/links", &[], Some(json!({ "url": "https://www.evil.example" }))).await;
    assert_eq!((refused.status, refused.json["code"].as_str()), (422, Some("SHORTENER_URL_BLOCKED")));
    let known = format!("/v1/links/{code}");
    world.sim.advance(std::time::Duration::from_secs(1));
    let entry = json!({ "entry": "https://example.com/" });
    assert_eq!(send(&moderator, Method::POST, "/v1/link-blocks", &[], Some(entry)).await.status, 201);
    assert_eq!(send(&owner, Method::GET, &known, &[], None).await.json["is_blocked"], true, "its owner sees why");
    assert_eq!(node.status(&code).await, 403);
    let mistake = send(&moderator, Method::POST, "/v1/link-blocks", &[], Some(json!({ "entry": "*.x" }))).await;
    assert_eq!((mistake.status, mistake.json["code"].as_str()), (422, Some("SHORTENER_LINK_INVALID")));
    let list = send(&moderator, Method::GET, "/v1/link-blocks?limit=1", &[], None).await;
    assert_eq!(list.json["items"][0]["created_by"], "test");
    let cursor = list.json["next_cursor"].as_str().unwrap();
    let rest = send(&moderator, Method::GET, &format!("/v1/link-blocks?cursor={cursor}"), &[], None).await;
    let rest = (rest.json["items"][0]["entry"].as_str(), &rest.json["next_cursor"]);
    assert_eq!(rest, (Some("=example.com"), &Value::Null), "in the order in which they were added");
    let path = block.headers[header::LOCATION].to_str().unwrap();
    assert_eq!(send(&moderator, Method::DELETE, path, &[], None).await.status, 204);
    assert_eq!(send(&moderator, Method::DELETE, path, &[], None).await.status, 404);
}
