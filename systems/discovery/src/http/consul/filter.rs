//! `?filter=`: the language of Consul's filters, as far as it is used (developer.hashicorp.com/consul/api-docs/features/filtering).
//!
//! ```text
//! expression := and ("or" and)* ;  and := not ("and" not)* ;  not := "not" not | "(" expression ")" | match
//! match      := selector "==" value | selector "!=" value | value "in" selector | value "not in" selector
//!             | selector "contains" value | selector "not contains" value | selector "is empty" | selector "is not empty"
//! selector   := word ("." word | "." "\"" text "\"" | "[" "\"" text "\"" "]")* ;  value := word | number | "\"" text "\"" | "`" text "`"
//! ```

use serde_json::Value;

/// The longest expression, in bytes.
const MAX_BYTES: usize = 2_048;
/// The deepest nesting.
const MAX_DEPTH: usize = 32;
/// The most words and signs.
const MAX_TOKENS: usize = 512;

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    Or(Vec<Filter>),
    And(Vec<Filter>),
    Not(Box<Filter>),
    Equal(Vec<String>, String),
    Has(Vec<String>, String),
    Empty(Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(&'static str),
}

impl Filter {
    /// Reads an expression.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("at most {MAX_BYTES} bytes"));
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
        let filter = parser.any()?;
        match parser.peek() {
            None => Ok(filter),
            Some(token) => Err(format!("unexpected {}", shown(token))),
        }
    }

    /// Whether it holds for an item of the answer. A selector that the item has not is an error, except below a map.
    pub(super) fn holds(&self, item: &Value) -> Result<bool, String> {
        Ok(match self {
            Self::Or(all) => {
                for one in all {
                    if one.holds(item)? {
                        return Ok(true);
                    }
                }
                false
            }
            Self::And(all) => {
                for one in all {
                    if !one.holds(item)? {
                        return Ok(false);
                    }
                }
                true
            }
            Self::Not(one) => !one.holds(item)?,
            Self::Equal(path, value) => select(item, path)?.is_some_and(|found| text_of(&found) == *value),
            Self::Has(path, value) => match select(item, path)? {
                Some(Value::Array(all)) => all.iter().any(|one| text_of(one) == *value),
                Some(Value::Object(all)) => all.contains_key(value),
                Some(Value::String(text)) => text.contains(value.as_str()),
                _ => false,
            },
            Self::Empty(path) => match select(item, path)? {
                Some(Value::Array(all)) => all.is_empty(),
                Some(Value::Object(all)) => all.is_empty(),
                Some(Value::String(text)) => text.is_empty(),
                Some(Value::Null) | None => true,
                Some(_) => false,
            },
        })
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What a selector names. Below lists, such as `Checks.Status`, the list of what each has.
fn select(item: &Value, path: &[String]) -> Result<Option<Value>, String> {
    let mut at = item.clone();
    for (n, part) in path.iter().enumerate() {
        // Maps whose keys people choose.
        let is_free = n > 0 && matches!(path[n - 1].as_str(), "Meta" | "NodeMeta" | "ServiceMeta" | "TaggedAddresses");
        at = match at {
            Value::Object(mut map) => match map.remove(part) {
                Some(found) => found,
                None if is_free => return Ok(None),
                None => return Err(format!("Selector {:?} is not valid", path.join("."))),
            },
            Value::Array(all) => Value::Array(all.into_iter().filter_map(|one| one.get(part).cloned()).collect()),
            _ => return Err(format!("Selector {:?} is not valid", path.join("."))),
        };
    }
    Ok(Some(at))
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if all.len() >= MAX_TOKENS {
            return Err(format!("at most {MAX_TOKENS} words"));
        }
        let sign = ["==", "!=", "(", ")", ".", "[", "]"].into_iter().find(|sign| rest.starts_with(sign));
        let used = if let Some(sign) = sign {
            all.push(Token::Sign(sign));
            sign.len()
        } else if matches!(first, '"' | '`') {
            let (content, used) = quoted(rest, first)?;
            all.push(Token::Text(content));
            used
        } else {
            let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | ':');
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            if end == 0 {
                return Err(format!("unexpected {first:?}"));
            }
            all.push(Token::Word(rest[..end].to_owned()));
            end
        };
        rest = rest[used..].trim_start();
    }
    Ok(all)
}

/// The content of what is quoted, and how many bytes it took.
fn quoted(rest: &str, quote: char) -> Result<(String, usize), String> {
    let mut content = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((n, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((content, n + c.len_utf8())),
            '\\' if quote == '"' => content.push(chars.next().ok_or("a quote is not closed")?.1),
            c => content.push(c),
        }
    }
    Err("a quote is not closed".to_owned())
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(text) => text.clone(),
        Token::Text(text) => format!("{text:?}"),
        Token::Sign(sign) => (*sign).to_owned(),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Result<Token, String> {
        let token = self.tokens.get(self.at).cloned().ok_or("it ends too early")?;
        self.at += 1;
        Ok(token)
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Token::Word(text)) if text == word);
        self.at += usize::from(is_it);
        is_it
    }

    fn takes_sign(&mut self, sign: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Token::Sign(text)) if *text == sign);
        self.at += usize::from(is_it);
        is_it
    }

    fn any(&mut self) -> Result<Filter, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        let mut all = vec![self.all()?];
        while self.takes_word("or") {
            all.push(self.all()?);
        }
        self.depth -= 1;
        Ok(if all.len() == 1 { all.remove(0) } else { Filter::Or(all) })
    }

    fn all(&mut self) -> Result<Filter, String> {
        let mut all = vec![self.one()?];
        while self.takes_word("and") {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Filter::And(all) })
    }

    fn one(&mut self) -> Result<Filter, String> {
        let mut is_not = false;
        while self.takes_word("not") {
            is_not = !is_not;
        }
        let found = if self.takes_sign("(") {
            let found = self.any()?;
            if !self.takes_sign(")") {
                return Err("expected )".to_owned());
            }
            found
        } else {
            self.matching()?
        };
        Ok(if is_not { Filter::Not(Box::new(found)) } else { found })
    }

    fn matching(&mut self) -> Result<Filter, String> {
        let first = self.next()?;
        // `"v2" in Service.Tags`; else a selector, of which a word may begin either.
        let is_value = matches!(self.tokens.get(self.at), Some(Token::Word(text)) if text == "in")
            || (matches!(self.tokens.get(self.at), Some(Token::Word(text)) if text == "not")
                && matches!(self.tokens.get(self.at + 1), Some(Token::Word(text)) if text == "in"));
        let negated = |is_not: bool, filter: Filter| if is_not { Filter::Not(Box::new(filter)) } else { filter };
        match first {
            Token::Word(value) | Token::Text(value) if is_value => {
                let is_not = self.takes_word("not");
                self.takes_word("in");
                let start = self.next()?;
                Ok(negated(is_not, Filter::Has(self.selector(start)?, value)))
            }
            Token::Word(_) => {
                let path = self.selector(first)?;
                if self.takes_sign("==") {
                    return Ok(Filter::Equal(path, self.value()?));
                }
                if self.takes_sign("!=") {
                    return Ok(negated(true, Filter::Equal(path, self.value()?)));
                }
                if self.takes_word("is") {
                    let is_not = self.takes_word("not");
                    if !self.takes_word("empty") {
                        return Err("expected empty".to_owned());
                    }
                    return Ok(negated(is_not, Filter::Empty(path)));
                }
                let is_not = self.takes_word("not");
                if self.takes_word("contains") {
                    return Ok(negated(is_not, Filter::Has(path, self.value()?)));
                }
                Err("expected ==, !=, in, not in, contains, is empty or is not empty".to_owned())
            }
            other => Err(format!("unexpected {}", shown(&other))),
        }
    }

    fn selector(&mut self, start: Token) -> Result<Vec<String>, String> {
        let Token::Word(start) = start else { return Err(format!("expected a selector, not {}", shown(&start))) };
        let mut path = vec![start];
        loop {
            if self.takes_sign(".") {
                match self.next()? {
                    Token::Word(text) | Token::Text(text) => path.push(text),
                    Token::Sign(sign) => return Err(format!("unexpected {sign}")),
                }
            } else if self.takes_sign("[") {
                let Token::Text(text) = self.next()? else { return Err("expected a quoted name in [ ]".to_owned()) };
                path.push(text);
                if !self.takes_sign("]") {
                    return Err("expected ]".to_owned());
                }
            } else {
                return Ok(path);
            }
        }
    }

    fn value(&mut self) -> Result<String, String> {
        match self.next()? {
            Token::Text(text) => Ok(text),
            Token::Word(mut text) => {
                // A number with a point, an address.
                while self.takes_sign(".") {
                    let Token::Word(part) = self.next()? else { return Err("expected a value".to_owned()) };
                    text = format!("{text}.{part}");
                }
                Ok(text)
            }
            Token::Sign(sign) => Err(format!("expected a value, not {sign}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_hold_as_they_say() {
        let item = json!({
            "Node": {"Node": "m1", "Meta": {}},
            "Service": {"Service": "shop", "Tags": ["v2", "blue"], "Port": 80, "Meta": {"owner": "web", "a.b": "c"}},
            "Checks": [{"Status": "passing"}, {"Status": "warning"}],
        });
        for (text, holds) in [
            ("Service.Service == shop", true),
            ("Service.Service != \"shop\"", false),
            ("Service.Port == 80", true),
            ("\"v2\" in Service.Tags", true),
            ("v3 in Service.Tags", false),
            ("v3 not in Service.Tags and Service.Tags contains blue", true),
            ("Service.Tags not contains blue", false),
            ("Service.Meta.owner == web", true),
            ("Service.Meta[\"a.b\"] == c", true),
            ("Service.Meta.\"a.b\" == `c`", true),
            ("Service.Meta.nobody == web", false),
            ("owner in Service.Meta", true),
            ("Node.Meta is empty", true),
            ("Service.Tags is not empty", true),
            ("Checks.Status contains warning", true),
            ("critical in Checks.Status", false),
            ("not (Service.Port == 81 or v2 in Service.Tags)", false),
            ("Service.Port == 81 or Service.Port == 80 and Node.Node == m1", true),
            ("not not Service.Port == 80", true),
        ] {
            assert_eq!(Filter::parse(text).unwrap().holds(&item), Ok(holds), "{text}");
        }
        for wrong in [
            "",
            "(",
            "Service",
            "Service.",
            "Service ==",
            "== shop",
            "Service.Port == 80)",
            "Service.Port = 80",
            "\"x",
            "Service.Port == 80 and",
            "x in",
            "Service.Tags is full",
            "a[b] == c",
            "a == (b)",
            &"(".repeat(100),
            &"not ".repeat(600),
        ] {
            assert!(Filter::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Filter::parse("Service.Colour == red").unwrap().holds(&item).is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(text in "[ -~é]{0,80}") {
            if let Ok(filter) = Filter::parse(&text) {
                drop(filter.holds(&json!({"A": {"B": ["c"]}})));
            }
        }

        #[test]
        fn words_in_any_order_are_read_or_refused(words in proptest::collection::vec(
            proptest::sample::select(vec!["A", ".", "B", "==", "!=", "in", "not", "and", "or", "(", ")", "is", "empty", "[", "]", "\"x\"", "contains"]), 0..40,
        )) {
            if let Ok(filter) = Filter::parse(&words.join(" ")) {
                drop(filter.holds(&json!({"A": {"B": ["x"]}})));
            }
        }
    }
}
