//! What stands before a link, and where it leads whom.

use std::{collections::HashSet, net::IpAddr, time::Duration};

use ::http::{Method, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use shortener::{
    LinkPatch, NewDomain, NewLink, Robots, Visit,
    model::{
        Device, LinkSettings, Password, PasswordHash, RedirectStatus, Rule, Utm, Variant, moderation::ReportState,
    },
};

use crate::{
    contract::contract,
    world::{Engine, Got, Node, START, World, link, principal},
};

contract!(
    each_state_has_its_page,
    a_link_for_ten_visits_is_followed_ten_times,
    what_does_not_follow_uses_nothing,
    a_password_is_asked_for,
    a_change_of_the_limit_counts_at_once,
);

const FIREFOX: &[u8] = b"Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0";
const PHONE: &[u8] = b"Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0";
const SECRET: &str = "https://secret.example/path?token=1";

fn address(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

/// A visit of a person with that address.
fn person<'a>(method: &'a Method, path: &'a str, n: u8) -> Visit<'a> {
    Visit { user_agent: Some(FIREFOX), client: address(n), ..Visit::new(method, path) }
}

impl Node {
    async fn go(&self, visit: Visit<'_>) -> Got {
        got(self.redirector.resolve(&visit).await).await
    }

    async fn send(&self, path: &str, n: u8, form: &str) -> Got {
        let visit = person(&Method::POST, path, n);
        got(self.redirector.submit(&visit, Bytes::copy_from_slice(form.as_bytes())).await).await
    }

    async fn patch(&self, code: &str, patch: LinkPatch) {
        self.shortener.update(&principal("default"), None, code, None, patch).await.unwrap();
    }
}

async fn got(answer: shortener::Answer) -> Got {
    let (parts, body) = answer.into_response().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Got { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

/// A link whose password is `swordfish`, under so few rounds that a test can send many.
fn locked() -> NewLink {
    let password = "$pbkdf2-sha256$i=1000$AAECAwQFBgcICQoLDA0ODw$rTZo+teVBswSCROjBbpTHBpU61S/swARnFL/oiFvVR4";
    let settings = LinkSettings { password: PasswordHash::parse(password), ..LinkSettings::default() };
    NewLink { settings, ..aliased("locked", SECRET) }
}

fn aliased(alias: &str, url: &str) -> NewLink {
    NewLink { alias: Some(alias.to_owned()), ..link(url) }
}

/// A page that people can be shown: whole, kept by nobody, without scripts, and without a word of where the link leads.
fn assert_safe(got: &Got) {
    for word in ["secret", "token", "<script"] {
        assert!(!got.body.contains(word), "{word}: {}", got.body);
        assert!(got.headers.values().all(|v| !v.to_str().unwrap().contains(word)), "{word}: {:?}", got.headers);
    }
    assert_eq!(got.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(got.headers["x-robots-tag"], "noindex");
    let policy = got.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
}

async fn each_state_has_its_page(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let hour = Duration::from_hours(1);
    let later = NewLink { starts_at: Some(START.plus(hour)), ..aliased("later", SECRET) };
    node.create(later).await.unwrap();
    let ends = NewLink { expires_at: Some(START.plus(hour)), ..aliased("ends", SECRET) };
    node.create(ends).await.unwrap();
    for alias in ["off", "abuse", "legal"] {
        node.alias(alias, SECRET).await.unwrap();
    }
    node.patch("off", LinkPatch { is_disabled: Some(true), ..LinkPatch::default() }).await;
    for state in ["abuse", "legal"] {
        let sql = "UPDATE shortener_links SET state = $1 WHERE code = $1";
        world.db.exec(sql, database::params![state]).await.unwrap();
    }
    let check = async |rows: &[(&str, u16, &str)]| {
        for (code, status, words) in rows {
            for path in [format!("/{code}"), format!("/{code}+")] {
                // Twice: from the database and from memory.
                for _ in 0..2 {
                    let got = node.visit(&path).await;
                    assert_eq!(got.status, *status, "{path}");
                    assert!(got.body.contains(words), "{path}: {}", got.body);
                    assert_safe(&got);
                    let head = node.visit_as(Method::HEAD, &path, "curl/8").await;
                    assert_eq!((head.status, head.body.as_str()), (got.status, ""), "{path}");
                    assert_eq!(head.headers[header::CONTENT_LENGTH], got.body.len().to_string(), "{path}");
                    let sent = node.send(&format!("/{code}"), 1, "password=x").await;
                    assert_eq!((sent.status, sent.body), (got.status, got.body), "{path}");
                }
            }
        }
    };
    check(&[
        ("later", 404, "leads nowhere yet"),
        ("off", 403, "switched off"),
        ("abuse", 403, "taken down"),
        ("legal", 451, "legal reasons"),
    ])
    .await;
    assert_eq!(node.visit("/legal").await.headers[header::LINK], "<https://go.example.com>; rel=\"blocked-by\"");
    assert_eq!(node.status("ends").await, 302);
    world.sim.advance(hour);
    check(&[("ends", 410, "has expired"), ("off", 403, "switched off")]).await;
    assert_eq!(node.status("later").await, 302);
    node.patch("off", LinkPatch { is_disabled: Some(false), ..LinkPatch::default() }).await;
    assert_eq!(node.status("off").await, 302);
    assert!(node.metric("redirects_total{outcome=\"early\"}") > 0);
    assert!(node.metric("redirects_total{outcome=\"closed\"}") > 0);
}

#[tokio::test]
async fn redirects_have_the_status_that_the_link_says() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    for (redirect, status, is_indexed) in [
        (RedirectStatus::MovedPermanently, 301, true),
        (RedirectStatus::Found, 302, false),
        (RedirectStatus::TemporaryRedirect, 307, false),
        (RedirectStatus::PermanentRedirect, 308, true),
    ] {
        let settings = LinkSettings { redirect, ..LinkSettings::default() };
        let made = node.create(NewLink { settings, ..link("https://example.com/") }).await.unwrap();
        for method in [Method::GET, Method::HEAD] {
            let got = node.visit_as(method, &format!("/{}", made.link.code), "curl/8").await;
            assert_eq!((got.status.as_u16(), got.location()), (status, Some("https://example.com/")));
            assert_eq!(got.headers[header::CACHE_CONTROL], "private, max-age=0");
            assert_eq!(got.headers.contains_key("x-robots-tag"), !is_indexed, "{status}");
        }
    }
}

#[tokio::test]
async fn what_search_engines_are_told() {
    for (robots, text, is_marked) in [
        (Robots::Index, "User-agent: *\nAllow: /\n", false),
        (Robots::Noindex, "User-agent: *\nAllow: /\n", true),
        (Robots::Disallow, "User-agent: *\nDisallow: /\n", true),
    ] {
        let world = World::with(Engine::Sqlite, |c| c.robots = robots).await;
        let node = world.node().await;
        let got = node.visit("/robots.txt").await;
        assert_eq!((got.status.as_u16(), got.body.as_str()), (200, text));
        assert_eq!(got.headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
        let got = node.visit(&format!("/{}", node.shorten("https://example.com/").await)).await;
        assert_eq!(got.headers.get("x-robots-tag").is_some_and(|v| v == "noindex"), is_marked);
    }
}

#[tokio::test]
async fn a_domain_says_where_its_root_and_its_unknown_codes_lead() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let domain = |host: &str, root: Option<&str>, is_case_sensitive| NewDomain {
        host: host.to_owned(),
        is_case_sensitive,
        root_url: root.map(str::to_owned),
        unknown_url: root.map(|root| format!("{root}lost")),
    };
    for new in [domain("a.example", Some("https://home.example/"), false), domain("b.example", None, true)] {
        node.shortener.add_domain(&principal("default"), new).await.unwrap();
    }
    for (host, to) in [("a.example", "https://one.example/"), ("b.example", "https://two.example/")] {
        node.create(NewLink { domain: Some(host.to_owned()), ..aliased("Sale", to) }).await.unwrap();
    }
    let home = Some("https://home.example/");
    let lost = Some("https://home.example/lost");
    for (host, path, status, location) in [
        ("a.example", "/", 302, home),
        ("A.Example:8080", "/", 302, home),
        ("a.example", "/sale", 302, Some("https://one.example/")),
        ("a.example", "/SALE", 302, Some("https://one.example/")),
        ("a.example", "/SALE+", 200, None),
        ("a.example", "/nowhere", 302, lost),
        ("a.example", "/No/Where", 302, lost),
        ("a.example", "/nowhere+", 302, lost),
        ("b.example", "/", 200, None),
        ("b.example", "/Sale", 302, Some("https://two.example/")),
        ("b.example", "/sale", 404, None),
        ("c.example", "/", 200, None),
        ("c.example", "/Sale", 404, None),
    ] {
        for _ in 0..2 {
            let visit = Visit { host: Some(host.as_bytes()), ..person(&Method::GET, path, 1) };
            let got = node.go(visit).await;
            assert_eq!((got.status.as_u16(), got.location()), (status, location), "{host}{path}");
        }
    }
    let preview = node.go(Visit { host: Some(b"a.example"), ..person(&Method::GET, "/SALE+", 1) }).await;
    assert!(preview.body.contains("https://a.example/SALE"), "{}", preview.body);
}

#[tokio::test]
async fn a_preview_shows_where_a_link_leads_and_follows_nothing() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let url = "https://example.com/a?b=<i>&c=\"'";
    node.create(NewLink { title: "<b>Sale</b> & more".to_owned(), ..aliased("shown", url) }).await.unwrap();
    for path in ["/shown+", "/shown%2B"] {
        let got = node.visit(path).await;
        assert_eq!(got.status, 200);
        for part in [
            "<title>&lt;b&gt;Sale&lt;/b&gt; &amp; more</title>",
            "<dd>https://example.com/a?b=%3Ci%3E&amp;c=%22%27</dd>",
            "<dd>https://go.example.com/shown</dd>",
            "<dd>2026-11-24</dd>",
            "href=\"/shown\"",
            "Continue to example.com",
        ] {
            assert!(got.body.contains(part), "{part}: {}", got.body);
        }
        assert_safe(&got);
        assert_eq!(node.visit_as(Method::HEAD, path, "curl/8").await.status, 200);
    }
    let settings = LinkSettings {
        split: ["a", "b"].map(|n| Variant { url: format!("https://{n}.example/"), weight: 1 }).into(),
        ..LinkSettings::default()
    };
    node.create(NewLink { settings, ..aliased("split", url) }).await.unwrap();
    assert!(node.visit("/split+").await.body.contains("Others may be led elsewhere"));
    assert_eq!(node.visit("/nowhere+").await.status, 404);
    assert_eq!(node.metric("clicks_total{outcome=\"recorded\"}"), 0);
    assert_eq!(node.metric("redirects_total{outcome=\"found\"}"), 0);
}

#[tokio::test]
async fn a_link_is_reported_from_its_preview() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    node.alias("shown", "https://example.com/").await.unwrap();
    let preview = node.visit("/shown+").await.body;
    assert!(preview.contains("<form method=\"post\">") && preview.contains("value=\"phishing\""), "{preview}");
    for n in 0..10 {
        let got = node.send("/shown+", 1, &format!("reason=phishing&detail=letter+{n}")).await;
        assert_eq!(got.status, 200);
        assert!(got.body.contains("Thank you for the report"), "{}", got.body);
    }
    for (path, client, form, status) in [
        ("/shown+", 1, "reason=spam", 429),
        ("/shown+", 2, "reason=boredom", 422),
        ("/shown+", 2, "detail=x", 422),
        ("/shown+", 2, &format!("reason=spam&detail={}", "x".repeat(1001)), 422),
        ("/nowhere+", 2, "reason=spam", 404),
        ("/shown+", 2, "reason=spam", 200),
    ] {
        let got = node.send(path, client, form).await;
        assert_eq!(got.status, status, "{path} {form}");
        assert_eq!(got.headers.contains_key(header::RETRY_AFTER), status == 429);
        assert_safe(&got);
    }
    let reports = node.shortener.reports(ReportState::Open, "", 50).await.unwrap();
    assert_eq!(reports.len(), 11);
    assert!(reports.iter().all(|r| r.reported_by.is_none()));
}

#[tokio::test]
async fn visitors_are_led_by_what_they_are() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let to = |url: &str, weight| Variant { url: url.to_owned(), weight };
    let settings = LinkSettings {
        forward_query: true,
        utm: Utm { source: Some("{domain}".to_owned()), content: Some("{code}".to_owned()), ..Utm::default() },
        rules: vec![
            Rule {
                device: vec![Device::Mobile],
                language: vec![],
                country: vec![],
                to: vec![to("https://m.example/", 1)],
            },
            Rule {
                device: vec![],
                language: vec!["de".to_owned().try_into().unwrap()],
                country: vec![],
                to: vec![to("https://de.example/", 1)],
            },
        ],
        split: vec![to("https://one.example/", 1), to("https://two.example/", 1)],
        ..LinkSettings::default()
    };
    node.create(NewLink { settings, ..aliased("many", "https://example.com/") }).await.unwrap();
    let to = async |agent: &[u8], language: Option<&[u8]>, query: Option<&str>, n: u8| {
        let visit = Visit {
            user_agent: Some(agent),
            accept_language: language,
            query,
            client: address(n),
            ..Visit::new(&Method::GET, "/many")
        };
        node.go(visit).await.location().unwrap().to_owned()
    };
    let campaign = "utm_source=go.example.com&utm_content=many";
    assert_eq!(to(PHONE, Some(b"de"), None, 1).await, format!("https://m.example/?{campaign}"));
    let german = to(FIREFOX, Some(b"en;q=0.1, de-CH"), Some("x=1"), 1).await;
    assert_eq!(german, format!("https://de.example/?{campaign}&x=1"));
    let mut seen = HashSet::new();
    for n in 0..50 {
        let first = to(FIREFOX, Some(b"en"), None, n).await;
        assert_eq!(to(FIREFOX, Some(b"en"), None, n).await, first, "a visitor stays where it was led first");
        seen.insert(first);
    }
    assert_eq!(seen.len(), 2);
}

async fn a_link_for_ten_visits_is_followed_ten_times(engine: Engine) {
    let world = World::new(engine).await;
    let (here, there) = (world.node().await, world.apart().await);
    here.create(NewLink { max_clicks: Some(10), ..aliased("ten", SECRET) }).await.unwrap();
    let visits = (0..50).map(|n| [&here, &there][n % 2].visit("/ten"));
    let answers = futures_util::future::join_all(visits).await;
    let followed = answers.iter().filter(|got| got.status == 302 && got.location() == Some(SECRET)).count();
    assert_eq!(followed, 10);
    for got in answers.iter().filter(|got| got.status != 302) {
        assert_eq!(got.status, 410);
        assert!(got.body.contains("used up"), "{}", got.body);
        assert_safe(got);
    }
    // From memory, and on a node that has never heard of the link.
    assert_eq!(here.status("ten").await, 410);
    assert_eq!(world.apart().await.status("ten").await, 410);
    let link = here.shortener.get(&kernel::ProjectId::default_project(), "ten").await.unwrap();
    assert_eq!(link.uses, 10);
    let clicks = |node: &Node| node.metric("clicks_total{outcome=\"recorded\"}");
    assert_eq!(clicks(&here) + clicks(&there), 10);
}

async fn what_does_not_follow_uses_nothing(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    node.create(NewLink { max_clicks: Some(1), ..aliased("once", SECRET) }).await.unwrap();
    for _ in 0..3 {
        for (method, path, agent) in [
            (Method::HEAD, "/once", "Mozilla/5.0 Firefox/133.0"),
            (Method::GET, "/once", "Slackbot-LinkExpanding 1.0"),
            (Method::GET, "/once", "facebookexternalhit/1.1"),
            (Method::GET, "/once+", "Mozilla/5.0 Firefox/133.0"),
        ] {
            let got = node.visit_as(method, path, agent).await;
            assert_eq!((got.status.as_u16(), got.location()), (200, None), "{path} {agent}");
            assert_safe(&got);
        }
    }
    // A person who is taken for a program follows by the button.
    let got = node.send("/once", 1, "").await;
    assert_eq!((got.status.as_u16(), got.location()), (303, Some(SECRET)));
    assert_eq!(node.send("/once", 1, "").await.status, 410);
    assert_eq!(node.visit("/once").await.status, 410);
    assert_eq!(node.visit_as(Method::HEAD, "/once", "curl/8").await.status, 410);
}

async fn a_change_of_the_limit_counts_at_once(engine: Engine) {
    let world = World::new(engine).await;
    let (here, there) = (world.node().await, world.apart().await);
    here.create(NewLink { max_clicks: Some(3), ..aliased("few", SECRET) }).await.unwrap();
    let limit = |n| LinkPatch { max_clicks: Some(n), ..LinkPatch::default() };
    assert_eq!((here.status("few").await, there.status("few").await), (302, 302));
    // The other node hears nothing and still remembers 3; the database decides.
    here.patch("few", limit(Some(2))).await;
    assert_eq!((here.status("few").await, there.status("few").await), (410, 410));
    here.patch("few", limit(Some(3))).await;
    assert_eq!((here.status("few").await, here.status("few").await), (302, 410));
    here.patch("few", limit(None)).await;
    assert_eq!((here.status("few").await, here.status("few").await), (302, 302));
    // A deleted link has no use left on a node that still remembers it.
    here.create(NewLink { max_clicks: Some(3), ..aliased("gone", SECRET) }).await.unwrap();
    assert_eq!(there.status("gone").await, 302);
    here.shortener.delete(&principal("default"), None, "gone", None).await.unwrap();
    assert_eq!(there.status("gone").await, 410);
}

async fn a_password_is_asked_for(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    node.create(locked()).await.unwrap();
    for (method, path) in [(Method::GET, "/locked"), (Method::HEAD, "/locked"), (Method::GET, "/locked+")] {
        let got = node.visit_as(method.clone(), path, "Mozilla/5.0 Firefox/133.0").await;
        assert_eq!((got.status.as_u16(), got.location()), (200, None), "{method} {path}");
        assert_safe(&got);
    }
    assert!(node.visit("/locked").await.body.contains("type=\"password\""));
    for form in ["password=sword", "password=swordfish+", "password=", "", "other=swordfish", "%ff=%"] {
        let got = node.send("/locked", 1, form).await;
        assert_eq!((got.status.as_u16(), got.location()), (403, None), "{form}");
        assert!(got.body.contains("That is not the password"), "{}", got.body);
        assert_safe(&got);
    }
    assert_eq!(node.metric("clicks_total{outcome=\"recorded\"}"), 0);
    for form in ["password=swordfish", "x=1&password=sword%66ish&password=other"] {
        let got = node.send("/locked", 1, form).await;
        assert_eq!((got.status.as_u16(), got.location()), (303, Some(SECRET)), "{form}");
        assert_eq!(got.headers[header::CACHE_CONTROL], "no-store");
    }
    assert_eq!(node.metric("clicks_total{outcome=\"recorded\"}"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_set_changed_and_taken_away() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let new = NewLink { password: Some(Password::new("open sesame")), ..aliased("locked", SECRET) };
    let made = node.create(new.clone()).await.unwrap();
    assert!(!format!("{new:?} {made:?}").contains("sesame"));
    let password =
        |password: Option<&str>| LinkPatch { password: Some(password.map(Password::new)), ..LinkPatch::default() };
    assert_eq!(node.send("/locked", 2, "password=open+sesame").await.status, 303);
    node.patch("locked", password(Some("größer"))).await;
    assert_eq!(node.send("/locked", 2, "password=open+sesame").await.status, 403);
    assert_eq!(node.send("/locked", 2, "password=gr%C3%B6%C3%9Fer").await.status, 303);
    let (changes, _) = node.shortener.history(&principal("default").project, None, "locked", None, 10).await.unwrap();
    assert_eq!(serde_json::to_string(&changes[0].changes).unwrap(), "{\"has_password\":[true,true]}");
    node.patch("locked", password(None)).await;
    assert_eq!((node.status("locked").await, node.send("/locked", 2, "password=x").await.status.as_u16()), (302, 405));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_passwords_are_slowed_down() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    node.create(locked()).await.unwrap();
    for n in 0..11 {
        assert_eq!(node.send("/locked", 1, "password=wrong").await.status, 403, "{n}");
    }
    // From here on the right one is not looked at either, from this address.
    let got = node.send("/locked", 1, "password=swordfish").await;
    assert_eq!((got.status.as_u16(), got.headers[header::RETRY_AFTER].to_str().unwrap()), (429, "1"));
    assert!(got.body.contains("try again in 1 s"), "{}", got.body);
    assert_safe(&got);
    assert_eq!(node.send("/locked", 2, "password=swordfish").await.status, 303);
    world.sim.advance(Duration::from_secs(1));
    assert_eq!(node.send("/locked", 1, "password=swordfish").await.status, 303);
    // A right password forgives nothing.
    assert_eq!(node.send("/locked", 1, "password=wrong").await.status, 403);
    assert_eq!(node.send("/locked", 1, "password=swordfish").await.status, 429);
}

/// PASSWORDS-1: however many come at once, all are answered, and a wrong one never leads on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_at_once_wait_for_their_turn() {
    let world = World::new(Engine::Sqlite).await;
    let node = world.node().await;
    let new = NewLink { max_clicks: Some(2), ..locked() };
    node.create(new).await.unwrap();
    let sends = (0..8_u8).map(|n| {
        let form = if n % 2 == 0 { "password=swordfish" } else { "password=wrong" };
        node.send("/locked", n, form)
    });
    let answers = futures_util::future::join_all(sends).await;
    let count = |status: u16| answers.iter().filter(|got| got.status == status).count();
    assert_eq!((count(303), count(410), count(403)), (2, 2, 4), "{answers:?}");
}
