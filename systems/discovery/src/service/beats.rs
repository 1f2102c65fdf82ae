//! Signs of life: kept in the memory plane, one presence for each service, so that they cost the database nothing.
//!
//! The plane may be away, and may forget. What is not there then is no evidence that anybody died:
//!
//! - BEAT-1: a check that was heard of within its `ttl` is not expired.
//! - BEAT-2: while any node that is alive cannot reach the plane, and for the `ttl` after that, nothing is expired: what was said to
//!   that node could not be kept.
//! - BEAT-3: a plane that has forgotten a service expires nothing of it for the `ttl` from then on. It is noticed by a mark that is kept
//!   among the signs of life and says since when they are complete.
//! - BEAT-4: a node expires nothing before it has watched for the `ttl`.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kernel::{ProjectId, Timestamp};
use memory::Key;

use super::Discovery;
use crate::{
    error::{Error, Result},
    model::{Health, Instance, fold},
};

/// How long the mark stays; it is renewed with every sweep.
const MARK_TTL: Duration = Duration::from_hours(24 * 7);
/// No id begins like this: it is not visible.
const MARK: &[u8] = b"\x01since ";
/// A failure is told of for at least so long, so that a single one is not missed by those who look every few seconds.
const BLIND_FOR: Duration = Duration::from_secs(4);
/// The longest a check may be silent for ([`crate::model::CheckSpec`]); how long a doubt is told of.
const TOLD_FOR: Duration = Duration::from_mins(1);

/// What this node has seen of the memory plane.
#[derive(Debug)]
pub(crate) struct Trust {
    /// When this node began to watch.
    since: Duration,
    /// When it last could not reach the plane by itself.
    failed_at: Mutex<Option<Duration>>,
    /// When any node last could not.
    doubted_at: Mutex<Option<Duration>>,
}

impl Trust {
    pub(crate) fn new(now: Duration) -> Self {
        Self { since: now, failed_at: Mutex::default(), doubted_at: Mutex::default() }
    }

    /// Some node cannot reach the plane.
    pub(crate) fn doubt(&self, now: Duration) {
        let mut at = self.doubted_at.lock().unwrap_or_else(PoisonError::into_inner);
        *at = Some(at.map_or(now, |at| at.max(now)));
    }

    /// This node cannot.
    fn fail(&self, now: Duration) {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        self.doubt(now);
    }

    fn failed_at(&self) -> Option<Duration> {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doubted_at(&self) -> Option<Duration> {
        *self.doubted_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when everything that was said could be kept.
    fn complete_since(&self) -> Duration {
        self.since.max(self.doubted_at().unwrap_or_default())
    }
}

/// Who was heard of within their time.
pub(crate) struct Heard {
    members: std::collections::HashSet<Vec<u8>>,
    /// Since when the plane has forgotten nothing of this service, by the wall clock.
    marked_at: Option<Timestamp>,
}

impl Heard {
    /// Whether a check is dead: it was due, it was not heard of, and that it was not says something.
    pub(crate) fn is_dead(&self, id: &str, check: &str, ttl: Duration, watched_for: Duration, now: Timestamp) -> bool {
        let is_complete = watched_for >= ttl && self.marked_at.is_some_and(|at| now.since(at) >= ttl);
        is_complete && !self.members.contains(&member(id, check))
    }
}

fn member(id: &str, check: &str) -> Vec<u8> {
    // Neither id has a space.
    format!("{id} {check}").into_bytes()
}

impl Discovery {
    /// An instance says that it is well, or how it is otherwise. `check`: which of its checks this is for; left out: all that wait
    /// for signs of life.
    pub async fn heartbeat(
        &self,
        project: &ProjectId,
        id: &str,
        check: Option<&str>,
        health: Health,
        output: &str,
    ) -> Result<std::sync::Arc<Instance>> {
        let instance = self.instance(project, id).await?;
        let meant: Vec<_> = match check {
            Some(check) => vec![instance.spec.check(check).ok_or(Error::CheckUnknown)?],
            None => instance.spec.checks.iter().filter(|check| check.beat_within().is_some()).collect(),
        };
        if meant.is_empty() {
            return Err(Error::CheckUnknown);
        }
        self.0.telemetry.beats.inc();
        let mut is_kept = true;
        for check in meant.iter().filter_map(|check| Some((check.id.as_str(), check.beat_within()?))) {
            is_kept &= self.keep_beat(&instance, check).await;
        }
        let is_news =
            meant.iter().any(|check| instance.state.checks.get(&check.id).is_none_or(|known| known.health != health));
        if is_news {
            let reports: Vec<_> = meant.iter().map(|check| (check.id.clone(), health, output.to_owned())).collect();
            return self.report(project, id, reports).await;
        }
        if !is_kept {
            // Others are told by way of the database that this node cannot keep what it hears. When it cannot do that either, whoever
            // said it has to say it to another node.
            self.beat_node().await.map_err(|_| Error::HeartbeatLost)?;
        }
        Ok(instance)
    }

    /// Keeps a sign of life; whether the memory plane took it.
    pub(crate) async fn keep_beat(&self, instance: &Instance, (check, ttl): (&str, Duration)) -> bool {
        let key = key(&instance.project, &instance.spec.service);
        let kept = self.0.beats.join(&key, member(&instance.id, check), ttl).await;
        self.noticed(kept.is_ok());
        kept.is_ok()
    }

    /// Who of a service was heard of; `None` when the plane cannot say.
    pub(crate) async fn heard(&self, project: &ProjectId, service: &str) -> Option<Heard> {
        let key = key(project, service);
        let found = self.0.beats.present(&key).await;
        self.noticed(found.is_ok());
        let now = self.0.clock.now();
        let (mut members, mut marked_at) = (std::collections::HashSet::new(), None::<Timestamp>);
        for one in found.ok()? {
            match one.strip_prefix(MARK) {
                // Two nodes may each have set one: complete it is since the later.
                Some(since) => {
                    let at = std::str::from_utf8(since).ok().and_then(|text| text.parse().ok());
                    let at = Timestamp::from_millis(at.unwrap_or(now.as_millis()));
                    marked_at = Some(marked_at.map_or(at, |known| known.max(at)));
                    self.0.beats.join(&key, one.clone(), MARK_TTL).await.ok()?;
                }
                None => drop(members.insert(one.to_vec())),
            }
        }
        if marked_at.is_none() {
            let mark = [MARK, now.as_millis().to_string().as_bytes()].concat();
            self.0.beats.join(&key, mark, MARK_TTL).await.ok()?;
        }
        Some(Heard { members, marked_at })
    }

    /// Notes whether the memory plane could be reached.
    fn noticed(&self, is_well: bool) {
        if !is_well {
            self.0.telemetry.beats_lost.inc();
            self.0.trust.fail(self.0.clock.monotonic());
        }
    }

    /// Whether this node cannot keep signs of life right now.
    pub(crate) fn is_blind(&self) -> bool {
        let now = self.0.clock.monotonic();
        if self.0.memory.health() != memory::Health::Serving {
            self.0.trust.fail(now);
        }
        self.0.trust.failed_at().is_some_and(|at| now.saturating_sub(at) < BLIND_FOR)
    }

    /// For how long this node has watched signs of life that all could be kept.
    pub(crate) fn watched_for(&self) -> Duration {
        let now = self.0.clock.monotonic();
        if self.is_blind() { Duration::ZERO } else { now.saturating_sub(self.0.trust.complete_since()) }
    }

    /// Why nobody is declared dead right now.
    pub(crate) fn suspended(&self) -> Option<String> {
        if self.is_blind() {
            return Some("this node does not reach Redis".to_owned());
        }
        if let Some(other) = self.0.members.alive().iter().find(|member| member.is_blind && !member.is_self) {
            return Some(format!("node {} does not reach Redis", other.name));
        }
        let now = self.0.clock.monotonic();
        let is_recent = self.0.trust.doubted_at().is_some_and(|at| now.saturating_sub(at) < TOLD_FOR);
        is_recent.then(|| "Redis was away a moment ago; each instance has its time again".to_owned())
    }
}

/// Where the signs of life of a service are.
fn key(project: &ProjectId, service: &str) -> Key {
    Key::new(project, "discovery", ["beats", &fold(service)])
}
