use std::{net::IpAddr, time::Duration};

use access::Error;
use identity::ApiKey;
use kernel::{Clock, Rng};

use crate::site::{Site, new_key, options};

both_engines!(
    refusals,
    the_hot_path_asks_the_database_once,
    failures_are_slowed_and_good_keys_are_not,
    what_is_unknown_is_remembered_within_bounds,
);

fn strange() -> String {
    ApiKey::generate(&Clock::system(), &Rng::system()).expose()
}

async fn refusals(site: Site) {
    let (access, _, text) = site.first_node().await;
    let mut typo = text.clone();
    let last = typo.pop().unwrap();
    typo.push(if last == 'a' { 'b' } else { 'a' });
    assert!(matches!(access.authenticate(&typo, None).await, Err(Error::KeyMalformed(identity::KeyError::Checksum))));
    assert!(matches!(access.authenticate("hello", None).await, Err(Error::KeyMalformed(identity::KeyError::Form))));
    assert!(matches!(access.authenticate(&strange(), None).await, Err(Error::Unauthenticated)));
    // The id of a key that exists with another secret: the same answer.
    let id = ApiKey::parse(&text).unwrap().id();
    let guess = ApiKey::renew(id, &Rng::system()).expose();
    assert!(matches!(access.authenticate(&guess, None).await, Err(Error::Unauthenticated)));
}

async fn the_hot_path_asks_the_database_once(site: Site) {
    let (access, _, text) = site.first_node().await;
    let before = access.stats().key_load_count;
    for _ in 0..1_000 {
        access.authenticate(&text, None).await.unwrap();
    }
    assert_eq!(access.stats().key_load_count, before);
    site.time.advance(Duration::from_secs(5));
    for _ in 0..1_000 {
        access.authenticate(&text, None).await.unwrap();
    }
    assert_eq!(access.stats().key_load_count, before + 1);
}

async fn failures_are_slowed_and_good_keys_are_not(site: Site) {
    let (access, admin, text) = site.first_node().await;
    let fresh = access.create_key(&admin, &new_key("fresh", "links:read"), None).await.unwrap().text.expose();
    let peer: Option<IpAddr> = Some("192.0.2.7".parse().unwrap());
    for _ in 0..11 {
        assert!(matches!(access.authenticate(&strange(), peer).await, Err(Error::Unauthenticated)));
    }
    let loads = access.stats().key_load_count;
    for attempt in [strange(), "hello".to_owned(), fresh.clone()] {
        match access.authenticate(&attempt, peer).await {
            Err(Error::TooManyAttempts(wait)) => assert_eq!(wait, Duration::from_secs(1)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(access.stats().key_load_count, loads, "what waits costs the database nothing");
    assert_eq!(access.stats().throttled_count, 3);
    // A key that this node knows to be good goes on, also when its entry has become old.
    access.authenticate(&text, peer).await.unwrap();
    access.authenticate(&strange(), Some("192.0.2.8".parse().unwrap())).await.unwrap_err();
    site.time.advance(Duration::from_secs(1));
    access.authenticate(&fresh, peer).await.expect("the wait is over");
    assert!(matches!(access.authenticate(&strange(), peer).await, Err(Error::Unauthenticated)));
    assert!(matches!(access.authenticate(&strange(), peer).await, Err(Error::TooManyAttempts(w)) if w.as_secs() == 2));
    site.time.advance(Duration::from_secs(10));
    access.authenticate(&text, peer).await.unwrap();

    // Guesses on one key from many addresses.
    let id = ApiKey::parse(&fresh).unwrap().id();
    let guess = async |n: u8| {
        let peer: Option<IpAddr> = Some([198, 51, 100, n].into());
        access.authenticate(&ApiKey::renew(id, &Rng::system()).expose(), peer).await.unwrap_err()
    };
    for n in 0..11 {
        assert!(matches!(guess(n).await, Error::Unauthenticated));
    }
    assert!(matches!(guess(99).await, Error::TooManyAttempts(_)));
}

async fn what_is_unknown_is_remembered_within_bounds(site: Site) {
    let (access, _) = site.start(options(|c| (c.cache_entries, c.free_attempts) = (50, u32::MAX))).await.unwrap();
    let one = strange();
    access.authenticate(&one, None).await.unwrap_err();
    let loads = access.stats().key_load_count;
    for _ in 0..100 {
        access.authenticate(&one, None).await.unwrap_err();
    }
    assert_eq!(access.stats().key_load_count, loads, "an unknown key costs one read");
    for _ in 0..300 {
        access.authenticate(&strange(), None).await.unwrap_err();
    }
    assert_eq!(access.stats().key_load_count, loads + 300);
    // Flushed out of the bounded cache by the others, or past its time: asked again.
    site.time.advance(Duration::from_secs(5));
    access.authenticate(&one, None).await.unwrap_err();
    assert_eq!(access.stats().key_load_count, loads + 301);
}
