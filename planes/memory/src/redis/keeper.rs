//! Keeps the connection: makes it, checks it, and says when the server is down and back.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use kernel::{Backoff, OnPanic, Shutdown, Tasks};

use super::{Conn, Redis, State};
use crate::local::Local;

/// Waits between attempts to connect: short, since everybody waits for it, and with jitter, since everybody tries.
pub(super) const RECONNECT: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(2) };

pub(super) fn supervise(redis: &Arc<Redis>, stand_in: &Arc<Local>, tasks: &Tasks) {
    let (redis, stand_in) = (redis.clone(), stand_in.clone());
    tasks.supervise("memory.keeper", OnPanic::Restart(Backoff::STANDARD), move |shutdown| {
        let (redis, stand_in) = (redis.clone(), stand_in.clone());
        async move { keep(&redis, &stand_in, &shutdown).await }
    });
}

async fn keep(redis: &Redis, stand_in: &Local, shutdown: &Shutdown) {
    let mut attempt = 0;
    while !shutdown.is_triggered() {
        let bound = redis.options.connect_timeout;
        let conn = match redis.clock.timeout(bound, Box::pin(redis.connect())).await {
            Some(Ok(conn)) => Ok(conn),
            Some(Err(e)) => Err(e.to_string()),
            None => Err(format!("no connection within {bound:?}")),
        };
        match conn {
            Ok(conn) => {
                let reason = watch(redis, stand_in, conn, &mut attempt, shutdown).await;
                // At shutdown the connection stays for what still runs.
                let Some(reason) = reason else { return };
                tracing::warn!(reason, "the connection to the memory plane's server was lost");
                redis.state.send_replace(State { conn: None, reason: Some(reason), is_settled: true });
            }
            Err(reason) => {
                let was_known = redis.state.borrow().is_settled;
                if !was_known {
                    tracing::warn!(reason, "the memory plane's server cannot be reached");
                }
                redis.state.send_replace(State { conn: None, reason: Some(reason), is_settled: true });
            }
        }
        let wait = RECONNECT.delay(attempt, &redis.rng);
        attempt = attempt.saturating_add(1);
        if shutdown.or(redis.clock.sleep(wait)).await.is_none() {
            return;
        }
    }
}

/// Checks a connection for as long as it is good; why it is not any more, or `None` at shutdown.
async fn watch(
    redis: &Redis,
    stand_in: &Local,
    mut conn: Conn,
    attempt: &mut u32,
    shutdown: &Shutdown,
) -> Option<String> {
    let bound = redis.options.operation_timeout;
    let mut is_new = true;
    loop {
        let all = check(redis, bound, Box::pin(conn.ping_all())).await;
        let reason = match all {
            Ok(()) => {
                // What stood in answered for an outage that is over.
                if !stand_in.is_empty() {
                    stand_in.clear();
                }
                *attempt = 0;
                None
            }
            // Of a cluster, some may be gone and the others serve.
            Err(reason) if matches!(conn, Conn::Cluster(_)) => {
                if check(redis, bound, Box::pin(conn.ping())).await.is_err() {
                    return Some(reason);
                }
                Some(reason)
            }
            Err(reason) => return Some(reason),
        };
        if is_new {
            redis.connect_count.fetch_add(1, Relaxed);
            tracing::info!("connected to the memory plane's server");
        }
        let is_changed = redis.state.borrow().reason != reason;
        if is_new || is_changed {
            redis.state.send_replace(State { conn: Some(conn.clone()), reason, is_settled: true });
        }
        is_new = false;
        tokio::select! {
            () = shutdown.wait() => return None,
            () = redis.suspect.notified() => {}
            () = redis.clock.sleep(redis.options.check_interval) => {}
        }
    }
}

async fn check(
    redis: &Redis,
    bound: Duration,
    ping: impl Future<Output = ::redis::RedisResult<()>>,
) -> Result<(), String> {
    match redis.clock.timeout(bound, ping).await {
        Some(Ok(())) => Ok(()),
        Some(Err(e)) => Err(e.to_string()),
        None => Err(format!("no answer within {bound:?}")),
    }
}
