//! Secrets come from every layer or from files, and are printed by none.

use std::path::Path;

use kernel::{
    Secret,
    config::{ConfigError, Origin, Section as _},
};

use crate::config::{DatabaseConfig, build};

const URL: &str = "postgres://app:hunter2@db/x";

fn load(file: &str, env: &[(&str, &str)], set: &[&str]) -> (DatabaseConfig, Origin) {
    let settings = build(file, env, set).unwrap();
    let origin = settings.effective().into_iter().find(|e| e.key == "database.url").unwrap().origin;
    (DatabaseConfig::load(&settings).unwrap(), origin)
}

fn secret_file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

#[test]
fn a_secret_file_holds_the_value_in_its_first_line() {
    for text in [URL.to_owned(), format!("{URL}\n"), format!("{URL}\r\nand more\n"), format!("  {URL}  \n")] {
        let (_folder, path) = secret_file(&text);
        for (file, env, set) in [
            (format!("[database]\nurl_file = {path:?}"), None, None),
            (String::new(), Some(("MAINSTAY_DATABASE_URL_FILE", path.as_str())), None),
            (String::new(), None, Some(format!("database.url_file={path}"))),
        ] {
            let set: Vec<_> = set.as_deref().into_iter().collect();
            let (config, origin) = load(&file, &Vec::from_iter(env), &set);
            assert_eq!(config.url.expose(), URL);
            assert_eq!(origin, Origin::SecretFile(Path::new(&path).to_owned()));
        }
    }
}

#[test]
fn a_later_layer_wins_whichever_way_it_is_given() {
    let (_folder, path) = secret_file("from-file");
    let by_file = format!("[database]\nurl_file = {path:?}");
    assert_eq!(load(&by_file, &[("MAINSTAY_DATABASE_URL", "direct")], &[]).0.url.expose(), "direct");
    let direct = "[database]\nurl = \"direct\"";
    assert_eq!(load(direct, &[("MAINSTAY_DATABASE_URL_FILE", &path)], &[]).0.url.expose(), "from-file");
    assert_eq!(load(direct, &[("MAINSTAY_DATABASE_URL_FILE", &path)], &["database.url=set"]).0.url.expose(), "set");
    let none = load(direct, &[("MAINSTAY_DATABASE_URL_FILE", "")], &[]).0;
    assert!(none.url.is_empty(), "an empty path is not set, and still overrides");
}

#[test]
fn both_ways_in_one_place_is_a_mistake() {
    let errors = build("[database]\nurl = \"hunter2\"\nurl_file = \"/x\"", &[], &[]).unwrap_err();
    assert!(errors.iter().any(|e| e.detail.contains("keep one of the two")), "{errors:?}");
    assert_silent(&errors);
    let env = [("MAINSTAY_DATABASE_URL_FILE", "/x"), ("MAINSTAY_DATABASE_URL", "hunter2")];
    assert_silent(&build("", &env, &[]).unwrap_err());
}

#[test]
fn a_secret_file_that_holds_nothing_is_refused() {
    for text in ["", "\n", "   \nsecond line"] {
        let (_folder, path) = secret_file(text);
        let errors = build("", &[("MAINSTAY_DATABASE_URL_FILE", &path)], &[]).unwrap_err();
        assert!(errors[0].detail.contains("first line is empty"), "{errors:?}");
    }
    let errors = build("", &[("MAINSTAY_DATABASE_URL_FILE", "/no/such/file")], &[]).unwrap_err();
    assert!(errors[0].detail.contains("/no/such/file"), "{errors:?}");
    assert!(errors[0].key == "database.url_file", "{errors:?}");
}

#[test]
fn only_secrets_take_a_file() {
    let errors = build("[database]\npool_size_file = \"/x\"", &[], &[]).unwrap_err();
    assert_eq!(errors[0].key, "database.pool_size_file");
}

#[test]
fn a_secret_is_taken_byte_for_byte() {
    for text in ["1.10", "0x10", "1_000", "\"quoted\"", "[1]", "true", "a=b", "p@ss:w/ö#"] {
        assert_eq!(load("", &[("MAINSTAY_DATABASE_URL", text)], &[]).0.url.expose(), text);
        assert_eq!(load("", &[], &[&format!("database.url={text}")]).0.url.expose(), text);
    }
}

fn assert_silent(errors: &[ConfigError]) {
    let shown = errors.iter().fold(String::new(), |out, e| out + &format!("{e} {e:?}\n"));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn no_mistake_prints_a_secret() {
    // The file cannot be parsed on, after or before the line of the secret.
    for file in [
        "[database]\nurl = \"hunter2",
        "[database]\nurl = hunter2",
        "[database]\nurl = 'hunter2' x",
        "[database]\nurl = \"hunter2\"\nurl = \"hunter2\"",
        "[database]\nurl = \"\\hunter2\"",
        "[database\nurl = \"hunter2\"",
        "[database]\nurl = \"hunter2\"\n= 1",
        "[database]\nurl = \"\"\"hunter2",
    ] {
        assert_silent(&build(file, &[], &[]).unwrap_err());
    }
    // The wrong type, the wrong name, no name.
    for file in ["[database]\nurl = [\"hunter2\"]", "[database]\nurl = { a = \"hunter2\" }"] {
        assert_silent(&DatabaseConfig::load(&build(file, &[], &[]).unwrap()).unwrap_err());
    }
    assert_silent(&build("[database]\nurll = \"hunter2\"\n[databse]\nurl = \"hunter2\"", &[], &[]).unwrap_err());
    assert_silent(&build("", &[("MAINSTAY_DATABASE_URLL", "hunter2")], &[]).unwrap_err());
    assert_silent(
        &build("", &[], &["database.urll=hunter2", "database.url:hunter2", "database.url hunter2"]).unwrap_err(),
    );
}

#[test]
fn no_way_of_looking_prints_a_secret() {
    let set = format!("database.url={URL}");
    let settings = build("", &[], &[&set]).unwrap();
    let config = DatabaseConfig::load(&settings).unwrap();
    assert_eq!(config.url.expose(), URL);
    let shown = format!("{config:?} {:?} {} {:?}", settings.effective(), settings.render(), config.url);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(format!("{:?} {:?}", Secret::new("x"), Secret::default()), "Secret(…) Secret(unset)");
    let value = |s: &kernel::Settings| s.effective().into_iter().find(|e| e.key == "database.url").unwrap().value;
    assert_eq!(value(&settings), "\"…\"");
    assert_eq!(value(&build("", &[], &[]).unwrap()), "\"\"", "one can see that it is not set");
    let debug = format!("{settings:?}");
    assert!(!debug.contains("hunter2"), "{debug}");
}
