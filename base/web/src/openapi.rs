//! One OpenAPI 3.1 document from those of the rooms.
//!
//! Rooms describe what is their own; what every operation shares is added here, so that no operation answers a status that the
//! document does not name:
//!
//! | operations | get |
//! |---|---|
//! | all | 400, 500, 503, 504 |
//! | with security (all but those that say `security(())`) | 401, 403, 429, bearer key |
//! | with parameters in the path | 404 |
//! | with a body | 409, 413, 415, 422 |
//! | POST | 409, 422 |
//! | with parameters in the query | 422 |
//! | POST that documents 201 | the `Idempotency-Key` header |
//!
//! A response of 400 or more that a room describes without content gets the problem's; what a room describes itself is kept.

use std::fmt;

use kernel::Kind;
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

use crate::{PROBLEM_JSON, idempotency::MAX_KEY_CHARS, problem};

/// What the document says of the whole API.
#[derive(Debug, Clone)]
pub struct Info {
    /// The name of the API.
    pub title: String,
    /// Its version.
    pub version: String,
    /// What it is; simple Markdown.
    pub description: String,
}

/// The whole document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document(Value);

/// Two rooms describe different things under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collision {
    /// For example `schema Link` or `GET /v1/links`.
    pub name: String,
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "two rooms describe {} differently; rename one", self.name)
    }
}

impl std::error::Error for Collision {}

/// Methods that an OpenAPI path item holds, in the order that people read them.
pub(crate) const METHODS: [&str; 7] = ["get", "head", "post", "put", "patch", "delete", "options"];

impl Document {
    /// The document as JSON.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// Every operation: path, method in lower case, description.
    pub fn operations(&self) -> impl Iterator<Item = (&str, &'static str, &Value)> {
        self.0["paths"].as_object().into_iter().flatten().flat_map(|(path, item)| {
            METHODS.iter().filter_map(move |method| Some((path.as_str(), *method, item.get(*method)?)))
        })
    }

    /// Follows `$ref` inside the document; the value itself when it has none.
    pub fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        value["$ref"]
            .as_str()
            .and_then(|r| r.strip_prefix('#'))
            .and_then(|pointer| self.0.pointer(pointer))
            .unwrap_or(value)
    }
}

/// Merges the rooms' documents and adds what every operation shares.
pub fn document(info: &Info, rooms: Vec<OpenApi>) -> Result<Document, Collision> {
    let mut root = json!({
        "openapi": "3.1.0",
        "info": { "title": info.title, "version": info.version, "description": info.description },
        "servers": [{ "url": "/" }],
        "security": [{ "key": [] }],
        "tags": [],
        "paths": {},
        "components": {
            "securitySchemes": { "key": {
                "type": "http", "scheme": "bearer",
                "description": "An API key: `Authorization: Bearer msk_…`.",
            }},
            "schemas": { "Problem": problem_schema(), "ProblemField": problem_field_schema() },
            "responses": shared_responses(),
        },
    });
    for room in rooms {
        let room = serde_json::to_value(&room).unwrap_or_default();
        for (path, item) in room["paths"].as_object().into_iter().flatten() {
            for (key, value) in item.as_object().into_iter().flatten() {
                put(&mut root["paths"][path], key, value, || format!("{} {path}", key.to_uppercase()))?;
            }
        }
        for (section, entries) in room["components"].as_object().into_iter().flatten() {
            for (name, value) in entries.as_object().into_iter().flatten() {
                put(&mut root["components"][section], name, value, || format!("{section} {name}"))?;
            }
        }
        if let (Some(all), Some(tags)) = (root["tags"].as_array_mut(), room["tags"].as_array()) {
            for tag in tags {
                if !all.iter().any(|t| t["name"] == tag["name"]) {
                    all.push(tag.clone());
                }
            }
        }
    }
    complete(&mut root);
    Ok(Document(root))
}

fn put(target: &mut Value, key: &str, value: &Value, name: impl FnOnce() -> String) -> Result<(), Collision> {
    match target.get(key) {
        Some(there) if there != value => Err(Collision { name: name() }),
        Some(_) => Ok(()),
        None => {
            target[key] = value.clone();
            Ok(())
        }
    }
}

/// Adds to each operation what it shares with others.
fn complete(root: &mut Value) {
    for (path, item) in root["paths"].as_object_mut().into_iter().flatten() {
        let shared_parameters = item.get("parameters").is_some_and(|p| p.as_array().is_some_and(|p| !p.is_empty()));
        for method in METHODS {
            let Some(operation) = item.get_mut(method) else { continue };
            let is_open = operation.get("security").is_some_and(|s| {
                s.as_array().is_some_and(|s| s.is_empty() || s.iter().any(|r| r.as_object().is_some_and(Map::is_empty)))
            });
            let creates = method == "post" && operation["responses"].get("201").is_some();
            let mut statuses = vec!["400", "500", "503", "504"];
            if !is_open {
                statuses.extend(["401", "403", "429"]);
            }
            if path.contains('{') || shared_parameters {
                statuses.push("404");
            }
            if operation.get("requestBody").is_some() {
                statuses.extend(["409", "413", "415", "422"]);
            }
            if method == "post" {
                statuses.extend(["409", "422"]);
            }
            if operation["parameters"].as_array().is_some_and(|all| all.iter().any(|p| p["in"] == "query")) {
                statuses.push("422");
            }
            let responses = &mut operation["responses"];
            for status in statuses {
                if responses.get(status).is_none() {
                    responses[status] = json!({ "$ref": format!("#/components/responses/Problem{status}") });
                }
            }
            describe_problems(responses);
            if creates {
                add_parameter(operation, &idempotency_parameter());
            }
        }
    }
}

/// Fills in the content of refusals that a room described in words only.
fn describe_problems(responses: &mut Value) {
    for (status, response) in responses.as_object_mut().into_iter().flatten() {
        let is_refusal = status.parse::<u16>().is_ok_and(|s| s >= 400);
        if is_refusal && response.get("$ref").is_none() && response.get("content").is_none() {
            response["content"] = problem_content();
        }
    }
}

fn add_parameter(operation: &mut Value, parameter: &Value) {
    if !operation["parameters"].is_array() {
        operation["parameters"] = json!([]);
    }
    if let Some(all) = operation["parameters"].as_array_mut() {
        let same = |p: &Value| {
            let name = |v: &Value| v["name"].as_str().unwrap_or_default().to_ascii_lowercase();
            name(p) == name(parameter) && p["in"] == parameter["in"]
        };
        if !all.iter().any(same) {
            all.push(parameter.clone());
        }
    }
}

fn idempotency_parameter() -> Value {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": false,
        "description": "A fresh UUID for each thing to create; the same one when the request is sent again. It is then done once, \
                        and the first answer is given again with `Idempotent-Replayed: true`.",
        // Visible ASCII without quote, comma and backslash.
        "schema": { "type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS, "pattern": r"^[!#-+\--\[\]-~]+$" },
    })
}

fn problem_content() -> Value {
    json!({ PROBLEM_JSON: { "schema": { "$ref": "#/components/schemas/Problem" } } })
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": { "type": "string", "format": "uri-reference", "description": "The page of the code." },
            "title": { "type": "string", "description": "One sentence that fits every occurrence." },
            "status": { "type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status." },
            "code": { "type": "string", "pattern": "^[A-Z][A-Z0-9_]*$", "description": "Stable: what programs look at." },
            "detail": { "type": "string", "description": "What happened here, and what to do." },
            "instance": { "type": "string", "description": "The id of the request, as in `Request-Id` and the log." },
            "errors": {
                "type": "array",
                "items": { "$ref": "#/components/schemas/ProblemField" },
                "description": "What was wrong, by field.",
            },
        },
    })
}

fn problem_field_schema() -> Value {
    json!({
        "type": "object",
        "description": "One thing that is wrong.",
        "required": ["detail"],
        "properties": {
            "pointer": { "type": "string", "description": "Where in the body: a JSON pointer as a fragment (RFC 6901)." },
            "parameter": { "type": "string", "description": "Or which part of the query, path or headers." },
            "detail": { "type": "string", "description": "What is wrong and what would be right." },
        },
    })
}

/// `Problem400` and its like under `#/components/responses/`.
fn shared_responses() -> Value {
    let rows = [
        (Kind::Invalid, "The request cannot be understood or breaks a rule."),
        (Kind::Unauthenticated, "No API key, or one that does not hold."),
        (Kind::Forbidden, "The key lacks the scope."),
        (Kind::NotFound, "No such thing in this project."),
        (Kind::Conflict, "The state forbids it now, or the first request with this Idempotency-Key still runs."),
        (Kind::TooLarge, "The body is larger than the server takes."),
        (Kind::UnsupportedMedia, "The body has a content type that is not taken."),
        (Kind::Unprocessable, "Understood, but cannot be done; or the Idempotency-Key was used with another request."),
        (Kind::Limited, "Past a rate or quota."),
        (Kind::Internal, "Something went wrong on our side."),
        (Kind::Unavailable, "Overloaded, or something that is needed is down."),
        (Kind::Timeout, "The answer did not start before the deadline."),
    ];
    let mut out = Map::new();
    for (kind, description) in rows {
        let mut response = json!({ "description": description, "content": problem_content() });
        if matches!(kind, Kind::Conflict | Kind::Limited | Kind::Unavailable) {
            response["headers"] = json!({ "Retry-After": {
                "description": "Seconds to wait before the next try, where that helps.",
                "schema": { "type": "integer", "minimum": 1 },
            }});
        }
        out.insert(format!("Problem{}", problem::status(kind).as_u16()), response);
    }
    Value::Object(out)
}
