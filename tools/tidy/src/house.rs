use std::{collections::BTreeMap, path::Path, process::Command};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// A crate of the workspace.
#[derive(Debug, Clone)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its folder from the root, such as `base/kernel`.
    pub folder: String,
    /// What it imports from this workspace.
    pub imports: Vec<Import>,
}

/// One crate of this workspace that another imports.
#[derive(Debug, Clone)]
pub struct Import {
    /// Its name.
    pub name: String,
    /// Whether only the tests do.
    pub is_for_tests: bool,
}

/// The workspace as the rules see it.
#[derive(Debug, Clone, Default)]
pub struct House {
    /// Its members.
    pub crates: Vec<Crate>,
    /// Every text file that git would keep, by its path from the root.
    pub files: BTreeMap<String, String>,
    /// What must not stand in any file, beside the patterns known to the rules: the folder of this checkout and hosts from the machine's own Cargo settings.
    pub machine: Vec<String>,
}

impl House {
    /// Reads the workspace at `root`.
    pub fn read(root: &Path) -> Result<Self, String> {
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .no_deps()
            .other_options(vec!["--offline".to_owned()])
            .exec()
            .map_err(|e| format!("cargo metadata: {e}"))?;
        let members: Vec<_> = metadata.workspace_packages();
        let names: Vec<&str> = members.iter().map(|p| p.name.as_str()).collect();
        let mut crates = Vec::new();
        for package in &members {
            let folder = package.manifest_path.as_std_path().parent().unwrap_or(root);
            let folder = folder.strip_prefix(&metadata.workspace_root).map_err(|e| e.to_string())?;
            let imports = package
                .dependencies
                .iter()
                .filter(|d| d.path.is_some() && names.contains(&d.name.as_str()))
                .map(|d| Import { name: d.name.clone(), is_for_tests: d.kind == DependencyKind::Development })
                .collect();
            crates.push(Crate { name: package.name.to_string(), folder: folder.display().to_string(), imports });
        }
        Ok(Self { crates, files: read_files(root)?, machine: machine_words(root) })
    }

    /// The Rust files below a folder, with their text.
    pub fn rust_files(&self, folder: &str) -> impl Iterator<Item = (&String, &String)> {
        let prefix = format!("{folder}/");
        self.files.iter().filter(move |(path, _)| path.starts_with(&prefix) && is_rust(path))
    }

    /// Blocks and systems.
    pub fn rooms(&self) -> impl Iterator<Item = &Crate> {
        self.crates.iter().filter(|c| c.folder.starts_with("systems/") || c.folder.starts_with("blocks/"))
    }
}

pub(crate) fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|e| e == "rs")
}

fn read_files(root: &Path) -> Result<BTreeMap<String, String>, String> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|e| format!("git ls-files: {e}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let mut files = BTreeMap::new();
    for path in String::from_utf8_lossy(&output.stdout).split('\0').filter(|p| !p.is_empty()) {
        // A file can be deleted and still in the index; bytes that are no text have no rule.
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            files.insert(path.to_owned(), text);
        }
    }
    Ok(files)
}

fn machine_words(root: &Path) -> Vec<String> {
    let mut words = Vec::new();
    if root.components().count() > 2 {
        words.push(root.display().to_string());
    }
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|h| format!("{h}/.cargo")));
    let settings = home.ok().and_then(|h| std::fs::read_to_string(Path::new(&h).join("config.toml")).ok());
    for rest in settings.unwrap_or_default().split("://").skip(1) {
        let host: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).collect();
        let is_public = ["crates.io", "github.com"].iter().any(|known| host.ends_with(known));
        if host.contains('.') && !host.starts_with("127.") && !is_public {
            words.push(host);
        }
    }
    words
}
