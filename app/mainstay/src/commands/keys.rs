//! `mainstay keys …`: API keys of a running server.

use access::{Access, NewKey, Principal};
use identity::Scopes;
use kernel::Stage;
use serde_json::{Value, json};

use super::{
    client::{Client, segment},
    serve::Failed,
    state::State,
};
use crate::{
    cli::{ConfigArgs, KeysArgs, KeysCommand},
    output::{line, note, table},
};

/// Runs one of the commands that talk to a server; `Recover` is handled before, since it opens the data itself.
pub(crate) fn run(args: &KeysArgs) -> Result<(), String> {
    let client = Client::new(&args.client);
    let as_json = args.client.json;
    let created = |answer: &Value| {
        if as_json {
            line(answer);
        } else {
            line(answer["secret"].as_str().unwrap_or_default());
            note("this is shown once: keep it where secrets are kept");
        }
    };
    match &args.command {
        KeysCommand::Create { name, scopes, expires_at } => {
            let mut body = json!({ "name": name, "scopes": scopes });
            if let Some(at) = expires_at {
                body["expires_at"] = json!(at);
            }
            created(&client.call("POST", "/v1/keys", Some(&body))?);
        }
        KeysCommand::List => {
            let mut items = Vec::new();
            let mut path = "/v1/keys?limit=200".to_owned();
            loop {
                let page = client.call("GET", &path, None)?;
                items.extend(page["items"].as_array().cloned().unwrap_or_default());
                let Some(next) = page["next_cursor"].as_str() else { break };
                path = format!("/v1/keys?limit=200&cursor={}", segment(next));
            }
            if as_json {
                line(json!(items));
            } else {
                let rows: Vec<_> = items.iter().map(row).collect();
                line(table(&["ID", "NAME", "PROJECT", "SCOPES", "STATE", "EXPIRES", "LAST USED"], &rows));
            }
        }
        KeysCommand::Rotate { id, overlap_seconds } => {
            let path = format!("/v1/keys/{}/rotate", segment(id));
            created(&client.call("POST", &path, Some(&json!({ "overlap_seconds": overlap_seconds })))?);
        }
        KeysCommand::Revoke { id } => {
            client.call("DELETE", &format!("/v1/keys/{}", segment(id)), None)?;
            if as_json { line(json!({ "revoked": id })) } else { note(format!("revoked {id}")) }
        }
        KeysCommand::Recover { .. } => {}
    }
    Ok(())
}

fn row(key: &Value) -> Vec<String> {
    let text = |name: &str| key[name].as_str().unwrap_or("-").to_owned();
    let scopes = key["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    vec![text("id"), text("name"), text("project"), scopes, text("state"), text("expires_at"), text("last_used_at")]
}

/// Makes a new admin key straight in the database: for whoever can read the data, when every key was lost.
pub(crate) async fn recover(args: &ConfigArgs) -> Result<(), Failed> {
    let state = State::load(args)?;
    let db = state.open().await?;
    let options = access::Options { config: state.config.access.clone(), ..access::Options::default() };
    let blocks = state.lifecycle.tasks(Stage::Blocks);
    let issued = async {
        let (access, first) = Access::start(db, options, state.clock.clone(), state.rng.clone(), &blocks).await?;
        if let Some(first) = first {
            return Ok(first);
        }
        let new = NewKey { name: "recovered admin".to_owned(), scopes: Scopes::everything(), expires_at: None };
        access.create_key(&Principal::system(), &new, None).await
    };
    let issued: access::error::Result<access::Issued> = issued.await;
    state.close().await;
    line(issued.map_err(|e| e.to_string())?.text.expose());
    note("this is shown once: keep it where secrets are kept");
    Ok(())
}
