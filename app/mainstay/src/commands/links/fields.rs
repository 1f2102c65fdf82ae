//! What is said of a link on the command line, as the API takes it.

use serde_json::{Value, json};

use crate::cli::LinkFields;

/// Adds what was given to a request.
pub(super) fn add(body: &mut Value, fields: &LinkFields) -> Result<(), String> {
    for (name, text) in [("title", &fields.title), ("notes", &fields.notes)] {
        if let Some(text) = text {
            body[name] = json!(text);
        }
    }
    for (name, time) in [("starts_at", &fields.starts_at), ("expires_at", &fields.expires_at)] {
        if let Some(time) = time {
            body[name] = if time == "none" { Value::Null } else { json!(time) };
        }
    }
    match fields.max_clicks.as_deref() {
        None => {}
        Some("none") => body["max_clicks"] = Value::Null,
        Some(count) => {
            let count: u64 = count.parse().map_err(|_| "--max-clicks: expected a whole number, or none".to_owned())?;
            body["max_clicks"] = json!(count);
        }
    }
    if let Some(password) = &fields.password {
        body["password"] = if password == "none" { Value::Null } else { json!(password) };
    }
    if !fields.tags.is_empty() {
        body["tags"] = if fields.tags == ["none"] { json!([]) } else { json!(fields.tags) };
    }
    if let Some(status) = fields.redirect {
        body["redirect"] = json!(status);
    }
    if let Some(is_forwarded) = fields.forward_query {
        body["forward_query"] = json!(is_forwarded);
    }
    for (name, text) in [
        ("source", &fields.utm_source),
        ("medium", &fields.utm_medium),
        ("campaign", &fields.utm_campaign),
        ("term", &fields.utm_term),
        ("content", &fields.utm_content),
    ] {
        if let Some(text) = text {
            body["utm"][name] = json!(text);
        }
    }
    for (name, text) in [("rules", &fields.rules), ("split", &fields.split)] {
        if let Some(text) = text {
            body[name] = serde_json::from_str(text).map_err(|e| format!("--{name} is not JSON: {e}"))?;
        }
    }
    Ok(())
}
