//! Every rule, with what it says.

mod documents;
mod doors;
mod floors;
mod hygiene;
mod sql;

use crate::{Finding, House};

/// One rule of the house.
#[derive(Debug)]
pub struct Rule {
    /// Its short name.
    pub name: &'static str,
    /// What holds when it is kept.
    pub sentence: &'static str,
    /// Where it does not hold.
    pub run: fn(&House) -> Vec<Finding>,
}

/// All of them, in the order in which they are reported.
pub const RULES: &[Rule] = &[
    Rule { name: "floors", sentence: "a crate imports only from floors below its own", run: floors::imports_go_down },
    Rule { name: "doors", sentence: "a room has the known doors and no others", run: doors::known_doors },
    Rule { name: "sql", sentence: "SQL stands in store and migrations alone", run: sql::only_in_stores },
    Rule { name: "map", sentence: "ARCHITECTURE.md lists exactly the members", run: documents::map_is_true },
    Rule { name: "errors", sentence: "every error code has a page with a remedy", run: documents::errors_have_pages },
    Rule {
        name: "configuration",
        sentence: "docs/configuration.md lists every key",
        run: documents::keys_are_documented,
    },
    Rule { name: "readmes", sentence: "every crate has a README.md", run: documents::crates_have_readmes },
    Rule { name: "lints", sentence: "every crate inherits the workspace's lints", run: hygiene::lints_are_inherited },
    Rule { name: "machine", sentence: "no path or host of a machine is in the tree", run: hygiene::names_no_machine },
    Rule { name: "finished", sentence: "nothing is ignored or left undone", run: hygiene::nothing_left_undone },
    Rule { name: "length", sentence: "files stay readable in one sitting", run: hygiene::files_are_short },
];

#[cfg(test)]
pub(crate) mod fixture {
    //! A small house in which every rule holds, to break one at a time.

    use crate::{Crate, House, Import, papers};

    pub(crate) fn member(folder: &str, imports: &[&str]) -> Crate {
        let name = folder.rsplit('/').next().unwrap_or(folder).to_owned();
        let imports = imports.iter().map(|name| Import { name: (*name).to_owned(), is_for_tests: false }).collect();
        Crate { name, folder: folder.to_owned(), imports }
    }

    pub(crate) fn house() -> House {
        let mut house = House {
            crates: vec![
                member("base/kernel", &[]),
                member("base/web", &["kernel"]),
                member("planes/database", &["kernel"]),
                member("systems/shortener", &["kernel", "web", "database"]),
                member("app/mainstay", &["shortener", "database"]),
                member("tools/testkit", &[]),
                member("tools/tidy", &[]),
                member("tools/xtask", &["tidy"]),
                member("bench", &["database", "testkit"]),
            ],
            ..House::default()
        };
        let mut map = String::from("| folder | what |\n|---|---|\n");
        for member in &house.crates {
            map += "| `";
            map += &member.folder;
            map += "` | `src/lib.rs` |\n";
            house.files.insert(format!("{}/Cargo.toml", member.folder), "[lints]\nworkspace = true\n".to_owned());
            house.files.insert(format!("{}/README.md", member.folder), "# It\n".to_owned());
            house.files.insert(format!("{}/src/lib.rs", member.folder), "//! It.\n".to_owned());
        }
        let mut put = |path: &str, text: &str| house.files.insert(path.to_owned(), text.to_owned());
        put("ARCHITECTURE.md", &map);
        put("Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n");
        put("systems/shortener/migrations/0001_links.sql", "CREATE TABLE links (code TEXT PRIMARY KEY);\n");
        put("systems/shortener/tests/it/main.rs", "//! Tests.\n");
        put("systems/shortener/src/store.rs", "const GET: &str = \"SELECT url FROM links WHERE code = $1\";\n");
        put(
            "systems/shortener/src/error.rs",
            "kernel::codes! {\n    TAKEN = \"SHORTENER_TAKEN\", Conflict, \"It is taken\";\n}\n",
        );
        put(
            "systems/shortener/src/config.rs",
            "section! {\n    /// Short links.\n    pub struct C(\"shortener\") {\n        /// How many.\n        cache: usize = \"10\", \"links\";\n    }\n}\n",
        );
        put(
            "docs/errors/SHORTENER_TAKEN.md",
            "# SHORTENER_TAKEN\n\nIt is taken (HTTP 409).\n\n## What to do\n\nTake another.\n",
        );
        let (errors, configuration) = (papers::error_index(&house), papers::configuration(&house));
        house.files.insert("docs/errors/README.md".to_owned(), errors);
        house.files.insert("docs/configuration.md".to_owned(), configuration);
        house
    }

    /// Runs one rule over a house that `change` has changed; what it found, as text.
    pub(crate) fn broken(run: fn(&House) -> Vec<crate::Finding>, change: impl FnOnce(&mut House)) -> String {
        let mut house = house();
        assert_eq!(run(&house), [], "the fixture keeps the rule");
        change(&mut house);
        run(&house).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_fixture_keeps_every_rule() {
        for rule in super::RULES {
            assert_eq!((rule.run)(&house()), [], "{}", rule.name);
        }
    }
}
