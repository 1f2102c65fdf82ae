use crate::{Finding, House};

/// Each is a file or, where it grew, a file with a folder of the same name.
const DOORS: [&str; 11] =
    ["lib", "config", "error", "model", "ports", "store", "service", "worker", "http", "console", "telemetry"];

/// Protocols of the fields, each of which may be a door of the room that speaks it.
const PROTOCOLS: [&str; 17] = [
    "proxy",
    "probe",
    "dns",
    "l4",
    "tls",
    "grpc",
    "resp",
    "ofrep",
    "unleash",
    "faktory",
    "tus",
    "s3",
    "websocket",
    "sse",
    "smtp",
    "syslog",
    "prometheus",
];

/// Blocks and systems have the known doors, and what belongs to a room.
pub(crate) fn known_doors(house: &House) -> Vec<Finding> {
    let mut found = Vec::new();
    for room in house.rooms() {
        let source = format!("{}/src/", room.folder);
        let mut has_store = false;
        for (path, _) in house.rust_files(&room.folder) {
            let Some(inside) = path.strip_prefix(&source) else { continue };
            let door = inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs");
            has_store |= door == "store";
            let is_known = DOORS.contains(&door) || PROTOCOLS.contains(&door);
            if !is_known {
                let detail = format!(
                    "`{door}` is no door of a room: {}, or a protocol ({})",
                    DOORS.join(", "),
                    PROTOCOLS.join(", ")
                );
                found.push(Finding::new(path, detail));
            }
        }
        let has = |tail: &str| house.files.contains_key(&format!("{}/{tail}", room.folder));
        if !has("tests/it/main.rs") {
            found.push(Finding::new(&room.folder, "has no tests/it/main.rs"));
        }
        let migrations = format!("{}/migrations/", room.folder);
        if has_store && !house.files.keys().any(|path| path.starts_with(&migrations)) {
            found.push(Finding::new(&room.folder, "has a store and no migrations/"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::known_doors as rule;
    use crate::rules::fixture::broken;

    #[test]
    fn an_unknown_door_and_missing_parts_are_found() {
        let text = broken(rule, |house| {
            house.files.insert("systems/shortener/src/utils.rs".to_owned(), String::new());
            house.files.insert("systems/shortener/src/helpers/a.rs".to_owned(), String::new());
            house.files.insert("systems/shortener/src/model/code.rs".to_owned(), String::new());
            house.files.insert("systems/shortener/src/resp.rs".to_owned(), String::new());
        });
        assert!(text.contains("`utils`") && text.contains("`helpers`"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
        let text = broken(rule, |house| {
            house.files.remove("systems/shortener/tests/it/main.rs");
            house.files.retain(|path, _| !path.contains("/migrations/"));
        });
        assert!(text.contains("no tests/it/main.rs") && text.contains("no migrations/"), "{text}");
    }
}
