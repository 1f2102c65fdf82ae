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
        self.post_as(at, "application/x-www-form-urlencoded", form).await
    }

    async fn post_as(&self, at: &str, content_type: &str, body: &str) -> Got {
        self.send(Method::POST, at, Some((content_type, body))).await
    }

    async fn send(&self, method: Method, at: &str, body: Option<(&str, &str)>) -> Got {
        let (content_type, form) = body.unwrap_or(("text/plain", ""));
        let request = Request::builder()
            .method(method)
            .uri(at)
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(form.to_owned()))
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
    for part in ["No links yet.", "mainstay links create", "curl", "name=\"once\""] {
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
    assert!(list.contains("data-live=\"/console/live/links?range=7d\"") && list.contains("Clicks over time"));
    assert!(list.contains("href=\"/console/links/spring\"") && list.contains("active"), "{list}");
    let page = browser.get("/console/links/spring?made=1").await;
    assert_eq!(page.status, 200);
    for part in [
        "https://go.example.com/spring",
        "2036-01-01",
        "Last followed",
        "Delete this link",
        "Referrers",
        "Download PNG",
        "https://go.example.com/spring+",
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
        ("url=https%3A%2F%2Fexample.com&expires_at=soon", 422, vec!["SHORTENER_LINK_INVALID", "f-expires_at-note"]),
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
async fn a_link_is_made_with_everything_and_edited() {
    let browser = Browser::new().await;
    let form = "csrf=the-token&url=https%3A%2F%2Fexample.com%2F&alias=spring&title=Spring+sale&tags=spring%2C+mail&notes=a%0D%0Ab\
                &max_clicks=50&redirect=307&forward_query=on&utm%2Fsource=mail&password=open+sesame\
                &rules%2F0%2Fdevice=&rules%2F1%2Fdevice=mobile%2C+tablet&rules%2F1%2Fto=https%3A%2F%2Fa.example%2F+3%0D%0Ahttps%3A%2F%2Fb.example%2F\
                &split%2F0%2Furl=https%3A%2F%2Fc.example%2F&split%2F0%2Fweight=2&split%2F1%2Furl=https%3A%2F%2Fd.example%2F";
    assert_eq!(browser.post("/console/links", form).await.status, 303);
    let made = browser.node.shortener.get(&browser.who.project, "spring").await.unwrap().link;
    let weights = |variants: &[shortener::model::Variant]| variants.iter().map(|v| v.weight).collect::<Vec<_>>();
    assert_eq!((made.title.as_str(), made.notes.as_str(), made.max_clicks), ("Spring sale", "a\nb", Some(50)));
    assert_eq!((weights(&made.settings.rules[0].to), weights(&made.settings.split)), (vec![3, 1], vec![2, 1]));
    assert!(made.settings.forward_query && made.settings.password.is_some());

    let page = browser.get("/console/links/spring/edit").await.text;
    for part in
        ["value=\"Spring sale\"", "https://a.example/ 3", "name=\"without_password\"", "value=\"50\"", "mobile, tablet"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("sesame") && !page.contains("pbkdf2"), "the password is not shown");

    // What the form shows, sent back with one change.
    let sent = form.replace("title=Spring+sale", "title=Summer+sale").replace("password=open+sesame", "password=");
    let saved = browser.post("/console/links/spring/edit", &format!("{sent}&version=1&has_password=yes")).await;
    assert_eq!(
        (saved.status, saved.headers[header::LOCATION].to_str().unwrap()),
        (303, "/console/links/spring?done=saved")
    );
    let after = browser.node.shortener.get(&browser.who.project, "spring").await.unwrap().link;
    assert_eq!(after.title, "Summer sale");
    assert_eq!(after.settings, made.settings, "nothing else changed");
    let page = browser.get("/console/links/spring").await.text;
    for part in ["Title changed", "Spring sale", "Summer sale", "utm_source=mail", "visitors are asked for it"] {
        assert!(page.contains(part), "{part}");
    }

    // Somebody else was faster.
    let late = browser.post("/console/links/spring/edit", &format!("{sent}&version=1&has_password=yes&title=x")).await;
    assert_eq!(late.status, 412);
    assert!(late.text.contains("SHORTENER_LINK_CHANGED") && late.text.contains("name=\"version\" value=\"1\""));
    // What is wrong stands beside its field, and what was typed is kept.
    for (field, at) in [
        ("max_clicks=0", "f-max_clicks-note"),
        ("rules%2F0%2Fdevice=toaster&rules%2F0%2Fto=https%3A%2F%2Fa.example", "f-rules/0/device-note"),
        ("rules%2F0%2Fdevice=tv&rules%2F0%2Fto=nonsense", "f-rules/0/to-note"),
        ("split%2F0%2Furl=https%3A%2F%2Fa.example&split%2F0%2Fweight=x", "f-split/0/weight-note"),
        ("password=abc", "f-password-note"),
    ] {
        let form = format!("csrf=the-token&version=2&url=https%3A%2F%2Fexample.com%2F&{field}");
        let got = browser.post("/console/links/spring/edit", &form).await;
        assert_eq!(got.status, 422, "{field}");
        assert!(got.text.contains(&format!("<p class=\"error\" id=\"{at}\"")), "{field}: {}", got.text);
    }
}

#[tokio::test]
async fn links_are_switched_off_and_on_alone_and_together() {
    let browser = Browser::new().await;
    for code in ["one", "two", "three"] {
        browser.node.alias(code, "https://example.com/").await.unwrap();
    }
    let off = browser.post("/console/links/one/state", "csrf=the-token&to=disabled").await;
    assert_eq!(off.headers[header::LOCATION], "/console/links/one?done=disabled");
    assert_eq!(browser.node.status("one").await, 403);
    assert!(browser.get("/console/links/one?done=disabled").await.text.contains("Enable again"));
    browser.post("/console/links/one/state", "csrf=the-token&to=active").await;
    assert_eq!(browser.node.status("one").await, 302);

    let bulk = "/console/link-changes?next=%2Fconsole%2Flinks%3Ftag%3Dx";
    let chosen = "csrf=the-token&id=%2Fone&id=%2Ftwo&id=%2Fgone";
    let asked = browser.post(bulk, &format!("{chosen}&do=disable")).await;
    assert_eq!(asked.status, 200);
    assert!(asked.text.contains("Disable 3 links?") && asked.text.contains("Cancel"));
    assert_eq!(browser.node.status("one").await, 302, "asked, not done");
    let done = browser.post(bulk, &format!("{chosen}&do=disable&sure=yes")).await;
    assert_eq!(done.headers[header::LOCATION], "/console/links?tag=x&done=disable&count=2&of=3");
    assert_eq!((browser.node.status("one").await, browser.node.status("three").await), (403, 302));
    let told = browser.get("/console/links?done=disable&count=2&of=3").await.text;
    assert!(told.contains("2 links are disabled") && told.contains("The others of 3 are gone"));

    let wrong = browser.post(bulk, &format!("{chosen}&do=delete&sure=yes&confirm=2+links")).await;
    assert_eq!(wrong.status, 422);
    assert_eq!(browser.node.status("two").await, 403);
    let done = browser.post(bulk, &format!("{chosen}&do=delete&sure=yes&confirm=3+links")).await;
    assert_eq!(done.status, 303);
    assert_eq!((browser.node.status("one").await, browser.node.status("three").await), (404, 302));
    let none = browser.post(bulk, "csrf=the-token&do=delete").await;
    assert_eq!(none.headers[header::LOCATION], "/console/links?tag=x&done=nothing");
    for (form, status) in
        [("csrf=no&do=delete&id=%2Fthree&sure=yes&confirm=1+link", 403), ("do=delete&id=%2Fthree", 403)]
    {
        assert_eq!(browser.post(bulk, form).await.status, status);
    }
    // `next` leads nowhere else.
    let away = browser.post("/console/link-changes?next=https%3A%2F%2Fevil.example", "csrf=the-token&do=delete").await;
    assert_eq!(away.headers[header::LOCATION], "/console?done=nothing");
}

#[tokio::test]
async fn lists_are_filtered_by_their_address() {
    let browser = Browser::new().await;
    for n in 0..30 {
        let form = format!("csrf=the-token&url=https%3A%2F%2Fexample.com%2F{n}&alias=page-{n}&tags=tag{}", n % 2);
        assert_eq!(browser.post("/console/links", &form).await.status, 303);
    }
    browser.post("/console/links/page-3/state", "csrf=the-token&to=disabled").await;
    let first = browser.get("/console/links").await.text;
    assert!(first.contains("25 shown") && first.contains("Next page") && !first.contains("First page"));
    let next = first.split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    let second = browser.get(&next).await.text;
    assert!(second.contains("5 shown") && second.contains("First page"));
    for (query, shown) in [
        ("?tag=tag1", "15 shown"),
        ("?code=page-2", "11 shown"),
        ("?q=EXAMPLE.com%2F12", "1 shown"),
        ("?status=disabled", "1 shown"),
        ("?status=disabled&tag=tag0", "Nothing matches"),
        ("?status=nonsense", "Nothing matches"),
        ("?domain=other.example.com", "Nothing matches"),
        ("?q=%25", "Nothing matches"),
    ] {
        let got = browser.get(&format!("/console/links{query}")).await;
        assert_eq!(got.status, 200);
        assert!(got.text.contains(shown), "{query}: {}", got.text);
        assert!(got.text.contains("New link"), "who looks for a link gets the list first");
    }
    assert!(first.len() < 100_000, "{}", first.len());
}

#[tokio::test]
async fn domains_and_templates_are_kept() {
    let browser = Browser::new().await;
    assert!(browser.get("/console/domains").await.text.contains("No domains yet."));
    let added = browser
        .post("/console/domains", "csrf=the-token&host=Go2.Example.com&root_url=&unknown_url=&ignores_case=on")
        .await;
    assert_eq!(added.headers[header::LOCATION], "/console/domains/go2.example.com?done=added");
    let refused = browser.post("/console/domains", "csrf=the-token&host=http%3A%2F%2Fx&root_url=zz").await;
    assert_eq!(refused.status, 422);
    assert!(refused.text.contains("SHORTENER_DOMAIN_INVALID") && refused.text.contains("value=\"http://x\""));
    let saved = browser
        .post("/console/domains/go2.example.com", "csrf=the-token&root_url=https%3A%2F%2Fexample.com%2F&unknown_url=")
        .await;
    assert_eq!(saved.status, 303);
    assert!(browser.get("/console/domains").await.text.contains("example.com/"));
    assert_eq!(browser.post("/console/domains/go2.example.com", "csrf=the-token&root_url=nope").await.status, 422);

    // A link on it has pages of its own.
    let made = browser
        .post("/console/links", "csrf=the-token&url=https%3A%2F%2Fexample.com%2F&alias=Spring&domain=go2.example.com")
        .await;
    assert_eq!(made.headers[header::LOCATION], "/console/links/spring?domain=go2.example.com&made=1");
    let page = browser.get("/console/links/spring?domain=go2.example.com").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("/v1/links/spring?domain=go2.example.com"));
    assert_eq!(browser.get("/console/links/spring").await.status, 404);
    assert_eq!(browser.get("/console/links/spring/edit?domain=go2.example.com").await.status, 200);
    assert!(browser.get("/console/links?domain=own").await.text.contains("Nothing matches"));
    assert!(browser.get("/console/links?domain=go2.example.com").await.text.contains("1 shown"));
    let svg = browser.get("/console/link-codes/spring/svg?domain=go2.example.com").await;
    assert_eq!((svg.status, svg.headers[header::CONTENT_TYPE].to_str().unwrap()), (200, "image/svg+xml"));

    let remove = "/console/domains/go2.example.com/remove";
    assert_eq!(browser.post(remove, "csrf=the-token&confirm=go").await.status, 422);
    let used = browser.post(remove, "csrf=the-token&confirm=go2.example.com").await;
    assert_eq!(used.status, 409);
    assert!(used.text.contains("Links are on this domain"));
    browser.post("/console/links/spring/delete?domain=go2.example.com", "csrf=the-token&confirm=spring").await;
    assert_eq!(browser.post(remove, "csrf=the-token&confirm=go2.example.com").await.status, 303);

    let put = browser.post("/console/utm-templates", "csrf=the-token&name=mail&utm%2Fsource=newsletter").await;
    assert_eq!(put.status, 303);
    assert!(browser.get("/console/utm-templates").await.text.contains("utm_source=newsletter"));
    assert!(browser.get("/console/utm-templates/mail").await.text.contains("value=\"newsletter\""));
    assert!(browser.get("/console/links").await.text.contains("name=\"utm_template\""));
    browser
        .post("/console/links", "csrf=the-token&url=https%3A%2F%2Fexample.com%2F&alias=mailed&utm_template=mail")
        .await;
    let made = browser.node.shortener.get(&browser.who.project, "mailed").await.unwrap().link;
    assert_eq!(made.settings.utm.source.as_deref(), Some("newsletter"));
    assert_eq!(browser.post("/console/utm-templates", "csrf=the-token&name=a+b").await.status, 422);
    assert_eq!(browser.post("/console/utm-templates/mail/delete", "csrf=the-token").await.status, 303);
    assert_eq!(browser.post("/console/utm-templates/mail/delete", "csrf=the-token").await.status, 404);
}

/// A form with a file, as a browser sends it.
fn multipart(fields: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, value) in fields {
        let file = if *name == "file" { "; filename=\"links.csv\"\r\nContent-Type: text/csv" } else { "" };
        body.push_str(&format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n"));
    }
    body + "--X--\r\n"
}

#[tokio::test]
async fn files_are_imported_watched_and_written() {
    let browser = Browser::new().await;
    let empty = browser.get("/console/link-imports").await;
    for part in [
        "No imports yet.",
        "--data-binary",
        "enctype=\"multipart/form-data\"",
        "data-live=\"/console/live/link-imports\"",
    ] {
        assert!(empty.text.contains(part), "{part}");
    }
    let once = empty.text.split("name=\"once\" value=\"").nth(1).unwrap()[..32].to_owned();
    let csv = "url,code\r\nhttps://example.com/a,first\r\nnonsense,second\r\nhttps://example.com/c,third\r\n";
    let send = async |fields: &[(&str, &str)]| {
        browser.post_as("/console/link-imports", "multipart/form-data; boundary=X", &multipart(fields)).await
    };
    let form = [("csrf", "the-token"), ("once", once.as_str()), ("format", "csv"), ("file", csv), ("text", "")];
    let sent = send(&form).await;
    assert_eq!(sent.status, 303, "{}", sent.text);
    let page = sent.headers[header::LOCATION].to_str().unwrap().to_owned();
    assert!(page.starts_with("/console/link-imports/imp_"), "{page}");
    // The button pressed twice imports once; the same form with another file is refused.
    assert_eq!(send(&form).await.headers[header::LOCATION], page);
    let mut other = form;
    other[3] = ("file", "url\r\nhttps://example.com/d\r\n");
    assert_eq!(send(&other).await.status, 403);

    let waiting = browser.get(&page).await;
    assert!(waiting.text.contains("queued") && waiting.text.contains(">Stop</button>"), "{}", waiting.text);
    assert!(waiting.text.contains("max=\"3\"") && waiting.text.contains("0 of 3 rows"));
    assert!(browser.get("/console/link-imports").await.text.contains("0 of 3 rows"));
    let stopped = browser.post(&format!("{page}/stop"), "csrf=the-token").await;
    assert_eq!(stopped.status, 303);
    assert!(browser.get(&page).await.text.contains("stopped"));
    assert_eq!(browser.post(&format!("{page}/stop"), "csrf=no").await.status, 403);

    // What is pasted is as good as a file.
    let pasted = send(&[("csrf", "the-token"), ("once", "x"), ("format", "csv"), ("file", ""), ("text", csv)]).await;
    assert_eq!(pasted.status, 303);
    for (fields, status) in [
        (vec![("csrf", "no"), ("format", "csv"), ("file", csv)], 403),
        // The token has to come before the file.
        (vec![("format", "csv"), ("file", csv), ("csrf", "the-token")], 403),
        (vec![("csrf", "the-token"), ("format", "csv"), ("file", ""), ("text", "")], 422),
        (vec![("csrf", "the-token"), ("format", "xls"), ("file", csv)], 422),
        (vec![("csrf", "the-token"), ("format", "csv"), ("file", "no,such,columns\r\n")], 422),
    ] {
        assert_eq!(send(&fields).await.status, status, "{fields:?}");
    }
    assert_eq!(browser.get("/console/link-imports/imp_nonsense").await.status, 404);

    browser.node.alias("mine", "https://example.com/").await.unwrap();
    let file = browser.get("/console/link-export?format=csv").await;
    assert!(file.headers[header::CONTENT_DISPOSITION].to_str().unwrap().contains("links.csv"));
    assert!(file.text.contains("https://example.com/") && file.text.contains("mine"), "{}", file.text);
    assert!(browser.get("/console/link-export?format=jsonl").await.text.starts_with('{'));
}

#[tokio::test]
async fn what_is_reported_is_taken_down_appealed_and_decided() {
    use shortener::{
        Reporter,
        model::{DomainId, moderation::ReportReason},
    };
    let mut browser = Browser::new().await;
    browser.node.alias("mine", "https://example.com/<i>").await.unwrap();
    browser.node.alias("fine", "https://example.com/").await.unwrap();
    assert!(browser.get("/console/moderation").await.text.contains("No open reports."));
    let shortener = browser.node.shortener.clone();
    for code in ["mine", "fine"] {
        let reporter = Reporter::Key(&browser.who);
        shortener.report(DomainId::OWN, code, ReportReason::Phishing, "asks for <passwords>", reporter).await.unwrap();
    }
    let page = browser.get("/console/moderation").await.text;
    for part in ["phishing", "asks for &lt;passwords&gt;", "2 shown", "/console/moderation/take-down?code=mine"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("href=\"https://example.com"), "nobody follows what is reported by mistake");

    let take_down = "/console/moderation/take-down";
    assert!(browser.get("/console/moderation/take-down?code=mine").await.text.contains("value=\"mine\""));
    let silent = browser.post(take_down, "csrf=the-token&code=mine&kind=abuse&reason=").await;
    assert_eq!(silent.status, 422);
    assert!(silent.text.contains("f-reason-note"));
    assert_eq!(browser.post(take_down, "csrf=no&code=mine&kind=legal&reason=x").await.status, 403);
    assert_eq!(browser.post(take_down, "csrf=the-token&code=mine&kind=legal&reason=A+court").await.status, 303);
    assert_eq!(browser.node.status("mine").await, 451);
    let page = browser.get("/console/moderation").await.text;
    let dismiss = page.split("action=\"").find(|part| part.contains("/dismiss\"")).unwrap().split('"').next().unwrap();
    assert_eq!(browser.post(dismiss, "csrf=the-token").await.status, 303);
    assert!(browser.get("/console/moderation?view=reports").await.text.contains("No open reports."));
    assert!(browser.get("/console/moderation?view=reports&state=upheld").await.text.contains("1 shown"));

    // Its owner.
    let page = browser.get("/console/links/mine").await.text;
    for part in ["A court", "Why this is wrong", "taken down"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("/console/links/mine/edit"), "what is taken down is not edited");
    assert_eq!(browser.post("/console/links/mine/appeal", "csrf=the-token&text=").await.status, 422);
    assert_eq!(browser.post("/console/links/mine/appeal", "csrf=the-token&text=We+cleaned+it").await.status, 303);
    assert!(browser.get("/console/links/mine").await.text.contains("Your appeal waits"));
    assert!(browser.get("/console/moderation?view=appeals").await.text.contains("We cleaned it"));
    let appeal = "/console/moderation/appeal";
    assert_eq!(browser.post(appeal, "csrf=the-token&code=mine&decision=reject&note=").await.status, 422);
    assert_eq!(browser.post(appeal, "csrf=the-token&code=mine&decision=reject&note=Still+there").await.status, 303);
    assert!(browser.get("/console/links/mine").await.text.contains("Still there"));
    assert!(browser.get("/console/moderation?view=takedowns&standing=upheld").await.text.contains("Still there"));
    assert_eq!(browser.post("/console/moderation/restore", "csrf=the-token&code=mine&domain=").await.status, 303);
    assert_eq!(browser.node.status("mine").await, 302);

    let blocks = "/console/moderation/blocks";
    assert_eq!(browser.post(blocks, "csrf=the-token&entry=evil.example&reason=x").await.status, 303);
    let again = browser.post(blocks, "csrf=the-token&entry=evil.example").await;
    assert_eq!(again.status, 409);
    assert!(again.text.contains("value=\"evil.example\""));
    let page = browser.get("/console/moderation?view=blocks").await.text;
    let remove = page.split("action=\"").find(|part| part.contains("/remove\"")).unwrap().split('"').next().unwrap();
    assert_eq!(browser.post(remove, "csrf=the-token").await.status, 303);

    // A project's own keys moderate nothing.
    browser.who.scopes = Scopes::parse("*:admin").unwrap();
    browser.who.is_admin = false;
    for at in ["/console/moderation", take_down, appeal] {
        assert_eq!(browser.get(at).await.status, 403, "{at}");
    }
    for at in [take_down, appeal, "/console/moderation/restore", blocks, dismiss, remove] {
        assert_eq!(browser.post(at, "csrf=the-token&code=fine&reason=x&kind=abuse").await.status, 403, "{at}");
    }
    assert_eq!(browser.node.status("fine").await, 302);
}

#[tokio::test]
async fn a_key_sees_what_its_scopes_allow() {
    let mut browser = Browser::new().await;
    browser.node.alias("mine", "https://example.com/").await.unwrap();
    browser.who.scopes = Scopes::parse("links:read").unwrap();
    assert_eq!(browser.get("/console/links").await.status, 200);
    assert_eq!(browser.post("/console/links", "csrf=the-token&once=x&url=https%3A%2F%2Fexample.com").await.status, 403);
    for (at, form) in [
        ("/console/links/mine/delete", "confirm=mine"),
        ("/console/links/mine/edit", "url=https%3A%2F%2Fexample.com&version=1"),
        ("/console/links/mine/state", "to=disabled"),
        ("/console/link-changes", "do=disable&sure=yes&id=%2Fmine"),
        ("/console/domains", "host=go2.example.com"),
        ("/console/link-imports/imp_0/stop", ""),
        ("/console/utm-templates", "name=mail"),
        ("/console/utm-templates/mail/delete", ""),
    ] {
        assert_eq!(browser.post(at, &format!("csrf=the-token&{form}")).await.status, 403, "{at}");
    }
    assert_eq!(browser.node.status("mine").await, 302);
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
