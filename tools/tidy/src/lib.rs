//! Proves the rules of the house: what imports what, which doors a room has, where SQL stands, and that the papers say what the code says.
//!
//! Rules are functions over a [`House`], a plain picture of the workspace, so each can be broken in a test by changing the
//! picture. [`check`] reads the real one and runs all of them.

mod house;
mod lexer;
pub mod papers;
mod rules;

use std::{fmt, path::Path};

pub use house::{Crate, House, Import};
pub use rules::{RULES, Rule};

/// Where a rule is broken, and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// File, perhaps with a line, or crate.
    pub place: String,
    /// What is wrong and what would be right.
    pub detail: String,
}

impl Finding {
    pub(crate) fn new(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { place: place.into(), detail: detail.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.detail)
    }
}

/// Runs every rule over the workspace at `root`: each with what it found.
pub fn check(root: &Path) -> Result<Vec<(&'static Rule, Vec<Finding>)>, String> {
    let house = House::read(root)?;
    Ok(RULES.iter().map(|rule| (rule, (rule.run)(&house))).collect())
}

/// The workspace that this crate was built in.
pub fn workspace_root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest)
}
