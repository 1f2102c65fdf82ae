use std::time::Duration;

use access::{AuditFilter, Error, KeyState, NewKey};
use kernel::Clock;
use web::PageQuery;

use crate::site::{Site, admin_in, new_key, options, project};

both_engines!(
    life,
    rotation_overlaps,
    a_request_that_is_tried_twice_makes_one_key,
    nobody_gives_what_they_lack,
    the_last_admin_key_stays,
    two_admins_cannot_revoke_each_other_at_once,
    projects_are_apart,
    pages,
    other_nodes_hear_of_it,
    without_a_message_the_ttl_bounds_it,
    last_used_is_written_later,
);

async fn life(site: Site) {
    let (access, admin, _) = site.first_node().await;
    let expires_at = Some(site.clock.now().plus(Duration::from_hours(1)));
    let issued = access.create_key(&admin, &NewKey { expires_at, ..new_key("ci", "links:write") }, None).await.unwrap();
    let text = issued.text.expose();
    let who = access.authenticate(&text, None).await.unwrap();
    assert_eq!((who.name.as_ref(), who.is_admin, who.key_id), ("ci", false, Some(issued.key.id)));
    assert!(who.allows("links", "read") && !who.allows("links", "admin") && !who.allows("access", "read"));

    let id = issued.key.id.to_string();
    let shown = access.get_key(&admin.project, &id).await.unwrap();
    assert_eq!(shown.created_by, admin.actor());
    assert_eq!(shown.state(site.clock.now()), KeyState::Active);

    access.revoke_key(&admin, &id).await.unwrap();
    assert!(matches!(access.authenticate(&text, None).await, Err(Error::KeyRevoked(_))), "at once on this node");
    access.revoke_key(&admin, &id).await.expect("a second time changes nothing");
    assert!(matches!(access.rotate_key(&admin, &id, Duration::ZERO, None).await, Err(Error::KeyEnded)));

    let short =
        access.create_key(&admin, &NewKey { expires_at, ..new_key("short", "links:read") }, None).await.unwrap();
    let text = short.text.expose();
    access.authenticate(&text, None).await.unwrap();
    site.time.advance(Duration::from_hours(1));
    assert!(matches!(access.authenticate(&text, None).await, Err(Error::KeyExpired { rotated: false, .. })));
    assert!(matches!(
        access.rotate_key(&admin, &short.key.id.to_string(), Duration::ZERO, None).await,
        Err(Error::KeyEnded)
    ));

    let audit = access.list_audit(&admin.project, &AuditFilter::default(), &PageQuery::default()).await.unwrap();
    let actions: Vec<&str> = audit.items.iter().map(|e| e.action.as_str()).collect();
    assert_eq!(actions.iter().filter(|a| **a == "access.key.create").count(), 3);
    assert_eq!(actions.iter().filter(|a| **a == "access.key.revoke").count(), 1, "{actions:?}");
}

async fn rotation_overlaps(site: Site) {
    let (access, admin, _) = site.first_node().await;
    let first = access.create_key(&admin, &new_key("app", "links:read"), None).await.unwrap();
    let id = first.key.id.to_string();
    let second = access.rotate_key(&admin, &id, Duration::from_mins(10), None).await.unwrap();
    assert_eq!(second.key.id, first.key.id);
    assert_eq!(second.key.state(site.clock.now()), KeyState::Rotating);
    let (old, new) = (first.text.expose(), second.text.expose());
    access.authenticate(&new, None).await.unwrap();
    site.time.advance(Duration::from_mins(10) - Duration::from_millis(1));
    access.authenticate(&old, None).await.expect("until the stated time");
    site.time.advance(Duration::from_millis(1));
    assert!(matches!(access.authenticate(&old, None).await, Err(Error::KeyExpired { rotated: true, .. })));
    access.authenticate(&new, None).await.unwrap();

    let third = access.rotate_key(&admin, &id, Duration::ZERO, None).await.unwrap();
    assert!(matches!(access.authenticate(&new, None).await, Err(Error::Unauthenticated)), "no overlap: gone at once");
    access.authenticate(&third.text.expose(), None).await.unwrap();
    assert!(matches!(
        access.rotate_key(&admin, &id, Duration::from_hours(24 * 31), None).await,
        Err(Error::KeyInvalid { field: "overlap_seconds", .. })
    ));
}

async fn a_request_that_is_tried_twice_makes_one_key(site: Site) {
    let (access, admin, _) = site.first_node().await;
    let (token, other) = (Some([1; 16]), Some([2; 16]));
    let one = access.create_key(&admin, &new_key("ci", "links:read"), token).await.unwrap();
    let two = access.create_key(&admin, &new_key("ci", "links:read"), token).await.unwrap();
    assert_eq!(one.key.id, two.key.id);
    access.authenticate(&two.text.expose(), None).await.unwrap();
    assert!(access.authenticate(&one.text.expose(), None).await.is_err(), "that one reached nobody");
    assert_eq!(access.list_keys(&admin.project, &PageQuery::default()).await.unwrap().items.len(), 2);

    // A rotation tried twice still lets the secret before it go on.
    let id = one.key.id.to_string();
    access.rotate_key(&admin, &id, Duration::from_mins(1), other).await.unwrap();
    let again = access.rotate_key(&admin, &id, Duration::from_mins(1), other).await.unwrap();
    access.authenticate(&two.text.expose(), None).await.unwrap();
    access.authenticate(&again.text.expose(), None).await.unwrap();
    let filter = AuditFilter { object: Some(id), ..AuditFilter::default() };
    assert_eq!(access.list_audit(&admin.project, &filter, &PageQuery::default()).await.unwrap().items.len(), 2);
}

async fn nobody_gives_what_they_lack(site: Site) {
    let (access, admin, _) = site.first_node().await;
    let issued = access.create_key(&admin, &new_key("lead", "access:write links:read"), None).await.unwrap();
    let lead = access.authenticate(&issued.text.expose(), None).await.unwrap();
    for (scopes, allowed) in [("links:read", true), ("access:read", true), ("links:write", false), ("*", false)] {
        let made = access.create_key(&lead, &new_key("x", scopes), None).await;
        assert_eq!(made.is_ok(), allowed, "{scopes}");
        assert!(allowed || matches!(made, Err(Error::ScopeTooWide(_))));
    }
    // Renewing an administrator's secret would be as good as being given it; ending it would lock them out.
    let first = admin.key_id.unwrap().to_string();
    assert!(matches!(access.rotate_key(&lead, &first, Duration::ZERO, None).await, Err(Error::ScopeTooWide(_))));
    assert!(matches!(access.revoke_key(&lead, &first).await, Err(Error::ScopeTooWide(_))));
    assert!(matches!(access.create_project(&lead, "shop", None).await, Err(Error::AdminOnly(_))));
}

async fn the_last_admin_key_stays(site: Site) {
    let (access, admin, _) = site.first_node().await;
    let first = admin.key_id.unwrap().to_string();
    assert!(matches!(access.revoke_key(&admin, &first).await, Err(Error::LastAdminKey)));
    let expires_at = Some(site.clock.now().plus(Duration::from_secs(1)));
    access.create_key(&admin, &NewKey { expires_at, ..new_key("short", "*") }, None).await.unwrap();
    site.time.advance(Duration::from_secs(1));
    assert!(
        matches!(access.revoke_key(&admin, &first).await, Err(Error::LastAdminKey)),
        "an expired one does not count"
    );
    let second = access.create_key(&admin, &new_key("second", "*"), None).await.unwrap();
    access.revoke_key(&admin, &first).await.unwrap();
    let second_admin = access.authenticate(&second.text.expose(), None).await.unwrap();
    let second = second.key.id.to_string();
    assert!(matches!(access.revoke_key(&second_admin, &second).await, Err(Error::LastAdminKey)));
}

/// ACCESS-3 with two requests at once.
async fn two_admins_cannot_revoke_each_other_at_once(site: Site) {
    let (access, admin, _) = site.first_node().await;
    let node = site.node().await;
    for _ in 0..5 {
        let keys = access.list_keys(&admin.project, &PageQuery::default()).await.unwrap().items;
        let working: Vec<_> = keys.into_iter().filter(|k| k.revoked_at.is_none()).collect();
        assert_eq!(working.len(), 1);
        let other = access.create_key(&admin, &new_key("other", "*"), None).await.unwrap();
        let (a, b) = (working[0].id.to_string(), other.key.id.to_string());
        let (one, two) = tokio::join!(access.revoke_key(&admin, &b), node.revoke_key(&admin, &a));
        let done = [&one, &two].iter().filter(|r| r.is_ok()).count();
        assert_eq!(done, 1, "{one:?} {two:?}");
    }
}

async fn projects_are_apart(site: Site) {
    let (access, admin, _) = site.first_node().await;
    let shop = admin_in(&access, &admin, "shop").await;
    let in_shop = access.create_key(&shop, &new_key("shop app", "*:admin"), None).await.unwrap();
    let key = access.authenticate(&in_shop.text.expose(), None).await.unwrap();
    assert_eq!(key.project.as_str(), "shop");

    assert!(matches!(access.choose_project(key.clone(), Some("default")).await, Err(Error::OtherProject)));
    assert!(matches!(access.choose_project(key.clone(), Some("nowhere")).await, Err(Error::OtherProject)));
    assert!(matches!(access.choose_project(admin.clone(), Some("nowhere")).await, Err(Error::ProjectUnknown)));
    assert!(matches!(access.choose_project(admin.clone(), Some("No Name")).await, Err(Error::ProjectUnknown)));

    let first = admin.key_id.unwrap().to_string();
    assert!(matches!(access.get_key(&key.project, &first).await, Err(Error::KeyUnknown)));
    assert!(matches!(access.revoke_key(&key, &first).await, Err(Error::KeyUnknown)));
    assert!(matches!(access.rotate_key(&key, &first, Duration::ZERO, None).await, Err(Error::KeyUnknown)));
    let seen = access.list_keys(&key.project, &PageQuery::default()).await.unwrap().items;
    assert_eq!(seen.iter().map(|k| k.id).collect::<Vec<_>>(), [in_shop.key.id]);
    let projects = access.list_projects(&key, &PageQuery::default()).await.unwrap().items;
    assert_eq!(projects.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["shop"]);
    assert!(matches!(access.get_project(&key, "default").await, Err(Error::ProjectUnknown)));
    let audit = access.list_audit(&key.project, &AuditFilter::default(), &PageQuery::default()).await.unwrap().items;
    assert!(audit.iter().all(|e| e.project == project("shop")), "{audit:?}");

    // A cursor of one project's list is not one of another's.
    access.create_key(&shop, &new_key("second", "links:read"), None).await.unwrap();
    let page = access.list_keys(&key.project, &PageQuery { limit: 1, cursor: None }).await.unwrap();
    let stolen = PageQuery { limit: 1, cursor: page.next_cursor };
    assert!(access.list_keys(&admin.project, &stolen).await.is_err());
    access.list_keys(&key.project, &stolen).await.unwrap();
}

async fn pages(site: Site) {
    let (access, admin, _) = site.first_node().await;
    for n in 0..5 {
        site.time.advance(Duration::from_millis(1));
        access.create_key(&admin, &new_key(&format!("k{n}"), "links:read"), None).await.unwrap();
        access.create_project(&admin, &format!("p{n}"), Some("A title")).await.unwrap();
    }
    assert!(matches!(access.create_project(&admin, "p0", None).await, Err(Error::ProjectExists)));
    let (mut names, mut cursor) = (Vec::new(), None);
    loop {
        let page = access.list_keys(&admin.project, &PageQuery { limit: 2, cursor }).await.unwrap();
        names.extend(page.items.into_iter().map(|k| k.name));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(names, ["k4", "k3", "k2", "k1", "k0", "first admin"]);
    let page = access.list_projects(&admin, &PageQuery { limit: 4, cursor: None }).await.unwrap();
    assert_eq!(page.items.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["default", "p0", "p1", "p2"]);
    let rest = access.list_projects(&admin, &PageQuery { limit: 4, cursor: page.next_cursor }).await.unwrap();
    assert_eq!(rest.items.len(), 2);
    assert_eq!(rest.next_cursor, None);
}

/// A revocation reaches another node by its message, although that node's cache is still fresh.
async fn other_nodes_hear_of_it(site: Site) {
    let (access, admin, _) = site.first_node().await;
    let node = site.node().await;
    let issued = access.create_key(&admin, &new_key("app", "links:read"), None).await.unwrap();
    let text = issued.text.expose();
    node.authenticate(&text, None).await.unwrap();
    access.revoke_key(&admin, &issued.key.id.to_string()).await.unwrap();
    // The simulated clock stands still, so only the message can end it.
    let refused = async {
        while node.authenticate(&text, None).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    Clock::system().timeout(Duration::from_secs(20), refused).await.expect("the message comes within 20 s");
}

/// Promise 2 when the message is lost.
async fn without_a_message_the_ttl_bounds_it(site: Site) {
    let (access, admin, _) = site.first_node().await;
    let (deaf, _) = site.start(options(|c| c.cache_ttl = Duration::from_secs(5))).await.unwrap();
    let issued = access.create_key(&admin, &new_key("app", "links:read"), None).await.unwrap();
    let text = issued.text.expose();
    deaf.authenticate(&text, None).await.unwrap();
    // Changed behind the backs of both nodes: no message at all.
    let sql = "UPDATE access_keys SET revoked_at = $2 WHERE id = $1";
    let params = database::params![issued.key.id.to_string(), site.clock.now()];
    site.db().await.exec(sql, params).await.unwrap();
    site.time.advance(Duration::from_secs(5));
    assert!(matches!(deaf.authenticate(&text, None).await, Err(Error::KeyRevoked(_))));
}

async fn last_used_is_written_later(site: Site) {
    let (access, admin, _) = site.first_node().await;
    let issued = access.create_key(&admin, &new_key("app", "links:read"), None).await.unwrap();
    let (id, text) = (issued.key.id.to_string(), issued.text.expose());
    let used_at = site.clock.now();
    for _ in 0..50 {
        access.authenticate(&text, None).await.unwrap();
    }
    assert_eq!(access.get_key(&admin.project, &id).await.unwrap().last_used_at, None, "not on the hot path");
    site.stop_blocks().await;
    assert_eq!(access.get_key(&admin.project, &id).await.unwrap().last_used_at, Some(used_at));
}
