use identity::{Principal, Scope, ScopeError, Scopes, Verb, scope::MAX_SCOPES};
use kernel::ProjectId;
use proptest::prelude::*;

fn scopes(text: &str) -> Scopes {
    Scopes::parse(text).unwrap()
}

#[test]
fn grammar() {
    for good in ["*", "*:read", "*:admin", "links:read", "a:write", "feature-flags2:admin"] {
        assert_eq!(good.parse::<Scope>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        ":",
        "links",
        "links:",
        ":read",
        "links:reads",
        "Links:read",
        "links:*",
        "*:*",
        "**",
        "2x:read",
        "a b:read",
        "links:read:write",
        "-x:read",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:read",
    ] {
        assert_eq!(bad.parse::<Scope>(), Err(ScopeError::Grammar(bad.to_owned())), "{bad}");
    }
    assert_eq!(Scopes::parse(" ,"), Err(ScopeError::Empty));
    let many = (0..=MAX_SCOPES).map(|n| format!("s{n}:read")).collect::<Vec<_>>().join(" ");
    assert_eq!(Scopes::parse(&many), Err(ScopeError::TooMany));
    assert_eq!(scopes("links:write, *:read links:write").to_string(), "*:read links:write");
}

#[test]
fn what_is_allowed() {
    for (have, system, verb, want) in [
        ("links:read", "links", "read", true),
        ("links:read", "links", "write", false),
        ("links:write", "links", "read", true),
        ("links:admin", "links", "write", true),
        ("links:admin", "access", "read", false),
        ("*:read", "anything", "read", true),
        ("*:read", "anything", "write", false),
        ("*", "anything", "admin", true),
        ("links:read flags:write", "flags", "write", true),
        // IDENTITY-1: what is no verb is allowed to nobody, not even to `*`.
        ("*", "links", "delete", false),
        ("*", "links", "", false),
    ] {
        assert_eq!(scopes(have).allows(system, verb), want, "{have}: {verb} {system}");
    }
    assert!(!Scopes::default().allows("links", "read"));
}

#[test]
fn what_may_be_handed_on() {
    for (mine, theirs, beyond) in [
        ("*", "*", None),
        ("*:admin", "*", Some("*")),
        ("*:admin", "links:write *:read", None),
        ("*:write", "links:admin", Some("links:admin")),
        ("links:admin", "*:read", Some("*:read")),
        ("links:write", "links:read", None),
        ("links:write", "links:read flags:read", Some("flags:read")),
    ] {
        let (mine, theirs) = (scopes(mine), scopes(theirs));
        assert_eq!(mine.beyond(&theirs).map(ToString::to_string).as_deref(), beyond, "{mine} → {theirs}");
    }
}

#[test]
fn projects_of_principals() {
    let (shop, other) = (ProjectId::parse("shop").unwrap(), ProjectId::parse("other").unwrap());
    let id = identity::KeyId::from_bytes([1; 16]);
    let bound = Principal::of_key(shop.clone(), id, "ci", scopes("*:admin"));
    assert!(!bound.is_admin);
    assert_eq!(bound.in_project(&other), None);
    assert_eq!(bound.in_project(&shop), Some(bound.clone()));
    let admin = Principal::of_key(shop, id, "root", scopes("*"));
    assert_eq!(admin.in_project(&other).unwrap().project, other);
    assert_eq!(Principal::dev().actor(), "dev");
    assert_eq!(admin.actor(), id.to_string());
}

fn any_scope() -> impl Strategy<Value = Scope> {
    let verb = prop_oneof![Just(Verb::Read), Just(Verb::Write), Just(Verb::Admin)];
    prop_oneof![
        1 => Just(Scope::Everything),
        3 => verb.clone().prop_map(Scope::EverySystem),
        6 => ("[abc]", verb).prop_map(|(name, verb)| Scope::System(name.into(), verb)),
    ]
}

proptest! {
    #[test]
    fn text_round_trip(list in prop::collection::vec(any_scope(), 1..8)) {
        let scopes = Scopes::new(list).unwrap();
        prop_assert_eq!(Scopes::parse(&scopes.to_string()), Ok(scopes));
    }

    /// Nobody can hand on more than they have: what is covered is allowed to the giver as well.
    #[test]
    fn covered_means_allowed(mine in prop::collection::vec(any_scope(), 1..5), theirs in prop::collection::vec(any_scope(), 1..5)) {
        let (mine, theirs) = (Scopes::new(mine).unwrap(), Scopes::new(theirs).unwrap());
        if mine.beyond(&theirs).is_none() {
            for system in ["a", "b", "c", "d"] {
                for verb in ["read", "write", "admin"] {
                    prop_assert!(!theirs.allows(system, verb) || mine.allows(system, verb));
                }
            }
            prop_assert!(!theirs.is_everything() || mine.is_everything());
        }
    }
}
