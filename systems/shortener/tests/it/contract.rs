//! What links promise, on both engines.

use std::{collections::HashSet, time::Duration};

use access::AuditFilter;
use kernel::{Problem, ProjectId};
use shortener::{Created, Error, ListFilter, NewLink, model::Codes};

use crate::world::{Engine, START, World, link, principal};

macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Engine::Sqlite).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Engine::Postgres).await;
            })+
        }
    };
}
pub(crate) use contract;

contract!(
    a_link_lives_and_is_deleted,
    an_alias_is_taken_once_and_for_ever,
    a_generated_code_that_an_alias_has_is_skipped,
    a_repeated_creation_gives_the_first_link,
    the_same_creation_at_once_makes_one_link,
    nodes_never_collide,
    pages_hold_every_link_once,
    cursors_open_only_their_own_list,
    projects_do_not_see_one_another,
    a_version_guards_a_deletion,
    a_deletion_is_audited_with_it,
    bad_creations_are_refused,
);

fn code_of(error: Error) -> &'static str {
    Problem::from(error).code.name
}

async fn a_link_lives_and_is_deleted(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let made = node.create(link("HTTPS://Example.com:443/a?b#c")).await.unwrap();
    assert!(made.is_new);
    assert_eq!(made.link.url, "https://example.com/a?b#c");
    assert_eq!(made.link.code.as_str().len(), 6);
    assert_eq!(made.link.created_at, START);
    assert!(!made.link.is_alias);
    assert_eq!(made.link.created_by, "dev");
    let code = made.link.code.as_str();
    let project = ProjectId::default_project();
    assert_eq!(node.shortener.get(&project, code).await.unwrap().link, made.link);
    assert_eq!(node.shortener.short_url(&made.link), format!("https://go.example.com/{code}"));
    assert_eq!(node.shortener.totals(&project).await.unwrap().link_count, 1);

    node.shortener.delete(&principal("default"), None, code, None).await.unwrap();
    assert_eq!(code_of(node.shortener.get(&project, code).await.unwrap_err()), "SHORTENER_LINK_UNKNOWN");
    let again = node.shortener.delete(&principal("default"), None, code, None).await.unwrap_err();
    assert_eq!(code_of(again), "SHORTENER_LINK_UNKNOWN");
    assert_eq!(node.shortener.totals(&project).await.unwrap().link_count, 0);
    assert_eq!(node.shortener.list(&project, &ListFilter::default(), None, 10).await.unwrap().links, []);
}

async fn an_alias_is_taken_once_and_for_ever(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let made = node.alias("Launch-2026", "https://example.com/").await.unwrap();
    assert_eq!(made.link.code.as_str(), "Launch-2026");
    assert!(made.link.is_alias);
    let again = node.alias("Launch-2026", "https://example.org/").await.unwrap_err();
    assert_eq!(code_of(again), "SHORTENER_ALIAS_TAKEN");
    // Another project takes it no more than the same one, and a deleted link never leads elsewhere.
    let other = NewLink { alias: Some("Launch-2026".to_owned()), ..link("https://example.org/") };
    let other = node.shortener.create(&principal("other"), other).await.unwrap_err();
    assert_eq!(code_of(other), "SHORTENER_ALIAS_TAKEN");
    node.shortener.delete(&principal("default"), None, "Launch-2026", None).await.unwrap();
    let after = node.alias("Launch-2026", "https://example.org/").await.unwrap_err();
    assert_eq!(code_of(after), "SHORTENER_ALIAS_TAKEN");
    // Case matters.
    assert!(node.alias("launch-2026", "https://example.org/").await.unwrap().is_new);
}

async fn a_generated_code_that_an_alias_has_is_skipped(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let codes = Codes::new(&world.access.secret("shortener.codes"));
    // The alias takes id 0; the code of id 1 is what it wants.
    let wanted = codes.encode(1).unwrap();
    let alias = node.alias(wanted.as_str(), "https://example.com/alias").await.unwrap();
    assert_eq!((alias.link.id.0, &alias.link.code), (0, &wanted));
    let generated = node.create(link("https://example.com/generated")).await.unwrap();
    assert_eq!(generated.link.id.0, 2);
    assert_eq!(Some(generated.link.code), codes.encode(2));
    let kept = node.shortener.get(&ProjectId::default_project(), wanted.as_str()).await.unwrap();
    assert_eq!(kept.link.url, "https://example.com/alias");
}

async fn a_repeated_creation_gives_the_first_link(engine: Engine) {
    let world = World::new(engine).await;
    let (one, two) = (world.node().await, world.node().await);
    let new = |token: &str| NewLink { token: Some(token.to_owned()), ..link("https://example.com/") };
    let first = one.create(new("t1")).await.unwrap();
    let again = two.create(new("t1")).await.unwrap();
    assert_eq!(again, Created { link: first.link.clone(), is_new: false });
    assert!(one.create(new("t2")).await.unwrap().is_new);
    // A token belongs to its project.
    assert!(one.shortener.create(&principal("other"), new("t1")).await.unwrap().is_new);
    assert_eq!(one.shortener.totals(&ProjectId::default_project()).await.unwrap().link_count, 2);
    // With an alias too: the repetition is not told that its own alias is taken.
    let alias = NewLink { alias: Some("mine".to_owned()), ..new("t3") };
    let first = one.create(alias.clone()).await.unwrap();
    assert_eq!(two.create(alias).await.unwrap(), Created { link: first.link, is_new: false });
}

async fn the_same_creation_at_once_makes_one_link(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let new = NewLink { token: Some("once".to_owned()), ..link("https://example.com/") };
    let made = futures_util::future::join_all((0..20).map(|_| node.create(new.clone()))).await;
    let made: Vec<Created> = made.into_iter().map(Result::unwrap).collect();
    assert_eq!(made.iter().map(|m| m.link.code.clone()).collect::<HashSet<_>>().len(), 1);
    assert_eq!(made.iter().filter(|m| m.is_new).count(), 1);
    assert_eq!(node.shortener.totals(&ProjectId::default_project()).await.unwrap().link_count, 1);
}

async fn nodes_never_collide(engine: Engine) {
    let world = World::with(engine, |c| c.block_size = 7).await;
    let nodes = [world.node().await, world.node().await, world.node().await];
    let creations = (0..150).map(|i| nodes[i % 3].shorten("https://example.com/"));
    let codes = futures_util::future::join_all(creations).await;
    assert_eq!(codes.iter().collect::<HashSet<_>>().len(), 150);
    assert_eq!(nodes[0].shortener.totals(&ProjectId::default_project()).await.unwrap().link_count, 150);
    // A node that starts anew goes on behind every block that was taken.
    let id = world.node().await.create(link("https://example.com/")).await.unwrap().link.id.0;
    assert!(id >= 150 && id % 7 == 0, "{id}");
}

async fn pages_hold_every_link_once(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let mut made = Vec::new();
    for i in 0..25 {
        // Several of the same millisecond, so that the tie is broken.
        if i % 4 == 0 {
            world.sim.advance(Duration::from_millis(1));
        }
        made.push(node.shorten(&format!("https://example.com/{i}")).await);
    }
    for alias in ["team-a", "team-b", "team_c", "Team-d", "tea"] {
        node.alias(alias, "https://example.com/").await.unwrap();
        made.push(alias.to_owned());
    }
    let project = ProjectId::default_project();
    for limit in [1, 7, 30, 100] {
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = node.shortener.list(&project, &ListFilter::default(), cursor.as_deref(), limit).await.unwrap();
            assert!(page.links.len() <= limit as usize);
            seen.extend(page.links.iter().map(|l| l.link.clone()));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert!(seen.windows(2).all(|w| (w[0].created_at, w[0].id) > (w[1].created_at, w[1].id)), "newest first");
        let seen: HashSet<String> = seen.iter().map(|l| l.code.to_string()).collect();
        assert_eq!(seen, made.iter().cloned().collect::<HashSet<_>>());
    }
    for (prefix, expected) in [
        ("team", vec!["team-a", "team-b", "team_c"]),
        ("team-", vec!["team-a", "team-b"]),
        ("tea", vec!["tea", "team-a", "team-b", "team_c"]),
        ("team-a", vec!["team-a"]),
        ("no such", vec![]),
        ("%", vec![]),
    ] {
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = node.shortener.list(&project, &by_prefix(prefix), cursor.as_deref(), 2).await.unwrap();
            seen.extend(page.links.iter().map(|l| l.link.code.to_string()));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let ours: Vec<&String> = seen.iter().filter(|c| !made[..25].contains(c)).collect();
        assert_eq!(ours, expected, "{prefix}");
    }
}

fn by_prefix(prefix: &str) -> ListFilter {
    ListFilter { prefix: Some(prefix.to_owned()), ..ListFilter::default() }
}

async fn cursors_open_only_their_own_list(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    for _ in 0..3 {
        node.shorten("https://example.com/").await;
    }
    let project = ProjectId::default_project();
    let cursor = node.shortener.list(&project, &ListFilter::default(), None, 1).await.unwrap().next_cursor.unwrap();
    let other = ProjectId::parse("other").unwrap();
    let mut changed = cursor.clone().into_bytes();
    changed[3] = if changed[3] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    for (project, prefix, cursor) in [
        (&other, None, cursor.as_str()),
        (&project, Some("a"), &cursor),
        (&project, None, &changed),
        (&project, None, "x"),
    ] {
        let refused = node
            .shortener
            .list(project, &prefix.map_or_else(ListFilter::default, by_prefix), Some(cursor), 1)
            .await
            .unwrap_err();
        assert_eq!(code_of(refused), "INVALID_CURSOR");
    }
    // Another node of the installation goes on where this one stopped.
    assert_eq!(
        world
            .node()
            .await
            .shortener
            .list(&project, &ListFilter::default(), Some(&cursor), 10)
            .await
            .unwrap()
            .links
            .len(),
        2
    );
}

async fn projects_do_not_see_one_another(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    let other = ProjectId::parse("other").unwrap();
    assert_eq!(code_of(node.shortener.get(&other, &code).await.unwrap_err()), "SHORTENER_LINK_UNKNOWN");
    assert_eq!(
        code_of(node.shortener.delete(&principal("other"), None, &code, None).await.unwrap_err()),
        "SHORTENER_LINK_UNKNOWN"
    );
    assert_eq!(node.shortener.list(&other, &ListFilter::default(), None, 10).await.unwrap().links, []);
    assert_eq!(node.shortener.totals(&other).await.unwrap().link_count, 0);
    // Visitors belong to no project.
    assert_eq!(node.status(&code).await, 302);
}

async fn a_version_guards_a_deletion(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let made = node.create(link("https://example.com/")).await.unwrap().link;
    let wrong = node.shortener.delete(&principal("default"), None, made.code.as_str(), Some(made.version + 1)).await;
    assert_eq!(code_of(wrong.unwrap_err()), "SHORTENER_LINK_CHANGED");
    assert_eq!(node.status(made.code.as_str()).await, 302);
    node.shortener.delete(&principal("default"), None, made.code.as_str(), Some(made.version)).await.unwrap();
    assert_eq!(node.status(made.code.as_str()).await, 404);
}

async fn a_deletion_is_audited_with_it(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let code = node.shorten("https://example.com/").await;
    let filter = AuditFilter { action: Some("shortener.link.delete".to_owned()), ..AuditFilter::default() };
    let entries = async || {
        let page = world.access.list_audit(&ProjectId::default_project(), &filter, &web::PageQuery::default()).await;
        page.unwrap().items
    };
    // What is refused leaves no entry.
    node.shortener.delete(&principal("default"), None, &code, Some(99)).await.unwrap_err();
    assert_eq!(entries().await.len(), 0);
    node.shortener.delete(&principal("default"), None, &code, None).await.unwrap();
    let entries = entries().await;
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].object.as_str(), entries[0].actor.as_str()), (code.as_str(), "dev"));
    assert_eq!(entries[0].detail, serde_json::json!({ "url": "https://example.com/" }));
}

async fn bad_creations_are_refused(engine: Engine) {
    let world = World::new(engine).await;
    let node = world.node().await;
    let alias = |alias: &str| NewLink { alias: Some(alias.to_owned()), ..link("https://example.com/") };
    for (new, expected) in [
        (link("example.com"), "SHORTENER_INVALID_URL"),
        (link("javascript:alert(1)"), "SHORTENER_INVALID_URL"),
        (alias("ab"), "SHORTENER_ALIAS_INVALID"),
        (alias("a/b/c"), "SHORTENER_ALIAS_INVALID"),
        (alias("Admin"), "SHORTENER_ALIAS_RESERVED"),
        (NewLink { expires_at: Some(START), ..link("https://example.com/") }, "SHORTENER_EXPIRY_INVALID"),
    ] {
        assert_eq!(code_of(node.create(new.clone()).await.unwrap_err()), expected, "{new:?}");
    }
    assert_eq!(node.shortener.totals(&ProjectId::default_project()).await.unwrap().link_count, 0);
}
