//! Refused destinations, block lists, reports, takedowns and appeals, on both engines.

use std::{fs, net::IpAddr, time::Duration};

use access::AuditFilter;
use kernel::{Problem, ProjectId};
use shortener::{
    DomainChange, Error, LinkPatch, LinkPlace, NewDomain, Reporter,
    model::{
        DomainId, LinkSettings, LinkState, Takedown, Variant,
        moderation::{MAX_OPEN_REPORTS, ReportReason, ReportState, Standing},
        transfer::{Format, Row},
    },
};

use crate::{
    contract::contract,
    imports::{import, jsonl, row},
    world::{Engine, Node, World, link, principal},
};

contract!(
    destinations_that_are_refused,
    a_block_reaches_every_node_and_ends_with_its_entry,
    a_takedown_from_report_to_restoration,
    a_taken_down_link_cannot_be_got_around,
    an_appeal_is_heard_once,
    what_an_import_brought_taken_down_can_come_back,
    reports_are_bounded,
    one_report_or_all_are_dismissed,
);

fn code_of(error: Error) -> &'static str {
    Problem::from(error).code.name
}

fn at(code: &str) -> LinkPlace<'_> {
    LinkPlace { host: None, code }
}

fn visitor(n: u32) -> Reporter<'static> {
    Reporter::Visitor(IpAddr::from(n.to_be_bytes()))
}

impl Node {
    async fn refusal(&self, url: &str) -> Option<&'static str> {
        self.create(link(url)).await.err().map(code_of)
    }

    async fn report(&self, code: &str, from: Reporter<'_>) -> Result<(), Error> {
        self.shortener.report(DomainId::OWN, code, ReportReason::Phishing, "it asks for my bank's password", from).await
    }

    async fn open_reports(&self) -> Vec<shortener::Report> {
        self.shortener.reports(ReportState::Open, "", 100).await.unwrap()
    }
}

/// Ids of one millisecond have no order.
fn tick(world: &World) {
    world.sim.advance(Duration::from_millis(1));
}

async fn audited(world: &World, project: &str) -> Vec<String> {
    let query = web::PageQuery { limit: 100, cursor: None };
    let project = ProjectId::parse(project).unwrap();
    let page = world.access.list_audit(&project, &AuditFilter::default(), &query).await.unwrap();
    page.items.into_iter().map(|entry| format!("{} {}", entry.action, entry.object)).collect()
}

async fn destinations_that_are_refused(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let domain =
        NewDomain { host: "brand.example".to_owned(), is_case_sensitive: true, root_url: None, unknown_url: None };
    node.shortener.add_domain(&principal("default"), domain.clone()).await.unwrap();
    for (url, expected) in [
        ("https://example.com/", None),
        ("http://127.0.0.1/", Some("SHORTENER_URL_PRIVATE")),
        ("http://0x7f.1/", Some("SHORTENER_URL_PRIVATE")),
        ("http://intranet/", Some("SHORTENER_URL_PRIVATE")),
        ("https://go.example.com/abc", Some("SHORTENER_URL_OWN")),
        ("http://go.example.com.:8080/abc", Some("SHORTENER_URL_OWN")),
        ("https://brand.example/abc", Some("SHORTENER_URL_OWN")),
        ("https://www.brand.example/abc", None),
    ] {
        assert_eq!(node.refusal(url).await, expected, "{url}");
    }
    let bad = vec![Variant { url: "http://10.0.0.1/".to_owned(), weight: 1 }];
    let settings = LinkSettings { split: bad.clone(), ..LinkSettings::default() };
    let refused = node.create(shortener::NewLink { settings, ..link("https://example.com/") }).await.unwrap_err();
    assert!(matches!(&refused, Error::Field(why) if why.field == "/split/0/url"), "{refused:?}");
    assert_eq!(code_of(refused), "SHORTENER_URL_PRIVATE");
    let code = node.shorten("https://example.com/").await;
    for patch in [
        LinkPatch { url: Some("http://[::1]/".to_owned()), ..LinkPatch::default() },
        LinkPatch { split: Some(bad), ..LinkPatch::default() },
    ] {
        let refused = node.shortener.update(&principal("default"), None, &code, None, patch).await;
        assert_eq!(refused.map_err(code_of).unwrap_err(), "SHORTENER_URL_PRIVATE");
    }
    let change = DomainChange { root_url: Some(Some("http://brand.example/".to_owned())), ..DomainChange::default() };
    let refused = node.shortener.change_domain(&principal("default"), "brand.example", change).await;
    assert_eq!(refused.map_err(code_of).unwrap_err(), "SHORTENER_URL_OWN");
    let open = World::with(engine, |c| c.allow_private_destinations = true).await;
    let open = open.node().await;
    assert_eq!(open.refusal("http://127.0.0.1:3000/").await, None);
    assert_eq!(open.refusal("https://go.example.com/").await, Some("SHORTENER_URL_OWN"));
}

async fn a_block_reaches_every_node_and_ends_with_its_entry(engine: Engine) {
    let world = World::new(engine).await;
    // The other's memory plane is its own: it hears nothing, and sees by looking.
    let (node, other) = (world.node().await, world.apart().await);
    let moderator = principal("default");
    let code = node.shorten("https://www.evil.example/x").await;
    assert_eq!((node.status(&code).await, other.status(&code).await), (302, 302));
    let block = node.shortener.add_block(&moderator, " EVIL.example", "phishing").await.unwrap();
    assert_eq!((block.entry.as_str(), block.created_by.as_str()), ("evil.example", "dev"));
    assert_eq!(node.status(&code).await, 403, "at once where it was blocked");
    other.shortener.refresh_block_lists().await;
    assert_eq!(other.status(&code).await, 403);
    assert_eq!(other.refusal("https://evil.example/").await, Some("SHORTENER_URL_BLOCKED"));
    let stays = LinkPatch { title: Some("still mine".to_owned()), ..LinkPatch::default() };
    node.shortener.update(&moderator, None, &code, None, stays).await.unwrap();
    let again = node.shortener.add_block(&moderator, "evil.example.", "").await;
    assert_eq!(code_of(again.unwrap_err()), "SHORTENER_BLOCK_EXISTS");
    assert_eq!(node.shortener.blocks("", 10).await.unwrap(), std::slice::from_ref(&block));
    tick(&world);
    node.shortener.remove_block(&moderator, block.id).await.unwrap();
    assert_eq!(
        code_of(node.shortener.remove_block(&moderator, block.id).await.unwrap_err()),
        "SHORTENER_BLOCK_UNKNOWN"
    );
    other.shortener.refresh_block_lists().await;
    assert_eq!((node.status(&code).await, other.status(&code).await), (302, 302));
    let log = audited(&world, "default").await;
    assert_eq!(log, ["shortener.block.remove evil.example", "shortener.block.add evil.example"]);
}

async fn a_takedown_from_report_to_restoration(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let (owner, moderator) = (principal("shop"), principal("default"));
    let made = node.shortener.create(&owner, link("https://example.com/")).await.unwrap().link;
    let code = made.code.as_str();
    node.report(code, visitor(1)).await.unwrap();
    tick(&world);
    node.report(code, Reporter::Key(&owner)).await.unwrap();
    let reports = node.open_reports().await;
    let seen: Vec<_> = reports.iter().map(|r| (r.link.project.as_str(), r.reported_by.as_deref())).collect();
    assert_eq!(seen, [("shop", None), ("shop", Some("dev"))], "the oldest first");
    assert_eq!(node.status(code).await, 302);
    node.shortener.take_down(&moderator, at(code), Takedown::Legal, "order 7").await.unwrap();
    assert_eq!(node.status(code).await, 451);
    assert_eq!(node.open_reports().await, []);
    assert_eq!(node.shortener.reports(ReportState::Upheld, "", 10).await.unwrap().len(), 2);
    let told = node.shortener.takedown_of(&owner.project, at(code)).await.unwrap();
    assert_eq!((told.kind.as_str(), told.reason.as_str(), told.standing), ("legal", "order 7", Standing::TakenDown));
    let again = node.shortener.take_down(&moderator, at(code), Takedown::Abuse, "x").await;
    assert_eq!(code_of(again.unwrap_err()), "SHORTENER_TAKEDOWN_EXISTS");
    tick(&world);
    node.shortener.restore(&moderator, at(code), "withdrawn").await.unwrap();
    assert_eq!(node.status(code).await, 302);
    assert_eq!(
        code_of(node.shortener.restore(&moderator, at(code), "").await.unwrap_err()),
        "SHORTENER_NOT_TAKEN_DOWN"
    );
    let log = audited(&world, "shop").await;
    assert_eq!(log, [format!("shortener.link.restore {code}"), format!("shortener.link.take_down {code}")]);
    let (history, _) = node.shortener.history(&owner.project, None, code, None, 10).await.unwrap();
    let history: Vec<_> = history.iter().map(|h| (h.by.as_str(), h.changes["state"].to_string())).collect();
    assert_eq!(
        history,
        [("moderator", r#"["legal","active"]"#.to_owned()), ("moderator", r#"["active","legal"]"#.to_owned())]
    );
}

async fn a_taken_down_link_cannot_be_got_around(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let owner = principal("default");
    node.alias("promo", "https://example.com/").await.unwrap();
    let off = LinkPatch { is_disabled: Some(true), ..LinkPatch::default() };
    node.shortener.update(&owner, None, "promo", None, off).await.unwrap();
    node.shortener.take_down(&owner, at("promo"), Takedown::Abuse, "phishing").await.unwrap();
    for patch in [
        LinkPatch { url: Some("https://example.org/".to_owned()), ..LinkPatch::default() },
        LinkPatch { is_disabled: Some(false), ..LinkPatch::default() },
    ] {
        let refused = node.shortener.update(&owner, None, "promo", None, patch).await;
        assert_eq!(code_of(refused.unwrap_err()), "SHORTENER_LINK_TAKEN_DOWN");
    }
    let refused = node.shortener.delete(&owner, None, "promo", None).await;
    assert_eq!(code_of(refused.unwrap_err()), "SHORTENER_LINK_TAKEN_DOWN");
    assert_eq!(code_of(node.alias("promo", "https://example.com/").await.unwrap_err()), "SHORTENER_ALIAS_TAKEN");
    assert_eq!(node.status("promo").await, 403);
    // It comes back as it was: switched off.
    let back = node.shortener.restore(&owner, at("promo"), "").await.unwrap();
    assert_eq!(back.state, LinkState::Disabled);
}

async fn an_appeal_is_heard_once(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let (owner, moderator, stranger) = (principal("shop"), principal("default"), principal("other"));
    let code = node.shortener.create(&owner, link("https://example.com/")).await.unwrap().link.code.to_string();
    let code = code.as_str();
    let appeal = async |who: &identity::Principal| {
        tick(&world);
        node.shortener.appeal(who, at(code), "it is our own shop").await
    };
    assert_eq!(code_of(appeal(&owner).await.unwrap_err()), "SHORTENER_NOT_TAKEN_DOWN");
    node.shortener.take_down(&moderator, at(code), Takedown::Abuse, "spam").await.unwrap();
    let decide = async |is_granted| {
        tick(&world);
        node.shortener.decide_appeal(&moderator, at(code), is_granted, "seen").await
    };
    assert_eq!(code_of(decide(true).await.unwrap_err()), "SHORTENER_APPEAL_MISSING");
    assert_eq!(code_of(appeal(&stranger).await.unwrap_err()), "SHORTENER_LINK_UNKNOWN");
    appeal(&owner).await.unwrap();
    assert_eq!(code_of(appeal(&owner).await.unwrap_err()), "SHORTENER_APPEAL_OPEN");
    let waiting = node.shortener.takedowns(Standing::Appealed, None, 10).await.unwrap();
    assert_eq!(waiting.iter().map(|t| t.appeal.as_deref()).collect::<Vec<_>>(), [Some("it is our own shop")]);
    decide(false).await.unwrap();
    assert_eq!(code_of(appeal(&owner).await.unwrap_err()), "SHORTENER_APPEAL_DECIDED");
    assert_eq!(node.status(code).await, 403);
    // A new takedown can be appealed against anew.
    tick(&world);
    node.shortener.restore(&moderator, at(code), "").await.unwrap();
    tick(&world);
    node.shortener.take_down(&moderator, at(code), Takedown::Abuse, "spam again").await.unwrap();
    appeal(&owner).await.unwrap();
    decide(true).await.unwrap();
    assert_eq!(node.status(code).await, 302);
    assert_eq!(node.shortener.takedowns(Standing::Clear, None, 10).await.unwrap().len(), 2);
    let actions: Vec<_> =
        audited(&world, "shop").await.iter().map(|e| e.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(
        actions,
        [
            "shortener.appeal.grant",
            "shortener.link.appeal",
            "shortener.link.take_down",
            "shortener.link.restore",
            "shortener.appeal.reject",
            "shortener.link.appeal",
            "shortener.link.take_down",
        ]
    );
}

async fn what_an_import_brought_taken_down_can_come_back(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    node.shortener.add_block(&principal("default"), "evil.example", "").await.unwrap();
    let down = Row { state: Some("legal".to_owned()), ..row("down", "https://example.com/") };
    let rows = [down, row("inside", "http://10.0.0.1/"), row("evil", "https://evil.example/")];
    let (_, errors) = import(&node, Format::Jsonl, &jsonl(&rows)).await;
    let errors: Vec<_> = errors.iter().map(|e| e.code.as_str()).collect();
    assert_eq!(errors, ["SHORTENER_URL_PRIVATE", "SHORTENER_URL_BLOCKED"]);
    assert_eq!(node.status("down").await, 451);
    node.shortener.appeal(&principal("default"), at("down"), "it was long ago").await.unwrap();
    node.shortener.decide_appeal(&principal("default"), at("down"), true, "").await.unwrap();
    assert_eq!(node.status("down").await, 302);
}

async fn reports_are_bounded(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    for _ in 0..10 {
        node.report(&code, visitor(1)).await.unwrap();
    }
    let refused = Problem::from(node.report(&code, visitor(1)).await.unwrap_err());
    assert_eq!(refused.code.name, "SHORTENER_REPORTS_LIMITED");
    assert_eq!(refused.retry_after, Some(Duration::from_hours(1)));
    for n in 2..17 {
        node.report(&code, visitor(n)).await.unwrap();
    }
    let reports = node.open_reports().await;
    assert_eq!(reports.len(), MAX_OPEN_REPORTS as usize);
    assert_eq!(reports[0].beyond_count, 5);
    // Of one link, from however many.
    let mut taken = 0;
    for n in 100..200 {
        taken += u32::from(node.report(&code, visitor(n)).await.is_ok());
    }
    assert!(taken < 60, "{taken}");
    world.sim.advance(Duration::from_hours(1));
    node.report(&code, visitor(1)).await.unwrap();
    // A new one has room when one was decided.
    let first = node.open_reports().await[0].id;
    node.shortener.dismiss_report(&principal("default"), first, "", false).await.unwrap();
    node.report(&code, visitor(2)).await.unwrap();
    assert_eq!(node.open_reports().await.len(), MAX_OPEN_REPORTS as usize);
    assert_eq!(code_of(node.report("nothing", visitor(3)).await.unwrap_err()), "SHORTENER_LINK_UNKNOWN");
}

async fn one_report_or_all_are_dismissed(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let moderator = principal("default");
    let (one, two) = (node.shorten("https://example.com/").await, node.shorten("https://example.org/").await);
    for n in 0..3 {
        node.report(&one, visitor(n)).await.unwrap();
        tick(&world);
        node.report(&two, visitor(n)).await.unwrap();
        tick(&world);
    }
    let reports = node.open_reports().await;
    let dismiss = async |id, all| node.shortener.dismiss_report(&moderator, id, "fine", all).await;
    assert_eq!(dismiss(reports[0].id, false).await.unwrap(), 1);
    assert_eq!(code_of(dismiss(reports[0].id, true).await.unwrap_err()), "SHORTENER_REPORT_DECIDED");
    let of_two = reports.iter().find(|r| r.link.code == two).unwrap().id;
    assert_eq!(dismiss(of_two, true).await.unwrap(), 3);
    let left: Vec<_> = node.open_reports().await.iter().map(|r| r.link.code.clone()).collect();
    assert_eq!(left, [one.clone(), one]);
    // A page goes on where the one before ended.
    let dismissed = node.shortener.reports(ReportState::Dismissed, "", 2).await.unwrap();
    let after = dismissed.last().unwrap().id.to_string();
    let rest = node.shortener.reports(ReportState::Dismissed, &after, 10).await.unwrap();
    assert_eq!(dismissed.len() + rest.len() + left.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_list_file_is_read_when_it_changes_and_kept_when_it_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocked.txt");
    fs::write(&path, "evil.example\n").unwrap();
    let world = World::with(Engine::Sqlite, |c| c.block_list = path.to_str().unwrap().to_owned()).await;
    let node = world.node().await;
    let code = node.shorten("https://bad.example/").await;
    assert_eq!(node.status(&code).await, 302);
    assert_eq!(node.refusal("https://evil.example/").await, Some("SHORTENER_URL_BLOCKED"));
    fs::write(&path, "evil.example\nbad.example\n").unwrap();
    node.shortener.refresh_block_lists().await;
    assert_eq!(node.status(&code).await, 403, "what was in memory is forgotten");
    assert_eq!(node.metric("block_list_entries{outcome=\"file\"}"), 2);
    for broken in ["no list at all\n", ""] {
        if broken.is_empty() {
            fs::remove_file(&path).unwrap();
        } else {
            fs::write(&path, format!("# shorter\n{broken}")).unwrap();
        }
        node.shortener.refresh_block_lists().await;
        assert_eq!(node.refusal("https://evil.example/").await, Some("SHORTENER_URL_BLOCKED"), "the list before stays");
        assert_eq!(node.metric("block_list_stale"), 1);
        let trouble = node.shortener.block_list_trouble().unwrap();
        assert!(broken.is_empty() || trouble.contains("line 2"), "{trouble}");
    }
    fs::write(&path, "# nothing is blocked now, whatever was before\n").unwrap();
    node.shortener.refresh_block_lists().await;
    assert_eq!((node.status(&code).await, node.metric("block_list_stale")), (302, 0));
    assert_eq!(node.shortener.block_list_trouble(), None);
}
