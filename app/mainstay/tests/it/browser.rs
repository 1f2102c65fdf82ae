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

struct Browser {
    client: Client,
    _driver: testkit::Chromedriver,
}

impl Browser {
    async fn start() -> Self {
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

    async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    async fn text(&self) -> String {
        self.client.find(Locator::Css("body")).await.unwrap().text().await.unwrap()
    }

    async fn wait_for(&self, css: &str) -> fantoccini::elements::Element {
        self.client
            .wait()
            .at_most(Duration::from_secs(30))
            .for_element(Locator::Css(css))
            .await
            .unwrap_or_else(|e| panic!("{css}: {e}"))
    }

    /// Nothing on the page may be an error: no script error, no blocked resource, no policy violation.
    async fn no_complaints(&self, page: &str) {
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

    async fn close(self) {
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
    browser.open(&format!("{}/console/links/from-console", node.api)).await;
    assert!(browser.text().await.contains("https://example.com/from-the-console"));
    let total = browser.wait_for(TOTAL).await;
    assert_eq!(total.text().await.unwrap(), "0");

    for _ in 0..7 {
        let hop = send("GET", &format!("{}/from-console", node.public), &[("user-agent", "Mozilla/5.0")], None);
        assert_eq!((hop.status, hop.header("location")), (302, "https://example.com/from-the-console"));
    }
    let live = format!("return document.querySelector('{TOTAL}').textContent.trim()");
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

#[tokio::test]
async fn every_page_is_clean_in_light_dark_and_narrow() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    for n in 0..12 {
        let body = json!({ "url": format!("https://example.com/articles/{n}?a=long-query-to-see-how-it-wraps"), "alias": format!("page-{n}") });
        assert_eq!(send("POST", &format!("{}/v1/links", node.api), &[], Some(&body)).status, 201);
        for _ in 0..n * 3 {
            send("GET", &format!("{}/page-{n}", node.public), &[("user-agent", "Mozilla/5.0")], None);
        }
    }
    crate::support::wait("clicks are in the rollups", || (clicks(&node.api, "page-11") == 33).then_some(()));
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
    let browser = Browser::start().await;
    // What visitors get.
    let public = [("root", "/"), ("preview", "/titled+"), ("password", "/locked"), ("counted", "/once")];
    let pages = [
        ("home", "/console"),
        ("links", "/console/links"),
        ("link", "/console/links/page-11"),
        ("keys", "/console/keys"),
        ("audit", "/console/audit"),
        ("search", "/console/search?q=page-1"),
        ("docs", "/docs"),
    ];
    for theme in ["light", "dark"] {
        for (width, shape) in [(1280, "wide"), (360, "narrow")] {
            // Emulated, since a headless window has a least width.
            let metrics = json!({ "cmd": "Emulation.setDeviceMetricsOverride",
                "params": { "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 } });
            browser.client.issue_cmd(Devtools(metrics)).await.unwrap();
            let media = json!({ "cmd": "Emulation.setEmulatedMedia",
                "params": { "features": [{ "name": "prefers-color-scheme", "value": theme }] } });
            browser.client.issue_cmd(Devtools(media)).await.unwrap();
            let (api, public) = (pages.map(|p| (&node.api, p)), public.map(|p| (&node.public, p)));
            for (base, (name, path)) in api.into_iter().chain(public) {
                browser.open(&format!("{base}{path}")).await;
                let label = format!("{name}-{theme}-{shape}");
                browser.picture(&label).await;
                browser.accessible(&label).await;
                browser.no_complaints(&label).await;
            }
        }
    }
    browser.close().await;
}

/// A browser applies the policy of a page to the redirect that answers its form as well, and only a browser knows how.
#[tokio::test]
async fn a_password_leads_on_to_another_site() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::dev(folder.path(), "data", &[]);
    let body = json!({ "url": "http://destination.example/", "alias": "locked", "password": "swordfish" });
    assert_eq!(send("POST", &format!("{}/v1/links", node.api), &[], Some(&body)).status, 201);
    // The other site is the root page of the same listener under another name.
    let listener = node.public.strip_prefix("http://").unwrap();
    let rules = format!("--host-resolver-rules=MAP destination.example:80 {listener}");
    let browser = Browser::start_with(&[rules]).await;
    browser.open(&format!("{}/locked?from=browser", node.public)).await;
    browser.wait_for("#password").await.send_keys("swordfish").await.unwrap();
    browser.wait_for("button").await.click().await.unwrap();
    browser
        .client
        .wait()
        .at_most(Duration::from_secs(30))
        .for_url(&"http://destination.example/".parse().unwrap())
        .await
        .unwrap();
    assert!(browser.text().await.contains("a place of short links"));
    browser.no_complaints("the other site").await;
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
