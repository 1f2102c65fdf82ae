//! The pages, as a browser without script sees them.

use ::http::{HeaderMap, Method, Request, header};
use axum::{Extension, Router, body::Body};
use console::{Chrome, Link as Address};
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use identity::{Principal, Scopes};
use kernel::Shutdown;
use tower::ServiceExt as _;

use access::Caller;

use crate::world::{Engine, Node, World, principal};

struct Browser {
    node: Node,
    who: Principal,
    shutdown: Shutdown,
    world: World,
}

struct Got {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Browser {
    async fn new() -> Self {
        let world = World::new(Engine::Sqlite).await;
        Self { node: world.node().await, who: principal("default"), shutdown: Shutdown::new(), world }
    }

    fn app(&self, at: &str) -> Router {
        let mut chrome = Chrome::new([], Address::parse(at), self.who.project.clone());
        "the-token".clone_into(&mut chrome.csrf);
        shortener::console::routes(self.node.shortener.clone(), self.shutdown.clone())
            .layer(Extension(chrome))
            .layer(Extension(Caller::new(self.who.clone())))
    }

    async fn get(&self, at: &str) -> Got {
        self.send(Method::GET, at, None).await
    }

    async fn post(&self, at: &str, form: &str) -> Got {
        self.send(Method::POST, at, Some(form)).await
    }

    async fn send(&self, method: Method, at: &str, form: Option<&str>) -> Got {
        let request = Request::builder()
            .method(method)
            .uri(at)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form.unwrap_or_default().to_owned()))
            .unwrap();
        let (parts, body) = self.app(at).oneshot(request).await.unwrap().into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Got { status: parts.status.as_u16(), headers: parts.headers, text }
    }
}

#[tokio::test]
async fn a_link_is_made_looked_at_and_deleted() {
    let browser = Browser::new().await;
    let empty = browser.get("/console/links").await;
    assert_eq!(empty.status, 200);
    for part in [
        "No links yet.",
        "mainstay links create",
        "curl",
        "name=\"once\"",
        "data-live=\"/console/live/links?range=1h\"",
    ] {
        assert!(empty.text.contains(part), "{part}");
    }
    let once = empty.text.split("name=\"once\" value=\"").nth(1).unwrap()[..32].to_owned();
    let form = format!(
        "csrf=the-token&once={once}&url=https%3A%2F%2Fexample.com%2F%3Fa%3D%3Ci%3Ezz&alias=spring&expires_at=2036-01-01T00%3A00"
    );
    let made = browser.post("/console/links", &form).await;
    assert_eq!((made.status, made.headers[header::LOCATION].to_str().unwrap()), (303, "/console/links/spring?made=1"));
    // The button pressed twice makes one link and leads to the same page.
    let again = browser.post("/console/links", &form).await;
    assert_eq!(again.headers[header::LOCATION], made.headers[header::LOCATION]);

    browser.node.status("spring").await;
    browser.node.shortener.flush_clicks().await.unwrap();
    let list = browser.get("/console/links").await.text;
    assert!(list.contains("href=\"/console/links/spring\"") && list.contains("active"), "{list}");
    let page = browser.get("/console/links/spring?made=1").await;
    assert_eq!(page.status, 200);
    for part in [
        "https://go.example.com/spring",
        "2036-01-01",
        "Last followed",
        "Delete this link",
        "links clicks spring",
        "<svg",
    ] {
        assert!(page.text.contains(part), "{part}");
    }
    assert!(!page.text.contains("<i>zz"), "the destination is escaped");

    let wrong = browser.post("/console/links/spring/delete", "csrf=the-token&confirm=summer").await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.text.contains("Nothing was done"));
    assert_eq!(browser.node.status("spring").await, 302);
    let deleted = browser.post("/console/links/spring/delete", "csrf=the-token&confirm=spring").await;
    assert_eq!(
        (deleted.status, &deleted.headers[header::LOCATION]),
        (303, &"/console/links?deleted=spring".parse().unwrap())
    );
    assert!(browser.get("/console/links?deleted=spring").await.text.contains("spring is deleted"));
    assert_eq!(browser.node.status("spring").await, 404);
    let gone = browser.get("/console/links/spring").await;
    assert_eq!(gone.status, 404);
    assert!(gone.text.contains("SHORTENER_LINK_UNKNOWN"));
}

#[tokio::test]
async fn what_is_refused_says_why_and_keeps_what_was_typed() {
    let browser = Browser::new().await;
    for (form, status, parts) in [
        (
            "url=nope&alias=spring&expires_at=",
            422,
            vec!["SHORTENER_INVALID_URL", "value=\"nope\"", "value=\"spring\"", "aria-invalid"],
        ),
        ("url=https%3A%2F%2Fexample.com&alias=admin", 422, vec!["SHORTENER_ALIAS_RESERVED"]),
        ("url=https%3A%2F%2Fexample.com&expires_at=2020-01-01T00%3A00", 422, vec!["SHORTENER_EXPIRY_INVALID"]),
        ("url=https%3A%2F%2Fexample.com&expires_at=soon", 422, vec!["SHORTENER_EXPIRY_INVALID"]),
    ] {
        let got = browser.post("/console/links", &format!("csrf=the-token&once=x&{form}")).await;
        assert_eq!(got.status, status, "{form}");
        for part in parts {
            assert!(got.text.contains(part), "{form}: {part}");
        }
    }
    let made = browser.node.shorten("https://example.com/").await;
    for (at, form) in [
        ("/console/links".to_owned(), "csrf=another&once=x&url=https%3A%2F%2Fexample.com".to_owned()),
        ("/console/links".to_owned(), "csrf=&once=x&url=https%3A%2F%2Fexample.com".to_owned()),
        (format!("/console/links/{made}/delete"), format!("csrf=another&confirm={made}")),
    ] {
        let got = browser.post(&at, &form).await;
        assert_eq!(got.status, 403, "{at} {form}");
    }
    assert_eq!(browser.node.status(&made).await, 302);
}

#[tokio::test]
async fn a_key_sees_what_its_scopes_allow() {
    let mut browser = Browser::new().await;
    browser.node.alias("mine", "https://example.com/").await.unwrap();
    browser.who.scopes = Scopes::parse("links:read").unwrap();
    assert_eq!(browser.get("/console/links").await.status, 200);
    assert_eq!(browser.post("/console/links", "csrf=the-token&once=x&url=https%3A%2F%2Fexample.com").await.status, 403);
    assert_eq!(browser.post("/console/links/mine/delete", "csrf=the-token&confirm=mine").await.status, 403);
    browser.who.project = kernel::ProjectId::parse("other").unwrap();
    assert_eq!(browser.get("/console/links/mine").await.status, 404);
    browser.who.scopes = Scopes::parse("jobs:admin").unwrap();
    assert_eq!(browser.get("/console/links").await.status, 403);
}

#[tokio::test]
async fn the_stream_tells_of_new_clicks_and_ends_with_the_listener() {
    let browser = Browser::new().await;
    browser.node.alias("mine", "https://example.com/").await.unwrap();
    let at = "/console/live/links/mine?range=1h";
    let request = Request::builder().uri(at).body(Body::empty()).unwrap();
    let response = browser.app(at).oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut events = response.into_body().into_data_stream();
    let mut next = async || String::from_utf8(events.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(next().await.starts_with("event: fragment\ndata: {\"html\":"));
    assert!(next().await.contains("link-chart"));
    assert_eq!(next().await, ":\n\n");
    for _ in 0..7 {
        browser.node.status("mine").await;
    }
    browser.node.shortener.flush_clicks().await.unwrap();
    let (tiles, ()) = tokio::join!(next(), async { browser.world.sim.advance(std::time::Duration::from_secs(2)) });
    assert!(tiles.contains("link-tiles") && tiles.contains('7'), "{tiles}");
    browser.shutdown.trigger();
    while events.next().await.is_some() {}
}
