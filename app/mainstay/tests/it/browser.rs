//! The console in a real browser: Debian's Chromium, headless, over WebDriver.

use std::{path::PathBuf, time::Duration};

use fantoccini::{Client, ClientBuilder, Locator, key::Key, wd::WebDriverCompatibleCommand};
use serde_json::{Value, json};

use crate::support::{Node, clicks, send};

/// Everything that Chromium said on its console since the last time: errors and violations of the content security policy.
#[derive(Debug)]
struct ConsoleLog;

impl WebDriverCompatibleCommand for ConsoleLog {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}

/// The number in the first tile of a link's page: its clicks.
const TOTAL: &str = "#link-tiles .tile .number";

pub(crate) struct Browser {
    pub(crate) client: Client,
    _driver: testkit::Chromedriver,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With more of Chromium's arguments.
    async fn start_with(more: &[String]) -> Self {
        let driver = testkit::Chromedriver::start();
        let mut arguments = driver.chromium_arguments();
        arguments.extend(
            [
                "--disable-quic",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--window-size=1280,900",
            ]
            .map(str::to_owned),
        );
        arguments.extend_from_slice(more);
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!() };
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&driver.url())
            .await
            .unwrap();
        Self { client, _driver: driver }
    }

    pub(crate) async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    pub(crate) async fn text(&self) -> String {
        self.client.find(Locator::Css("body")).await.unwrap().text().await.unwrap()
    }

    pub(crate) async fn wait_for(&self, css: &str) -> fantoccini::elements::Element {
        self.client
            .wait()
            .at_most(Duration::from_secs(30))
            .for_element(Locator::Css(css))
            .await
            .unwrap_or_else(|e| panic!("{css}: {e}"))
    }

    /// Leaves out what was said until now.
    pub(crate) async fn forget_complaints(&self) {
        self.client.issue_cmd(ConsoleLog).await.unwrap();
    }

    /// Nothing on the page may be an error: no script error, no blocked resource, no policy violation.
    pub(crate) async fn no_complaints(&self, page: &str) {
        let log = self.client.issue_cmd(ConsoleLog).await.unwrap();
        let complaints: Vec<_> =
            log.as_array().unwrap().iter().filter(|l| l["level"] == "SEVERE" || l["level"] == "WARNING").collect();
        assert!(complaints.is_empty(), "{page}: {complaints:?}");
    }

    /// What assistive technology needs: every control has a name, every image a text, the page a language and one h1.
    async fn accessible(&self, page: &str) {
        let script = r"
            const bad = [];
            const name = e => (e.labels && e.labels.length) || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')
                || e.title || (e.textContent || '').trim() || e.type === 'hidden' || e.type === 'submit' && e.value;
            document.querySelectorAll('input,select,textarea,button,a[href]').forEach(e => name(e) || bad.push(e.outerHTML));
            document.querySelectorAll('svg').forEach(e =>
                e.getAttribute('aria-hidden') === 'true' || e.querySelector('title') || e.getAttribute('aria-label') || bad.push('svg without title'));
            if (document.querySelectorAll('h1').length !== 1) bad.push('h1');
            if (!document.documentElement.lang) bad.push('lang');
            const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
            ids.filter((id, i) => ids.indexOf(id) !== i).forEach(id => bad.push('id twice: ' + id));
            if (document.documentElement.scrollWidth > window.innerWidth) bad.push('wider than the window');
            return bad;";
        let bad = self.client.execute(script, vec![]).await.unwrap();
        assert_eq!(bad, json!([]), "{page}");
    }

    /// A picture to look at, in `target/screenshots/`.
    async fn picture(&self, name: &str) {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/screenshots"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), self.client.screenshot().await.unwrap()).unwrap();
    }

    pub(crate) async fn close(self) {
        self.client.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_link_is_made_followed_and_its_clicks_arrive_without_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    let browser = Browser::start().await;

    browser.open(&format!("{}/console", node.api)).await;
    assert!(browser.text().await.contains("Shortener"));
    browser.open(&format!("{}/console/links", node.api)).await;
    let form = browser.client.form(Locator::Css("form[action='/console/links']")).await.unwrap();
    form.set_by_name("url", "https://example.com/from-the-console").await.unwrap();
    form.set_by_name("alias", "from-console").await.unwrap();
    form.submit().await.unwrap();
    browser.wait_for(TOTAL).await;
    assert!(browser.text().await.contains("https://example.com/from-the-console"));
    // Read in one go: a live update may take the place of an element that was found before.
    let live = format!("return document.querySelector('{TOTAL}').textContent.trim()");
    assert_eq!(browser.client.execute(&live, vec![]).await.unwrap(), json!("0"));

    for _ in 0..7 {
        let hop = send("GET", &format!("{}/from-console", node.public), &[("user-agent", "Mozilla/5.0")], None);
        assert_eq!((hop.status, hop.header("location")), (302, "https://example.com/from-the-console"));
    }
    let mut seen = json!(null);
    let arrived = async {
        while seen != json!("7") {
            seen = browser.client.execute(&live, vec![]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), arrived).await.is_ok(), "the page shows {seen} of 7 clicks");
    browser.no_complaints("link").await;
    browser.close().await;
}

/// A user agent and a referrer, as visitors send them.
const VISITORS: [(&str, &str, &str); 4] = [
    ("Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", "https://news.example.com/", "en-GB"),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Version/18.1 Mobile/15E148 Safari/604.1",
        "https://t.co/x",
        "de",
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
        "",
        "fr",
    ),
    ("curl/8.5.0", "", ""),
];

/// A project with links of every state, a domain, templates, changes and visitors.
fn furnish(node: &Node) {
    let api = |method: &str, path: &str, body: Value| {
        let got = send(method, &format!("{}{path}", node.api), &[], Some(&body));
        assert!((200..300).contains(&got.status), "{method} {path}: {} {}", got.status, got.body);
    };
    api("POST", "/v1/domains", json!({ "host": "go.example.com", "root_url": "https://example.com/" }));
    api("PUT", "/v1/utm-templates/newsletter", json!({ "source": "newsletter", "medium": "email" }));
    for n in 0..12 {
        api(
            "POST",
            "/v1/links",
            json!({
                "url": format!("https://example.com/articles/{n}?a=long-query-to-see-how-it-wraps"),
                "alias": format!("page-{n}"),
                "title": if n % 3 == 0 { format!("Article {n} of the spring campaign") } else { String::new() },
                "tags": if n % 2 == 0 { json!(["spring", "articles"]) } else { json!([]) },
            }),
        );
        for visit in 0..n * 3 {
            let (agent, referrer, language) = VISITORS[visit % VISITORS.len()];
            let headers = [("user-agent", agent), ("referer", referrer), ("accept-language", language)];
            send("GET", &format!("{}/page-{n}", node.public), &headers, None);
        }
    }
    api(
        "POST",
        "/v1/links",
        json!({ "url": "https://example.com/", "alias": "on-domain", "domain": "go.example.com" }),
    );
    api(
        "POST",
        "/v1/links",
        json!({ "url": "https://example.com/later", "starts_at": "2100-01-01T00:00:00Z", "max_clicks": 100, "utm_template": "newsletter",
            "split": [{ "url": "https://a.example.com/", "weight": 3 }, { "url": "https://b.example.com/" }],
            "rules": [{ "device": ["mobile"], "to": [{ "url": "https://m.example.com/" }] }] }),
    );
    api("PATCH", "/v1/links/page-1", json!({ "is_disabled": true }));
    for (code, reason) in [("page-2", "spam"), ("page-3", "phishing"), ("page-4", "malware")] {
        let report =
            json!({ "code": code, "reason": reason, "detail": "It came with an invoice that nobody ordered." });
        api("POST", "/v1/link-reports", report);
    }
    for code in ["page-3", "page-4"] {
        api(
            "POST",
            &format!("/v1/links/{code}/takedown"),
            json!({ "kind": "abuse", "reason": "It asks for passwords." }),
        );
    }
    api("POST", "/v1/links/page-4/appeal", json!({ "text": "The page was cleaned." }));
    api("POST", "/v1/link-blocks", json!({ "entry": "evil.example", "reason": "phishing" }));
    api(
        "PATCH",
        "/v1/links/page-11",
        json!({ "title": "What everybody reads", "tags": ["front"], "notes": "Do not move." }),
    );
    api("PATCH", "/v1/links/page-11", json!({ "url": "https://example.com/articles/moved", "forward_query": true }));
    import(node, "url,code,tags\nhttps://example.com/imported,imported,spring\nnot a url,broken,\n");
    crate::support::wait("clicks are in the rollups", || (clicks(&node.api, "page-11") == 33).then_some(()));
}

/// Imports a file of CSV and waits for its end.
fn import(node: &Node, csv: &str) {
    let url = format!("{}/v1/link-imports?format=csv", node.api);
    let sent = crate::support::agent().post(&url).header("content-type", "text/csv").send(csv).unwrap();
    assert_eq!(sent.status(), 202);
    crate::support::wait("the import is over", || {
        let imports = send("GET", &format!("{}/v1/link-imports", node.api), &[], None).json();
        (imports["items"][0]["state"] == "finished").then_some(())
    });
}

#[tokio::test]
async fn every_page_is_clean_in_light_dark_and_narrow() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    let browser = Browser::start().await;
    let empty = [
        ("empty-links", "/console/links"),
        ("empty-imports", "/console/link-imports"),
        ("empty-domains", "/console/domains"),
        ("empty-templates", "/console/utm-templates"),
        ("empty-audit", "/console/audit"),
    ];
    let widths = [(1280, "wide"), (360, "narrow")];
    look_at(&browser, &node.api, &empty, &["light"], &widths).await;
    furnish(&node);
    let guarded = [
        ("titled", json!({ "title": "Spring sale" })),
        ("locked", json!({ "password": "swordfish" })),
        ("once", json!({ "max_clicks": 1 })),
    ];
    for (alias, with) in guarded {
        let mut body =
            json!({ "url": "https://example.com/articles?a=long-query-to-see-how-it-wraps", "alias": alias });
        body.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        assert_eq!(send("POST", &format!("{}/v1/links", node.api), &[], Some(&body)).status, 201);
    }
    // What visitors get.
    let public = [("root", "/"), ("preview", "/titled+"), ("password", "/locked"), ("counted", "/once")];
    let pages = [
        ("home", "/console"),
        ("links", "/console/links"),
        ("links-filtered", "/console/links?tag=spring&status=active"),
        ("link", "/console/links/page-11"),
        ("link-edit", "/console/links/page-11/edit"),
        ("link-on-domain", "/console/links/on-domain?domain=go.example.com"),
        ("imports", "/console/link-imports"),
        ("domains", "/console/domains"),
        ("domain", "/console/domains/go.example.com"),
        ("templates", "/console/utm-templates"),
        ("template", "/console/utm-templates/newsletter"),
        ("link-taken-down", "/console/links/page-3"),
        ("reports", "/console/moderation"),
        ("appeals", "/console/moderation?view=appeals"),
        ("takedowns", "/console/moderation?view=takedowns"),
        ("blocks", "/console/moderation?view=blocks"),
        ("take-down", "/console/moderation/take-down?code=page-2"),
        ("keys", "/console/keys"),
        ("audit", "/console/audit"),
        ("search", "/console/search?q=page-1"),
        ("docs", "/docs"),
    ];
    look_at(&browser, &node.api, &pages, &["light", "dark"], &widths).await;
    let imports = send("GET", &format!("{}/v1/link-imports", node.api), &[], None).json();
    let path = format!("/console/link-imports/{}", imports["items"][0]["id"].as_str().unwrap());
    look_at(&browser, &node.api, &[("import", &path)], &["light", "dark"], &widths).await;
    look_at(&browser, &node.public, &public, &["light", "dark"], &widths).await;
    browser.close().await;
}

/// Opens pages in themes and widths: nothing on them may complain, and a picture is kept of each.
pub(crate) async fn look_at(
    browser: &Browser,
    base: &str,
    pages: &[(&str, &str)],
    themes: &[&str],
    widths: &[(u32, &str)],
) {
    for theme in themes {
        for (width, shape) in widths {
            for (name, path) in pages {
                // Emulated, since a headless window has a least width; the height is the page's once it is there.
                let size = |height: u64| {
                    json!({ "cmd": "Emulation.setDeviceMetricsOverride",
                        "params": { "width": width, "height": height, "deviceScaleFactor": 1, "mobile": *width < 500 } })
                };
                browser.client.issue_cmd(Devtools(size(900))).await.unwrap();
                let media = json!({ "cmd": "Emulation.setEmulatedMedia",
                    "params": { "features": [{ "name": "prefers-color-scheme", "value": theme }] } });
                browser.client.issue_cmd(Devtools(media)).await.unwrap();
                browser.open(&format!("{base}{path}")).await;
                let label = format!("{name}-{theme}-{shape}");
                browser.accessible(&label).await;
                let bytes = browser.client.source().await.unwrap().len();
                assert!(bytes < 100_000 || *name == "docs", "{label} has {bytes} bytes");
                let height =
                    browser.client.execute("return document.documentElement.scrollHeight", vec![]).await.unwrap();
                browser.client.issue_cmd(Devtools(size(height.as_u64().unwrap().clamp(900, 6000)))).await.unwrap();
                browser.picture(&label).await;
                browser.no_complaints(&label).await;
            }
        }
    }
}

#[tokio::test]
async fn links_are_made_changed_and_chosen_with_the_console() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    let browser = Browser::start().await;
    let at = |path: &str| format!("{}{path}", node.api);

    // More options open by the keyboard, and what is wrong there is shown unfolded.
    browser.open(&at("/console/links")).await;
    let more = browser.wait_for(".more > summary").await;
    more.send_keys(&Key::Enter.to_string()).await.unwrap();
    let form = browser.client.form(Locator::Css("form[action='/console/links']")).await.unwrap();
    form.set_by_name("url", "https://example.com/one").await.unwrap();
    form.set_by_name("alias", "one").await.unwrap();
    form.set_by_name("title", "The first").await.unwrap();
    form.set_by_name("max_clicks", "none").await.unwrap();
    form.submit().await.unwrap();
    browser.wait_for(".more[open] [name=max_clicks][aria-invalid]").await;
    // Chromium writes down that the page came with a 422.
    browser.forget_complaints().await;
    let form = browser.client.form(Locator::Css("form[action='/console/links']")).await.unwrap();
    form.set_by_name("max_clicks", "5").await.unwrap();
    form.submit().await.unwrap();
    browser.wait_for("#link-tiles").await;
    assert!(browser.text().await.contains("The first"));

    browser.open(&at("/console/links/one/edit")).await;
    let form = browser.client.form(Locator::Css("form.form")).await.unwrap();
    form.set_by_name("url", "https://example.com/two").await.unwrap();
    form.submit().await.unwrap();
    browser.wait_for(".timeline").await;
    assert!(browser.text().await.contains("Destination changed"));

    // Chosen in the list, asked, disabled.
    browser.open(&at("/console/links")).await;
    browser.wait_for("input[name=id]").await.click().await.unwrap();
    assert!(browser.text().await.contains("With 1 chosen"));
    browser.wait_for("button[value=disable]").await.click().await.unwrap();
    // The page before has such a button too: only the question's form goes there.
    browser.wait_for("form.form[action^='/console/link-changes'] button.primary").await.click().await.unwrap();
    browser.wait_for(".flash.ok").await;
    let hop = send("GET", &format!("{}/one", node.public), &[], None);
    assert_eq!(hop.status, 403);
    browser.no_complaints("links").await;
    browser.close().await;
}

/// A command of the Chrome DevTools protocol, through chromedriver.
#[derive(Debug)]
struct Devtools(Value);

impl WebDriverCompatibleCommand for Devtools {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.0.to_string()))
    }
}

#[tokio::test]
async fn signing_in_takes_a_key_and_the_keyboard_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), "data", &[]);
    let log = node.log();
    let key = log.split_whitespace().find(|w| w.starts_with("msk_")).unwrap().to_owned();
    let browser = Browser::start().await;
    browser.open(&format!("{}/console/links", node.api)).await;
    assert!(browser.client.current_url().await.unwrap().path().contains("sign-in"), "a stranger sees no page");
    browser.picture("sign-in").await;
    browser.no_complaints("sign-in").await;

    let field = browser.wait_for("input[name=key]").await;
    field.send_keys("msk_wrong").await.unwrap();
    field.send_keys(&Key::Enter.to_string()).await.unwrap();
    browser.wait_for("[role=alert]").await;
    let field = browser.wait_for("input[name=key]").await;
    field.clear().await.unwrap();
    field.send_keys(&format!("{key}{}", char::from(Key::Enter))).await.unwrap();
    browser.wait_for("nav").await;

    // `/` leads to the search from anywhere; Enter searches.
    let body = browser.client.find(Locator::Css("body")).await.unwrap();
    body.send_keys("/").await.unwrap();
    let focused = browser.client.execute("return document.activeElement.name", vec![]).await.unwrap();
    assert_eq!(focused, json!("q"));
    browser.close().await;
}
