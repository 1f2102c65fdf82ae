use access::{AuditFilter, Error};
use serde_json::json;
use web::PageQuery;

use crate::site::Site;

both_engines!(with_its_change_or_not_at_all, filters_and_pages, what_is_odd_is_cut);

/// ACCESS-1.
async fn with_its_change_or_not_at_all(site: Site) {
    let (access, admin, _) = site.first_node().await;
    let db = site.db().await;
    let change = |aborts: bool| {
        let (access, admin) = (access.clone(), admin.clone());
        db.tx(async move |tx| -> Result<(), Error> {
            let sql = "INSERT INTO access_projects (id, title, created_at) VALUES ('made', 'Made', 1)";
            tx.exec(sql, vec![]).await?;
            access.audit(tx, &admin, "test.thing.create", "made", &json!({ "n": 1 })).await?;
            if aborts { Err(Error::ProjectUnknown) } else { Ok(()) }
        })
    };
    let filter = AuditFilter { action: Some("test.thing.create".to_owned()), ..AuditFilter::default() };
    let seen = async || {
        let entries = access.list_audit(&admin.project, &filter, &PageQuery::default()).await.unwrap().items;
        (entries, access.get_project(&admin, "made").await.is_ok())
    };
    assert!(change(true).await.is_err());
    let (entries, exists) = seen().await;
    assert_eq!((entries.len(), exists), (0, false), "an abort leaves neither");
    change(false).await.unwrap();
    let (entries, exists) = seen().await;
    assert_eq!((entries.len(), exists), (1, true));
    let entry = &entries[0];
    assert_eq!((entry.actor.as_str(), entry.actor_name.as_str()), (admin.actor().as_str(), "first admin"));
    assert_eq!((entry.object.as_str(), &entry.detail, entry.at), ("made", &json!({ "n": 1 }), site.clock.now()));
}

async fn filters_and_pages(site: Site) {
    let (access, admin, _) = site.first_node().await;
    let db = site.db().await;
    let entry = async |action: &'static str, object: &'static str| {
        site.time.advance(std::time::Duration::from_millis(1));
        let (access, admin) = (access.clone(), admin.clone());
        db.tx(async move |tx| access.audit(tx, &admin, action, object, &json!({})).await).await.unwrap();
    };
    for n in 0..7 {
        entry(if n % 2 == 0 { "a.b.create" } else { "a.b.delete" }, if n < 3 { "one" } else { "two" }).await;
    }
    let some = |text: &str| Some(text.to_owned());
    for (filter, want) in [
        (AuditFilter { action: some("a.b.create"), ..AuditFilter::default() }, 4),
        (AuditFilter { object: some("one"), ..AuditFilter::default() }, 3),
        (AuditFilter { object: some("two"), action: some("a.b.delete"), ..AuditFilter::default() }, 2),
        (AuditFilter { actor: Some(admin.actor()), ..AuditFilter::default() }, 7),
        (AuditFilter { actor: some("system"), ..AuditFilter::default() }, 1),
        (AuditFilter { actor: some("nobody"), object: some("one"), ..AuditFilter::default() }, 0),
    ] {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let page = access.list_audit(&admin.project, &filter, &PageQuery { limit: 2, cursor }).await.unwrap();
            found.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(found.len(), want, "{filter:?}");
        assert!(found.windows(2).all(|w| w[0].id > w[1].id), "newest first, none twice");
    }
    // The cursor of one filter does not page another.
    let all = access.list_audit(&admin.project, &AuditFilter::default(), &PageQuery { limit: 1, cursor: None }).await;
    let stolen = PageQuery { limit: 1, cursor: all.unwrap().next_cursor };
    let filter = AuditFilter { object: some("one"), ..AuditFilter::default() };
    assert!(access.list_audit(&admin.project, &filter, &stolen).await.is_err());
}

async fn what_is_odd_is_cut(site: Site) {
    let (access, admin, _) = site.first_node().await;
    site.time.advance(std::time::Duration::from_millis(1));
    let (one, who) = (access.clone(), admin.clone());
    let big = json!({ "text": "x".repeat(20_000) });
    site.db()
        .await
        .tx(async move |tx| one.audit(tx, &who, "a.b.c", &format!("nul\0 {}", "é".repeat(400)), &big).await)
        .await
        .unwrap();
    let page = access.list_audit(&admin.project, &AuditFilter::default(), &PageQuery { limit: 1, cursor: None }).await;
    let entry = page.unwrap().items.remove(0);
    assert_eq!(entry.object.chars().count(), 300);
    assert!(entry.object.starts_with("nul é"));
    assert_eq!(entry.detail, json!({ "note": "the detail was too large to keep" }));
}

/// Entries are only ever added.
#[test]
fn no_statement_changes_the_audit_log() {
    let store = include_str!("../../src/store.rs");
    for verb in ["UPDATE", "DELETE FROM"] {
        assert!(!store.contains(&format!("{verb} access_audit")));
    }
}
