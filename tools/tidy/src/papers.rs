//! What the code declares for readers: configuration keys and error codes, and the pages generated from them.

use std::fmt::Write;

use crate::{
    House,
    lexer::{Kind, Piece, pieces},
};

/// The page of every configuration key.
pub const CONFIGURATION: &str = "docs/configuration.md";
/// The page that lists every error code.
pub const ERROR_INDEX: &str = "docs/errors/README.md";

/// One key of a `section!` declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its section.
    pub section: String,
    /// What the section is for.
    pub section_doc: String,
    /// Its name.
    pub name: String,
    /// What it does.
    pub doc: String,
    /// Its Rust type.
    pub kind: String,
    /// Its default as TOML.
    pub default: String,
    /// Its unit or form.
    pub unit: String,
    /// The file that declares it.
    pub place: String,
}

/// One code of a `codes!` declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Its name.
    pub name: String,
    /// Its kind, such as `Conflict`.
    pub kind: String,
    /// What it means.
    pub title: String,
    /// The file that declares it.
    pub place: String,
}

/// Every declared configuration key, in the order of the files.
pub fn keys(house: &House) -> Vec<Key> {
    let mut keys = Vec::new();
    for (place, body) in bodies(house, "section!") {
        let (mut section, mut section_doc, mut doc, mut code, mut texts) =
            (String::new(), String::new(), String::new(), String::new(), Vec::new());
        for piece in body {
            match piece.kind {
                Kind::Comment => {
                    let line = piece.text.trim_start_matches('/').trim();
                    doc = if doc.is_empty() { line.to_owned() } else { format!("{doc} {line}") };
                }
                Kind::Text => texts.push(piece.text.clone()),
                Kind::Code => {
                    for c in piece.text.chars() {
                        match (c, texts.as_slice()) {
                            ('{', [name]) => {
                                section.clone_from(name);
                                section_doc = std::mem::take(&mut doc);
                                code.clear();
                                texts.clear();
                            }
                            (';', [default, unit]) => {
                                let (name, kind) = code.split_once(':').unwrap_or((&code, ""));
                                let kind =
                                    kind.trim_end().trim_end_matches(',').trim_end().trim_end_matches('=').trim();
                                keys.push(Key {
                                    section: section.clone(),
                                    section_doc: section_doc.clone(),
                                    name: name.trim().to_owned(),
                                    doc: std::mem::take(&mut doc),
                                    kind: kind.to_owned(),
                                    default: default.replace("\\\"", "\""),
                                    unit: unit.clone(),
                                    place: place.clone(),
                                });
                                code.clear();
                                texts.clear();
                            }
                            _ => code.push(c),
                        }
                    }
                }
            }
        }
    }
    keys
}

/// Every declared error code, by name.
pub fn codes(house: &House) -> Vec<Code> {
    let mut codes = Vec::new();
    for (place, body) in bodies(house, "codes!") {
        let (mut code, mut texts) = (String::new(), Vec::new());
        for piece in body {
            match piece.kind {
                Kind::Comment => {}
                Kind::Text => texts.push(piece.text.clone()),
                Kind::Code => {
                    for c in piece.text.chars() {
                        if let (';', [name, title]) = (c, texts.as_slice()) {
                            let kind =
                                code.split(',').map(str::trim).rfind(|part| !part.is_empty()).unwrap_or_default();
                            codes.push(Code {
                                name: name.clone(),
                                kind: kind.to_owned(),
                                title: title.replace("\\\"", "\""),
                                place: place.clone(),
                            });
                            code.clear();
                            texts.clear();
                        } else {
                            code.push(c);
                        }
                    }
                }
            }
        }
    }
    codes.sort_by(|a, b| a.name.cmp(&b.name));
    codes
}

/// The bodies of every use of a macro in the code that ships.
fn bodies(house: &House, name: &str) -> Vec<(String, Vec<Piece>)> {
    let opening = format!("{name} {{");
    let mut found = Vec::new();
    for member in house.crates.iter().filter(|c| !c.folder.starts_with("tools/")) {
        for (path, text) in house.rust_files(&format!("{}/src", member.folder)) {
            let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
            let all = pieces(shipped);
            for (index, piece) in all.iter().enumerate() {
                let Some(at) = piece.text.find(&opening).filter(|_| piece.kind == Kind::Code) else { continue };
                found.push((path.clone(), body(piece, at + opening.len(), &all[index + 1..])));
            }
        }
    }
    found
}

fn body(first: &Piece, from: usize, rest: &[Piece]) -> Vec<Piece> {
    let mut depth = 1_usize;
    let mut out = Vec::new();
    let begin = Piece { kind: Kind::Code, line: first.line, text: first.text[from..].to_owned() };
    for piece in std::iter::once(&begin).chain(rest) {
        if piece.kind != Kind::Code {
            out.push(piece.clone());
            continue;
        }
        let mut text = String::new();
        for c in piece.text.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            text.push(c);
        }
        out.push(Piece { text, ..piece.clone() });
        if depth == 0 {
            break;
        }
    }
    out
}

/// The text of `docs/configuration.md`.
pub fn configuration(house: &House) -> String {
    let mut out = String::from(CONFIGURATION_HEAD);
    let mut keys = keys(house);
    keys.sort_by(|a, b| a.section.cmp(&b.section));
    let mut section = String::new();
    for key in &keys {
        if key.section != section {
            section.clone_from(&key.section);
            write_line(&mut out, format_args!("\n## [{section}]\n\n{}\n", key.section_doc));
            out += "| key | type | default | unit or form | what it does |\n|---|---|---|---|---|\n";
        }
        let default = if key.default.is_empty() { "`\"\"`".to_owned() } else { format!("`{}`", key.default) };
        write_line(
            &mut out,
            format_args!(
                "| `{section}.{}` | {} | {default} | {} | {} |",
                key.name,
                type_words(&key.kind),
                cell(&key.unit),
                cell(&key.doc)
            ),
        );
    }
    out
}

const CONFIGURATION_HEAD: &str = "\
# Configuration

Written by `cargo xtask docs` from the declarations in the code; `mainstay check-config` shows the effective values and where each came from.

A value is looked for in this order, the last one found wins:

1. the default below;
2. `mainstay.toml` (`--config FILE`), as `[section]` and `key = …`;
3. the environment, as `MAINSTAY_SECTION_KEY` (upper case, dots and dashes as underscores);
4. the command line, as `--set section.key=value`.

A key that does not exist is refused, with the nearest name that does. Durations are written `\"250ms\"`, `\"30s\"`, `\"5m\"`, `\"1h\"`;
sizes `\"64KiB\"`, `\"1MiB\"`. A *secret* is never printed, and can be kept in a file: `key_file = \"/path\"` takes its first line.
";

/// The text of `docs/errors/README.md`.
pub fn error_index(house: &House) -> String {
    let mut out = String::from(ERROR_HEAD);
    for code in codes(house) {
        let status = status_of(&code.kind);
        write_line(&mut out, format_args!("| [`{0}`]({0}.md) | {status} | {1} |", code.name, cell(&code.title)));
    }
    out
}

const ERROR_HEAD: &str = "\
# Errors

Every refusal is an [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem (`application/problem+json`) with a `code` from this list. A
code never changes its meaning once released; the sentence in `detail` may. This list is written by `cargo xtask docs`.

| code | HTTP status | what it means |
|---|---|---|
";

/// The HTTP status of a kind, as in the table of `base/web`.
pub fn status_of(kind: &str) -> u16 {
    match kind {
        "Invalid" => 400,
        "Unauthenticated" => 401,
        "Forbidden" => 403,
        "NotFound" => 404,
        "MethodNotAllowed" => 405,
        "NotAcceptable" => 406,
        "Conflict" => 409,
        "Gone" => 410,
        "PreconditionFailed" => 412,
        "TooLarge" => 413,
        "UnsupportedMedia" => 415,
        "Unprocessable" => 422,
        "Limited" => 429,
        "Legal" => 451,
        "Unavailable" => 503,
        "Timeout" => 504,
        _ => 500,
    }
}

fn type_words(kind: &str) -> String {
    let last = kind.rsplit("::").next().unwrap_or(kind);
    let words = match last {
        "String" | "PathBuf" => "text",
        "Vec<String>" | "String>" => "list of texts",
        "Secret" => "text, *secret*",
        "ByteSize" => "size",
        "Duration" => "duration",
        "SocketAddr" => "address",
        "bool" => "true or false",
        "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => "number",
        "f64" => "decimal number",
        _ => "word",
    };
    words.to_owned()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn write_line(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    out.write_fmt(line).ok();
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture::house;

    #[test]
    fn declarations_are_read_with_everything_they_say() {
        let mut house = house();
        let source = "//! section! { not this }\nkernel::section! {\n    /// Links,\n    /// short.\n    pub struct C(\"links\") {\n        /// One | two.\n        a: std::time::Duration =\n            \"\\\"3s\\\"\", \"duration\";\n        /// Key.\n        b: Secret = \"\\\"\\\"\", \"URL\";\n    }\n}\nfn f() {}\n";
        house.files.insert("base/web/src/config.rs".to_owned(), source.to_owned());
        let keys = keys(&house);
        assert_eq!(keys.len(), 3);
        assert_eq!((keys[0].section.as_str(), keys[0].section_doc.as_str()), ("links", "Links, short."));
        assert_eq!((keys[0].kind.as_str(), keys[0].default.as_str()), ("std::time::Duration", "\"3s\""));
        let text = configuration(&house);
        assert!(text.contains("| `links.a` | duration | `\"3s\"` | duration | One \\| two. |"), "{text}");
        assert!(text.contains("| `links.b` | text, *secret* | `\"\"` | URL | Key. |"), "{text}");
        let codes = codes(&house);
        assert_eq!(codes.len(), 1);
        assert_eq!((codes[0].name.as_str(), codes[0].kind.as_str()), ("SHORTENER_TAKEN", "Conflict"));
        assert!(error_index(&house).contains("| [`SHORTENER_TAKEN`](SHORTENER_TAKEN.md) | 409 | It is taken |"));
    }
}
