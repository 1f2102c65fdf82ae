use std::path::PathBuf;

use kernel::{
    Settings,
    config::{Section as _, Sources, markdown, rows},
};

use crate::config::{ApiConfig, SECTIONS, build};

#[test]
fn check_config_prints_a_file_with_origins() {
    let settings = build("[api]\nname = \"a\"", &[("MAINSTAY_API_TIMEOUT", "2s")], &["database.url=hunter2"]).unwrap();
    let text = settings.render();
    let squeezed: Vec<_> = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        squeezed,
        [
            "[api]",
            "listen = \"127.0.0.1:7070\" # default",
            "body_limit = \"1MiB\" # default",
            "timeout = \"2s\" # environment MAINSTAY_API_TIMEOUT",
            "max_in_flight = 1024 # default",
            "compression = true # default",
            "cors_origins = [] # default",
            "name = \"a\" # file mainstay.toml",
            "certificates = \"\" # default",
            "",
            "[database]",
            "url = \"…\" # --set",
            "pool_size = 16 # default",
        ]
    );
    let columns: Vec<_> = text.lines().filter_map(|l| l.find("  # ").map(|at| l[..at].chars().count())).collect();
    assert!(columns.iter().all(|c| *c == columns[0]), "origins stand below one another:\n{text}");
}

#[test]
fn what_is_printed_reads_back_to_the_same() {
    let first = build("", &[], &["api.name=a # \"b\"", "api.cors_origins=x,y", "api.max_in_flight=7"]).unwrap();
    let file = Some((PathBuf::from("again.toml"), first.render()));
    let again = Settings::build(SECTIONS, &Sources { file, ..Sources::default() }).unwrap();
    let (a, b) = (ApiConfig::load(&first).unwrap(), ApiConfig::load(&again).unwrap());
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
}

#[test]
fn rows_list_every_key_in_order() {
    let rows = rows(SECTIONS);
    assert_eq!(rows.len(), 10);
    let limit = &rows[1];
    assert_eq!(limit.key, "api.body_limit");
    assert_eq!(limit.env, "MAINSTAY_API_BODY_LIMIT");
    assert_eq!((limit.kind, limit.unit, limit.default), ("size", "bytes", "\"1MiB\""));
    assert_eq!(limit.doc, "Longest request body taken. Longer ones are refused with 413.");
    assert!(rows.iter().all(|r| !r.doc.is_empty()));
    assert_eq!(rows.iter().filter(|r| r.secret).map(|r| r.key.as_str()).collect::<Vec<_>>(), ["database.url"]);
}

#[test]
fn markdown_has_a_table_for_each_section() {
    let text = markdown(SECTIONS);
    assert!(text.starts_with("# Configuration\n"));
    for line in [
        "## [api]",
        "| key | default | form | what it does |",
        "| `body_limit` | `\"1MiB\"` | size: bytes | Longest request body taken. Longer ones are refused with 413. |",
        "| `compression` | `true` | boolean | Whether answers are compressed. |",
        "## [database]",
        "| `url` | `\"\"` | secret: postgres://… | Where PostgreSQL is. |",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
    }
    assert!(text.ends_with("|\n"));
}

mod odd {
    kernel::section! {
        /// Odd text.
        pub(super) struct Odd("odd") {
            /// A pipe | in a doc.
            level: String = "\"a|b\"", "a|b";
        }
    }
}

#[test]
fn a_pipe_does_not_end_its_cell() {
    let text = markdown(&[(odd::Odd::NAME, odd::Odd::KEYS)]);
    assert!(text.contains(r#"| `level` | `"a\|b"` | string: a\|b | A pipe \| in a doc. |"#), "{text}");
    assert_eq!(odd::Odd::default().level, "a|b");
}
