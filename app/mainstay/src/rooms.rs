//! The one list of systems. To add one: a crate, its entry here, its lines in `config.rs`, `http.rs` and `house.rs`, a page in `docs/`.

use axum::Router;
use database::Migration;
use identity::Principal;

/// The schema of every room, for commands that open the data without a server.
pub(crate) const MIGRATIONS: &[(&str, &[Migration])] = &[
    ("access", access::MIGRATIONS),
    ("limiter", limiter::MIGRATIONS),
    ("gateway", gateway::MIGRATIONS),
    ("shortener", shortener::MIGRATIONS),
    ("discovery", discovery::MIGRATIONS),
];

/// A group of the console's left rail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Traffic,
    People,
}

impl Group {
    pub(crate) const ALL: [Self; 2] = [Self::Traffic, Self::People];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Traffic => "Traffic",
            Self::People => "People",
        }
    }
}

/// A page of a room in the left rail.
pub(crate) struct Page {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    /// Whether it is in the rail of somebody; it refuses the others by itself.
    pub(crate) is_for: fn(&Principal) -> bool,
}

impl Page {
    /// A page for everybody.
    pub(crate) const fn new(name: &'static str, path: &'static str) -> Self {
        Self { name, path, is_for: |_| true }
    }
}

/// A system or block as the house sees it.
pub(crate) struct Room {
    /// Its name in health, metrics and scopes.
    pub(crate) name: &'static str,
    /// Its name for people.
    pub(crate) title: &'static str,
    pub(crate) group: Group,
    pub(crate) pages: &'static [Page],
    pub(crate) api: Router,
    /// Routes outside of the Idempotency-Key layer: those that take files, which it would hold in memory, and those that are asked
    /// too often for it.
    pub(crate) files: Router,
    pub(crate) console: Router,
    pub(crate) openapi: fn() -> utoipa::openapi::OpenApi,
}
