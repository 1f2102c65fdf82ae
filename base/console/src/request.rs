//! The request behind each object and form: the curl line and the CLI line, safe to paste into a shell.

use maud::{Markup, html};

/// A request to the API, shown as curl and as the CLI.
#[derive(Debug, Clone)]
pub struct RequestBox {
    method: &'static str,
    path: String,
    body: Option<serde_json::Value>,
    file: Option<String>,
    headers: Vec<(String, String)>,
    cli: Option<Vec<String>>,
    open: bool,
}

impl RequestBox {
    /// A request by method and path (with query), such as `("GET", "/v1/links?limit=20")`.
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: None, file: None, headers: Vec::new(), cli: None, open: false }
    }

    /// GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    /// POST.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new("POST", path)
    }

    /// DELETE.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new("DELETE", path)
    }

    /// Its JSON body.
    #[must_use]
    pub fn json(mut self, body: serde_json::Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Its body is this file; say its type by [`RequestBox::header`].
    #[must_use]
    pub fn file(mut self, name: impl Into<String>) -> Self {
        self.file = Some(name.into());
        self
    }

    /// A header besides the key and the content type.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same with the CLI: the words after `mainstay`; they are quoted where a shell needs it.
    #[must_use]
    pub fn cli(mut self, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.cli = Some(words.into_iter().map(Into::into).collect());
        self
    }

    /// Shown unfolded (in an empty state).
    #[must_use]
    pub fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// The curl command. `base` is where this server listens; `needs_key` adds the header with `$MAINSTAY_KEY`.
    pub fn curl(&self, base: &str, needs_key: bool) -> String {
        let mut parts = vec!["curl".to_owned()];
        if !matches!(self.method, "GET" | "POST")
            || (self.method == "POST" && self.body.is_none() && self.file.is_none())
        {
            parts[0].push_str(" -X ");
            parts[0].push_str(self.method);
        }
        parts[0].push(' ');
        parts[0].push_str(&shell_word(&format!("{base}{}", self.path)));
        if needs_key {
            // In double quotes, so that the shell puts the key in.
            parts.push("-H \"Authorization: Bearer $MAINSTAY_KEY\"".to_owned());
        }
        for (name, value) in &self.headers {
            parts.push(format!("-H {}", shell_word(&format!("{name}: {value}"))));
        }
        if let Some(body) = &self.body {
            let flag = if self.method == "GET" { "-X GET --json" } else { "--json" };
            parts.push(format!("{flag} {}", shell_word(&body.to_string())));
        }
        if let Some(file) = &self.file {
            parts.push(format!("--data-binary {}", shell_word(&format!("@{file}"))));
        }
        parts.join(" \\\n  ")
    }

    /// The CLI command, when there is one.
    pub fn command(&self) -> Option<String> {
        let words = self.cli.as_ref()?;
        Some(
            std::iter::once("mainstay".to_owned())
                .chain(words.iter().map(|w| shell_word(w)))
                .collect::<Vec<_>>()
                .join(" "),
        )
    }

    /// Draws it; usually through `chrome.request(&request)`, which knows the base and whether a key is needed.
    pub fn draw(&self, base: &str, needs_key: bool) -> Markup {
        html! {
            details.request open[self.open] {
                summary { "Request" span.quiet { code { (self.method) " " (self.path) } } }
                (command_line("curl", &self.curl(base, needs_key)))
                @if let Some(command) = self.command() { (command_line("CLI", &command)) }
            }
        }
    }
}

/// A command with its name and a copy button (the button appears with script).
pub fn command_line(name: &str, command: &str) -> Markup {
    html! {
        div.command {
            span.command-name { (name) }
            pre tabindex="0" { code { (command) } }
            button.small.copy type="button" data-copy="" hidden { "Copy" span.sr { " the " (name) " line" } }
        }
    }
}

/// Quotes a word for a POSIX shell so that it stays one word and nothing in it is run; control characters are written as
/// `$'\n'` escapes, so that pasting never sends a line early.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if !word.chars().any(char::is_control) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let mut out = String::from("$'");
    for c in word.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.extend(c.to_string().bytes().map(|b| format!("\\x{b:02x}"))),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_stays_one_word() {
        for (word, quoted) in [
            ("plain", "plain"),
            ("", "''"),
            ("a b", "'a b'"),
            ("https://x.example/?a=1&b=2", "'https://x.example/?a=1&b=2'"),
            ("it's; rm -rf ~", r"'it'\''s; rm -rf ~'"),
            ("$(id) `id`", "'$(id) `id`'"),
            ("a\nb'", r"$'a\nb\''"),
            ("\u{1b}[2J", r"$'\x1b[2J'"),
        ] {
            assert_eq!(shell_word(word), quoted, "{word:?}");
        }
    }

    #[test]
    fn the_lines() {
        let request = RequestBox::post("/v1/links").json(serde_json::json!({"url": "https://example.com/?a='"})).cli([
            "links",
            "create",
            "https://example.com/?a='",
        ]);
        assert_eq!(
            request.curl("http://127.0.0.1:7070", true),
            "curl http://127.0.0.1:7070/v1/links \\\n  -H \"Authorization: Bearer $MAINSTAY_KEY\" \\\n  --json '{\"url\":\"https://example.com/?a='\\''\"}'"
        );
        assert_eq!(request.command().unwrap(), r"mainstay links create 'https://example.com/?a='\'''");
        let upload = RequestBox::post("/v1/x").header("Content-Type", "text/csv").file("my links.csv");
        assert_eq!(
            upload.curl("http://h", false),
            "curl http://h/v1/x \\\n  -H 'Content-Type: text/csv' \\\n  --data-binary '@my links.csv'"
        );
        assert_eq!(RequestBox::delete("/v1/links/x").curl("http://h", false), "curl -X DELETE http://h/v1/links/x");
    }
}
