use std::collections::BTreeSet;

use crate::{Finding, House, papers, rules::floors::floor};

/// The table of ARCHITECTURE.md names exactly the members, and the entry points named beside them exist.
pub(crate) fn map_is_true(house: &House) -> Vec<Finding> {
    const MAP: &str = "ARCHITECTURE.md";
    let Some(text) = house.files.get(MAP) else {
        return vec![Finding::new(MAP, "is missing")];
    };
    let mut found = Vec::new();
    let mut listed = BTreeSet::new();
    for row in text.lines().filter(|l| l.starts_with("| `")) {
        let mut quoted = row.split('`').skip(1).step_by(2);
        let Some(folder) = quoted.next() else { continue };
        if floor(folder).is_none() {
            continue;
        }
        if !listed.insert(folder.to_owned()) {
            found.push(Finding::new(MAP, format!("lists `{folder}` twice")));
        }
        for entry in quoted.filter(|q| q.starts_with("src/") || q.starts_with("tests/")) {
            let path = format!("{folder}/{entry}");
            let below = format!("{}/", path.trim_end_matches('/'));
            let exists = house.files.keys().any(|file| *file == path || file.starts_with(&below));
            if !exists {
                found.push(Finding::new(MAP, format!("names `{path}`, which does not exist")));
            }
        }
    }
    let members: BTreeSet<String> = house.crates.iter().map(|c| c.folder.clone()).collect();
    found.extend(
        members.difference(&listed).map(|folder| Finding::new(MAP, format!("does not list the member `{folder}`"))),
    );
    found.extend(
        listed.difference(&members).map(|folder| Finding::new(MAP, format!("lists `{folder}`, which is no member"))),
    );
    found
}

/// Every code has `docs/errors/<CODE>.md` with what to do; no page is without a code; the index is as generated.
pub(crate) fn errors_have_pages(house: &House) -> Vec<Finding> {
    let mut found = Vec::new();
    let codes = papers::codes(house);
    let mut names = BTreeSet::new();
    for code in &codes {
        if !names.insert(code.name.clone()) {
            found.push(Finding::new(&code.place, format!("declares {} a second time", code.name)));
        }
        let path = format!("docs/errors/{}.md", code.name);
        let Some(page) = house.files.get(&path) else {
            found.push(Finding::new(path, format!("is missing: {} declares the code", code.place)));
            continue;
        };
        if page.lines().next() != Some(&format!("# {}", code.name)) {
            found.push(Finding::new(&path, format!("does not begin with `# {}`", code.name)));
        }
        let remedy = page.split("\n## What to do\n").nth(1).map(|rest| rest.split("\n## ").next().unwrap_or(rest));
        if remedy.is_none_or(|text| text.trim().is_empty()) {
            found.push(Finding::new(&path, "has no section `## What to do` with text"));
        }
    }
    for path in house.files.keys() {
        let Some(page) = path.strip_prefix("docs/errors/").and_then(|p| p.strip_suffix(".md")) else { continue };
        if page != "README" && !names.contains(page) {
            found.push(Finding::new(path, "is a page without a code"));
        }
    }
    found.extend(is_as_generated(house, papers::ERROR_INDEX, &papers::error_index(house)));
    found
}

/// `docs/configuration.md` holds what the sections declare.
pub(crate) fn keys_are_documented(house: &House) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        is_as_generated(house, papers::CONFIGURATION, &papers::configuration(house)).into_iter().collect();
    let text = house.files.get(papers::CONFIGURATION).map_or("", String::as_str);
    for key in papers::keys(house) {
        let name = format!("`{}.{}`", key.section, key.name);
        if !text.contains(&name) {
            found.push(Finding::new(papers::CONFIGURATION, format!("does not document {name}")));
        }
        if key.doc.is_empty() {
            found.push(Finding::new(&key.place, format!("{name} has no doc comment")));
        }
    }
    found
}

fn is_as_generated(house: &House, path: &str, expected: &str) -> Option<Finding> {
    let is_same = house.files.get(path).is_some_and(|text| text == expected);
    (!is_same).then(|| Finding::new(path, "is not what the code declares; `cargo xtask docs` writes it"))
}

/// Every crate has a README.md.
pub(crate) fn crates_have_readmes(house: &House) -> Vec<Finding> {
    let missing = house.crates.iter().filter(|c| !house.files.contains_key(&format!("{}/README.md", c.folder)));
    missing.map(|c| Finding::new(&c.folder, "has no README.md")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture::{broken, member};

    #[test]
    fn a_map_that_drifted_is_found() {
        let text = broken(map_is_true, |house| {
            house.crates.push(member("systems/feed", &[]));
            house.crates.retain(|c| c.folder != "base/web");
            house.files.remove("base/kernel/src/lib.rs");
        });
        assert!(text.contains("does not list the member `systems/feed`"), "{text}");
        assert!(text.contains("lists `base/web`, which is no member"), "{text}");
        assert!(text.contains("names `base/kernel/src/lib.rs`, which does not exist"), "{text}");
        assert!(broken(map_is_true, |house| drop(house.files.remove("ARCHITECTURE.md"))).contains("is missing"));
    }

    #[test]
    fn a_code_without_page_or_remedy_and_a_page_without_code_are_found() {
        let page = "docs/errors/SHORTENER_TAKEN.md";
        let rows: [(&str, Option<&str>, &str); 4] = [
            (page, None, "is missing"),
            (page, Some("# OTHER\nIt is taken\n\n## What to do\n\nx\n"), "does not begin with"),
            (
                page,
                Some("# SHORTENER_TAKEN\nIt is taken\n\n## What to do\n\n## More\n"),
                "no section `## What to do` with text",
            ),
            ("docs/errors/OLD.md", Some("# OLD\n"), "a page without a code"),
        ];
        for (path, text, expected) in rows {
            let found = broken(errors_have_pages, |house| {
                house.files.remove(path);
                house.files.extend(text.map(|t| (path.to_owned(), t.to_owned())));
            });
            assert!(found.contains(expected), "{expected}: {found}");
        }
        let twice = broken(errors_have_pages, |house| {
            let text = house.files["systems/shortener/src/error.rs"].clone();
            house.files.insert("base/web/src/error.rs".to_owned(), text);
        });
        assert!(twice.contains("a second time"), "{twice}");
    }

    #[test]
    fn an_undocumented_key_is_found() {
        let text = broken(keys_are_documented, |house| {
            let config = house.files.get_mut("systems/shortener/src/config.rs").unwrap();
            *config = config.replace("/// How many.", "new_key: usize = \"1\", \"\";\n        /// How many.");
        });
        assert!(
            text.contains("does not document `shortener.new_key`") && text.contains("has no doc comment"),
            "{text}"
        );
    }

    #[test]
    fn a_crate_without_readme_is_found() {
        assert_eq!(
            broken(crates_have_readmes, |house| drop(house.files.remove("base/web/README.md"))),
            "base/web: has no README.md"
        );
    }
}
