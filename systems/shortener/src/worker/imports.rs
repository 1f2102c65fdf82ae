//! Works on imports.

use std::time::Duration;

use kernel::Shutdown;

use crate::service::Shortener;

/// How often imports are looked for when nobody tells of them: one whose worker died.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long after a failure an import is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Works on imports while there are any, then waits to be told of the next.
pub(super) async fn run(shortener: Shortener, shutdown: Shutdown) {
    let clock = shortener.clock().clone();
    let mut changes = shortener.import_changes();
    while !shutdown.is_triggered() {
        let pause = match shortener.work_on_imports(&shutdown).await {
            Ok(true) => continue,
            Ok(false) => match shortener.clean_imports().await {
                Ok(true) => Duration::ZERO,
                Ok(false) => INTERVAL,
                Err(problem) => {
                    tracing::warn!(%problem, "what is left of imports could not be cleaned up");
                    INTERVAL
                }
            },
            Err(problem) => {
                tracing::warn!(%problem, "an import could not be worked on; it is tried again");
                RETRY
            }
        };
        tokio::select! {
            () = clock.sleep(pause) => {}
            // A hint, whatever it says; without hints the interval does.
            Ok(_) = changes.recv() => {}
            () = shutdown.wait() => return,
        }
    }
}
