//! Who asks.

use std::sync::Arc;

use kernel::ProjectId;

use crate::{KeyId, Scopes};

/// Who asks, once that is known, and in which project. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The project that this request works in.
    pub project: ProjectId,
    /// The key that was shown; `None` for what needs none (`--dev`, the server itself).
    pub key_id: Option<KeyId>,
    /// What its owner called it.
    pub name: Arc<str>,
    /// What it may do.
    pub scopes: Scopes,
    /// Whether it may choose the project: it holds `*`.
    pub is_admin: bool,
}

impl Principal {
    /// A principal of a key.
    pub fn of_key(project: ProjectId, key_id: KeyId, name: impl Into<Arc<str>>, scopes: Scopes) -> Self {
        let is_admin = scopes.is_everything();
        Self { project, key_id: Some(key_id), name: name.into(), scopes, is_admin }
    }

    /// Who asks with `--dev`: everything, without a key.
    pub fn dev() -> Self {
        Self::without_key("dev")
    }

    /// The server itself, for what it does on its own.
    pub fn system() -> Self {
        Self::without_key("system")
    }

    fn without_key(name: &str) -> Self {
        Self {
            project: ProjectId::default_project(),
            key_id: None,
            name: name.into(),
            scopes: Scopes::everything(),
            is_admin: true,
        }
    }

    /// Whether it may do `verb` on `system`.
    pub fn allows(&self, system: &str, verb: &str) -> bool {
        self.scopes.allows(system, verb)
    }

    /// The same in another project; `None` unless it may choose, or is there already.
    pub fn in_project(&self, project: &ProjectId) -> Option<Self> {
        (self.is_admin || self.project == *project).then(|| Self { project: project.clone(), ..self.clone() })
    }

    /// How it is named in the audit log and in logs: the key's id, or its name where there is no key.
    pub fn actor(&self) -> String {
        self.key_id.map_or_else(|| self.name.to_string(), |id| id.to_string())
    }
}
