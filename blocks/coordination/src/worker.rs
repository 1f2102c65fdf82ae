//! Background loops: leases that ran out, history that is given up.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use kernel::{ProjectId, Shutdown};

use crate::{
    Result,
    service::{Command, Shared},
    store,
};

/// How often leases are looked at: one ends at most so much late.
const LEASES_EVERY: Duration = Duration::from_millis(250);
/// Leases ended in one go.
const LEASES_AT_ONCE: u32 = 500;
/// Pause between two steps of giving up history, so that writers come in between.
const SWEEP_PAUSE: Duration = Duration::from_millis(10);
/// Of so many parts is the time for which history is kept.
const PARTS: u32 = 10;

/// Ends leases that ran out, with their keys.
pub(crate) async fn end_leases(shared: Arc<Shared>, shutdown: Shutdown) {
    while shutdown.or(shared.clock.sleep(LEASES_EVERY)).await.is_some() {
        if let Err(e) = end_run_out(&shared).await {
            tracing::warn!(error = %e, "leases that ran out stay for now");
        }
    }
}

pub(crate) async fn end_run_out(shared: &Shared) -> Result<usize> {
    let run_out = store::run_out(&shared.db, shared.clock.now(), LEASES_AT_ONCE).await?;
    let count = run_out.len();
    for (project, id) in run_out {
        match shared.ask(&project, Command::Revoke { id, if_run_out: true }).await {
            // Another node was there first.
            Ok(_) | Err(crate::Error::LeaseNotFound) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(count)
}

/// Compacts what is older than history is kept, and sweeps what was compacted, in small steps.
///
/// A step that fails is tried again after a pause, for ever: history that stays only costs room.
pub(crate) async fn give_up(shared: Arc<Shared>, shutdown: Shutdown) {
    let mut seen: HashMap<ProjectId, VecDeque<i64>> = HashMap::new();
    let part = shared.config.history / PARTS;
    let every = if part.is_zero() {
        Duration::from_secs(1)
    } else {
        part.clamp(Duration::from_millis(100), Duration::from_mins(5))
    };
    while shutdown.or(shared.clock.sleep(every)).await.is_some() {
        if !part.is_zero() {
            compact(&shared, &mut seen).await;
        }
        if shutdown.or(sweep(&shared)).await.is_none() {
            return;
        }
    }
}

async fn compact(shared: &Shared, seen: &mut HashMap<ProjectId, VecDeque<i64>>) {
    for (project, space) in shared.spaces.all() {
        let revisions = seen.entry(project.clone()).or_default();
        revisions.push_back(space.revision());
        if revisions.len() <= PARTS as usize {
            continue;
        }
        let Some(oldest) = revisions.pop_front() else { continue };
        if oldest > space.compacted().max(1)
            && let Err(e) = shared.ask(&project, Command::Compact { revision: oldest }).await
            && !matches!(e, crate::Error::Compacted(_))
        {
            tracing::warn!(error = %e, "history was not given up; tried again");
        }
    }
}

pub(crate) async fn sweep(shared: &Shared) {
    let projects = match store::unswept(&shared.db, 100).await {
        Ok(projects) => projects,
        Err(e) => return tracing::warn!(error = %e, "history was not swept; tried again"),
    };
    for project in projects {
        loop {
            let of = project.clone();
            let step = shared.db.tx(async move |tx| -> database::Result<bool> { store::sweep(tx, &of).await });
            match step.await {
                Ok(true) => shared.clock.sleep(SWEEP_PAUSE).await,
                Ok(false) => break,
                Err(e) => {
                    tracing::warn!(error = %e, "history was not swept; tried again");
                    break;
                }
            }
        }
    }
}
