//! What is known of the request under way: its id, its trace, its deadline, and whose it is.

use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use kernel::{Clock, ProjectId};

use crate::trace::TraceContext;

tokio::task_local! {
    static CURRENT: RequestContext;
}

/// The request under way. [`crate::stack()`] makes it, puts it into the request's extensions and keeps it at hand for the task
/// ([`RequestContext::current`]). Cheap to clone.
#[derive(Clone)]
pub struct RequestContext(Arc<Inner>);

struct Inner {
    request_id: String,
    trace: TraceContext,
    project: OnceLock<ProjectId>,
    deadline: Deadline,
}

impl RequestContext {
    /// A context, for [`crate::stack()`] and tests.
    pub fn new(request_id: String, trace: TraceContext, deadline: Deadline) -> Self {
        Self(Arc::new(Inner { request_id, trace, project: OnceLock::new(), deadline }))
    }

    /// The context of the request that this task works for; `None` outside of one.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs `future` as work for this request.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The id of the request: the client's own if it sent a valid one, else a UUIDv7.
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// The W3C trace that it belongs to.
    pub fn trace(&self) -> &TraceContext {
        &self.0.trace
    }

    /// When its client stops waiting.
    pub fn deadline(&self) -> &Deadline {
        &self.0.deadline
    }

    /// Says whose request it is, for the access log and metrics. The auth layer calls it once; later calls change nothing.
    pub fn set_project(&self, project: &ProjectId) {
        self.0.project.get_or_init(|| project.clone());
    }

    /// Whose request it is, once that is known.
    pub fn project(&self) -> Option<&ProjectId> {
        self.0.project.get()
    }
}

impl fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContext").field("request_id", &self.0.request_id).finish_non_exhaustive()
    }
}

/// When the request ends, on the monotonic time of a [`Clock`]. It travels with the request: calls made for it wait no longer.
#[derive(Debug, Clone)]
pub struct Deadline {
    clock: Clock,
    at: Duration,
}

impl Deadline {
    /// `after` from now.
    pub fn after(clock: &Clock, after: Duration) -> Self {
        Self { clock: clock.clone(), at: clock.monotonic().saturating_add(after) }
    }

    /// How much time is left; zero when it is past.
    pub fn remaining(&self) -> Duration {
        self.at.saturating_sub(self.clock.monotonic())
    }
}
