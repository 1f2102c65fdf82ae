//! How many links a project may create.

use std::time::Duration;

use kernel::{Clock, Problem, ProjectId};
use memory::{Key, Memory, OnDown, Space, Use};

use crate::error::Error;

/// While Redis is away every node counts for itself: a project may then create up to the limit on each.
const CREATIONS: Use = Use { name: "shortener.creations", on_down: OnDown::BoundedLocal };
const WINDOW: Duration = Duration::from_mins(1);

/// A fixed window of a minute, counted in the memory plane over all nodes. Around the turn of a minute up to twice the limit may
/// pass in 60 seconds.
#[derive(Debug)]
pub(crate) struct CreationLimit {
    space: Space,
    clock: Clock,
    per_minute: u64,
}

impl CreationLimit {
    pub(crate) fn new(memory: &Memory, clock: Clock, per_minute: u64) -> Self {
        Self { space: memory.with(CREATIONS), clock, per_minute }
    }

    /// Counts one creation, or refuses it.
    pub(crate) async fn take(&self, project: &ProjectId) -> Result<(), Error> {
        if self.per_minute == 0 {
            return Ok(());
        }
        let now = self.clock.now();
        let window = now.floor(WINDOW);
        let key = Key::new(project, "shortener", ["creations".to_owned(), window.as_millis().to_string()]);
        let count = self.space.increment(&key, 1, Some(WINDOW * 2)).await.map_err(Problem::from)?;
        if u64::try_from(count).unwrap_or(0) <= self.per_minute {
            return Ok(());
        }
        Err(Error::RateLimited { limit_per_minute: self.per_minute, retry_after: window.plus(WINDOW).since(now) })
    }
}
