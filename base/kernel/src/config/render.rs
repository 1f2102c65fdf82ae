//! The configuration as people read it: `check-config`, `check-config --keys` and `docs/configuration.md`.

use std::fmt::Write as _;

use super::{Key, Settings, env_name};

/// One documented key with its section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// `section.key`.
    pub key: String,
    /// Its environment variable.
    pub env: String,
    /// Its type in words.
    pub kind: &'static str,
    /// Its unit or form; may be empty.
    pub unit: &'static str,
    /// Its default, as it would stand in the file.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Whether it also takes `…_file`, and is never shown.
    pub secret: bool,
}

/// Every key of `sections`, in the order of declaration.
pub fn rows(sections: &[(&'static str, &'static [Key])]) -> Vec<KeyRow> {
    sections.iter().flat_map(|(section, keys)| keys.iter().map(|key| row(section, key))).collect()
}

fn row(section: &str, key: &Key) -> KeyRow {
    let full = format!("{section}.{}", key.name);
    KeyRow {
        env: env_name(&full),
        key: full,
        kind: key.kind,
        unit: key.unit,
        default: key.default,
        doc: key.doc.trim(),
        secret: key.secret,
    }
}

/// The text of `docs/configuration.md`, from its own heading on; a test compares it with the file.
pub fn markdown(sections: &[(&'static str, &'static [Key])]) -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         Lowest first: the default, `mainstay.toml`, the environment (`MAINSTAY_SECTION_KEY`), `--set section.key=value`.\n\
         `mainstay check-config` shows every effective value and where it came from. An unknown key is refused.\n\
         A secret is never printed, and can be read from a file instead: `key_file` (`MAINSTAY_SECTION_KEY_FILE`) names\n\
         one whose first line is the value.\n\n\
         *This page is generated from the declarations in the code.*\n",
    );
    for (section, keys) in sections {
        // Writing to a String cannot fail.
        write!(out, "\n## [{section}]\n\n| key | default | form | what it does |\n|---|---|---|---|\n").ok();
        for key in *keys {
            let row = row(section, key);
            let form = match (row.unit, row.secret) {
                ("", false) => row.kind.to_owned(),
                ("", true) => "secret".to_owned(),
                (unit, false) => format!("{}: {unit}", row.kind),
                (unit, true) => format!("secret: {unit}"),
            };
            let cells = [key.name, row.default].map(|text| format!("`{}`", cell(text)));
            let [name, default] = cells;
            writeln!(out, "| {name} | {default} | {} | {} |", cell(&form), cell(row.doc)).ok();
        }
    }
    out
}

/// Text that cannot end its table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

impl Settings {
    /// What `mainstay check-config` prints: a file that can be used as it stands, with the origin of each value beside it.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let effective = self.effective();
        let width = effective.iter().map(|e| e.key.len() + e.value.len()).max().unwrap_or(0).min(60);
        let mut section = "";
        for line in &effective {
            let (of, name) = line.key.split_once('.').unwrap_or(("", &line.key));
            if of != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                writeln!(out, "{gap}[{of}]").ok();
                section = of;
            }
            let assignment = format!("{name} = {}", line.value);
            writeln!(out, "{assignment:width$}  # {}", line.origin).ok();
        }
        out
    }
}
