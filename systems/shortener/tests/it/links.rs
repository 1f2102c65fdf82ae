//! Changing and finding links, domains and templates, on both engines.

use std::{collections::BTreeSet, time::Duration};

use access::AuditFilter;
use kernel::{Problem, ProjectId};
use serde_json::json;
use shortener::{
    DomainChange, Error, LinkPatch, ListFilter, NewDomain, NewLink, Visit,
    model::{DomainId, LinkSettings, LinkStatus, RedirectStatus, Utm},
};

use crate::{
    contract::contract,
    world::{Engine, Node, START, World, link, principal},
};

contract!(
    a_change_is_kept_in_the_history,
    what_changes_nothing_makes_no_version,
    a_version_guards_a_change,
    changes_reach_other_nodes,
    bad_changes_are_refused_and_change_nothing,
    filters_find_what_fits,
    few_among_many_are_found_in_bounded_steps,
    domains_belong_to_one_project,
    a_code_means_another_link_on_another_domain,
    case_is_the_domains_choice,
    a_domain_with_links_stays,
    templates_fill_what_is_left_out,
);

fn code_of(error: Error) -> &'static str {
    Problem::from(error).code.name
}

fn project() -> ProjectId {
    ProjectId::default_project()
}

fn url(url: &str) -> LinkPatch {
    LinkPatch { url: Some(url.to_owned()), ..LinkPatch::default() }
}

impl Node {
    async fn update(&self, code: &str, patch: LinkPatch) -> Result<shortener::model::Link, Error> {
        self.shortener.update(&principal("default"), None, code, None, patch).await
    }

    async fn codes(&self, filter: &ListFilter) -> BTreeSet<String> {
        let (mut codes, mut cursor) = (BTreeSet::new(), None);
        loop {
            let page = self.shortener.list(&project(), filter, cursor.as_deref(), 2).await.unwrap();
            codes.extend(page.links.iter().map(|l| l.link.code.to_string()));
            cursor = page.next_cursor;
            if cursor.is_none() {
                return codes;
            }
        }
    }

    async fn add_domain(&self, host: &str, is_case_sensitive: bool) -> Result<shortener::model::Domain, Error> {
        let new = NewDomain { host: host.to_owned(), is_case_sensitive, root_url: None, unknown_url: None };
        self.shortener.add_domain(&principal("default"), new).await
    }

    async fn location(&self, host: &str, path: &str) -> Option<String> {
        let visit = Visit { host: Some(host.as_bytes()), ..Visit::new(&::http::Method::GET, path) };
        let response = self.redirector.resolve(&visit).await.into_response();
        response.headers().get(::http::header::LOCATION).map(|v| v.to_str().unwrap().to_owned())
    }
}

async fn a_change_is_kept_in_the_history(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let code = node.shorten("https://a.example/").await;
    world.sim.advance(Duration::from_secs(1));
    let patch =
        LinkPatch { title: Some(" Spring ".to_owned()), tags: Some(vec!["X".to_owned()]), ..url("https://b.example") };
    let changed = node.update(&code, patch).await.unwrap();
    assert_eq!((changed.url.as_str(), changed.title.as_str(), changed.version), ("https://b.example/", "Spring", 2));
    assert_eq!((changed.created_at, changed.updated_at), (START, START.plus(Duration::from_secs(1))));
    assert_eq!(node.location("go.example.com", &format!("/{code}")).await.as_deref(), Some("https://b.example/"));
    let end = START.plus(Duration::from_hours(1));
    for at in [Some(end), None] {
        node.update(&code, LinkPatch { expires_at: Some(at), ..LinkPatch::default() }).await.unwrap();
    }
    let page = |cursor: Option<String>| {
        let (node, code) = (&node, &code);
        async move { node.shortener.history(&project(), None, code, cursor.as_deref(), 2).await.unwrap() }
    };
    let (first, next) = page(None).await;
    assert_eq!(first.iter().map(|c| c.version).collect::<Vec<_>>(), [4, 3]);
    assert_eq!(json!(first[0].changes), json!({ "expires_at": [end.to_string(), null] }));
    let (second, last) = page(next).await;
    assert_eq!(last, None);
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].by, "dev");
    assert_eq!(
        json!(second[0].changes),
        json!({
            "url": ["https://a.example/", "https://b.example/"], "title": ["", "Spring"], "tags": [[], ["x"]],
        })
    );
}

async fn what_changes_nothing_makes_no_version(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let code = node.shorten("https://a.example/").await;
    let same =
        node.update(&code, LinkPatch { title: Some("  ".to_owned()), ..url("https://A.example") }).await.unwrap();
    assert_eq!((same.version, same.updated_at), (1, START));
    assert_eq!(node.shortener.history(&project(), None, &code, None, 10).await.unwrap().0, []);
}

async fn a_version_guards_a_change(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let code = node.shorten("https://a.example/").await;
    let at = |version| {
        let (node, code) = (&node, &code);
        async move {
            node.shortener.update(&principal("default"), None, code, Some(version), url("https://b.example/")).await
        }
    };
    assert_eq!(code_of(at(2).await.unwrap_err()), "SHORTENER_LINK_CHANGED");
    assert_eq!(at(1).await.unwrap().version, 2);
    // Two changes at once without a version: both are made, one after the other, and neither is lost from the history.
    let (a, b) = tokio::join!(
        node.update(&code, url("https://c.example/")),
        node.update(&code, LinkPatch { notes: Some("n".to_owned()), ..LinkPatch::default() })
    );
    let last = [a.unwrap(), b.unwrap()].into_iter().max_by_key(|link| link.version).unwrap();
    assert_eq!((last.version, last.url.as_str(), last.notes.as_str()), (4, "https://c.example/", "n"));
}

async fn changes_reach_other_nodes(engine: Engine) {
    let world = World::new(engine).await;
    let (here, there) = (world.node().await, world.node().await);
    there.shortener.start(&world.lifecycle.tasks(kernel::Stage::Systems));
    let code = here.shorten("https://a.example/").await;
    let path = format!("/{code}");
    assert_eq!(there.location("x", &path).await.as_deref(), Some("https://a.example/"));
    crate::world::eventually("the other node listens", || async { !there.shortener.is_degraded() }).await;
    there.location("x", &path).await;
    here.update(&code, url("https://b.example/")).await.unwrap();
    crate::world::eventually("the change arrives", || async {
        there.location("x", &path).await.as_deref() == Some("https://b.example/")
    })
    .await;
    here.add_domain("brand.example", true).await.unwrap();
    let new = NewLink {
        domain: Some("brand.example".to_owned()),
        alias: Some("x-1".to_owned()),
        ..link("https://d.example/")
    };
    here.create(new).await.unwrap();
    crate::world::eventually("the domain arrives", || async {
        there.location("brand.example", "/x-1").await.as_deref() == Some("https://d.example/")
    })
    .await;
}

async fn bad_changes_are_refused_and_change_nothing(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let code = node.shorten("https://a.example/").await;
    let before = node.shortener.get(&project(), &code).await.unwrap().link;
    let patch = LinkPatch::default;
    for (bad, expected) in [
        (url("nonsense"), "SHORTENER_INVALID_URL"),
        (LinkPatch { title: Some("t".repeat(201)), ..patch() }, "SHORTENER_LINK_INVALID"),
        (LinkPatch { title: Some("a\u{7}".to_owned()), ..patch() }, "SHORTENER_LINK_INVALID"),
        (LinkPatch { notes: Some("n".repeat(2001)), ..patch() }, "SHORTENER_LINK_INVALID"),
        (LinkPatch { max_clicks: Some(Some(0)), ..patch() }, "SHORTENER_LINK_INVALID"),
        (LinkPatch { max_clicks: Some(Some(u64::MAX)), ..patch() }, "SHORTENER_LINK_INVALID"),
        (LinkPatch { expires_at: Some(Some(START)), ..patch() }, "SHORTENER_EXPIRY_INVALID"),
        (
            LinkPatch {
                starts_at: Some(Some(START.plus(Duration::from_secs(9)))),
                expires_at: Some(Some(START.plus(Duration::from_secs(9)))),
                ..patch()
            },
            "SHORTENER_LINK_INVALID",
        ),
    ] {
        assert_eq!(code_of(node.update(&code, bad.clone()).await.unwrap_err()), expected, "{bad:?}");
    }
    assert_eq!(node.shortener.get(&project(), &code).await.unwrap().link, before);
    assert_eq!(code_of(node.update("nosuch", patch()).await.unwrap_err()), "SHORTENER_LINK_UNKNOWN");
    let other = principal("other");
    let foreign = node.shortener.update(&other, None, &code, None, url("https://evil.example/")).await.unwrap_err();
    assert_eq!(code_of(foreign), "SHORTENER_LINK_UNKNOWN");
}

async fn filters_find_what_fits(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    node.add_domain("brand.example", true).await.unwrap();
    let later = START.plus(Duration::from_hours(1));
    let named = |alias: &str| NewLink { alias: Some(alias.to_owned()), ..link("https://example.com/100%_sure") };
    let tags = |tags: &[&str]| tags.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    for new in [
        NewLink { title: "Spring Sale".to_owned(), tags: tags(&["sale", "spring"]), ..named("aaa-1") },
        NewLink { tags: tags(&["sale"]), starts_at: Some(later), ..named("aaa-2") },
        NewLink { expires_at: Some(START.plus(Duration::from_secs(1))), ..named("bbb-1") },
        NewLink { domain: Some("brand.example".to_owned()), tags: tags(&["sale"]), ..named("bbb-2") },
        NewLink { url: "https://other.example/".to_owned(), ..named("bbb-3") },
    ] {
        node.create(new).await.unwrap();
    }
    world.sim.advance(Duration::from_secs(1));
    node.update("bbb-3", LinkPatch { is_disabled: Some(true), ..LinkPatch::default() }).await.unwrap();
    let any = ListFilter::default;
    let text = |text: &str| ListFilter { text: Some(text.to_owned()), ..ListFilter::default() };
    let tag = |tag: &str| ListFilter { tag: Some(tag.to_owned()), ..ListFilter::default() };
    let status = |status| ListFilter { status: Some(status), ..ListFilter::default() };
    let brand = node.shortener.domain(&project(), "brand.example").await.unwrap().id;
    for (filter, expected) in [
        (any(), vec!["aaa-1", "aaa-2", "bbb-1", "bbb-2", "bbb-3"]),
        (text("SPRING"), vec!["aaa-1"]),
        (text("other.example"), vec!["bbb-3"]),
        (text("0%_s"), vec!["aaa-1", "aaa-2", "bbb-1", "bbb-2"]),
        (text("%b"), vec![]),
        (text("a_a"), vec![]),
        (tag("sale"), vec!["aaa-1", "aaa-2", "bbb-2"]),
        (tag("sal"), vec![]),
        (ListFilter { domain: Some(brand), ..tag("sale") }, vec!["bbb-2"]),
        (ListFilter { domain: Some(DomainId::OWN), ..tag("sale") }, vec!["aaa-1", "aaa-2"]),
        (status(LinkStatus::Active), vec!["aaa-1", "bbb-2"]),
        (status(LinkStatus::Scheduled), vec!["aaa-2"]),
        (status(LinkStatus::Expired), vec!["bbb-1"]),
        (status(LinkStatus::Disabled), vec!["bbb-3"]),
        (status(LinkStatus::TakenDown), vec![]),
        (ListFilter { prefix: Some("aaa".to_owned()), ..any() }, vec!["aaa-1", "aaa-2"]),
        (ListFilter { prefix: Some("aaa".to_owned()), ..tag("spring") }, vec!["aaa-1"]),
        (ListFilter { prefix: Some("bbb".to_owned()), ..status(LinkStatus::Active) }, vec!["bbb-2"]),
    ] {
        assert_eq!(node.codes(&filter).await, expected.into_iter().map(str::to_owned).collect(), "{filter:?}");
    }
    // Tags follow their link.
    node.update("aaa-1", LinkPatch { tags: Some(tags(&["new"])), ..LinkPatch::default() }).await.unwrap();
    node.shortener.delete(&principal("default"), None, "aaa-2", None).await.unwrap();
    assert_eq!(node.codes(&tag("sale")).await, BTreeSet::from(["bbb-2".to_owned()]));
    assert_eq!(node.codes(&tag("new")).await, BTreeSet::from(["aaa-1".to_owned()]));
}

/// As many links as told, all newer than those that are there.
async fn fill(world: &World, count: i64) {
    let insert = "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
                  INSERT INTO shortener_links (id, project, domain, code, is_alias, url, title, notes, tags, settings, \
                  state, created_at, created_by, updated_at, version) \
                  SELECT 1000000 + i, 'default', 0, 'hay-' || i, TRUE, 'https://example.com/', '', '', '[]', '{}', \
                  'active', $2 + i, 'dev', $2 + i, 1 FROM n";
    assert_eq!(world.db.exec(insert, database::params![count, START]).await.unwrap(), u64::try_from(count).unwrap());
}

async fn few_among_many_are_found_in_bounded_steps(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    node.create(NewLink { title: "needle".to_owned(), ..link("https://example.com/") }).await.unwrap();
    fill(&world, 25_000).await;
    let filter = ListFilter { text: Some("needle".to_owned()), ..ListFilter::default() };
    let first = node.shortener.list(&project(), &filter, None, 50).await.unwrap();
    assert_eq!(first.links.len(), 0, "20,000 links were looked at, and the needle is older than those");
    let second = node.shortener.list(&project(), &filter, first.next_cursor.as_deref(), 50).await.unwrap();
    assert_eq!((second.links.len(), second.next_cursor), (1, None));
}

async fn domains_belong_to_one_project(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let added = node.add_domain("Brand.Example.", true).await.unwrap();
    assert_eq!((added.host.as_str(), added.created_by.as_str()), ("brand.example", "dev"));
    for host in ["brand.example", "go.example.com"] {
        assert_eq!(code_of(node.add_domain(host, true).await.unwrap_err()), "SHORTENER_DOMAIN_TAKEN");
    }
    assert_eq!(code_of(node.add_domain("10.0.0.1", true).await.unwrap_err()), "SHORTENER_DOMAIN_INVALID");
    let other = principal("other");
    let new = NewLink { domain: Some("brand.example".to_owned()), ..link("https://example.com/") };
    assert_eq!(code_of(node.shortener.create(&other, new.clone()).await.unwrap_err()), "SHORTENER_DOMAIN_UNKNOWN");
    assert_eq!(
        code_of(node.shortener.remove_domain(&other, "brand.example").await.unwrap_err()),
        "SHORTENER_DOMAIN_NOT_FOUND"
    );
    assert_eq!(node.shortener.domains(&other.project, "", 10).await.unwrap(), []);
    world.sim.advance(Duration::from_secs(1));
    let change = DomainChange { root_url: Some(Some("https://Example.com".to_owned())), unknown_url: None };
    let changed = node.shortener.change_domain(&principal("default"), "brand.example", change).await.unwrap();
    assert_eq!(changed.root_url.as_deref(), Some("https://example.com/"));
    world.sim.advance(Duration::from_secs(1));
    node.shortener.remove_domain(&principal("default"), "brand.example").await.unwrap();
    let taken =
        NewDomain { host: "brand.example".to_owned(), is_case_sensitive: true, root_url: None, unknown_url: None };
    node.shortener.add_domain(&other, taken).await.unwrap();
    let page = world.access.list_audit(&project(), &AuditFilter::default(), &web::PageQuery::default()).await.unwrap();
    let actions: Vec<_> =
        page.items.iter().map(|e| e.action.as_str()).filter(|a| a.starts_with("shortener.")).collect();
    assert_eq!(actions, ["shortener.domain.remove", "shortener.domain.change", "shortener.domain.add"]);
}

async fn a_code_means_another_link_on_another_domain(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    node.add_domain("brand.example", true).await.unwrap();
    node.alias("sale", "https://own.example/").await.unwrap();
    let new = NewLink {
        alias: Some("sale".to_owned()),
        domain: Some("brand.example".to_owned()),
        ..link("https://brand.example.com/")
    };
    let made = node.create(new).await.unwrap().link;
    assert_eq!(node.shortener.short_url(&made), "https://brand.example/sale");
    for (host, expected) in [
        ("go.example.com", "https://own.example/"),
        ("go.example.com:8080", "https://own.example/"),
        ("unheard.example", "https://own.example/"),
        ("brand.example", "https://brand.example.com/"),
        ("BRAND.example.:8443", "https://brand.example.com/"),
    ] {
        assert_eq!(node.location(host, "/sale").await.as_deref(), Some(expected), "{host}");
    }
    assert_eq!(node.shortener.get(&project(), "sale").await.unwrap().link.host, None);
    let on = node.shortener.get_on(&project(), Some("brand.example"), "sale").await.unwrap();
    assert_eq!(on.link, made);
    node.shortener.delete(&principal("default"), Some("brand.example"), "sale", None).await.unwrap();
    assert_eq!(node.location("brand.example", "/sale").await, None);
    assert!(node.location("go.example.com", "/sale").await.is_some());
}

async fn case_is_the_domains_choice(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    node.add_domain("brand.example", false).await.unwrap();
    let on_brand = |alias: Option<&str>, to: &str| NewLink {
        alias: alias.map(str::to_owned),
        domain: Some("brand.example".to_owned()),
        ..link(to)
    };
    let made = node.create(on_brand(Some("Sale"), "https://a.example/")).await.unwrap().link;
    assert_eq!(made.code.as_str(), "sale");
    let again = node.create(on_brand(Some("SALE"), "https://b.example/")).await.unwrap_err();
    assert_eq!(code_of(again), "SHORTENER_ALIAS_TAKEN");
    let generated = node.create(on_brand(None, "https://c.example/")).await.unwrap().link.code.to_string();
    for _ in 0..2 {
        for path in ["/sale", "/Sale", "/SALE"] {
            assert_eq!(node.location("brand.example", path).await.as_deref(), Some("https://a.example/"), "{path}");
        }
        // Generated codes keep their case: those that differ only in it may belong to others.
        let path = format!("/{generated}");
        assert_eq!(node.location("brand.example", &path).await.as_deref(), Some("https://c.example/"));
        assert_eq!(node.location("brand.example", "/NOPE").await, None);
    }
    node.alias("Mixed", "https://d.example/").await.unwrap();
    assert_eq!(node.location("go.example.com", "/mixed").await, None, "the installation's own domain minds case");
}

async fn a_domain_with_links_stays(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    node.add_domain("brand.example", true).await.unwrap();
    let new = NewLink {
        alias: Some("sale".to_owned()),
        domain: Some("brand.example".to_owned()),
        ..link("https://a.example/")
    };
    node.create(new.clone()).await.unwrap();
    let me = principal("default");
    assert_eq!(
        code_of(node.shortener.remove_domain(&me, "brand.example").await.unwrap_err()),
        "SHORTENER_DOMAIN_IN_USE"
    );
    node.shortener.delete(&me, Some("brand.example"), "sale", None).await.unwrap();
    node.shortener.remove_domain(&me, "brand.example").await.unwrap();
    assert_eq!(code_of(node.create(new.clone()).await.unwrap_err()), "SHORTENER_DOMAIN_UNKNOWN");
    // The codes come back with the domain: none of them leads elsewhere.
    node.add_domain("brand.example", true).await.unwrap();
    assert_eq!(code_of(node.create(new).await.unwrap_err()), "SHORTENER_ALIAS_TAKEN");
}

async fn templates_fill_what_is_left_out(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let me = principal("default");
    let utm = |source: Option<&str>, medium: Option<&str>| Utm {
        source: source.map(str::to_owned),
        medium: medium.map(str::to_owned),
        ..Utm::default()
    };
    node.shortener.put_utm_template(&me, "mail", utm(Some("letter"), Some("email"))).await.unwrap();
    let new = |template: &str| NewLink {
        settings: LinkSettings {
            utm: utm(Some("own"), None),
            redirect: RedirectStatus::PermanentRedirect,
            ..LinkSettings::default()
        },
        utm_template: Some(template.to_owned()),
        ..link("https://a.example/")
    };
    let made = node.create(new("mail")).await.unwrap().link;
    assert_eq!(made.settings.utm, utm(Some("own"), Some("email")));
    let stored = node.shortener.get(&project(), made.code.as_str()).await.unwrap().link;
    assert_eq!(stored, made);
    assert_eq!(code_of(node.create(new("Mail")).await.unwrap_err()), "SHORTENER_LINK_INVALID");
    node.shortener.put_utm_template(&me, "mail", utm(None, None)).await.unwrap();
    assert_eq!(node.shortener.utm_templates(&project(), "", 10).await.unwrap().len(), 1);
    node.shortener.delete_utm_template(&project(), "mail").await.unwrap();
    assert_eq!(
        code_of(node.shortener.delete_utm_template(&project(), "mail").await.unwrap_err()),
        "SHORTENER_TEMPLATE_UNKNOWN"
    );
    let kept = node.shortener.get(&project(), made.code.as_str()).await.unwrap().link;
    assert_eq!(kept.settings, made.settings);
    assert_eq!(
        code_of(node.shortener.put_utm_template(&me, "a/b", utm(None, None)).await.unwrap_err()),
        "SHORTENER_LINK_INVALID"
    );
}
