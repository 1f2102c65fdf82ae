use std::time::Duration;

use access::{AuditFilter, SessionToken};
use web::PageQuery;

use crate::site::{Site, new_key};

both_engines!(life, idle, they_end_with_their_secret, across_nodes);

async fn life(site: Site) {
    let (access, admin, text) = site.first_node().await;
    assert!(access.sign_in("hello", None).await.is_err());
    let (token, opened) = access.sign_in(&text, None).await.unwrap();
    let session = access.session(&token, None).await.unwrap().unwrap();
    assert_eq!(session.principal, admin);
    assert_eq!(session.csrf, opened.csrf);
    assert!(session.is_own_form(&opened.csrf) && !session.is_own_form("") && !session.is_own_form(&"0".repeat(32)));
    let (other, second) = access.sign_in(&text, None).await.unwrap();
    assert_ne!(second.csrf, session.csrf, "each session has its own");

    let stored = site.db().await.query("SELECT id FROM access_sessions", vec![]).await.unwrap();
    assert_eq!(stored.len(), 2);
    for row in stored {
        let id: Vec<u8> = row.get(0).unwrap();
        assert!(!token.expose().as_bytes().starts_with(&id));
    }

    access.sign_out(&token, &admin).await.unwrap();
    assert!(access.session(&token, None).await.unwrap().is_none());
    assert!(access.session(&other, None).await.unwrap().is_some());
    assert!(access.session(&SessionToken::parse(&"0".repeat(64)).unwrap(), None).await.unwrap().is_none());
    assert!(SessionToken::parse("short").is_none());
    let audit = access.list_audit(&admin.project, &AuditFilter::default(), &PageQuery::default()).await.unwrap();
    let closed = audit.items.iter().filter(|e| e.action == "access.session.close").count();
    let opened = audit.items.iter().filter(|e| e.action == "access.session.open").count();
    assert_eq!((opened, closed), (2, 1));
}

/// SESSION-3.
async fn idle(site: Site) {
    let (access, _, text) = site.first_node().await;
    let (token, _) = access.sign_in(&text, None).await.unwrap();
    let (unused, _) = access.sign_in(&text, None).await.unwrap();
    let mut hours = Duration::ZERO;
    while hours < Duration::from_hours(12) {
        assert!(access.session(&token, None).await.unwrap().is_some(), "used every half hour, at {hours:?}");
        site.time.advance(Duration::from_mins(30));
        hours += Duration::from_mins(30);
    }
    assert!(access.session(&token, None).await.unwrap().is_none(), "after 12 h whatever happens");
    assert!(access.session(&unused, None).await.unwrap().is_none());
    let (token, _) = access.sign_in(&text, None).await.unwrap();
    site.time.advance(Duration::from_hours(1));
    assert!(access.session(&token, None).await.unwrap().is_none(), "after an hour without a request");
}

/// SESSION-2.
async fn they_end_with_their_secret(site: Site) {
    let (access, admin, _) = site.first_node().await;
    let issued = access.create_key(&admin, &new_key("person", "*:read"), None).await.unwrap();
    let id = issued.key.id.to_string();
    let (token, _) = access.sign_in(&issued.text.expose(), None).await.unwrap();
    let rotated = access.rotate_key(&admin, &id, Duration::from_mins(5), None).await.unwrap();
    assert!(access.session(&token, None).await.unwrap().is_some(), "while the old secret works");
    site.time.advance(Duration::from_mins(5));
    assert!(access.session(&token, None).await.unwrap().is_none());
    let (token, _) = access.sign_in(&rotated.text.expose(), None).await.unwrap();
    assert!(access.session(&token, None).await.unwrap().is_some());
    access.revoke_key(&admin, &id).await.unwrap();
    assert!(access.session(&token, None).await.unwrap().is_none());
}

async fn across_nodes(site: Site) {
    let (access, admin, text) = site.first_node().await;
    let node = site.node().await;
    let (token, opened) = access.sign_in(&text, None).await.unwrap();
    let seen = node.session(&token, None).await.unwrap().unwrap();
    assert_eq!(seen.csrf, opened.csrf);
    access.sign_out(&token, &admin).await.unwrap();
    let ended = async {
        while node.session(&token, None).await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    };
    kernel::Clock::system().timeout(Duration::from_secs(20), ended).await.expect("the message comes within 20 s");
}
