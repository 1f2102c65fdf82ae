//! The nodes of the installation: which are alive, and so which looks after what.
//!
//! Each node counts a number up in the database. Others see that it moves, by their own clocks: no clock is compared with another,
//! and Redis is not needed.
//!
//! - MEMBER-1: a node sees itself always.
//! - MEMBER-2: a node whose number has not moved for [`DEAD_AFTER`] is not seen.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kernel::Rng;

use super::Discovery;
use crate::{error::Result, model, store};

/// How often a node counts up.
pub(crate) const BEAT_INTERVAL: Duration = Duration::from_secs(2);
/// A node whose number has not moved for so long is dead.
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(10);
/// A node that was dead for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);
/// The most nodes there are.
const MAX_NODES: u32 = 1_000;

/// A node that is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Whether it is this one.
    pub is_self: bool,
    /// Whether it cannot keep signs of life right now.
    pub is_blind: bool,
}

#[derive(Debug)]
struct Seen {
    row: store::NodeRow,
    /// By this node's clock.
    moved_at: Duration,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Members {
    /// This node, anew with every start.
    id: String,
    seen: Mutex<HashMap<String, Seen>>,
    /// Those that are alive, by id.
    alive: Mutex<Vec<store::NodeRow>>,
}

impl Members {
    pub(crate) fn new(rng: &Rng) -> Self {
        let id = format!("{:016x}", rng.next_u64());
        Self { id, seen: Mutex::default(), alive: Mutex::default() }
    }

    pub(crate) fn alive(&self) -> Vec<Member> {
        let told = |row: &store::NodeRow| Member {
            name: row.name.clone(),
            is_self: row.node == self.id,
            is_blind: row.is_blind,
        };
        self.lock_alive().iter().map(told).collect()
    }

    /// Whether this node looks after `parts`.
    pub(crate) fn is_mine(&self, parts: &[&str]) -> bool {
        let alive = self.lock_alive();
        let nodes = alive.iter().map(|row| row.node.as_str()).chain(std::iter::once(self.id.as_str()));
        model::owner(nodes, parts) == Some(self.id.as_str())
    }

    fn lock_alive(&self) -> MutexGuard<'_, Vec<store::NodeRow>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the table has; gives those that can be forgotten.
    fn take(&self, rows: Vec<store::NodeRow>, now: Duration) -> Vec<store::NodeRow> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|node, _| rows.iter().any(|row| row.node == *node));
        let (mut alive, mut forgotten) = (Vec::new(), Vec::new());
        for row in rows {
            let known = seen.entry(row.node.clone()).or_insert_with(|| Seen { row: row.clone(), moved_at: now });
            if known.row.beat != row.beat {
                known.moved_at = now;
            }
            known.row = row.clone();
            let still = now.saturating_sub(known.moved_at);
            if row.node == self.id || still < DEAD_AFTER {
                alive.push(row);
            } else if still >= FORGOTTEN_AFTER {
                forgotten.push(row);
            }
        }
        *self.lock_alive() = alive;
        forgotten
    }
}

impl Discovery {
    /// Says that this node runs, and looks which others do, as the background does every two seconds.
    pub async fn beat_node(&self) -> Result<()> {
        let (members, db) = (&self.0.members, &self.0.db);
        let is_blind = self.is_blind();
        store::beat(db, &members.id, &self.0.node_name, is_blind).await?;
        let rows = store::nodes(db, MAX_NODES).await?;
        let others_blind = rows.iter().any(|row| row.is_blind);
        let forgotten = members.take(rows, self.0.clock.monotonic());
        if others_blind && members.alive().iter().any(|member| member.is_blind) {
            self.0.trust.doubt(self.0.clock.monotonic());
        }
        for row in forgotten {
            store::delete_node(db, &row.node, row.beat).await?;
        }
        Ok(())
    }

    /// Takes the row of this node away, as it stops: others take over at once.
    pub async fn leave(&self) {
        // Whatever it says: what it did not delete is noticed to be dead.
        for row in store::nodes(&self.0.db, MAX_NODES).await.unwrap_or_default() {
            if row.node == self.0.members.id {
                drop(store::delete_node(&self.0.db, &row.node, row.beat).await);
            }
        }
    }

    /// Whether this node looks after an instance: probes it, and says when it is dead.
    pub(crate) fn looks_after(&self, project: &str, parts: &[&str]) -> bool {
        let all: Vec<&str> = std::iter::once(project).chain(parts.iter().copied()).collect();
        self.0.members.is_mine(&all)
    }
}
