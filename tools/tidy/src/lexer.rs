//! Just enough of Rust's lexical structure to tell code, comments and string literals apart.

/// What a piece of source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Code,
    Comment,
    Text,
}

/// A piece of source; for [`Kind::Text`] the contents between the quotes, for a comment what follows `//`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// Splits a source file.
pub(crate) fn pieces(source: &str) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while !rest.is_empty() {
        let (kind, length, inner) = next(rest);
        let (taken, after) = rest.split_at(length);
        match out.last_mut() {
            Some(last) if kind == Kind::Code && last.kind == Kind::Code => last.text.push_str(taken),
            _ => out.push(Piece { kind, line, text: taken[inner.0..length - inner.1].to_owned() }),
        }
        line += taken.matches('\n').count();
        rest = after;
    }
    out
}

/// The next piece: its kind, its length, and how much its marks take at both ends.
fn next(rest: &str) -> (Kind, usize, (usize, usize)) {
    if rest.starts_with("//") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()), (2, 0));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, block_comment(rest), (2, 0));
    }
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|p| {
        rest.strip_prefix(p).is_some_and(|after| {
            after.trim_start_matches('#').starts_with('"') && (p.contains('r') || after.starts_with('"'))
        })
    });
    if let Some(prefix) = prefix {
        let after = &rest[prefix.len()..];
        if prefix.contains('r') {
            let hashes = after.len() - after.trim_start_matches('#').len();
            let close = format!("\"{}", "#".repeat(hashes));
            let begin = prefix.len() + hashes + 1;
            let length = rest[begin..].find(&close).map_or(rest.len(), |at| begin + at + close.len());
            return (Kind::Text, length, (begin, close.len().min(length - begin)));
        }
        return (Kind::Text, prefix.len() + quoted(after), (prefix.len() + 1, 1));
    }
    (Kind::Code, code(rest), (0, 0))
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of a `"…"` literal at the start of `rest`.
fn quoted(rest: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of one step through code: an identifier (so that the `r` of `for` opens nothing), a character literal, or a character.
fn code(rest: &str) -> usize {
    let identifier = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    if identifier > 0 {
        return identifier;
    }
    let mut chars = rest.char_indices();
    let first = chars.next().map_or(0, |(_, c)| c.len_utf8());
    if !rest.starts_with('\'') {
        return first;
    }
    // 'a' and '\'' are literals, 'a without a closing quote is a lifetime.
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escaped, c))) => {
            let from = escaped + c.len_utf8();
            rest[from..].find('\'').map_or(rest.len(), |at| from + at + 1)
        }
        (Some(_), Some((close, '\''))) => close + 1,
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_comments_and_strings_are_told_apart() {
        let source =
            "let a = \"x\\\"y\"; // \"no\nfn f<'a>(c: char) { c == '\"' } /* /* \" */ */ r#\"a \" b\"# b\"z\" for";
        let texts: Vec<String> = pieces(source).into_iter().filter(|p| p.kind == Kind::Text).map(|p| p.text).collect();
        assert_eq!(texts, ["x\\\"y", "a \" b", "z"]);
        let comments = pieces(source).into_iter().filter(|p| p.kind == Kind::Comment).count();
        assert_eq!(comments, 2);
        assert_eq!(pieces("a\n\"b\nc\"\n\"d\"").last().map(|p| p.line), Some(4));
    }
}
