//! The page at `/docs`: every operation of the document, with a curl line for each.

use maud::{Markup, html};
use serde_json::Value;

use super::{markdown, page, schema};
use crate::openapi::Document;

struct Operation<'a> {
    path: &'a str,
    method: &'static str,
    value: &'a Value,
}

impl Operation<'_> {
    fn id(&self) -> String {
        self.value["operationId"].as_str().map_or_else(
            || format!("{}{}", self.method, self.path.replace(|c: char| !c.is_ascii_alphanumeric(), "-")),
            str::to_owned,
        )
    }

    fn summary(&self) -> &str {
        self.value["summary"].as_str().unwrap_or_default()
    }

    fn tag(&self) -> &str {
        self.value["tags"][0].as_str().unwrap_or("other")
    }
}

pub(super) fn render(doc: &Document) -> Markup {
    let info = &doc.json()["info"];
    let title = info["title"].as_str().unwrap_or("API");
    let operations: Vec<Operation<'_>> =
        doc.operations().map(|(path, method, value)| Operation { path, method, value }).collect();
    let mut groups: Vec<(&str, Vec<&Operation<'_>>)> = Vec::new();
    for operation in &operations {
        match groups.iter_mut().find(|(tag, _)| *tag == operation.tag()) {
            Some((_, group)) => group.push(operation),
            None => groups.push((operation.tag(), vec![operation])),
        }
    }
    let nav = html! {
        @for (tag, group) in &groups {
            h2 { (tag) }
            ul {
                @for operation in group {
                    li { a href={ "#" (operation.id()) } { (method(operation.method)) " " (operation.path) } }
                }
            }
        }
    };
    page(
        title,
        &html! {
            h1 { (title) " " small { (info["version"].as_str().unwrap_or_default()) } }
            (markdown::render(info["description"].as_str().unwrap_or_default()))
            p {
                "The same as a machine reads it: " a href="/openapi.json" { "/openapi.json" } ". Every refusal has a "
                code { "code" } "; " a href="/docs/errors" { "all codes" } "."
            }
            details class="contents" { summary { "Contents" } nav aria-label="Operations" { (nav) } }
            @for (tag, group) in &groups {
                section {
                    h2 class="tag" { (tag) }
                    @if let Some(about) = tag_description(doc, tag) { (markdown::render(about)) }
                    @for operation in group { (article(doc, operation)) }
                }
            }
        },
    )
}

fn tag_description<'a>(doc: &'a Document, tag: &str) -> Option<&'a str> {
    doc.json()["tags"].as_array()?.iter().find(|t| t["name"] == tag)?["description"].as_str()
}

fn method(method: &str) -> Markup {
    html! { span class={ "method " (method) } { (method.to_uppercase()) } }
}

fn article(doc: &Document, operation: &Operation<'_>) -> Markup {
    let value = operation.value;
    // utoipa repeats the summary as the first line of the description.
    let about = value["description"].as_str().unwrap_or_default();
    let about = about.strip_prefix(operation.summary()).unwrap_or(about);
    html! {
        article id=(operation.id()) {
            h3 { (method(operation.method)) " " code { (operation.path) } }
            @if !operation.summary().is_empty() { p class="summary" { (markdown::inline(operation.summary())) } }
            (markdown::render(about))
            (parameters(doc, value))
            @for (media, body) in value["requestBody"]["content"].as_object().into_iter().flatten() {
                h4 { "Body " span class="type" { (media) } }
                (schema::fields(doc, &body["schema"], 0))
            }
            h4 { "Answers" }
            (responses(doc, value))
            h4 { "Try it" }
            pre { code { (curl(doc, operation)) } }
        }
    }
}

fn parameters(doc: &Document, operation: &Value) -> Markup {
    let parameters: Vec<&Value> =
        operation["parameters"].as_array().into_iter().flatten().map(|p| doc.resolve(p)).collect();
    html! {
        @if !parameters.is_empty() {
            h4 { "Parameters" }
            ul class="fields" {
                @for p in parameters {
                    li {
                        code class="name" { (p["name"].as_str().unwrap_or_default()) }
                        " " span class="place" { (p["in"].as_str().unwrap_or_default()) }
                        " " (schema::kind(doc, &p["schema"]))
                        @if p["required"] == true { " " span class="required" { "required" } }
                        (schema::description(doc, p))
                    }
                }
            }
        }
    }
}

fn responses(doc: &Document, operation: &Value) -> Markup {
    html! {
        @for (status, response) in operation["responses"].as_object().into_iter().flatten() {
            @let response = doc.resolve(response);
            @let about = response["description"].as_str().unwrap_or_default();
            @if status.starts_with('2') {
                details open {
                    summary { code { (status) } " " (markdown::inline(about)) }
                    @for (media, body) in response["content"].as_object().into_iter().flatten() {
                        p { span class="type" { (media) ": " } (schema::kind(doc, &body["schema"])) }
                        (schema::fields(doc, &body["schema"], 0))
                    }
                }
            } @else {
                p class="status" { code { (status) } " " (markdown::inline(about)) }
            }
        }
    }
}

/// A line that can be pasted into a shell once `MAINSTAY_URL` and `MAINSTAY_KEY` are set.
fn curl(doc: &Document, operation: &Operation<'_>) -> String {
    let mut path = operation.path.to_owned();
    let mut query = Vec::new();
    for p in operation.value["parameters"].as_array().into_iter().flatten().map(|p| doc.resolve(p)) {
        let name = p["name"].as_str().unwrap_or_default();
        let example = p.get("example").cloned().unwrap_or_else(|| schema::example(doc, &p["schema"], 0));
        let text = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
        let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        match p["in"].as_str() {
            Some("path") => path = path.replace(&format!("{{{name}}}"), &text),
            Some("query") if p["required"] == true => query.push(format!("{name}={text}")),
            _ => {}
        }
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let verb = match operation.method {
        "get" => String::new(),
        "head" => " --head".to_owned(),
        other => format!(" -X {}", other.to_uppercase()),
    };
    let mut lines = vec![format!("curl{verb} \"$MAINSTAY_URL{path}\"")];
    let security = operation.value["security"].as_array();
    if !security.is_some_and(|s| s.iter().all(|r| r.as_object().is_some_and(serde_json::Map::is_empty))) {
        lines.push("-H \"Authorization: Bearer $MAINSTAY_KEY\"".to_owned());
    }
    if let Some((media, body)) = operation.value["requestBody"]["content"].as_object().and_then(|c| c.iter().next()) {
        let example = schema::example(doc, &body["schema"], 0).to_string().replace('\'', "'\\''");
        lines.extend([format!("-H 'Content-Type: {media}'"), format!("-d '{example}'")]);
    }
    lines.join(" \\\n  ")
}
