//! `mainstay check-config`: the effective configuration and where each value came from.

use std::path::Path;

use serde_json::json;

use crate::{
    cli::CheckConfigArgs,
    config::{Config, SECTIONS, settings},
    output::{line, table},
};

/// Prints it; every error there is at once when it does not hold.
pub(crate) fn run(args: &CheckConfigArgs) -> Result<(), String> {
    if args.keys {
        keys(args.json);
        return Ok(());
    }
    let told = |errors: Vec<kernel::config::ConfigError>| {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let settings = settings(&args.config).map_err(told)?;
    let config = Config::load(&settings).map_err(told)?;
    if !config.gateway.config_file.is_empty() {
        super::gateway::check_file(Path::new(&config.gateway.config_file))?;
    }
    let effective = settings.effective();
    if args.json {
        let rows: Vec<_> = effective
            .iter()
            .map(|e| json!({ "key": e.key, "value": e.value, "origin": e.origin.to_string() }))
            .collect();
        line(json!(rows));
    } else {
        let rows: Vec<_> = effective.into_iter().map(|e| vec![e.key, e.value, e.origin.to_string()]).collect();
        line(table(&["KEY", "VALUE", "FROM"], &rows));
    }
    Ok(())
}

fn keys(as_json: bool) {
    let all = || SECTIONS.iter().flat_map(|(section, keys)| keys.iter().map(move |k| (section, k)));
    if as_json {
        let rows: Vec<_> = all()
            .map(|(section, k)| {
                json!({ "key": format!("{section}.{}", k.name), "type": k.kind, "unit": k.unit, "default": k.default,
                        "secret": k.secret, "doc": k.doc.trim() })
            })
            .collect();
        line(json!(rows));
    } else {
        let rows: Vec<_> = all()
            .map(|(section, k)| {
                vec![format!("{section}.{}", k.name), k.kind.to_owned(), k.default.to_owned(), k.doc.trim().to_owned()]
            })
            .collect();
        line(table(&["KEY", "TYPE", "DEFAULT", "MEANING"], &rows));
    }
}
