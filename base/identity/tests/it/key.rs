use identity::{ApiKey, KeyError, SecretHash, key::KEY_CHARS};
use kernel::{Clock, Rng};
use proptest::prelude::*;

fn key(seed: u64) -> ApiKey {
    ApiKey::generate(&Clock::system(), &Rng::seeded(seed))
}

#[test]
fn text_form() {
    let key = key(1);
    let text = key.expose();
    assert_eq!(text.len(), KEY_CHARS);
    assert_eq!(ApiKey::parse(&format!("  {text}\n")).unwrap(), key);
    assert!(text.starts_with(&key.id().to_string().replace("key_", "msk_")));
    assert!(!format!("{key:?}").contains(&text[37..]), "Debug shows the secret");
    assert!(!format!("{:?}", key.hash()).contains("SecretHash(["), "Debug shows the hash");
}

#[test]
fn refusals() {
    let good = key(2).expose();
    for (text, want) in [
        (String::new(), KeyError::Form),
        ("msk_".to_owned(), KeyError::Form),
        ("hello".to_owned(), KeyError::Form),
        (good.replace("msk_", "key_"), KeyError::Form),
        (good[..good.len() - 1].to_owned(), KeyError::Checksum),
        (format!("{good}x"), KeyError::Checksum),
        (good.replace(&good[40..41], "é"), KeyError::Checksum),
        (good.to_lowercase(), KeyError::Checksum),
    ] {
        assert_eq!(ApiKey::parse(&text), Err(want), "{text}");
    }
}

#[test]
fn hashes_match_only_themselves() {
    let (a, b) = (key(3), key(4));
    assert!(a.hash().matches(&ApiKey::parse(&a.expose()).unwrap().hash()));
    assert!(!a.hash().matches(&b.hash()));
    let mut bytes = *a.hash().as_bytes();
    bytes[31] ^= 1;
    assert!(!a.hash().matches(&SecretHash::from_bytes(bytes)));
    // FIPS 180-4, example of the empty message.
    assert_eq!(SecretHash::of(b"").as_bytes()[..4], [0xe3, 0xb0, 0xc4, 0x42]);
}

proptest! {
    #[test]
    fn round_trip(seed: u64) {
        let key = key(seed);
        prop_assert_eq!(ApiKey::parse(&key.expose()), Ok(key));
    }

    /// IDENTITY-2.
    #[test]
    fn one_changed_character_is_a_typo(seed: u64, at in 4..KEY_CHARS, to in "[0-9A-Za-z_]") {
        let good = key(seed).expose();
        let mut changed = good.clone();
        changed.replace_range(at..=at, &to);
        prop_assume!(changed != good);
        prop_assert_eq!(ApiKey::parse(&changed), Err(KeyError::Checksum));
    }

    /// IDENTITY-2.
    #[test]
    fn exchanged_neighbours_are_a_typo(seed: u64, at in 4..KEY_CHARS - 1) {
        let good = key(seed).expose();
        let mut bytes = good.clone().into_bytes();
        bytes.swap(at, at + 1);
        let changed = String::from_utf8(bytes).unwrap();
        prop_assume!(changed != good);
        prop_assert_eq!(ApiKey::parse(&changed), Err(KeyError::Checksum));
    }

    #[test]
    fn nothing_panics(text in ".{0,120}", tail in "msk_[0-9a-fé]{0,40}_.{0,60}") {
        let _ = (ApiKey::parse(&text).is_ok(), ApiKey::parse(&tail).is_ok());
    }
}
