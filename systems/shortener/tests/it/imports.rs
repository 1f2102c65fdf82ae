//! Files of links in and out, on both engines.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ::http::{HeaderMap, Request};
use axum::{Router, body::Body};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use kernel::{Clock, Problem, ProjectId, Shutdown, Timestamp};
use proptest::prelude::*;
use serde_json::Value;
use shortener::{
    Begun, Error, ListFilter, NewDomain, NewImport, Received,
    model::{
        Codes, LinkState,
        import::{Import, ImportId, ImportState, RowError},
        transfer::{Format, Numbered, Reader, Row, Writer},
    },
};

use tower::ServiceExt as _;

use crate::{
    contract::contract,
    http::as_key,
    world::{Engine, Node, START, World, link, principal},
};

contract!(
    rows_become_links_or_errors,
    every_row_counts_once_on_many_nodes,
    a_token_stands_for_one_file,
    an_import_is_stopped,
    a_file_that_breaks_off_leaves_nothing,
    codes_of_imports_and_generated_codes_live_together,
    counts_are_the_opening_balance,
    what_is_exported_is_imported_elsewhere,
    an_export_has_every_link_once_while_others_write,
    old_imports_are_forgotten,
);

fn project() -> ProjectId {
    ProjectId::default_project()
}

async fn try_import(node: &Node, new: NewImport, file: &str) -> Result<Received, Error> {
    let Begun::Send(mut spool) = node.shortener.begin_import(&principal("default"), new).await? else {
        panic!("another is received")
    };
    for piece in file.as_bytes().chunks(1000) {
        spool.push(piece).await?;
    }
    spool.finish().await
}

fn new(format: Format) -> NewImport {
    NewImport { format, domain: None, token: None }
}

async fn queue(node: &Node, format: Format, file: &str) -> ImportId {
    let Received::New(import) = try_import(node, new(format), file).await.unwrap() else { panic!("not new") };
    assert_eq!(import.state, ImportState::Queued);
    import.id
}

async fn work(node: &Node) {
    loop {
        match node.shortener.work_on_imports(&Shutdown::new()).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) => panic!("{e}: {:?}", e.internal.as_ref().map(|i| i.for_operators().to_owned())),
        }
    }
}

pub(crate) async fn import(node: &Node, format: Format, file: &str) -> (Import, Vec<RowError>) {
    let id = queue(node, format, file).await;
    work(node).await;
    let import = node.shortener.import(&project(), id).await.unwrap();
    assert_eq!(import.state, ImportState::Finished);
    assert_eq!(import.created_count + import.failed_count, import.row_count, "every row counts once");
    let (errors, next) = node.shortener.import_errors(&project(), id, None, 200).await.unwrap();
    assert_eq!(next, None);
    (import, errors)
}

async fn export(node: &Node, format: Format) -> String {
    let pieces = node.shortener.export(&project(), ListFilter::default(), format, true).await.unwrap();
    let pieces: Vec<_> = pieces.try_collect().await.unwrap();
    String::from_utf8(pieces.concat()).unwrap()
}

fn read(format: Format, text: &str) -> Vec<Row> {
    let mut reader = Reader::new(format);
    reader.push(text.as_bytes()).unwrap();
    reader.finish().unwrap();
    reader.rows().into_iter().map(|Numbered { row, .. }| row.unwrap()).collect()
}

pub(crate) fn jsonl(rows: &[Row]) -> String {
    let mut writer = Writer::new(Format::Jsonl);
    for row in rows {
        writer.write(row);
    }
    String::from_utf8(writer.take()).unwrap()
}

pub(crate) fn row(code: &str, url: &str) -> Row {
    Row { code: Some(code.to_owned()), url: url.to_owned(), ..Row::default() }
}

async fn rows_become_links_or_errors(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    node.alias("taken", "https://example.com/").await.unwrap();
    let file = "code,url,created_at,tags,title,expires_at,state,redirect,domain,max_clicks\r\n\
        spring,HTTPS://Example.com,2020-02-03T04:05:06Z,\"One, two\",\"A \"\"title\"\"\",,,308,,\r\n\
        taken,https://example.com/,,,,,,,,\r\n\
        metrics,https://example.com/,,,,,,,,\r\n\
        a.b,https://example.com/,,,,,,,,\r\n\
        bad,javascript:alert(1),,,,,,,,\r\n\
        late,https://example.com/,yesterday,,,,,,,\r\n\
        ,https://example.com/generated,,,,,,,,\r\n\
        over,https://example.com/,,,,2021-01-01T00:00:00Z,,,,\r\n\
        off,https://example.com/,,,,,disabled,,,\r\n\
        odd,https://example.com/,,,,,broken,,,\r\n\
        far,https://example.com/,,,,,,,nowhere.example,\r\n\
        spring,https://example.com/again,,,,,,,,\r\n\
        none,https://example.com/,,,,,,,,0\r\n\
        x,https://example.com/short,,,,,,,,\r\n";
    let (import, errors) = import(&node, Format::Csv, file).await;
    assert_eq!((import.row_count, import.created_count, import.failed_count), (14, 5, 9));
    let told: Vec<_> = errors.iter().map(|e| (e.number, e.name.as_str(), e.code.as_str())).collect();
    assert_eq!(
        told,
        [
            (2, "taken", "SHORTENER_ALIAS_TAKEN"),
            (3, "metrics", "SHORTENER_ALIAS_RESERVED"),
            (4, "a.b", "SHORTENER_ALIAS_INVALID"),
            (5, "bad", "SHORTENER_INVALID_URL"),
            (6, "", "SHORTENER_IMPORT_ROW_INVALID"),
            (10, "odd", "SHORTENER_LINK_INVALID"),
            (11, "far", "SHORTENER_DOMAIN_UNKNOWN"),
            (12, "spring", "SHORTENER_ALIAS_TAKEN"),
            (13, "none", "SHORTENER_LINK_INVALID"),
        ]
    );
    assert!(errors.iter().all(|e| e.detail.len() > 20), "{errors:?}");
    let spring = node.shortener.get(&project(), "spring").await.unwrap().link;
    assert_eq!((spring.url.as_str(), spring.title.as_str()), ("https://example.com/", "A \"title\""));
    assert_eq!(spring.tags, ["one", "two"]);
    assert_eq!(spring.created_at, Timestamp::parse("2020-02-03T04:05:06Z").unwrap());
    assert_eq!((spring.created_by.as_str(), spring.is_alias), ("dev", true));
    assert_eq!(u16::from(spring.settings.redirect), 308);
    let off = node.shortener.get(&project(), "off").await.unwrap().link;
    assert_eq!(off.state, LinkState::Disabled);
    for (code, status) in [("over", 410), ("x", 302), ("a.b", 404)] {
        assert_eq!(node.status(code).await, status, "{code}");
    }
    // Tags are found, totals are true, and a generated code is one.
    let tagged = ListFilter { tag: Some("two".to_owned()), ..ListFilter::default() };
    assert_eq!(node.shortener.list(&project(), &tagged, None, 10).await.unwrap().links.len(), 1);
    assert_eq!(node.shortener.totals(&project()).await.unwrap().link_count, 6);
    let all = node.shortener.list(&project(), &ListFilter::default(), None, 10).await.unwrap().links;
    let generated = all.iter().find(|l| l.link.url.ends_with("/generated")).unwrap();
    assert!(!generated.link.is_alias && generated.link.code.as_str().len() == 6);
    // Another project sees nothing of it.
    let other = ProjectId::parse("other").unwrap();
    assert!(node.shortener.import(&other, import.id).await.is_err());
    assert!(node.shortener.imports(&other, None, 10).await.unwrap().0.is_empty());
}

async fn every_row_counts_once_on_many_nodes(engine: Engine) {
    let world = World::new(engine).await;
    let (one, two) = (world.node().await, world.node().await);
    let rows: Vec<Row> = (0..3000).map(|i| row(&format!("n{i}"), &format!("https://example.com/{i}"))).collect();
    let first = queue(&one, Format::Jsonl, &jsonl(&rows)).await;
    let rows: Vec<Row> = (0..3000).map(|i| row(&format!("n{}", i * 2), "https://example.org/")).collect();
    let second = queue(&two, Format::Jsonl, &jsonl(&rows)).await;
    // Every worker grabs what it can, past the leases of the others, as after a pause of a whole machine.
    let hurry = async {
        loop {
            Clock::system().sleep(Duration::from_millis(2)).await;
            world.sim.advance(Duration::from_secs(6));
        }
    };
    tokio::select! {
        _ = async { tokio::join!(work(&one), work(&two), work(&one)) } => {}
        () = hurry => {}
    }
    work(&one).await;
    for id in [first, second] {
        let import = one.shortener.import(&project(), id).await.unwrap();
        assert_eq!((import.state, import.created_count + import.failed_count), (ImportState::Finished, 3000));
    }
    // 0 to 2999, and every second one up to 5998.
    let links = read(Format::Jsonl, &export(&one, Format::Jsonl).await);
    let codes: BTreeSet<_> = links.iter().map(|l| l.code.clone().unwrap()).collect();
    assert_eq!((links.len(), codes.len()), (4500, 4500));
    assert_eq!(one.shortener.totals(&project()).await.unwrap().link_count, 4500);
    let (a, b) = (
        one.shortener.import(&project(), first).await.unwrap(),
        one.shortener.import(&project(), second).await.unwrap(),
    );
    assert_eq!(a.created_count + b.created_count, 4500);
}

async fn a_token_stands_for_one_file(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let keyed = |token: &str| NewImport { token: Some(token.to_owned()), ..new(Format::Csv) };
    let file = "url\nhttps://example.com/\n";
    let Received::New(first) = try_import(&node, keyed("a"), file).await.unwrap() else { panic!("not new") };
    work(&node).await;
    let Received::Before(again) = try_import(&node, keyed("a"), file).await.unwrap() else { panic!("new") };
    assert_eq!((again.id, again.created_count), (first.id, 1));
    assert_eq!(try_import(&node, keyed("a"), "url\nhttps://example.org/\n").await.unwrap(), Received::OtherFile);
    let as_other = NewImport { format: Format::ShlinkCsv, ..keyed("a") };
    assert_eq!(try_import(&node, as_other, file).await.unwrap(), Received::OtherFile);
    assert!(matches!(try_import(&node, keyed("b"), file).await.unwrap(), Received::New(_)));
    work(&node).await;
    assert_eq!(node.shortener.totals(&project()).await.unwrap().link_count, 2);
    // While the first is being received, a second one is told to come again; when it went away, the second has its turn.
    let me = principal("default");
    let begin = || node.shortener.begin_import(&me, keyed("c"));
    let Begun::Send(gone) = begin().await.unwrap() else { panic!("running") };
    drop(gone);
    assert!(matches!(begin().await.unwrap(), Begun::Running));
    world.sim.advance(Duration::from_mins(3));
    assert!(matches!(begin().await.unwrap(), Begun::Send(_)));
}

async fn an_import_is_stopped(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let rows: Vec<Row> = (0..6000).map(|i| row(&format!("n{i}"), "https://example.com/")).collect();
    let id = queue(&node, Format::Jsonl, &jsonl(&rows)).await;
    // One slice: 20 chunks of 250 rows.
    assert!(node.shortener.work_on_imports(&Shutdown::new()).await.unwrap());
    let stopped = node.shortener.cancel_import(&principal("default"), id).await.unwrap();
    assert_eq!((stopped.state, stopped.created_count), (ImportState::Cancelled, 5000));
    // Said twice is as good as said once; nothing more happens.
    assert_eq!(node.shortener.cancel_import(&principal("default"), id).await.unwrap().state, ImportState::Cancelled);
    work(&node).await;
    assert_eq!(node.shortener.totals(&project()).await.unwrap().link_count, 5000);
    while node.shortener.clean_imports().await.unwrap() {}
    let left = world.db.query("SELECT seq FROM shortener_import_chunks LIMIT 1", vec![]).await.unwrap();
    assert!(left.is_empty());
    let (finished, _) = import(&node, Format::Csv, "url\nhttps://example.com/\n").await;
    let refused = node.shortener.cancel_import(&principal("default"), finished.id).await.unwrap_err();
    assert_eq!(Problem::from(refused).code.name, "SHORTENER_IMPORT_FINISHED");
}

async fn a_file_that_breaks_off_leaves_nothing(engine: Engine) {
    let world = World::with(engine, |c| c.import_row_limit = 1000).await;
    let node = world.node().await;
    let many = format!("url\n{}", "https://example.com/\n".repeat(1001));
    let late = format!("url\n{}\"https://example.com/{}", "https://example.com/\n".repeat(900), "a\n".repeat(70_000));
    for (file, code) in [
        (many.as_str(), "SHORTENER_IMPORT_TOO_LARGE"),
        (late.as_str(), "SHORTENER_IMPORT_INVALID"),
        ("link\nhttps://example.com/\n", "SHORTENER_IMPORT_INVALID"),
        ("", "SHORTENER_IMPORT_INVALID"),
    ] {
        let keyed = NewImport { token: Some("k".to_owned()), ..new(Format::Csv) };
        assert_eq!(Problem::from(try_import(&node, keyed, file).await.unwrap_err()).code.name, code);
    }
    // The same token is free again, and what was spooled goes.
    let Begun::Send(mut gone) = node.shortener.begin_import(&principal("default"), new(Format::Csv)).await.unwrap()
    else {
        panic!("running")
    };
    gone.push("url\n".as_bytes()).await.unwrap();
    gone.push("https://example.com/\n".repeat(600).as_bytes()).await.unwrap();
    drop(gone);
    world.sim.advance(Duration::from_mins(3));
    work(&node).await;
    while node.shortener.clean_imports().await.unwrap() {}
    let left = world.db.query("SELECT seq FROM shortener_import_chunks LIMIT 1", vec![]).await.unwrap();
    assert!(left.is_empty());
    assert_eq!(node.shortener.totals(&project()).await.unwrap().link_count, 0);
    // At most five at once.
    for _ in 0..5 {
        queue(&node, Format::Csv, "url\nhttps://example.com/\n").await;
    }
    let refused = try_import(&node, new(Format::Csv), "url\nhttps://example.com/\n").await.unwrap_err();
    assert_eq!(Problem::from(refused).code.name, "SHORTENER_IMPORTS_BUSY");
}

async fn codes_of_imports_and_generated_codes_live_together(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let codes = Codes::new(&world.access.secret("shortener.codes"));
    // The row with the first id has the code of the second; the second row then gets another.
    let second = codes.encode(1).unwrap();
    let rows = [row(second.as_str(), "https://example.com/0"), Row { code: None, ..row("", "https://example.com/1") }];
    let (done, errors) = import(&node, Format::Jsonl, &jsonl(&rows)).await;
    assert_eq!((done.created_count, errors), (2, vec![]));
    let links = node.shortener.list(&project(), &ListFilter::default(), None, 10).await.unwrap().links;
    assert_eq!(links.iter().map(|l| l.link.code.clone()).collect::<BTreeSet<_>>().len(), 2);
    assert_eq!(node.visit(&format!("/{second}")).await.location(), Some("https://example.com/0"));
    // Creation after it skips what is taken.
    for i in 0..10 {
        node.shorten(&format!("https://example.com/after/{i}")).await;
    }
}

async fn counts_are_the_opening_balance(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let own = NewDomain { host: "go.test".to_owned(), is_case_sensitive: false, root_url: None, unknown_url: None };
    node.shortener.add_domain(&principal("default"), own).await.unwrap();
    let file = r#"{"shortUrls":{"data":[
        {"shortCode":"Abc","longUrl":"https://shlink.io","dateCreated":"2016-05-01T20:34:16+02:00",
         "visitsSummary":{"total":1029,"nonBots":900,"bots":129},"tags":["a"],"domain":null,"title":"A","meta":{"maxVisits":1030}},
        {"shortCode":"Abc","longUrl":"https://shlink.io/b","dateCreated":"2017-05-01T20:34:16+02:00","visitsCount":7,"domain":"go.test"},
        {"shortCode":"a/b","longUrl":"https://shlink.io/c","dateCreated":"2017-05-01T20:34:16+02:00"}
    ],"pagination":{"currentPage":1,"pagesCount":1}}}"#;
    let (done, errors) = import(&node, Format::ShlinkJson, file).await;
    assert_eq!((done.created_count, errors.len(), errors[0].code.as_str()), (2, 1, "SHORTENER_ALIAS_INVALID"));
    let abc = node.shortener.get(&project(), "Abc").await.unwrap();
    assert_eq!((abc.total.people, abc.total.bots, abc.uses), (900, 129, 1029));
    // One of the visits that it was limited to is left.
    assert_eq!((node.status("Abc").await, node.status("Abc").await), (302, 410));
    let there = node.shortener.get_on(&project(), Some("go.test"), "abc").await.unwrap();
    assert_eq!((there.link.url.as_str(), there.total.people), ("https://shlink.io/b", 7));
    let (done, errors) = import(
        &node,
        Format::YourlsCsv,
        "keyword,url,title,timestamp,ip,clicks\n1,http://a.example/,One,2013-03-26 09:05:00,127.0.0.1,41\n",
    )
    .await;
    assert_eq!((done.created_count, errors), (1, vec![]));
    // What comes on top is added.
    node.status("1").await;
    node.shortener.flush_clicks().await.unwrap();
    let one = node.shortener.get(&project(), "1").await.unwrap();
    assert_eq!(one.total.people, 42);
    let totals = node.shortener.totals(&project()).await.unwrap();
    assert_eq!((totals.clicks.people, totals.clicks.bots), (900 + 1 + 7 + 42, 129));
}

/// Rows of an export without what an installation gives anew, by code.
fn by_code(rows: Vec<Row>) -> BTreeMap<(Option<String>, Option<String>), Row> {
    rows.into_iter().map(|r| ((r.domain.clone(), r.code.clone()), r)).collect()
}

async fn what_is_exported_is_imported_elsewhere(engine: Engine) {
    let rows = [
        Row { title: "=1+1".to_owned(), notes: "a\nb,\"c\"".to_owned(), ..row("-dash", "https://example.com/") },
        Row {
            tags: vec!["x".to_owned(), "y z".to_owned()],
            starts_at: Some(START),
            expires_at: Some(START.plus(Duration::from_hours(1))),
            max_clicks: Some(5),
            used_clicks: Some(4),
            state: Some("legal".to_owned()),
            created_at: Some(START.minus(Duration::from_hours(9))),
            click_count: 12,
            bot_count: 3,
            last_click_at: Some(START.minus(Duration::from_hours(1))),
            ..row("full", "https://example.com/")
        },
        serde_json::from_str(
            r#"{"code":"rules","url":"https://example.com/","redirect":307,"forward_query":true,
                "utm":{"source":"news","campaign":"spring"},
                "rules":[{"device":["mobile"],"language":["de"],"to":[{"url":"https://example.com/m","weight":1}]}],
                "split":[{"url":"https://example.com/a","weight":2},{"url":"https://example.com/b","weight":1}]}"#,
        )
        .unwrap(),
    ];
    round_trip(engine, &rows).await;
}

async fn round_trip(engine: Engine, rows: &[Row]) {
    let (from, to) = (World::new(engine).await, World::new(engine).await);
    let (source, target) = (from.node().await, to.node().await);
    source.shorten("https://example.com/generated").await;
    let (done, errors) = import(&source, Format::Jsonl, &jsonl(rows)).await;
    assert_eq!((done.created_count, errors), (rows.len() as u64, vec![]));
    let csv = export(&source, Format::Csv).await;
    let lines = export(&source, Format::Jsonl).await;
    let given = by_code(read(Format::Csv, &csv));
    assert_eq!(given, by_code(read(Format::Jsonl, &lines)), "both formats say the same");
    assert_eq!(given.len(), rows.len() + 1);
    let (_, errors) = import(&target, Format::Csv, &csv).await;
    assert_eq!(errors, []);
    assert_eq!(by_code(read(Format::Csv, &export(&target, Format::Csv).await)), given);
}

fn any_row() -> impl Strategy<Value = Row> {
    let text = "([=+@'\",; -]|[a-zA-Z0-9äß€]){0,12}";
    let at = || proptest::option::of((1..400_u64).prop_map(|h| START.minus(Duration::from_hours(h))));
    (
        ("[a-zA-Z0-9_-]{0,8}[a-zA-Z0-9]", "[a-z0-9/?=&;,'\"]{0,20}", text, text),
        (proptest::collection::vec("[a-z+='-]{1,6}[a-z]", 0..3), at(), at(), proptest::option::of(1..900_u64)),
        (0..3_usize, any::<bool>(), any::<bool>(), 0..5_u64, 0..5_u64),
    )
        .prop_map(
            |(
                (code, path, title, notes),
                (tags, created_at, last, max_clicks),
                (state, forward, alias, people, bots),
            )| Row {
                title,
                notes,
                tags,
                created_at,
                max_clicks,
                used_clicks: max_clicks.map(|n| n / 3),
                state: [None, Some("disabled"), Some("abuse")][state].map(str::to_owned),
                forward_query: forward,
                is_alias: Some(alias),
                click_count: people,
                bot_count: bots,
                last_click_at: last,
                ..row(&code, &format!("https://example.com/{path}"))
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn an_export_is_the_same_links_elsewhere(rows in proptest::collection::vec(any_row(), 1..12)) {
        let rows: BTreeMap<_, _> = rows.into_iter().map(|r| (r.code.clone(), r)).collect();
        let reserved = shortener::ShortenerConfig::default().reserved_words;
        let rows: Vec<_> = rows
            .into_values()
            .filter(|r| !reserved.iter().any(|w| r.code.as_ref().is_some_and(|c| c.eq_ignore_ascii_case(w))))
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(round_trip(Engine::Sqlite, &rows));
    }
}

async fn an_export_has_every_link_once_while_others_write(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let rows: Vec<Row> = (0..1800).map(|i| row(&format!("n{i}"), "https://example.com/")).collect();
    import(&node, Format::Jsonl, &jsonl(&rows)).await;
    let mut stream =
        Box::pin(node.shortener.export(&project(), ListFilter::default(), Format::Jsonl, true).await.unwrap());
    let mut text = stream.next().await.unwrap().unwrap().to_vec();
    // Between the pages: some go, some come, some change.
    for i in (0..1800).step_by(180) {
        node.shortener.delete(&principal("default"), None, &format!("n{i}"), None).await.unwrap();
    }
    world.sim.advance(Duration::from_secs(1));
    for i in 0..20 {
        node.create(link(&format!("https://example.com/new/{i}"))).await.unwrap();
    }
    while let Some(piece) = stream.next().await {
        text.extend(piece.unwrap());
    }
    let codes: Vec<_> =
        read(Format::Jsonl, &String::from_utf8(text).unwrap()).into_iter().map(|r| r.code.unwrap()).collect();
    let unique: BTreeSet<_> = codes.iter().cloned().collect();
    assert_eq!(unique.len(), codes.len(), "once");
    assert!((0..1800).filter(|i| i % 180 != 0).all(|i| unique.contains(&format!("n{i}"))), "every one");
}

async fn old_imports_are_forgotten(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let bad = format!("url\n{}", "nope\n".repeat(1200));
    let id = queue(&node, Format::Csv, &bad).await;
    work(&node).await;
    let import = node.shortener.import(&project(), id).await.unwrap();
    assert_eq!((import.failed_count, import.unlisted_count()), (1200, 200));
    let (mut listed, mut cursor) = (0, None);
    loop {
        let (errors, next) = node.shortener.import_errors(&project(), id, cursor.as_deref(), 200).await.unwrap();
        assert_eq!(
            errors.iter().map(|e| e.number).collect::<Vec<_>>(),
            (listed + 1..=listed + 200).collect::<Vec<_>>()
        );
        listed += 200;
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, 1000);
    world.sim.advance(Duration::from_hours(24 * 29));
    assert!(!node.shortener.clean_imports().await.unwrap());
    world.sim.advance(Duration::from_hours(24 * 2));
    while node.shortener.clean_imports().await.unwrap() {}
    assert!(node.shortener.import(&project(), id).await.is_err());
    let left = world.db.query("SELECT number FROM shortener_import_errors LIMIT 1", vec![]).await.unwrap();
    assert!(left.is_empty());
}

async fn send(
    app: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = app.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn over_http() {
    const CSV: (&str, &str) = ("content-type", "text/csv");
    let world = World::with(Engine::Sqlite, |c| c.import_body_limit = kernel::ByteSize::kib(64)).await;
    let node = world.node().await;
    let app = as_key(&node, "default", &["links:write"]);
    let file = "url,code\nhttps://example.com/,one\nnope,two\n";
    let path = "/v1/link-imports?format=csv";
    let key = ("idempotency-key", "k1");
    let (status, headers, body) = send(&app, "POST", path, &[CSV, key], file).await;
    let made: Value = serde_json::from_str(&body).unwrap();
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!((status, headers["location"].to_str().unwrap()), (202, format!("/v1/link-imports/{id}").as_str()));
    assert_eq!((made["state"].as_str(), made["row_count"].as_u64()), (Some("queued"), Some(2)));
    work(&node).await;
    let (status, headers, body) = send(&app, "POST", path, &[CSV, key], file).await;
    let again: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, again["id"].as_str(), again["state"].as_str()), (202, Some(id.as_str()), Some("finished")));
    assert_eq!(headers["idempotent-replayed"], "true");
    let import = format!("/v1/link-imports/{id}");
    let read = |path: String| {
        let app = &app;
        async move { serde_json::from_str::<Value>(&send(app, "GET", &path, &[], "").await.2).unwrap() }
    };
    let one = read(import.clone()).await;
    assert_eq!((one["created_count"].as_u64(), one["failed_count"].as_u64()), (Some(1), Some(1)));
    assert_eq!((one["progress"].as_f64(), one["unlisted_error_count"].as_u64()), (Some(1.0), Some(0)));
    let errors = read(format!("{import}/errors")).await;
    assert_eq!(errors["items"][0]["row"], 2);
    assert_eq!(errors["items"][0]["code"], "SHORTENER_INVALID_URL");
    assert_eq!(read("/v1/link-imports?limit=1".to_owned()).await["items"][0]["id"], id);

    let large = "x".repeat(70_000);
    for (method, path, headers, body, expected, code) in [
        ("POST", path, vec![CSV, key], "url\nhttps://example.org/\n", 422, "IDEMPOTENCY_KEY_REUSED"),
        ("POST", path, vec![CSV, ("idempotency-key", "a b")], file, 400, "IDEMPOTENCY_KEY_INVALID"),
        ("POST", path, vec![("content-type", "text/plain")], file, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", path, vec![], file, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", path, vec![CSV], large.as_str(), 413, "SHORTENER_IMPORT_TOO_LARGE"),
        ("POST", path, vec![CSV], "colour\nred\n", 422, "SHORTENER_IMPORT_INVALID"),
        ("POST", "/v1/link-imports?format=xls", vec![CSV], file, 400, "INVALID_QUERY"),
        ("POST", "/v1/link-imports", vec![CSV], file, 400, "INVALID_QUERY"),
        ("POST", "/v1/link-imports?format=csv&domain=nowhere.test", vec![CSV], file, 422, "SHORTENER_DOMAIN_UNKNOWN"),
        ("GET", "/v1/link-imports?cursor=forged", vec![], "", 400, "INVALID_CURSOR"),
        ("GET", "/v1/link-imports/imp_00000000000000000000000000000000", vec![], "", 404, "SHORTENER_IMPORT_UNKNOWN"),
        ("GET", "/v1/link-imports/nonsense/errors", vec![], "", 404, "SHORTENER_IMPORT_UNKNOWN"),
        ("DELETE", import.as_str(), vec![], "", 409, "SHORTENER_IMPORT_FINISHED"),
        ("GET", "/v1/links/export?format=xls", vec![], "", 400, "INVALID_QUERY"),
        ("GET", "/v1/links/export?domain=nowhere.test", vec![], "", 422, "SHORTENER_DOMAIN_UNKNOWN"),
    ] {
        let (status, _, text) = send(&app, method, path, &headers, body).await;
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, json["code"].as_str()), (expected, Some(code)), "{method} {path} {headers:?}: {text}");
    }

    let (status, headers, body) = send(&app, "GET", "/v1/links/export", &[], "").await;
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "text/csv; charset=utf-8; header=present"));
    assert!(headers["content-disposition"].to_str().unwrap().contains("links.csv"));
    assert_eq!(body.split("\r\n").map(|l| l.split(',').next().unwrap()).collect::<Vec<_>>(), ["code", "one", ""]);
    let (_, _, body) = send(&app, "GET", "/v1/links/export?format=jsonl&code=x", &[], "").await;
    assert_eq!(body, "");

    // Scopes and projects hold.
    let reader = as_key(&node, "default", &["links:read"]);
    assert_eq!(send(&reader, "POST", path, &[CSV], file).await.0, 403);
    assert_eq!(send(&reader, "DELETE", &import, &[], "").await.0, 403);
    assert_eq!(send(&reader, "GET", &import, &[], "").await.0, 200);
    let other = as_key(&node, "other", &["links:write"]);
    assert_eq!(send(&other, "GET", &import, &[], "").await.0, 404);
    assert_eq!(send(&other, "DELETE", &import, &[], "").await.0, 404);
    assert!(!send(&other, "GET", "/v1/links/export", &[], "").await.2.contains("one"));
    // Their keys are their own.
    assert_eq!(send(&other, "POST", path, &[CSV, key], "url\nhttps://example.org/\n").await.0, 202);
}
