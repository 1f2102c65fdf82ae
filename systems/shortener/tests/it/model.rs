//! Links against a model of them, with time in the test's hands.

use std::{collections::HashMap, time::Duration};

use kernel::Timestamp;
use proptest::prelude::*;
use shortener::{ListFilter, NewLink};

use crate::world::{Engine, World, link, principal};

#[derive(Debug, Clone)]
enum Op {
    Create { alias: Option<u8>, lives_s: Option<u64>, token: Option<u8> },
    Delete(u8),
    Visit(u8),
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (proptest::option::of(0..6_u8), proptest::option::of(1..90_u64), proptest::option::of(0..6_u8))
            .prop_map(|(alias, lives_s, token)| Op::Create { alias, lives_s, token }),
        2 => (0..12_u8).prop_map(Op::Delete),
        6 => (0..12_u8).prop_map(Op::Visit),
        2 => (1..40_u64).prop_map(Op::Advance),
    ]
}

/// What a link should be.
#[derive(Debug, Clone)]
struct Modelled {
    code: String,
    url: String,
    expires_at: Option<Timestamp>,
    is_deleted: bool,
}

async fn run(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let world = World::with(Engine::Sqlite, |c| {
        c.block_size = 3;
        c.cache_entries = 4;
    })
    .await;
    let node = world.node().await;
    let mut links: Vec<Modelled> = Vec::new();
    let mut tokens: HashMap<u8, String> = HashMap::new();
    for (i, op) in ops.into_iter().enumerate() {
        let now = world.clock.now();
        match op {
            Op::Create { alias, lives_s, token } => {
                let url = format!("https://example.com/{i}");
                let alias = alias.map(|n| format!("alias-{n}"));
                let expires_at = lives_s.map(|s| now.plus(Duration::from_secs(s)));
                let new =
                    NewLink { alias: alias.clone(), expires_at, token: token.map(|t| t.to_string()), ..link(&url) };
                let before = token.and_then(|t| tokens.get(&t).cloned());
                let is_taken = alias.as_ref().is_some_and(|a| links.iter().any(|l| l.code == *a));
                match node.create(new).await {
                    Ok(made) if made.is_new => {
                        prop_assert!(before.is_none() && !is_taken);
                        let code = made.link.code.to_string();
                        prop_assert!(links.iter().all(|l| l.code != code), "a code is never given twice");
                        if let Some(alias) = alias {
                            prop_assert_eq!(&alias, &code);
                        }
                        if let Some(token) = token {
                            tokens.insert(token, code.clone());
                        }
                        links.push(Modelled { code, url, expires_at, is_deleted: false });
                    }
                    Ok(made) => prop_assert_eq!(Some(made.link.code.to_string()), before),
                    Err(_) => prop_assert!(is_taken && before.is_none()),
                }
            }
            Op::Delete(n) => {
                let Some(link) = links.get_mut(usize::from(n)) else { continue };
                let deleted = node.shortener.delete(&principal("default"), None, &link.code, None).await.is_ok();
                prop_assert_eq!(deleted, !link.is_deleted);
                link.is_deleted = true;
            }
            Op::Visit(n) => {
                let (code, expected) = match links.get(usize::from(n)) {
                    Some(link) if link.is_deleted => (link.code.clone(), (404, None)),
                    Some(link) if link.expires_at.is_some_and(|at| at <= now) => (link.code.clone(), (410, None)),
                    Some(link) => (link.code.clone(), (302, Some(link.url.clone()))),
                    None => (format!("alias-{n}"), (404, None)),
                };
                let is_made = links.iter().any(|l| l.code == code);
                if usize::from(n) < links.len() || !is_made {
                    let got = node.visit(&format!("/{code}")).await;
                    prop_assert_eq!((got.status.as_u16(), got.location().map(str::to_owned)), expected, "{}", code);
                }
            }
            Op::Advance(s) => world.sim.advance(Duration::from_secs(s)),
        }
    }
    let live = links.iter().filter(|l| !l.is_deleted).count();
    let project = kernel::ProjectId::default_project();
    prop_assert_eq!(node.shortener.list(&project, &ListFilter::default(), None, 200).await.unwrap().links.len(), live);
    prop_assert_eq!(node.shortener.totals(&project).await.unwrap().link_count, live as u64);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn links_do_what_their_model_does(ops in proptest::collection::vec(op(), 1..60)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(ops))?;
    }
}
