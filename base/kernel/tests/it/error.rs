use std::{collections::BTreeSet, time::Duration};

use kernel::{Internal, Kind, Problem, error::CODES};

mod room {
    kernel::codes! {
        ALIAS_TAKEN = "SHORTENER_ALIAS_TAKEN", Conflict, "That alias is taken";
        GONE = "SHORTENER_GONE", Gone, "The link expired";
    }
}

#[test]
fn a_room_declares_its_codes_once() {
    assert_eq!(room::ALIAS_TAKEN.name, "SHORTENER_ALIAS_TAKEN");
    assert_eq!(room::ALIAS_TAKEN.kind, Kind::Conflict);
    assert_eq!(room::CODES.len(), 2);
    assert!(std::ptr::eq(room::CODES[1], &raw const room::GONE));
}

#[test]
fn code_names_are_unique_and_shout() {
    let names: BTreeSet<_> = CODES.iter().map(|c| c.name).collect();
    assert_eq!(names.len(), CODES.len());
    assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')), "{names:?}");
}

#[test]
fn what_operators_see_reaches_no_user() {
    let problem = Problem::internal("connect to postgres://app:hunter2@db failed").retry_after(Duration::from_secs(1));
    let shown = format!("{problem} {problem:?} {}", problem.detail);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(
        problem.internal.as_ref().map(Internal::for_operators),
        Some("connect to postgres://app:hunter2@db failed")
    );
    assert_eq!(problem.retry_after, Some(Duration::from_secs(1)));
    let problem = Problem::new(&room::ALIAS_TAKEN, "Take another.").field("alias", "taken").with_internal("hunter2");
    assert_eq!(problem.to_string(), "SHORTENER_ALIAS_TAKEN: Take another.");
    assert_eq!(problem.fields[0].field, "alias");
    assert!(!format!("{problem:?}").contains("hunter2"));
}
