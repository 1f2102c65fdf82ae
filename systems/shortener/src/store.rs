//! The only files that hold SQL.

mod click_log;
mod clicks;
mod days;
mod domains;
mod import_chunks;
mod imports;
mod links;
mod moderation;
mod uses;

use database::Migration;

pub(crate) use click_log::*;
pub use clicks::ProjectTotals;
pub(crate) use clicks::*;
pub(crate) use days::*;
pub use domains::UtmTemplate;
pub(crate) use domains::*;
pub(crate) use import_chunks::*;
pub(crate) use imports::*;
pub(crate) use links::*;
pub use links::{LinkChange, ListFilter};
pub(crate) use moderation::*;
pub use moderation::{LinkBlock, ModeratedLink, Report, TakedownRecord};
pub(crate) use uses::*;

/// The room's numbered steps.
pub static MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "links", sql: include_str!("../migrations/0001_links.sql") },
    Migration { version: 2, name: "clicks", sql: include_str!("../migrations/0002_clicks.sql") },
    Migration { version: 3, name: "imports", sql: include_str!("../migrations/0003_imports.sql") },
    Migration { version: 4, name: "moderation", sql: include_str!("../migrations/0004_moderation.sql") },
];

fn big(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
