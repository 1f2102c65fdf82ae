//! JSON Schemas as nested lists, and examples made from them.

use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::markdown;
use crate::openapi::Document;

/// Deeper nesting is shown by name only; schemas may contain themselves.
const MAX_DEPTH: usize = 6;

/// A schema as a list of its fields.
pub(super) fn fields(doc: &Document, schema: &Value, depth: usize) -> Markup {
    let schema = doc.resolve(schema);
    if depth > MAX_DEPTH {
        return html! {};
    }
    if let Some(items) = schema.get("items") {
        return fields(doc, items, depth + 1);
    }
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties: Vec<(&String, &Value)> = parts(schema)
        .flat_map(|part| doc.resolve(part)["properties"].as_object().into_iter().flatten())
        .chain(schema["properties"].as_object().into_iter().flatten())
        .collect();
    html! {
        @if !properties.is_empty() {
            ul class="fields" {
                @for (name, field) in properties {
                    li {
                        code class="name" { (name) }
                        " " (kind(doc, field))
                        @if required.contains(&name.as_str()) { " " span class="required" { "required" } }
                        (description(doc, field))
                        (fields(doc, field, depth + 1))
                    }
                }
            }
        }
        @if schema.get("properties").is_none() {
            @for alternative in alternatives(schema) {
                @if alternative["type"] != "null" { (fields(doc, alternative, depth + 1)) }
            }
        }
    }
}

fn parts(schema: &Value) -> impl Iterator<Item = &Value> {
    schema["allOf"].as_array().into_iter().flatten()
}

fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf"].into_iter().flat_map(|key| schema[key].as_array().into_iter().flatten())
}

pub(super) fn description(doc: &Document, schema: &Value) -> Markup {
    let text = schema["description"].as_str().or_else(|| doc.resolve(schema)["description"].as_str());
    html! { @if let Some(text) = text { " " span class="about" { (markdown::inline(text)) } } }
}

/// The type with its bounds, in words.
pub(super) fn kind(doc: &Document, schema: &Value) -> Markup {
    html! { span class="type" { (kind_text(doc, schema, 0)) } }
}

fn kind_text(doc: &Document, schema: &Value, depth: usize) -> String {
    let schema = doc.resolve(schema);
    let alternatives: Vec<&Value> = alternatives(schema).collect();
    if !alternatives.is_empty() && depth <= MAX_DEPTH {
        return alternatives.iter().map(|s| kind_text(doc, s, depth + 1)).collect::<Vec<_>>().join(" or ");
    }
    let mut out = match &schema["type"] {
        Value::String(one) => one.clone(),
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        _ if schema.get("const").is_some() => schema["const"].to_string(),
        _ => "any".to_owned(),
    };
    if let Some(items) = schema.get("items")
        && depth <= MAX_DEPTH
    {
        let items = format!("array of {}", kind_text(doc, items, depth + 1));
        out = out.replacen("array", &items, 1);
    }
    if let Some(format) = schema["format"].as_str() {
        out = format!("{out} ({format})");
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> =
            values.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
        out = format!("{out}: {}", values.join(", "));
    }
    for (key, words) in [
        ("minimum", "from"),
        ("maximum", "to"),
        ("minLength", "at least"),
        ("maxLength", "at most"),
        ("minItems", "at least"),
        ("maxItems", "at most"),
        ("pattern", "like"),
        ("default", "default"),
    ] {
        if let Some(bound) = schema.get(key) {
            let unit = match key {
                "minLength" | "maxLength" => " characters",
                "minItems" | "maxItems" => " items",
                _ => "",
            };
            let bound = bound.as_str().map_or_else(|| bound.to_string(), str::to_owned);
            out = format!("{out}, {words} {bound}{unit}");
        }
    }
    out
}

/// A value that fits the schema: its own example, else one made of required fields.
pub(super) fn example(doc: &Document, schema: &Value, depth: usize) -> Value {
    let schema = doc.resolve(schema);
    let given = schema.get("example").or_else(|| schema["examples"].get(0)).or_else(|| schema.get("default"));
    if let Some(given) = given.or_else(|| schema.get("const")).or_else(|| schema["enum"].get(0)) {
        return given.clone();
    }
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    if let Some(first) = alternatives(schema).find(|s| s["type"] != "null") {
        return example(doc, first, depth + 1);
    }
    let kind = schema["type"]
        .as_str()
        .or_else(|| schema["type"].as_array().into_iter().flatten().filter_map(Value::as_str).find(|t| *t != "null"));
    match kind {
        Some("string") => json!(match schema["format"].as_str() {
            Some("date-time") => "2026-11-24T06:00:00Z",
            Some("uri") => "https://example.com/",
            Some("uuid") => "0198f6c2-7d3e-7a51-9c40-2f6b1c8d9e0a",
            _ => "text",
        }),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(true),
        Some("array") => json!([example(doc, &schema["items"], depth + 1)]),
        Some("object") | None => {
            let mut out = Map::new();
            for part in parts(schema) {
                if let Value::Object(fields) = example(doc, part, depth + 1) {
                    out.extend(fields);
                }
            }
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                out.insert(name.to_owned(), example(doc, &schema["properties"][name], depth + 1));
            }
            Value::Object(out)
        }
        Some(_) => Value::Null,
    }
}
