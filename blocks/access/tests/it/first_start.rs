use access::{Error, Options};
use kernel::Secret;
use web::PageQuery;

use crate::site::{Site, options};

both_engines!(once, together, dev_makes_no_key, secrets_are_the_same_everywhere, a_configured_root_cannot_change);

async fn once(site: Site) {
    let (access, admin, text) = site.first_node().await;
    assert!(admin.is_admin);
    assert_eq!(admin.project.as_str(), "default");
    let (again, none) = site.start(Options::default()).await.unwrap();
    assert!(none.is_none(), "a second start gives no key");
    assert_eq!(again.authenticate(&text, None).await.unwrap(), admin);
    let audit =
        access.list_audit(&admin.project, &access::AuditFilter::default(), &PageQuery::default()).await.unwrap();
    assert_eq!(audit.items.iter().map(|e| e.action.as_str()).collect::<Vec<_>>(), ["access.key.create"]);
}

/// ACCESS-2: of nodes that start at once on an empty database, one is given the key, and all agree on the root secret.
async fn together(site: Site) {
    let starts = (0..8).map(|_| site.start(Options::default()));
    let nodes: Vec<_> = futures_join(starts).await.into_iter().map(Result::unwrap).collect();
    let mut firsts: Vec<_> = nodes.iter().filter_map(|(_, first)| first.clone()).collect();
    assert_eq!(firsts.len(), 1, "exactly one node is given the first key");
    let first = firsts.remove(0);
    let secret = nodes[0].0.secret("test");
    for (access, _) in &nodes {
        assert_eq!(access.secret("test"), secret);
        assert!(access.authenticate(&first.text.expose(), None).await.unwrap().is_admin);
        let keys = access.list_keys(&first.key.project, &PageQuery::default()).await.unwrap();
        assert_eq!(keys.items.len(), 1);
    }
}

async fn futures_join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in &mut running {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *output = Some(value);
            }
        }
        if running.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

async fn dev_makes_no_key(site: Site) {
    let (dev, none) = site.start(Options { dev: true, ..Options::default() }).await.unwrap();
    assert!(none.is_none());
    let who = access::Principal::dev();
    assert_eq!(dev.list_projects(&who, &PageQuery::default()).await.unwrap().items.len(), 1);
    let (_, first) = site.start(Options::default()).await.unwrap();
    assert!(first.is_some(), "the first start without --dev still gives one");
}

async fn secrets_are_the_same_everywhere(site: Site) {
    let (one, two) = (site.node().await, site.node().await);
    assert_eq!(one.secret("shortener.codes"), two.secret("shortener.codes"));
    assert_ne!(one.secret("shortener.codes"), one.secret("shortener.code"));
    assert_ne!(one.secret("a"), [0; 32]);
}

async fn a_configured_root_cannot_change(site: Site) {
    let root = |text: &str| {
        let root_secret = Secret::new(text);
        options(move |c| c.root_secret = root_secret)
    };
    let (a, b) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    let (one, _) = site.start(root(a)).await.unwrap();
    let (two, _) = site.start(root(a)).await.unwrap();
    assert_eq!(one.secret("x"), two.secret("x"));
    for wrong in [root(b), Options::default()] {
        assert!(matches!(site.start(wrong).await, Err(Error::RootSecretChanged)));
    }
}
