//! Waiting for changes.

use std::{sync::Arc, time::Duration};

use kernel::ProjectId;

use super::{Discovery, book::Watch};
use crate::{error::Result, model::Service};

/// The longest that a request waits (as Consul has it).
pub const MAX_WAIT: Duration = Duration::from_mins(10);
/// How long it waits when it does not say.
pub const USUAL_WAIT: Duration = Duration::from_mins(5);

/// Changes of one service.
#[derive(Debug)]
pub struct Subscription {
    discovery: Discovery,
    project: ProjectId,
    service: String,
    watch: Watch,
}

impl Subscription {
    /// The service as it is now.
    pub fn now(&self) -> Arc<Service> {
        self.discovery.service(&self.project, &self.service)
    }

    /// Waits until it has changed since the last time; it may have changed back meanwhile.
    pub async fn changed(&mut self) -> Arc<Service> {
        self.watch.changed().await;
        self.now()
    }
}

impl Discovery {
    /// Watches a service, whether or not it has instances yet.
    pub fn subscribe(&self, project: &ProjectId, service: &str) -> Result<Subscription> {
        let watch = self.0.book.watch(project, Some(service))?;
        Ok(Subscription { discovery: self.clone(), project: project.clone(), service: service.to_owned(), watch })
    }

    /// Waits until `index` says that something after `seen` has happened to a service of a project (`None`: to any), at most for
    /// `wait`. An index below what was seen says that the database was replaced by an older one, and is news too.
    pub(crate) async fn wait(
        &self,
        project: &ProjectId,
        service: Option<&str>,
        seen: i64,
        wait: Duration,
        index: impl Fn() -> i64,
    ) -> Result<()> {
        let mut watch = self.0.book.watch(project, service)?;
        if index() != seen {
            return Ok(());
        }
        let news = async {
            while index() == seen {
                watch.changed().await;
            }
        };
        // A little longer for some, so that not all who wait come back at once.
        let spread = wait.mul_f64(self.0.rng.unit_f64() / 16.0);
        self.0.clock.timeout(wait.min(MAX_WAIT) + spread, news).await;
        Ok(())
    }
}
