//! Configuration: `mainstay.toml` < environment < `--set`, every key documented, nothing unknown accepted.
//!
//! A room declares its section with [`section!`]; the composition root lists the sections in a [`Settings`] build. Layers:
//!
//! 1. the default in the declaration;
//! 2. `[section]` `key = …` in the file;
//! 3. `MAINSTAY_SECTION_KEY` in the environment (upper case, `.` and `-` as `_`);
//! 4. `--set section.key=value`.
//!
//! A [`Secret`] key `key` also takes `key_file`, a path (from the working directory) whose first line is the value. Secrets are
//! never printed, not even where the configuration is wrong. Setting both ways in one layer is refused.
//!
//! Text from the environment and `--set` is taken as it stands for text, sizes, durations, addresses and paths (a quoted TOML
//! string is unquoted, except for secrets); for numbers, booleans and lists it is read as TOML. A list may also be written
//! `a,b,c`.

mod render;
mod value;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

/// What a configuration key holds before it is read: a TOML value.
pub use toml::Value;

pub use render::{KeyRow, markdown, rows};
use value::default_value;
pub use value::{ConfigValue, Secret};

/// One documented key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Name inside its section.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Its type in words.
    pub kind: &'static str,
    /// Its unit or form; may be empty.
    pub unit: &'static str,
    /// Its default, as it would stand in the file.
    pub default: &'static str,
    /// Whether the value must never be shown.
    pub secret: bool,
    /// Whether text from the environment or `--set` is taken as it stands.
    pub text: bool,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The declaration.
    Default,
    /// The file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// `--set`.
    Set,
    /// The file that a `…_file` key named.
    SecretFile(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Set => f.write_str("--set"),
            Self::SecretFile(path) => write!(f, "secret file {}", path.display()),
        }
    }
}

/// A declared section.
pub trait Section: Sized {
    /// Its name in the file.
    const NAME: &'static str;
    /// Its keys.
    const KEYS: &'static [Key];
    /// Reads it.
    fn load(settings: &Settings) -> Result<Self, Vec<ConfigError>>;
}

/// One thing that is wrong in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// `section.key`.
    pub key: String,
    /// Where the value came from.
    pub origin: Origin,
    /// What is wrong and what would be right.
    pub detail: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.key, self.origin, self.detail)
    }
}

impl std::error::Error for ConfigError {}

#[derive(Clone)]
struct Entry {
    value: Value,
    origin: Origin,
}

/// Where the layers come from. It holds secrets as they were given, so it is never printed.
#[derive(Default)]
pub struct Sources<'a> {
    /// `mainstay.toml`: its path and text.
    pub file: Option<(PathBuf, String)>,
    /// The environment, as `std::env::vars()` gives it.
    pub env: Vec<(String, String)>,
    /// `--set section.key=value`, in order.
    pub set: &'a [String],
}

impl fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources(…)")
    }
}

/// The merged layers, checked against the declared sections.
#[derive(Clone)]
pub struct Settings {
    sections: Vec<(&'static str, &'static [Key])>,
    entries: BTreeMap<String, Entry>,
}

/// Shows what [`Settings::effective`] shows.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.effective()).finish()
    }
}

/// One line of `mainstay check-config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// `section.key`.
    pub key: String,
    /// As it would stand in the file; `"…"` for a secret that is set.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

const ENV_PREFIX: &str = "MAINSTAY_";
/// Environment variables that are not configuration keys.
const ENV_OTHER: &[&str] = &["MAINSTAY_CONFIG", "MAINSTAY_URL", "MAINSTAY_KEY", "MAINSTAY_CONFORMANCE_DIR"];

impl Settings {
    /// Merges the layers. Every error is collected, so that one run shows them all.
    pub fn build(sections: &[(&'static str, &'static [Key])], sources: &Sources<'_>) -> Result<Self, Vec<ConfigError>> {
        let mut this = Self { sections: sections.to_vec(), entries: BTreeMap::new() };
        let mut errors = Vec::new();
        if let Some((path, text)) = &sources.file {
            this.read_file(path, text, &mut errors);
        }
        for (name, value) in &sources.env {
            if let Some(rest) = name.strip_prefix(ENV_PREFIX)
                && !ENV_OTHER.contains(&name.as_str())
            {
                let origin = Origin::Env(name.clone());
                match this.key_of_env(rest) {
                    Some(key) => this.put_text(key, value, origin, &mut errors),
                    None => errors.push(this.unknown(name, origin)),
                }
            }
        }
        for assignment in sources.set {
            match assignment.split_once('=') {
                Some((key, value)) => {
                    let key = key.trim();
                    if this.is_known(key) {
                        this.put_text(key.to_owned(), value.trim(), Origin::Set, &mut errors);
                    } else {
                        errors.push(this.unknown(key, Origin::Set));
                    }
                }
                None => errors.push(ConfigError {
                    // What follows the name may be a secret with a mistyped `=`.
                    key: assignment.chars().take_while(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect(),
                    origin: Origin::Set,
                    detail: "expected section.key=value".to_owned(),
                }),
            }
        }
        this.read_secret_files(&mut errors);
        if errors.is_empty() { Ok(this) } else { Err(errors) }
    }

    fn put_text(&mut self, key: String, text: &str, origin: Origin, errors: &mut Vec<ConfigError>) {
        let secret_file = key.strip_suffix("_file").and_then(|base| self.key(base)).is_some_and(|k| k.secret);
        let value = match self.key(&key) {
            Some(k) if k.secret => Value::String(text.to_owned()),
            Some(k) if k.text => value::unquoted(text),
            None if secret_file => value::unquoted(text),
            _ => value::text_value(text),
        };
        self.put(key, value, origin, errors);
    }

    fn put(&mut self, key: String, value: Value, origin: Origin, errors: &mut Vec<ConfigError>) {
        // A later layer that sets a secret one way overrides an earlier one that set it the other way.
        let other = match key.strip_suffix("_file") {
            Some(base) if self.key(base).is_some_and(|k| k.secret) => Some(base.to_owned()),
            _ if self.key(&key).is_some_and(|k| k.secret) => Some(format!("{key}_file")),
            _ => None,
        };
        if let Some(other) = other
            && let Some(before) = self.entries.remove(&other)
            && std::mem::discriminant(&before.origin) == std::mem::discriminant(&origin)
        {
            let detail = format!("{other} is set in the same place; keep one of the two");
            errors.push(ConfigError { key: key.clone(), origin: origin.clone(), detail });
        }
        self.entries.insert(key, Entry { value, origin });
    }

    fn read_file(&mut self, path: &Path, text: &str, errors: &mut Vec<ConfigError>) {
        let origin = Origin::File(path.to_path_buf());
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(e) => {
                // The message of the parser quotes the line, which may hold a secret: name the place alone.
                let at = e.span().map_or(0, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
                let detail = format!("not TOML at line {at}: {}", e.message());
                errors.push(ConfigError { key: path.display().to_string(), origin, detail });
                return;
            }
        };
        for (section, value) in table {
            if !self.sections.iter().any(|(name, _)| *name == section) {
                errors.push(self.unknown(&section, origin.clone()));
                continue;
            }
            let Value::Table(keys) = value else {
                let detail = format!("expected a table: [{section}]");
                errors.push(ConfigError { key: section, origin: origin.clone(), detail });
                continue;
            };
            for (key, value) in keys {
                let full = format!("{section}.{key}");
                if self.is_known(&full) {
                    self.put(full, value, origin.clone(), errors);
                } else {
                    errors.push(self.unknown(&full, origin.clone()));
                }
            }
        }
    }

    fn read_secret_files(&mut self, errors: &mut Vec<ConfigError>) {
        let names: Vec<String> = self.names().filter(|(_, k)| k.secret).map(|(n, _)| n).collect();
        for name in names {
            let Some(entry) = self.entries.get(&format!("{name}_file")).cloned() else { continue };
            let path = PathBuf::from(entry.value.as_str().unwrap_or_default());
            // `…_file = ""` stands for "not set", as everywhere.
            if path.as_os_str().is_empty() {
                continue;
            }
            let outcome = std::fs::read_to_string(&path).map_err(|e| e.to_string()).and_then(|text| {
                let line = text.lines().next().unwrap_or_default().trim();
                if line.is_empty() { Err("its first line is empty".to_owned()) } else { Ok(line.to_owned()) }
            });
            match outcome {
                Ok(line) => {
                    let value = Value::String(line);
                    self.entries.insert(name, Entry { value, origin: Origin::SecretFile(path) });
                }
                Err(reason) => errors.push(ConfigError {
                    key: format!("{name}_file"),
                    origin: entry.origin,
                    detail: format!("cannot read {}: {reason}", path.display()),
                }),
            }
        }
    }

    fn names(&self) -> impl Iterator<Item = (String, &'static Key)> {
        self.sections.iter().flat_map(|(section, keys)| keys.iter().map(move |k| (format!("{section}.{}", k.name), k)))
    }

    fn key(&self, full: &str) -> Option<&'static Key> {
        self.names().find(|(name, _)| name == full).map(|(_, k)| k)
    }

    fn is_known(&self, full: &str) -> bool {
        self.key(full).is_some() || full.strip_suffix("_file").and_then(|base| self.key(base)).is_some_and(|k| k.secret)
    }

    fn key_of_env(&self, rest: &str) -> Option<String> {
        self.names()
            .flat_map(|(name, k)| {
                let file = k.secret.then(|| format!("{name}_file"));
                [Some(name), file].into_iter().flatten()
            })
            .find(|name| env_name(name).strip_prefix(ENV_PREFIX) == Some(rest))
    }

    fn unknown(&self, given: &str, origin: Origin) -> ConfigError {
        let is_env = matches!(origin, Origin::Env(_));
        let is_section = !is_env && !given.contains('.');
        let candidates: Vec<String> = if is_section && matches!(origin, Origin::File(_)) {
            self.sections.iter().map(|(s, _)| (*s).to_owned()).collect()
        } else {
            self.names().map(|(n, _)| if is_env { env_name(&n) } else { n }).collect()
        };
        let nearest = candidates
            .into_iter()
            .map(|c| (strsim::damerau_levenshtein(given, &c), c))
            .min()
            .filter(|(d, _)| *d <= given.len().max(3) / 2);
        let detail = match nearest {
            Some((_, name)) => format!("no such {}; did you mean {name}?", if is_section { "section" } else { "key" }),
            None => "no such key; `mainstay check-config --keys` lists them".to_owned(),
        };
        ConfigError { key: given.to_owned(), origin, detail }
    }

    /// Reads one declared key; used by [`section!`].
    pub fn read<T: ConfigValue>(&self, section: &'static str, key: &Key, errors: &mut Vec<ConfigError>) -> Option<T> {
        let full = format!("{section}.{}", key.name);
        let entry = self.entries.get(&full);
        let origin = entry.map_or(Origin::Default, |e| e.origin.clone());
        let outcome = match entry {
            Some(entry) => T::read(&entry.value),
            None => T::read(&default_value(key.default)),
        };
        outcome.map_err(|detail| errors.push(ConfigError { key: full, origin, detail })).ok()
    }

    /// Every key with its effective value and where it came from. Secrets show as `"…"`.
    pub fn effective(&self) -> Vec<Effective> {
        self.names()
            .map(|(name, key)| {
                let entry = self.entries.get(&name);
                let shown = entry.map_or_else(|| key.default.to_owned(), |e| e.value.to_string());
                let value = if key.secret && shown != "\"\"" { "\"…\"".to_owned() } else { shown };
                Effective { key: name, value, origin: entry.map_or(Origin::Default, |e| e.origin.clone()) }
            })
            .collect()
    }
}

/// The environment variable of `section.key`.
pub fn env_name(full: &str) -> String {
    let upper: String = full.chars().map(|c| if c == '.' || c == '-' { '_' } else { c.to_ascii_uppercase() }).collect();
    format!("{ENV_PREFIX}{upper}")
}

/// Declares a section with its keys, their documentation, units and defaults (as TOML text), and how it loads.
///
/// ```
/// kernel::section! {
///     /// The API listener.
///     pub struct ApiConfig("api") {
///         /// Address to listen on.
///         listen: std::net::SocketAddr = "\"127.0.0.1:7070\"", "host:port";
///         /// Longest request body taken.
///         body_limit: kernel::ByteSize = "\"1MiB\"", "bytes";
///     }
/// }
/// ```
#[macro_export]
macro_rules! section {
    ($(#[doc = $sdoc:literal])* $vis:vis struct $name:ident($section:literal) {
        $($(#[doc = $doc:literal])+ $key:ident : $ty:ty = $default:literal, $unit:literal;)*
    }) => {
        $(#[doc = $sdoc])*
        #[derive(Debug, Clone)]
        $vis struct $name {
            $($(#[doc = $doc])+ pub $key: $ty,)*
        }

        impl $crate::config::Section for $name {
            const NAME: &'static str = $section;
            const KEYS: &'static [$crate::config::Key] = &[$($crate::config::Key {
                name: stringify!($key),
                doc: concat!($($doc),+),
                kind: <$ty as $crate::config::ConfigValue>::KIND,
                unit: $unit,
                default: $default,
                secret: <$ty as $crate::config::ConfigValue>::SECRET,
                text: <$ty as $crate::config::ConfigValue>::TEXT,
            }),*];

            fn load(settings: &$crate::Settings) -> Result<Self, Vec<$crate::config::ConfigError>> {
                let mut errors = Vec::new();
                let mut keys = <Self as $crate::config::Section>::KEYS.iter();
                $(let $key = keys.next().and_then(|k| settings.read::<$ty>($section, k, &mut errors));)*
                match ($($key,)*) {
                    ($(Some($key),)*) if errors.is_empty() => Ok(Self { $($key,)* }),
                    _ => Err(errors),
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                use $crate::config::Section as _;
                $crate::config::defaults::<Self>()
            }
        }
    };
}

/// A section with every key at its default.
///
/// # Panics
/// When a declared default does not read as its own type, which a test of the declaring crate would show.
#[allow(clippy::panic, reason = "a wrong default is a mistake in the source, not a state of the program")]
pub fn defaults<S: Section>() -> S {
    let settings = Settings { sections: vec![(S::NAME, S::KEYS)], entries: BTreeMap::new() };
    S::load(&settings).unwrap_or_else(|e| panic!("defaults of [{}]: {e:?}", S::NAME))
}
