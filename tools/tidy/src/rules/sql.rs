use crate::{
    Finding, House,
    lexer::{Kind, pieces},
};

/// SQL text stands in the stores of rooms, in their migrations, and in the database plane itself.
pub(crate) fn only_in_stores(house: &House) -> Vec<Finding> {
    let mut found = Vec::new();
    for member in &house.crates {
        let is_free =
            ["tools/", "bench"].iter().any(|f| member.folder.starts_with(f)) || member.folder == "planes/database";
        if is_free {
            continue;
        }
        let source = format!("{}/src/", member.folder);
        for (path, text) in house.rust_files(&member.folder) {
            let Some(inside) = path.strip_prefix(&source) else { continue };
            if inside == "store.rs" || inside.starts_with("store/") {
                continue;
            }
            let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
            for piece in pieces(shipped).iter().filter(|p| p.kind == Kind::Text && is_sql(&p.text)) {
                let shown: String = piece.text.split_whitespace().take(6).collect::<Vec<_>>().join(" ");
                let detail = format!("SQL outside store and migrations: {shown} …");
                found.push(Finding::new(format!("{path}:{}", piece.line), detail));
            }
        }
    }
    found
}

fn is_sql(text: &str) -> bool {
    let words: Vec<&str> = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty()).collect();
    let has = |word: &str| words.contains(&word);
    match (words.first().copied(), words.get(1).copied()) {
        (Some("UPDATE"), Some(_)) => has("SET"),
        (Some("WITH"), Some(_)) => has("SELECT"),
        (Some("SELECT" | "PRAGMA"), Some(_))
        | (Some("INSERT"), Some("INTO" | "OR"))
        | (Some("DELETE"), Some("FROM"))
        | (Some("CREATE" | "ALTER" | "DROP"), Some("TABLE" | "INDEX" | "UNIQUE" | "DATABASE" | "VIEW")) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_sql, only_in_stores as rule};
    use crate::rules::fixture::broken;

    #[test]
    fn sql_elsewhere_is_found_and_prose_is_not() {
        let text = broken(rule, |house| {
            let source = "// SELECT in a comment\nconst A: &str = r\"\n  SELECT 1 FROM t\";\n#[cfg(test)]\nmod tests { const B: &str = \"DELETE FROM t\"; }\n";
            house.files.insert("systems/shortener/src/service.rs".to_owned(), source.to_owned());
            house
                .files
                .insert("systems/shortener/src/store/clicks.rs".to_owned(), "const A: &str = \"SELECT 1\";".to_owned());
            house.files.insert("planes/database/src/x.rs".to_owned(), "const A: &str = \"SELECT 1\";".to_owned());
        });
        assert_eq!(text, "systems/shortener/src/service.rs:2: SQL outside store and migrations: SELECT 1 FROM t …");
        for (text, expected) in [
            ("SELECT a FROM b", true),
            ("UPDATE a SET b = 1", true),
            ("CREATE TABLE a (b BIGINT)", true),
            ("WITH x AS (SELECT 1) INSERT INTO y SELECT * FROM x", true),
            ("Select a project", false),
            ("Update failed", false),
            ("UPDATE", false),
            ("with care", false),
        ] {
            assert_eq!(is_sql(text), expected, "{text}");
        }
    }
}
