use crate::{Finding, House, house::is_rust};

const LINE_LIMIT: usize = 600;

/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// Every crate takes its lints from the workspace.
pub(crate) fn lints_are_inherited(house: &House) -> Vec<Finding> {
    house
        .crates
        .iter()
        .filter(|c| {
            let manifest = house.files.get(&format!("{}/Cargo.toml", c.folder)).map_or("", String::as_str);
            !manifest.contains("[lints]\nworkspace = true")
        })
        .map(|c| Finding::new(format!("{}/Cargo.toml", c.folder), "does not say `[lints]` `workspace = true`"))
        .collect()
}

/// No home folder, checkout folder or private registry stands in the tree.
pub(crate) fn names_no_machine(house: &House) -> Vec<Finding> {
    // Put together here so that this file does not name them.
    let homes = ["home", "root", "Users"].map(|folder| format!("/{folder}/"));
    let words: Vec<&String> = homes.iter().chain(&house.machine).collect();
    let mut found = Vec::new();
    for (path, text) in &house.files {
        for (index, line) in text.lines().enumerate() {
            if let Some(word) = words.iter().find(|w| line.contains(w.as_str())) {
                found.push(Finding::new(format!("{path}:{}", index + 1), format!("names this machine: {word}")));
            }
        }
    }
    let lock = house.files.get("Cargo.lock").map_or("", String::as_str);
    let foreign = lock
        .lines()
        .filter_map(|l| l.strip_prefix("source = "))
        .find(|source| !source.contains("github.com/rust-lang/crates.io-index"));
    found.extend(foreign.map(|source| Finding::new("Cargo.lock", format!("a crate comes from {source}"))));
    found
}

/// No ignored test, no unfinished code, no note of unfinished work.
pub(crate) fn nothing_left_undone(house: &House) -> Vec<Finding> {
    // Put together here so that this file does not contain them.
    let marks = [
        concat!("#[ig", "nore"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let mut found = Vec::new();
    for (path, text) in house.files.iter().filter(|(path, _)| is_rust(path)) {
        for (index, line) in text.lines().enumerate() {
            found.extend(
                marks
                    .iter()
                    .filter(|mark| line.contains(**mark))
                    .map(|mark| Finding::new(format!("{path}:{}", index + 1), format!("holds `{mark}`"))),
            );
        }
    }
    found
}

/// A Rust file has at most 600 lines, unless the list above says why.
pub(crate) fn files_are_short(house: &House) -> Vec<Finding> {
    house
        .files
        .iter()
        .filter(|(path, _)| is_rust(path) && !LONG_FILES.iter().any(|(long, _)| long == path))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, count)| *count > LINE_LIMIT)
        .map(|(path, count)| {
            Finding::new(path, format!("has {count} lines, more than {LINE_LIMIT}: split it by meaning"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture::broken;

    const LIB: &str = "base/web/src/lib.rs";

    fn with(path: &str, text: &str) -> impl FnOnce(&mut House) {
        let (path, text) = (path.to_owned(), text.to_owned());
        move |house| drop(house.files.insert(path, text))
    }

    #[test]
    fn lints_that_are_not_inherited_are_found() {
        let text = broken(lints_are_inherited, with("base/web/Cargo.toml", "[package]\n"));
        assert!(text.starts_with("base/web/Cargo.toml"), "{text}");
    }

    #[test]
    fn paths_and_hosts_of_a_machine_are_found() {
        let home = format!("// see /{}/ann/notes", "home");
        assert!(broken(names_no_machine, with(LIB, &home)).starts_with("base/web/src/lib.rs:1"));
        let text = broken(names_no_machine, |house| {
            house.machine.push("crates.example.internal".to_owned());
            house.files.insert("README.md".to_owned(), "\nfrom crates.example.internal".to_owned());
        });
        assert!(text.starts_with("README.md:2"), "{text}");
        let text = broken(names_no_machine, with("Cargo.lock", "source = \"registry+https://elsewhere.example/\"\n"));
        assert!(text.contains("a crate comes from"), "{text}");
    }

    #[test]
    fn undone_work_is_found() {
        for mark in [concat!("#[ig", "nore]"), concat!("to", "do!()"), concat!("// FIX", "ME later")] {
            assert!(broken(nothing_left_undone, with(LIB, mark)).contains("holds"), "{mark}");
        }
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(broken(files_are_short, with(LIB, &"//\n".repeat(LINE_LIMIT))), "");
        assert!(broken(files_are_short, with(LIB, &"//\n".repeat(LINE_LIMIT + 1))).contains("601 lines"));
    }
}
