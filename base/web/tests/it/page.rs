use kernel::CursorKey;
use proptest::prelude::*;
use web::{Page, PageQuery};

fn key() -> CursorKey {
    CursorKey::new(&[7; 32])
}

/// Reads a whole list of `0..count`, page by page, as a room would.
fn read_all(count: u32, limit: u32) -> Vec<Vec<u32>> {
    let key = key();
    let mut query = PageQuery { limit, cursor: None };
    let mut pages = Vec::new();
    loop {
        let position = query.position(&key, "list").unwrap();
        let start = position.map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()) + 1);
        let rows = (start..count).take(usize::try_from(query.fetch_count()).unwrap()).collect();
        let page = Page::new(rows, &query, &key, "list", |last: &u32| last.to_be_bytes().to_vec());
        pages.push(page.items);
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return pages,
        }
    }
}

proptest! {
    #[test]
    fn pages_hold_everything_once_in_order(count in 0_u32..500, limit in 1_u32..=200) {
        let pages = read_all(count, limit);
        prop_assert_eq!(pages.concat(), (0..count).collect::<Vec<_>>());
        prop_assert_eq!(pages.len(), (count.div_ceil(limit)).max(1) as usize);
        prop_assert!(pages.iter().all(|p| p.len() <= limit as usize));
    }

    #[test]
    fn a_cursor_holds_only_for_its_list_and_unchanged(position: Vec<u8>, at: prop::sample::Index, flip in 1_u8..=127) {
        prop_assume!(position.len() <= 300);
        let cursor = key().seal("GET /a", &position);
        let query = |cursor: &str| PageQuery { limit: 1, cursor: Some(cursor.to_owned()) };
        prop_assert_eq!(query(&cursor).position(&key(), "GET /a").unwrap(), Some(position));
        prop_assert!(query(&cursor).position(&key(), "GET /b").is_err());
        prop_assert!(query(&cursor).position(&CursorKey::new(&[8; 32]), "GET /a").is_err());
        let mut changed = cursor.clone().into_bytes();
        let at = at.index(changed.len());
        changed[at] ^= flip;
        if let Ok(changed) = String::from_utf8(changed) {
            prop_assert!(query(&changed).position(&key(), "GET /a").is_err());
        }
    }

    #[test]
    fn any_text_is_no_cursor(text in "\\PC{0,600}") {
        let query = PageQuery { limit: 1, cursor: Some(text) };
        prop_assert!(query.position(&key(), "list").is_err());
    }
}
