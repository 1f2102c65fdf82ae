use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kernel::{
    CursorKey,
    cursor::{MAX_CURSOR_CHARS, MAX_PAYLOAD_BYTES},
    error::INVALID_CURSOR,
};
use proptest::prelude::*;

fn key() -> CursorKey {
    CursorKey::new(&[7; 32])
}

#[test]
fn a_cursor_opens_where_it_was_made_and_nowhere_else() {
    let cursor = key().seal("links/default", b"position");
    assert_eq!(key().open("links/default", &cursor).unwrap(), b"position");
    for (name, scope, key, cursor) in [
        ("another project", "links/other", key(), cursor.clone()),
        ("another installation", "links/default", CursorKey::new(&[8; 32]), cursor.clone()),
        ("nothing", "links/default", key(), String::new()),
        ("too short for a signature", "links/default", key(), "AAAA".to_owned()),
        ("padding", "links/default", key(), format!("{cursor}=")),
        ("one character less", "links/default", key(), cursor[1..].to_owned()),
        ("one character more", "links/default", key(), format!("{cursor}A")),
        ("white space", "links/default", key(), format!(" {cursor}")),
        ("far too long", "links/default", key(), "A".repeat(1 << 20)),
    ] {
        let refused = key.open(scope, &cursor).expect_err(name);
        assert_eq!(refused.code, &INVALID_CURSOR, "{name}");
    }
}

#[test]
fn scope_and_payload_cannot_trade_bytes() {
    let mut bytes = URL_SAFE_NO_PAD.decode(key().seal("ab", b"c")).unwrap();
    // The same bytes in a row, cut elsewhere: the last of the scope becomes the first of the payload.
    bytes.insert(0, b'b');
    assert!(key().open("a", &URL_SAFE_NO_PAD.encode(bytes)).is_err());
}

#[test]
fn the_key_is_never_printed() {
    assert_eq!(format!("{:?}", CursorKey::new(&[65; 32])), "CursorKey(…)");
}

#[test]
fn the_longest_payload_fits() {
    let cursor = key().seal("s", &[1; MAX_PAYLOAD_BYTES]);
    assert!(cursor.len() <= MAX_CURSOR_CHARS);
    assert!(key().open("s", &cursor).is_ok());
    assert!(key().open("s", &key().seal("s", &[1; MAX_PAYLOAD_BYTES + 1])).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_flipped_bit_is_noticed(payload in prop::collection::vec(any::<u8>(), 0..40), scope in "\\PC{0,20}") {
        let cursor = key().seal(&scope, &payload);
        prop_assert_eq!(key().open(&scope, &cursor).unwrap(), payload);
        for at in 0..cursor.len() {
            for bit in 0..8 {
                let mut bytes = cursor.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                // A cursor arrives as text, so what is not text never arrives.
                if let Ok(text) = String::from_utf8(bytes) {
                    prop_assert!(key().open(&scope, &text).is_err(), "byte {} bit {} of {}", at, bit, cursor);
                }
            }
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC*") {
        prop_assert!(key().open("s", &text).is_err());
    }
}
