//! The little Markdown that descriptions and error pages use: headings, paragraphs, lists, fenced code, `code`, **strong**,
//! and links to http(s) and this server. Everything else shows as it stands, escaped.

use maud::{Markup, PreEscaped, Render as _, html};

/// Renders it. Headings start at `h2`, since the page has its own `h1`.
pub(super) fn render(text: &str) -> Markup {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let block = line.trim();
        if block.is_empty() {
            continue;
        }
        if let Some(fence) = block.strip_prefix("```") {
            let code: Vec<&str> = lines.by_ref().take_while(|l| l.trim() != "```").collect();
            out.push_str(&html! { pre class=[(!fence.is_empty()).then_some(fence)] { code { (code.join("\n")) } } }.0);
        } else if let Some(title) = block.strip_prefix('#') {
            out.push_str(&html! { h2 { (inline(title.trim_start_matches('#').trim())) } }.0);
        } else if let Some(item) = item(block) {
            let mut items = vec![item.to_owned()];
            while let Some(next) = lines.next_if(|l| !l.trim().is_empty()) {
                match (self::item(next.trim()), items.last_mut()) {
                    (None, Some(last)) => *last = format!("{last} {}", next.trim()),
                    (next, _) => items.extend(next.map(str::to_owned)),
                }
            }
            out.push_str(&html! { ul { @for item in &items { li { (inline(item)) } } } }.0);
        } else {
            let mut paragraph = block.to_owned();
            while let Some(next) = lines.next_if(|l| {
                let l = l.trim();
                !l.is_empty() && !l.starts_with(['#', '`']) && item(l).is_none()
            }) {
                paragraph = format!("{paragraph} {}", next.trim());
            }
            out.push_str(&html! { p { (inline(&paragraph)) } }.0);
        }
    }
    PreEscaped(out)
}

fn item(line: &str) -> Option<&str> {
    line.strip_prefix("- ").or_else(|| line.strip_prefix("* "))
}

/// One line's worth: `code`, **strong**, [text](target).
pub(super) fn inline(text: &str) -> Markup {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[']) {
        let (before, from) = rest.split_at(at);
        out.push_str(&before.render().0);
        let (markup, used) = span(from);
        out.push_str(&markup.0);
        rest = &from[used..];
    }
    out.push_str(&rest.render().0);
    PreEscaped(out)
}

/// What starts here, and how many bytes it takes; the first character as it stands when it starts nothing.
fn span(from: &str) -> (Markup, usize) {
    let between = |open: &str, close: &str| {
        let inner = from.strip_prefix(open)?;
        let inner = &inner[..inner.find(close)?];
        (!inner.is_empty()).then_some((inner, open.len() + inner.len() + close.len()))
    };
    if let Some((code, used)) = between("`", "`") {
        return (html! { code { (code) } }, used);
    }
    if let Some((strong, used)) = between("**", "**") {
        return (html! { strong { (strong) } }, used);
    }
    if let Some((label, used)) = between("[", "](")
        && let Some((target, _)) = from[used..].split_once(')')
        && (target.starts_with("https://") || target.starts_with("http://") || is_local(target))
    {
        return (html! { a href=(target) { (label) } }, used + target.len() + 1);
    }
    (from[..1].render(), 1)
}

/// A path on this server: `//host` would lead elsewhere.
fn is_local(target: &str) -> bool {
    target.starts_with('#') || (target.starts_with('/') && !target.starts_with("//"))
}
