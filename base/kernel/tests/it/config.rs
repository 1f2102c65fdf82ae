use std::{net::SocketAddr, path::PathBuf, time::Duration};

use kernel::{
    ByteSize, Secret, Settings,
    config::{ConfigError, Key, Origin, Section, Sources},
};

kernel::section! {
    /// The API listener.
    pub(crate) struct ApiConfig("api") {
        /// Address to listen on.
        listen: SocketAddr = "\"127.0.0.1:7070\"", "host:port";
        /// Longest request body taken.
        /// Longer ones are refused with 413.
        body_limit: ByteSize = "\"1MiB\"", "bytes";
        /// Longest wait for a request.
        timeout: Duration = "\"30s\"", "duration";
        /// Requests at once.
        max_in_flight: u32 = "1024", "requests";
        /// Whether answers are compressed.
        compression: bool = "true", "";
        /// Origins that may read answers.
        cors_origins: Vec<String> = "[]", "origins";
        /// Name shown to clients.
        name: String = "\"mainstay\"", "";
        /// Where certificates are.
        certificates: Option<PathBuf> = "\"\"", "path";
    }
}

kernel::section! {
    /// The database.
    pub(crate) struct DatabaseConfig("database") {
        /// Where PostgreSQL is.
        url: Secret = "\"\"", "postgres://…";
        /// Connections at most.
        pool_size: usize = "16", "connections";
    }
}

pub(crate) const SECTIONS: &[(&str, &[Key])] =
    &[(ApiConfig::NAME, ApiConfig::KEYS), (DatabaseConfig::NAME, DatabaseConfig::KEYS)];

pub(crate) fn build(file: &str, env: &[(&str, &str)], set: &[&str]) -> Result<Settings, Vec<ConfigError>> {
    let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
    let sources = Sources {
        file: Some((PathBuf::from("mainstay.toml"), file.to_owned())),
        env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        set: &set,
    };
    Settings::build(SECTIONS, &sources)
}

fn api(file: &str, env: &[(&str, &str)], set: &[&str]) -> ApiConfig {
    ApiConfig::load(&build(file, env, set).unwrap()).unwrap()
}

fn origin(settings: &Settings, key: &str) -> Origin {
    settings.effective().into_iter().find(|e| e.key == key).unwrap().origin
}

#[test]
fn without_anything_the_declared_defaults_hold() {
    let api = api("", &[], &[]);
    assert_eq!(api.listen, "127.0.0.1:7070".parse().unwrap());
    assert_eq!(api.body_limit, ByteSize::mib(1));
    assert_eq!(api.timeout, Duration::from_secs(30));
    assert_eq!(api.max_in_flight, 1024);
    assert!(api.compression);
    assert_eq!(api.cors_origins, Vec::<String>::new());
    assert_eq!(api.certificates, None);
    assert_eq!(ApiConfig::default().name, api.name, "Default is the same");
}

#[test]
fn file_then_environment_then_set() {
    let file = "[api]\nmax_in_flight = 1\nbody_limit = \"1KiB\"\ntimeout = \"1s\"";
    let env = [("MAINSTAY_API_BODY_LIMIT", "2KiB"), ("MAINSTAY_API_TIMEOUT", "2s"), ("PATH", "/bin")];
    let set = ["api.timeout=3s"];
    let settings = build(file, &env, &set).unwrap();
    let api = ApiConfig::load(&settings).unwrap();
    assert_eq!((api.max_in_flight, api.body_limit, api.timeout), (1, ByteSize::kib(2), Duration::from_secs(3)));
    assert_eq!(origin(&settings, "api.name"), Origin::Default);
    assert_eq!(origin(&settings, "api.max_in_flight"), Origin::File("mainstay.toml".into()));
    assert_eq!(origin(&settings, "api.body_limit"), Origin::Env("MAINSTAY_API_BODY_LIMIT".to_owned()));
    assert_eq!(origin(&settings, "api.timeout"), Origin::Set);
    let last = ApiConfig::load(&build("", &[], &["api.name=a", "api.name=b"]).unwrap()).unwrap();
    assert_eq!(last.name, "b", "of two --set the last holds");
}

#[test]
fn text_is_taken_as_it_stands() {
    for (text, name) in [
        ("1.10", "1.10"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("true", "true"),
        ("[a]", "[a]"),
        ("2026-11-24", "2026-11-24"),
        ("a=b", "a=b"),
        ("", ""),
        ("\"quoted\"", "quoted"),
        ("\"half", "\"half"),
    ] {
        assert_eq!(api("", &[], &[&format!("api.name={text}")]).name, name, "--set {text}");
        assert_eq!(api("", &[("MAINSTAY_API_NAME", text)], &[]).name, name, "environment {text}");
    }
}

#[test]
fn lists_numbers_and_flags_are_read_from_text() {
    for text in [
        "https://a.example,https://b.example",
        "https://a.example, https://b.example",
        "[\"https://a.example\", \"https://b.example\"]",
    ] {
        assert_eq!(
            api("", &[("MAINSTAY_API_CORS_ORIGINS", text)], &[]).cors_origins,
            ["https://a.example", "https://b.example"]
        );
    }
    assert_eq!(api("", &[], &["api.cors_origins="]).cors_origins, Vec::<String>::new());
    assert_eq!(api("", &[], &["api.cors_origins=1.10,2"]).cors_origins, ["1.10", "2"]);
    assert_eq!(api("", &[], &["api.max_in_flight=7"]).max_in_flight, 7);
    assert!(!api("", &[], &["api.compression=false"]).compression);
    assert_eq!(api("", &[], &["api.certificates=/etc/tls"]).certificates, Some(PathBuf::from("/etc/tls")));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name() {
    for (file, env, set, key, says) in [
        ("[api]\ntimeuot = \"1s\"", None, None, "api.timeuot", "did you mean api.timeout?"),
        ("[apy]\ntimeout = \"1s\"", None, None, "apy", "no such section; did you mean api?"),
        ("", Some("MAINSTAY_API_TIMEOT"), None, "MAINSTAY_API_TIMEOT", "did you mean MAINSTAY_API_TIMEOUT?"),
        ("", None, Some("api.bodylimit=1"), "api.bodylimit", "did you mean api.body_limit?"),
        ("", None, Some("timeout=1"), "timeout", "no such key"),
        ("", None, Some("x=1"), "x", "check-config --keys"),
    ] {
        let env: Vec<_> = env.iter().map(|name| (*name, "1")).collect();
        let set: Vec<_> = set.into_iter().collect();
        let errors = build(file, &env, &set).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0].key, key);
        assert!(errors[0].detail.contains(says), "{}", errors[0]);
    }
    assert!(build("", &[("MAINSTAY_CONFIG", "x"), ("MAINSTAYS", "x")], &[]).is_ok(), "not every variable is a key");
}

#[test]
fn a_wrong_value_says_where_it_came_from_and_what_would_be_right() {
    for (text, says) in [
        ("listen=localhost", "127.0.0.1:7070"),
        ("body_limit=1.5MiB", "10MiB"),
        ("timeout=5", "\"5s\""),
        ("max_in_flight=-1", "from 0 to 4294967295"),
        ("max_in_flight=many", "whole number"),
        ("compression=yes", "true or false"),
    ] {
        let settings = build("", &[], &[&format!("api.{text}")]).unwrap();
        let errors = ApiConfig::load(&settings).unwrap_err();
        assert_eq!((errors.len(), &errors[0].origin), (1, &Origin::Set), "{text}");
        assert!(errors[0].detail.contains(says), "{text}: {}", errors[0]);
        assert!(errors[0].to_string().starts_with("api."), "{}", errors[0]);
    }
}

#[test]
fn every_mistake_is_shown_at_once() {
    let errors = build("[api]\na = 1\nb = 2\n[nothing]\n", &[("MAINSTAY_X", "1")], &["c.d=1", "e"]).unwrap_err();
    assert_eq!(errors.len(), 6, "{errors:#?}");
    let settings = build("[api]\ntimeout = 1\nlisten = 2", &[], &[]).unwrap();
    assert_eq!(ApiConfig::load(&settings).unwrap_err().len(), 2);
}

#[test]
fn a_broken_file_names_its_line() {
    let errors = build("[api]\nname = \"x\"\ntimeout = = 1\n", &[], &[]).unwrap_err();
    assert_eq!(errors[0].key, "mainstay.toml");
    assert!(errors[0].detail.contains("line 3"), "{}", errors[0]);
    let errors = build("api = 1", &[], &[]).unwrap_err();
    assert!(errors[0].detail.contains("[api]"), "{}", errors[0]);
}
