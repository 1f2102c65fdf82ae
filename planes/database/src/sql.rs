//! The two dialect comments: `/*pg … */` is live on PostgreSQL, `/*sqlite … */` on SQLite, each a comment on the other.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use crate::{Engine, Error, Result};

static REWRITTEN: RwLock<Option<HashMap<(Engine, &'static str), &'static str>>> = RwLock::new(None);

/// The text as `engine` should see it. Texts are in the binary, so what is kept for each is bounded by its source.
pub(crate) fn live(sql: &'static str, engine: Engine) -> &'static str {
    if !sql.contains(marker(engine)) {
        return sql;
    }
    let known = REWRITTEN.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(text) = known.as_ref().and_then(|map| map.get(&(engine, sql))) {
        return text;
    }
    drop(known);
    let text: &'static str = Box::leak(rewrite(sql, engine).into_boxed_str());
    let mut known = REWRITTEN.write().unwrap_or_else(PoisonError::into_inner);
    known.get_or_insert_default().entry((engine, sql)).or_insert(text)
}

const fn marker(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "/*pg ",
        Engine::Sqlite => "/*sqlite ",
    }
}

/// Takes the comment signs off the live comments of `engine`; leaves literals, quoted names and other comments alone.
pub(crate) fn rewrite(sql: &str, engine: Engine) -> String {
    let marker = marker(engine);
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '\'' | '"' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => {
                let end = rest.find("*/").unwrap_or(rest.len());
                let after = (end + 2).min(rest.len());
                if let Some(body) = rest[..end].strip_prefix(marker) {
                    out.push_str(body);
                    rest = &rest[after..];
                    continue;
                }
                after
            }
            other => other.len_utf8(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

/// What a room must not say: transactions are the plane's, and settings would outlive the statement.
const RESERVED: [&str; 13] = [
    "ABORT",
    "ATTACH",
    "BEGIN",
    "COMMIT",
    "DETACH",
    "END",
    "LISTEN",
    "NOTIFY",
    "PRAGMA",
    "RELEASE",
    "ROLLBACK",
    "SAVEPOINT",
    "VACUUM",
];

/// Refuses statements that would reach beyond their transaction.
pub(crate) fn check(sql: &str) -> Result<()> {
    let word_end = sql.bytes().position(|b| !b.is_ascii_alphabetic()).unwrap_or(sql.len());
    let word = &sql[..word_end];
    if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(word)) {
        return Err(Error::Other(format!("{word} is not for rooms")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_comments_are_per_engine() {
        let sql = "SELECT '/*pg a */', \"/*pg b */\" -- /*pg c */\nFROM t /* plain */ /*pg FOR UPDATE */ /*sqlite x */";
        for (engine, want) in [
            (
                Engine::Postgres,
                "SELECT '/*pg a */', \"/*pg b */\" -- /*pg c */\nFROM t /* plain */ FOR UPDATE  /*sqlite x */",
            ),
            (
                Engine::Sqlite,
                "SELECT '/*pg a */', \"/*pg b */\" -- /*pg c */\nFROM t /* plain */ /*pg FOR UPDATE */ x ",
            ),
        ] {
            assert_eq!(rewrite(sql, engine), want);
        }
        assert_eq!(rewrite("SELECT 'it''s /*pg no */' /*pg", Engine::Postgres), "SELECT 'it''s /*pg no */' /*pg");
        assert_eq!(live("SELECT 1 /*pg FOR UPDATE */", Engine::Postgres), "SELECT 1 FOR UPDATE ");
        assert_eq!(live("SELECT 1 /*pg FOR UPDATE */", Engine::Sqlite), "SELECT 1 /*pg FOR UPDATE */");
    }
}
