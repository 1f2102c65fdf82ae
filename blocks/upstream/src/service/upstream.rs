//! One upstream: its back ends, and the pick among them.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, broadcast, watch};

use super::{
    Deps,
    endpoint::{Checked, Endpoint, EndpointId},
    key::KeyParts,
    lease::Lease,
    members::{Members, Wanted},
    settings::Settings,
    shared::Shared,
    snapshot::{Draw, Snapshot},
    source::SourceNote,
};
use crate::{error::NoEndpoint, model::hysteresis::Health};

/// Another one is looked for so often when the one that was chosen filled up at the same moment.
const TRIES: usize = 4;

/// What a pick goes by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pick<'a> {
    /// The key of the request; see [`Upstream::hash_key`].
    pub hash: Option<u64>,
    /// Back ends that were tried already. One of them is given only when there is no other.
    pub exclude: &'a [EndpointId],
    /// The back end that this client had before; it is kept while it is well, has room and is not drained.
    pub sticky: Option<EndpointId>,
}

/// Back ends that do the same work. Shared by all workers.
pub struct Upstream {
    name: Arc<str>,
    zone: Option<Arc<str>>,
    pub(crate) shared: Arc<Shared>,
    snapshot: ArcSwap<Snapshot>,
    members: Mutex<Members>,
    /// What changed for background work: settings, and who there is.
    pub(crate) settings: watch::Sender<Arc<Settings>>,
    pub(crate) membership: Notify,
    pub(crate) source: Mutex<SourceNote>,
    retired: broadcast::Sender<u64>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upstream").field(&self.name).finish()
    }
}

impl Upstream {
    pub(crate) fn new(settings: Settings, deps: &Deps, retired: broadcast::Sender<u64>) -> Self {
        let settings = Arc::new(settings);
        let shared = Arc::new(Shared::new(&deps.clock, &deps.rng));
        shared.set_detection(settings.outlier_config());
        let this = Self {
            name: settings.spec.name.as_str().into(),
            zone: deps.zone.as_deref().map(Into::into),
            shared,
            snapshot: ArcSwap::from_pointee(Snapshot::empty(settings.clone())),
            members: Mutex::new(Members::new(settings.clone())),
            settings: watch::Sender::new(settings.clone()),
            membership: Notify::new(),
            source: Mutex::default(),
            retired,
        };
        this.take_static(&settings);
        this
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The hash of a request's key as `hash_on` says; `None` when the algorithm hashes nothing or the request has no such key.
    pub fn hash_key(&self, parts: &KeyParts<'_>) -> Option<u64> {
        let snapshot = self.snapshot.load();
        let settings = &snapshot.settings;
        if !settings.spec.balance.algorithm.is_hashing() {
            return None;
        }
        parts.hash(settings.hash_on.as_ref()?)
    }

    /// Chooses a back end and takes a place at it. Never waits.
    ///
    /// - UPSTREAM-7: at most `max_in_flight` leases of the upstream and `max_in_flight_per_endpoint` of each back end are held at any time.
    pub fn pick(&self, pick: &Pick<'_>) -> Result<Lease, NoEndpoint> {
        self.try_pick(pick).inspect_err(|why| {
            let counter = match why {
                NoEndpoint::Empty => 0,
                NoEndpoint::Full => 1,
                NoEndpoint::BreakerOpen { .. } => 2,
            };
            self.shared.refused[counter].fetch_add(1, Ordering::Relaxed);
        })
    }

    fn try_pick(&self, pick: &Pick<'_>) -> Result<Lease, NoEndpoint> {
        let now = self.shared.clock.monotonic();
        if self.shared.is_stale(now) {
            self.renew(now);
        }
        let snapshot = self.snapshot.load();
        let settings = &snapshot.settings;
        if snapshot.is_empty() {
            return Err(NoEndpoint::Empty);
        }
        let in_flight = self.shared.enter(settings.spec.limits.max_in_flight).ok_or(NoEndpoint::Full)?;
        // Leaves again unless a lease comes of it.
        let entered = Entered(&self.shared);
        let permit = match &settings.breaker {
            Some(breaker) => {
                let open = |open: resilience::BreakerOpen| NoEndpoint::BreakerOpen { retry_after: open.retry_after };
                Some(breaker.try_enter().map_err(open)?)
            }
            None => None,
        };
        let most = snapshot.most_each();
        for _ in 0..TRIES {
            let draw = Draw { random: self.shared.rng.next_u64(), now, in_flight };
            let Some(endpoint) = snapshot.choose(pick, draw) else { break };
            if endpoint.enter(most) {
                std::mem::forget(entered);
                return Ok(Lease::new(endpoint.clone(), permit));
            }
        }
        Err(NoEndpoint::Full)
    }

    /// Takes requests away from a back end, or gives them back. Requests under way end by themselves. Gives whether there is such a one.
    pub fn set_drained(&self, id: EndpointId, is_drained: bool) -> bool {
        let mut members = self.members();
        let Some(member) = members.list.iter().find(|member| member.endpoint.id == id) else { return false };
        let (address, target) = (member.wanted.address, member.endpoint.target.id);
        if is_drained {
            members.drained.insert(address);
            // Nobody hears it when there are no workers.
            drop(self.retired.send(target));
        } else {
            members.drained.remove(&address);
        }
        self.renew_with(&mut members, self.shared.clock.monotonic());
        true
    }

    /// Takes other settings.
    pub(crate) fn set_settings(&self, settings: Settings) {
        let settings = Arc::new(settings);
        let before = self.settings.borrow().clone();
        if before.outlier_config() != settings.outlier_config() {
            self.shared.set_detection(settings.outlier_config());
        }
        if before.spec.dns != settings.spec.dns || before.spec.service != settings.spec.service {
            *self.source() = SourceNote::default();
        }
        let wanted = match &settings.spec.endpoints {
            Some(_) => static_endpoints(&settings),
            // Until the source answers, those that it told before.
            None => self.members().list.iter().map(|member| member.wanted.clone()).collect(),
        };
        self.set_members_with(&settings, wanted);
        self.settings.send_replace(settings);
    }

    fn take_static(&self, settings: &Arc<Settings>) {
        self.set_members_with(settings, static_endpoints(settings));
    }

    /// The source told which back ends there are.
    pub(crate) fn answered(&self, wanted: Vec<Wanted>) {
        *self.source() = SourceNote { answered_at: Some(self.shared.clock.now()), error: None };
        let settings = self.settings.borrow().clone();
        self.set_members_with(&settings, wanted);
    }

    /// The source told nothing: the back ends that it told before are kept.
    pub(crate) fn unanswered(&self, why: String) {
        let mut source = self.source();
        if source.error.as_ref() != Some(&why) {
            tracing::warn!(
                upstream = &*self.name,
                why,
                "the source of back ends does not answer; those known are kept"
            );
        }
        source.error = Some(why);
    }

    fn set_members_with(&self, settings: &Arc<Settings>, wanted: Vec<Wanted>) {
        let mut members = self.members();
        for target in members.set(&self.shared, settings, wanted) {
            drop(self.retired.send(target));
        }
        self.renew_with(&mut members, self.shared.clock.monotonic());
        drop(members);
        self.membership.notify_one();
    }

    /// Something changed that is not of picks.
    pub(crate) fn renew_now(&self) {
        self.renew_with(&mut self.members(), self.shared.clock.monotonic());
    }

    /// Nobody is checked any more: everyone is taken for well.
    pub(crate) fn forget_health(&self) {
        for endpoint in self.endpoints() {
            endpoint.set_health(Health::Unknown);
            *endpoint.checked() = Checked::default();
        }
        self.renew_now();
    }

    /// Makes the snapshot anew, unless somebody does already.
    fn renew(&self, now: Duration) {
        match self.members.try_lock() {
            Ok(mut members) => self.renew_with(&mut members, now),
            Err(TryLockError::Poisoned(poisoned)) => self.renew_with(&mut poisoned.into_inner(), now),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    pub(crate) fn renew_with(&self, members: &mut Members, now: Duration) {
        self.shared.begin_renewal();
        let before = self.snapshot.load();
        let was_panic = before.is_panic;
        let (snapshot, until) = members.snapshot(&self.shared, self.zone.as_deref(), &before, now);
        if snapshot.is_panic != was_panic {
            let upstream = &*self.name;
            if snapshot.is_panic {
                tracing::warn!(upstream, "too few back ends are well: all are used");
            } else {
                tracing::info!(upstream, "enough back ends are well again");
            }
        }
        self.snapshot.store(Arc::new(snapshot));
        self.shared.end_renewal(until);
    }

    pub(crate) fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn source(&self) -> MutexGuard<'_, SourceNote> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_panic(&self) -> bool {
        self.snapshot.load().is_panic
    }

    /// No document has it any more. Whoever still holds it may pick from it; its connections are not kept.
    pub(crate) fn retire(&self) {
        for endpoint in self.endpoints() {
            drop(self.retired.send(endpoint.target.id));
        }
    }

    /// The back ends of now.
    pub(crate) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.members().list.iter().map(|member| member.endpoint.clone()).collect()
    }
}

struct Entered<'a>(&'a Shared);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

fn static_endpoints(settings: &Settings) -> Vec<Wanted> {
    let of = |endpoint: &crate::EndpointSpec| Wanted {
        address: endpoint.address,
        weight: endpoint.weight,
        zone: endpoint.zone.clone(),
        priority: endpoint.priority,
        is_healthy: true,
        is_draining: false,
    };
    settings.spec.endpoints.iter().flatten().map(of).collect()
}
