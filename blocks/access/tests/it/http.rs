use access::{Access, Options};
use axum::{
    Extension, Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, StatusCode},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
};
use console::Chrome;
use http_body_util::BodyExt as _;
use kernel::{Clock, Lifecycle, Rng, Stage};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use web::{HttpConfig, Idempotency, idempotency};

use crate::site::{Site, admin_in, new_key};

both_engines!(
    the_api,
    statuses,
    a_created_key_is_answered_twice_and_made_once,
    projects_are_chosen_by_administrators_only,
    dev_is_for_this_machine_only,
    signing_in,
    forms_of_the_console,
);

struct App {
    router: Router,
    _lifecycle: Lifecycle,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl App {
    fn new(access: &Access, site: &Site) -> Self {
        let lifecycle = Lifecycle::new(Clock::system(), Rng::system());
        let keyed = Idempotency::new(
            access.idempotency_store(),
            idempotency::Options::from_config(&HttpConfig::default()),
            site.clock.clone(),
            Rng::system(),
            lifecycle.tasks(Stage::Systems),
        );
        let api = keyed
            .layer(access::http::routes(access.clone()))
            .layer(from_fn_with_state(access.clone(), access::auth_layer));
        let pages = access::console::routes(access.clone())
            .layer(from_fn(chrome))
            .layer(from_fn_with_state(access.clone(), access::console::layer));
        Self { router: api.merge(pages), _lifecycle: lifecycle }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    async fn json(&self, method: &str, path: &str, key: &str, body: Value) -> Answer {
        let bearer = format!("Bearer {key}");
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &[("authorization", &bearer), ("content-type", "application/json")], &text).await
    }

    async fn form(&self, path: &str, cookie: &str, body: &str) -> Answer {
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("cookie", cookie),
            ("sec-fetch-site", "same-origin"),
            ("host", "localhost"),
        ];
        self.send("POST", path, &headers, body).await
    }
}

/// As the app's own layer does it.
async fn chrome(session: Option<Extension<access::Session>>, mut req: Request, next: Next) -> Response {
    let at = req.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let project = session.as_ref().map_or_else(kernel::ProjectId::default_project, |s| s.principal.project.clone());
    let mut chrome = Chrome::new([], console::Link::parse(&at), project);
    if let Some(Extension(session)) = session {
        chrome.csrf = session.csrf;
        chrome.user = session.principal.name.to_string();
    }
    req.extensions_mut().insert(chrome);
    next.run(req).await
}

async fn the_api(site: Site) {
    let (access, _, admin) = site.first_node().await;
    let app = App::new(&access, &site);
    let made = app.json("POST", "/v1/keys", &admin, json!({ "name": "ci", "scopes": ["access:read"] })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(made.headers["cache-control"], "no-store");
    let (made, location) = (made.json(), made.headers["location"].to_str().unwrap().to_owned());
    let secret = made["secret"].as_str().unwrap();
    assert_eq!(location, format!("/v1/keys/{}", made["id"].as_str().unwrap()));

    let who = app.json("GET", "/v1/whoami", secret, Value::Null).await.json();
    assert_eq!(who["name"], "ci");
    assert_eq!(who["scopes"], json!(["access:read"]));
    let listed = app.json("GET", "/v1/keys?limit=1", secret, Value::Null).await;
    assert_eq!(listed.json()["items"].as_array().unwrap().len(), 1);
    assert!(!listed.text.contains("msk_") && !listed.text.contains("secret\":"));

    let rotated = app.json("POST", &format!("{location}/rotate"), &admin, json!({ "overlap_seconds": 60 })).await;
    assert_eq!(rotated.status, StatusCode::CREATED, "{}", rotated.text);
    assert_eq!(rotated.json()["state"], "rotating");
    assert_eq!(app.json("GET", "/v1/whoami", secret, Value::Null).await.status, StatusCode::OK);
    assert_eq!(app.json("DELETE", &location, &admin, Value::Null).await.status, StatusCode::NO_CONTENT);
    assert_eq!(app.json("GET", "/v1/whoami", secret, Value::Null).await.code(), "ACCESS_KEY_REVOKED");
    assert_eq!(app.json("GET", &location, &admin, Value::Null).await.json()["state"], "revoked");

    let audit = app.json("GET", "/v1/audit?action=access.key.rotate", &admin, Value::Null).await.json();
    assert_eq!(audit["items"].as_array().unwrap().len(), 1);
    assert_eq!(audit["items"][0]["object"], made["id"]);
}

async fn statuses(site: Site) {
    let (access, admin, root) = site.first_node().await;
    let app = App::new(&access, &site);
    let reader = access.create_key(&admin, &new_key("reader", "access:read"), None).await.unwrap().text.expose();
    let other = access.create_key(&admin, &new_key("other", "links:admin"), None).await.unwrap().text.expose();
    let key = json!({ "name": "x", "scopes": ["links:read"] });
    for (method, path, who, body, status, code) in [
        ("GET", "/v1/keys", "", Value::Null, 401, "ACCESS_KEY_MALFORMED"),
        ("GET", "/v1/keys", "msk_nonsense", Value::Null, 401, "ACCESS_KEY_MALFORMED"),
        ("GET", "/v1/keys", &other, Value::Null, 403, "ACCESS_FORBIDDEN"),
        ("GET", "/v1/audit", &other, Value::Null, 403, "ACCESS_FORBIDDEN"),
        ("POST", "/v1/keys", &reader, key.clone(), 403, "ACCESS_FORBIDDEN"),
        ("POST", "/v1/projects", &reader, json!({ "id": "shop" }), 403, "ACCESS_FORBIDDEN"),
        ("GET", "/v1/keys/key_x", &root, Value::Null, 404, "ACCESS_KEY_UNKNOWN"),
        ("GET", "/v1/projects/nowhere", &root, Value::Null, 404, "ACCESS_PROJECT_UNKNOWN"),
        ("POST", "/v1/projects", &root, json!({ "id": "default" }), 409, "ACCESS_PROJECT_EXISTS"),
        ("POST", "/v1/projects", &root, json!({ "id": "No" }), 422, "ACCESS_PROJECT_INVALID"),
        ("POST", "/v1/keys", &root, json!({ "name": "x", "scopes": ["links"] }), 422, "ACCESS_KEY_INVALID"),
        ("POST", "/v1/keys", &root, json!({ "name": "x", "scopes": [] }), 422, "ACCESS_KEY_INVALID"),
        ("POST", "/v1/keys", &root, json!({ "name": "", "scopes": ["a:read"] }), 422, "ACCESS_KEY_INVALID"),
        ("POST", "/v1/keys", &root, json!({ "name": "x" }), 400, "INVALID_JSON"),
        ("GET", "/v1/keys?limit=0", &root, Value::Null, 400, "INVALID_QUERY"),
        ("GET", "/v1/keys?cursor=x", &root, Value::Null, 400, "INVALID_CURSOR"),
    ] {
        let answer = app.json(method, path, who, body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{method} {path}: {}",
            answer.text
        );
    }
    let nobody = app.send("GET", "/v1/keys", &[], "").await;
    assert_eq!((nobody.status.as_u16(), nobody.code().as_str()), (401, "ACCESS_UNAUTHENTICATED"));
    assert_eq!(nobody.headers["www-authenticate"], "Bearer");
    let last = format!("/v1/keys/{}", admin.key_id.unwrap());
    assert_eq!(app.json("DELETE", &last, &root, Value::Null).await.code(), "ACCESS_LAST_ADMIN_KEY");
}

async fn a_created_key_is_answered_twice_and_made_once(site: Site) {
    let (access, admin, root) = site.first_node().await;
    let app = App::new(&access, &site);
    let bearer = format!("Bearer {root}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("idempotency-key", "0d6f1e6c-6f5c-4f0e-9f0d-3c2f8a8a7f11"),
    ];
    let body = r#"{"name":"ci","scopes":["links:read"]}"#;
    let one = app.send("POST", "/v1/keys", &headers, body).await;
    let two = app.send("POST", "/v1/keys", &headers, body).await;
    assert_eq!((one.status, &one.text), (two.status, &two.text));
    assert_eq!(two.headers["idempotent-replayed"], "true");
    access
        .authenticate(one.json()["secret"].as_str().unwrap(), None)
        .await
        .expect("the secret that was answered works");
    let keys = access.list_keys(&admin.project, &web::PageQuery::default()).await.unwrap();
    assert_eq!(keys.items.len(), 2);
}

async fn projects_are_chosen_by_administrators_only(site: Site) {
    let (access, admin, root) = site.first_node().await;
    let app = App::new(&access, &site);
    let shop = admin_in(&access, &admin, "shop").await;
    let bound = access.create_key(&shop, &new_key("bound", "*:admin"), None).await.unwrap().text.expose();
    for (key, project, status, code) in [
        (&root, "shop", 200, ""),
        (&root, "nowhere", 404, "ACCESS_PROJECT_UNKNOWN"),
        (&bound, "shop", 200, ""),
        (&bound, "default", 403, "ACCESS_FORBIDDEN"),
        (&bound, "nowhere", 403, "ACCESS_FORBIDDEN"),
    ] {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("mainstay-project", project)];
        let answer = app.send("GET", "/v1/whoami", &headers, "").await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{project}");
        if status == 200 {
            assert_eq!(answer.json()["project"], project);
        }
    }
}

async fn dev_is_for_this_machine_only(site: Site) {
    let (access, _) = site.start(Options { dev: true, ..Options::default() }).await.unwrap();
    let app = App::new(&access, &site);
    for (method, path, headers, status) in [
        ("GET", "/v1/whoami", &[("host", "127.0.0.1:7070")][..], 200),
        ("GET", "/v1/whoami", &[("host", "evil.example:7070")], 403),
        ("DELETE", "/v1/keys/key_x", &[("host", "localhost:7070")], 404),
        ("DELETE", "/v1/keys/key_x", &[("host", "localhost:7070"), ("origin", "http://evil.example")], 403),
        ("DELETE", "/v1/keys/key_x", &[("host", "localhost:7070"), ("sec-fetch-site", "cross-site")], 403),
        ("GET", "/console/keys", &[("host", "localhost:7070")], 200),
        ("GET", "/console/keys", &[("host", "evil.example")], 403),
        ("GET", "/console/sign-in", &[("host", "localhost:7070")], 303),
    ] {
        let answer = app.send(method, path, headers, "").await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path} {headers:?}: {}", answer.text);
    }
}

fn cookie_of(answer: &Answer) -> String {
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

async fn signing_in(site: Site) {
    let (access, _, root) = site.first_node().await;
    let app = App::new(&access, &site);
    let away = app.send("GET", "/console/keys?cursor=a", &[], "").await;
    assert_eq!(away.status, StatusCode::SEE_OTHER);
    assert_eq!(away.headers["location"], "/console/sign-in?next=%2Fconsole%2Fkeys%3Fcursor%3Da");
    let page = app.send("GET", "/console/sign-in?next=//evil.example", &[], "").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    assert!(!page.text.contains("evil.example"), "never away from the console");

    let wrong = app.form("/console/sign-in", "", "key=msk_wrong&next=/console/keys").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.text.contains("ACCESS_KEY_MALFORMED") && !wrong.text.contains("msk_wrong"));
    let elsewhere = [("sec-fetch-site", "cross-site"), ("content-type", "application/x-www-form-urlencoded")];
    let forged = app.send("POST", "/console/sign-in", &elsewhere, &format!("key={root}")).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN, "nobody is signed in by another site");

    let right = app.form("/console/sign-in", "", &format!("key={root}&next=/console/audit")).await;
    assert_eq!((right.status, right.headers["location"].to_str().unwrap()), (StatusCode::SEE_OTHER, "/console/audit"));
    let cookie = cookie_of(&right);
    let audit = app.send("GET", "/console/audit", &[("cookie", &cookie)], "").await;
    assert_eq!(audit.status, StatusCode::OK);
    assert!(audit.text.contains("access.session.open"), "{}", audit.text);

    let csrf = csrf_of(&audit.text);
    assert_eq!(app.form("/console/sign-out", &cookie, "csrf=").await.status, StatusCode::FORBIDDEN);
    let out = app.form("/console/sign-out", &cookie, &format!("csrf={csrf}")).await;
    assert_eq!(out.status, StatusCode::SEE_OTHER);
    assert!(out.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(app.send("GET", "/console/audit", &[("cookie", &cookie)], "").await.status, StatusCode::SEE_OTHER);

    // Over TLS the cookie belongs to this host alone and never travels in the clear.
    let (tls, _) = site.start(Options { tls: true, ..Options::default() }).await.unwrap();
    let right = App::new(&tls, &site).form("/console/sign-in", "", &format!("key={root}")).await;
    let cookie = right.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-") && cookie.ends_with("; Secure"), "{cookie}");
}

fn csrf_of(page: &str) -> String {
    let start = page.find("name=\"csrf\" value=\"").expect("a form with a token") + 19;
    page[start..].split('"').next().unwrap().to_owned()
}

async fn forms_of_the_console(site: Site) {
    let (access, admin, root) = site.first_node().await;
    admin_in(&access, &admin, "shop").await;
    let app = App::new(&access, &site);
    let cookie = cookie_of(&app.form("/console/sign-in", "", &format!("key={root}")).await);
    let page = app.send("GET", "/console/keys", &[("cookie", &cookie)], "").await;
    let csrf = csrf_of(&page.text);
    assert!(page.text.contains("curl") && page.text.contains("mainstay keys"), "each action shows its request");

    let create = "name=%3Cb%3Ebold%3C%2Fb%3E&scopes=links%3Aread&expires_at=2026-12-31T12%3A00";
    for wrong in [create.to_owned(), format!("{create}&csrf=00000000000000000000000000000000")] {
        assert_eq!(app.form("/console/keys", &cookie, &wrong).await.status, StatusCode::FORBIDDEN);
    }
    let forged = [
        ("cookie", cookie.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
        ("host", "localhost"),
        ("origin", "http://evil.example"),
    ];
    let stolen = app.send("POST", "/console/keys", &forged, &format!("{create}&csrf={csrf}")).await;
    assert_eq!(stolen.status, StatusCode::FORBIDDEN, "from another site, even with the token");

    let made = app.form("/console/keys", &cookie, &format!("{create}&csrf={csrf}")).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    assert_eq!(made.headers["cache-control"], "no-store");
    assert!(made.text.contains("msk_") && made.text.contains("&lt;b&gt;bold") && !made.text.contains("<b>bold"));
    let keys = access.list_keys(&admin.project, &web::PageQuery::default()).await.unwrap().items;
    let key = keys.iter().find(|k| k.name == "<b>bold</b>").unwrap();
    assert_eq!(key.expires_at, kernel::Timestamp::parse("2026-12-31T12:00:00Z"));
    let again = app.send("GET", "/console/keys", &[("cookie", &cookie)], "").await;
    assert!(!again.text.contains("msk_"), "shown once");

    let bad = app.form("/console/keys", &cookie, &format!("name=x&scopes=nonsense&csrf={csrf}")).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bad.text.contains("ACCESS_KEY_INVALID") && bad.text.contains("value=\"nonsense\""), "what was typed stays");

    let path = format!("/console/keys/{}", key.id);
    assert_eq!(app.send("GET", &path, &[("cookie", &cookie)], "").await.status, StatusCode::OK);
    let rotated = app.form(&format!("{path}/rotate"), &cookie, &format!("overlap_seconds=3600&csrf={csrf}")).await;
    assert!(rotated.text.contains("msk_"), "{}", rotated.text);
    let unsure = app.form(&format!("{path}/revoke"), &cookie, &format!("confirm=bold&csrf={csrf}")).await;
    assert_eq!(unsure.status, StatusCode::UNPROCESSABLE_ENTITY);
    let sure = format!("confirm=%3Cb%3Ebold%3C%2Fb%3E&csrf={csrf}");
    assert_eq!(app.form(&format!("{path}/revoke"), &cookie, &sure).await.status, StatusCode::SEE_OTHER);
    assert!(access.get_key(&admin.project, &key.id.to_string()).await.unwrap().revoked_at.is_some());

    let chosen = app.form("/console/project", &cookie, &format!("project=shop&csrf={csrf}")).await;
    let both = format!("{cookie}; {}", cookie_of(&chosen));
    let shop = app.send("GET", "/console/keys", &[("cookie", &both)], "").await;
    assert!(shop.text.contains("No keys in this project."), "{}", shop.text);
}

#[test]
fn every_operation_is_described() {
    let info = web::openapi::Info { title: "t".to_owned(), version: "1".to_owned(), description: String::new() };
    let document = web::openapi::document(&info, vec![access::http::openapi()]).unwrap();
    let operations: Vec<String> = document.operations().map(|(path, method, _)| format!("{method} {path}")).collect();
    for want in [
        "get /v1/keys",
        "post /v1/keys",
        "get /v1/keys/{id}",
        "delete /v1/keys/{id}",
        "post /v1/keys/{id}/rotate",
        "get /v1/projects",
        "post /v1/projects",
        "get /v1/projects/{id}",
        "get /v1/audit",
        "get /v1/whoami",
    ] {
        assert!(operations.iter().any(|o| o == want), "{want} in {operations:?}");
    }
}

#[test]
fn every_code_has_its_page() {
    for code in access::error::CODES {
        let page = format!("{}/../../docs/errors/{}.md", env!("CARGO_MANIFEST_DIR"), code.name);
        let text = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{page}: {e}"));
        assert!(text.starts_with(&format!("# {}\n", code.name)));
    }
}
