use crate::{Finding, House};

/// Helpers of the workshop: they import nothing of the house, so the tests of any floor and the tools may use them.
const WORKSHOP: [&str; 2] = ["testkit", "tidy"];

/// The highest floor.
const TOP: u8 = 6;

/// The floor of a folder. The kernel lies under the base, and access under the blocks: each of those has routes and must know
/// who asks.
pub(crate) fn floor(folder: &str) -> Option<u8> {
    match folder.split('/').next()? {
        "base" if folder == "base/kernel" => Some(0),
        "base" => Some(1),
        "planes" => Some(2),
        "blocks" if folder == "blocks/access" => Some(3),
        "blocks" => Some(4),
        "systems" => Some(5),
        "app" | "bench" | "tools" => Some(TOP),
        _ => None,
    }
}

/// A crate imports only from floors below its own; inside one floor none imports another.
pub(crate) fn imports_go_down(house: &House) -> Vec<Finding> {
    let mut found = Vec::new();
    for member in &house.crates {
        let Some(own) = floor(&member.folder) else {
            found.push(Finding::new(
                &member.folder,
                "lies on no floor: base, planes, blocks, systems, app, bench or tools",
            ));
            continue;
        };
        for import in &member.imports {
            let Some(other) = house.crates.iter().find(|c| c.name == import.name) else { continue };
            let is_workshop = WORKSHOP.contains(&import.name.as_str());
            let below = floor(&other.folder).is_some_and(|theirs| theirs < own);
            let allowed = if WORKSHOP.contains(&member.name.as_str()) {
                false
            } else if is_workshop {
                import.is_for_tests || own == TOP
            } else {
                below
            };
            if !allowed {
                let detail = format!(
                    "imports {} (`{}`), which is not on a floor below; move what both need down, or declare a trait in ports.rs and let app/mainstay hand the adapter in",
                    other.name, other.folder
                );
                found.push(Finding::new(&member.folder, detail));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::imports_go_down as rule;
    use crate::{
        Import,
        rules::fixture::{broken, member},
    };

    #[test]
    fn upward_sideways_and_workshop_imports_are_found() {
        let rows: &[(&str, &[&str], &str)] = &[
            ("base/kernel", &["web"], "base/kernel: imports web"),
            ("base/telemetry", &["web"], "base/telemetry: imports web"),
            ("systems/feed", &["shortener"], "systems/feed: imports shortener"),
            ("planes/memory", &["shortener"], "planes/memory: imports shortener"),
            ("blocks/access", &["shortener"], "blocks/access: imports shortener"),
            ("tools/testkit", &["kernel"], "tools/testkit: imports kernel"),
            ("systems/feed", &["testkit"], "systems/feed: imports testkit"),
            ("elsewhere/feed", &[], "lies on no floor"),
        ];
        for (folder, imports, expected) in rows {
            let text = broken(rule, |house| house.crates.push(member(folder, imports)));
            assert!(text.contains(expected), "{folder}: {text}");
        }
    }

    #[test]
    fn tests_of_any_floor_may_use_the_testkit() {
        let text = broken(rule, |house| {
            house.crates[0].imports.push(Import { name: "testkit".to_owned(), is_for_tests: true });
        });
        assert_eq!(text, "");
    }
}
