//! A reader of the HTML that the kit writes: enough to see that tags balance and that nothing in them can run.

pub(crate) struct Tag {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
}

impl Tag {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

const VOID: [&str; 5] = ["input", "meta", "link", "br", "!DOCTYPE"];

/// Every opening tag; panics when a tag is not closed, closed twice or wrongly nested.
pub(crate) fn tags(html: &str) -> Vec<Tag> {
    let (mut tags, mut open, mut rest) = (Vec::new(), Vec::<String>::new(), html);
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = end_of_tag(rest);
        let inside = &rest[..end];
        rest = &rest[end + 1..];
        if let Some(name) = inside.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closed out of order");
            continue;
        }
        // The shapes of the logo file close themselves.
        let (inside, closed) = inside.strip_suffix('/').map_or((inside, false), |inside| (inside, true));
        let tag = read(inside);
        if !closed && !VOID.contains(&tag.name.as_str()) {
            open.push(tag.name.clone());
        }
        tags.push(tag);
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    tags
}

fn end_of_tag(text: &str) -> usize {
    let mut quoted = false;
    text.find(|c| {
        quoted ^= c == '"';
        c == '>' && !quoted
    })
    .expect("a tag that ends")
}

fn read(text: &str) -> Tag {
    let (name, mut rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            break;
        }
        let stop = rest.find([' ', '=']).unwrap_or(rest.len());
        let (attribute, after) = rest.split_at(stop);
        rest = after;
        let mut value = String::new();
        if let Some(quoted) = rest.strip_prefix("=\"") {
            let (inside, after) = quoted.split_once('"').expect("a value that ends");
            value = inside.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
            rest = after;
        }
        attributes.push((attribute.to_owned(), value));
    }
    Tag { name: name.to_owned(), attributes }
}

/// Panics when anything in the page could run, be refused by the policy, or leave for a place it must not.
pub(crate) fn assert_inert(html: &str) {
    for tag in tags(html) {
        assert!(
            !["iframe", "object", "embed", "base", "style", "img"].contains(&tag.name.as_str()),
            "{} in the page",
            tag.name
        );
        if tag.name == "script" {
            assert!(tag.get("src").is_some_and(|src| src.starts_with("/console/assets/")), "a script of somebody else");
        }
        for (name, value) in &tag.attributes {
            assert!(!name.starts_with("on") && name != "style", "<{} {name}> in the page", tag.name);
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-:".contains(c)), "attribute {name:?}");
            if ["href", "action", "src", "formaction"].contains(&name.as_str()) {
                // Not by the kit's own rule, which this checks.
                let local = value.starts_with(['/', '?', '#']) && !value.starts_with("//");
                assert!(
                    local || value.starts_with("http://") || value.starts_with("https://"),
                    "<{} {name}={value:?}>",
                    tag.name
                );
            }
        }
    }
}
