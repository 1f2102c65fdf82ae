//! The rules, over this workspace.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

#[test]
fn this_house_keeps_its_rules() {
    let mut broken = Vec::new();
    for (rule, found) in tidy::check(tidy::workspace_root()).unwrap() {
        broken.extend(found.iter().map(|f| format!("{} ({}): {f}", rule.name, rule.sentence)));
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn the_real_house_is_seen_whole() {
    let house = tidy::House::read(tidy::workspace_root()).unwrap();
    assert!(house.crates.iter().any(|c| c.folder == "app/mainstay"));
    assert!(house.files.contains_key("base/kernel/src/lib.rs"));
    assert!(tidy::papers::codes(&house).iter().any(|c| c.name == "INTERNAL"));
    assert!(!tidy::papers::keys(&house).is_empty());
}
