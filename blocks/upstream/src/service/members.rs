//! Which back ends there are, and what a snapshot is made of.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use super::{
    endpoint::{Endpoint, EndpointId},
    settings::Settings,
    shared::Shared,
    snapshot::{Place, Snapshot, Tier},
};
use crate::{
    MAX_ENDPOINTS,
    model::{
        choose::Chooser,
        hysteresis::Health,
        spec::Algorithm,
        tiers::{Capacity, is_enough, share_out},
    },
};

/// A warm-up is done in so many steps.
const WARM_STEPS: u32 = 32;
/// The least that a back end has of its weight while it warms up, in percent.
const COLDEST_PERCENT: u32 = 10;

/// A back end as its source tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) address: SocketAddr,
    pub(crate) weight: u32,
    pub(crate) zone: Option<String>,
    pub(crate) priority: u8,
    pub(crate) is_healthy: bool,
    pub(crate) is_draining: bool,
}

/// See the module.
pub(crate) struct Members {
    pub(crate) settings: Arc<Settings>,
    pub(crate) list: Vec<Member>,
    /// Gone, with requests under way still.
    pub(crate) retired: Vec<Arc<Endpoint>>,
    /// Drained by an operator; kept for when they come back.
    pub(crate) drained: HashSet<SocketAddr>,
    /// Whether the first back ends came already: those after them warm up.
    has_begun: bool,
}

/// A back end and what is known of it.
pub(crate) struct Member {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) wanted: Wanted,
    pub(crate) is_well: bool,
    pub(crate) is_usable: bool,
    /// When it became well, if others were there before it.
    pub(crate) warm_since: Option<Duration>,
    pub(crate) ejected_until: Option<Duration>,
}

impl Members {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, list: Vec::new(), retired: Vec::new(), drained: HashSet::new(), has_begun: false }
    }

    /// Takes a new list; the ids of targets that are not used any more.
    ///
    /// - UPSTREAM-8: a back end that stays keeps its health, latency, connections and requests; one that goes finishes what it has.
    pub(crate) fn set(&mut self, shared: &Arc<Shared>, settings: &Arc<Settings>, wanted: Vec<Wanted>) -> Vec<u64> {
        let keeps_targets = self.settings.has_same_targets(settings);
        self.settings = settings.clone();
        let mut before: HashMap<SocketAddr, Member> =
            std::mem::take(&mut self.list).into_iter().map(|member| (member.wanted.address, member)).collect();
        let mut seen = HashSet::new();
        let mut gone = Vec::new();
        for wanted in wanted.into_iter().filter(|wanted| seen.insert(wanted.address)).take(MAX_ENDPOINTS) {
            let address = wanted.address;
            let new_target = || Arc::new(settings.target(address));
            let member = match before.remove(&address) {
                Some(member) if keeps_targets => Member { wanted, ..member },
                Some(member) => {
                    let endpoint = Arc::new(member.endpoint.with_target(new_target()));
                    gone.push(member.endpoint);
                    Member { endpoint, wanted, ..member }
                }
                None => {
                    let id = EndpointId::of(address);
                    let endpoint = Arc::new(Endpoint::new(id, new_target(), shared));
                    let (is_well, is_usable) = (false, false);
                    Member { endpoint, wanted, is_well, is_usable, warm_since: None, ejected_until: None }
                }
            };
            self.list.push(member);
        }
        gone.extend(before.into_values().map(|member| member.endpoint));
        let targets = gone.iter().map(|endpoint| endpoint.target.id).collect();
        for endpoint in &gone {
            endpoint.retire();
        }
        self.retired.extend(gone);
        self.forget_retired();
        shared.set_hosts(self.list.iter().map(|m| (m.endpoint.id, m.endpoint.tally.clone())).collect());
        targets
    }

    /// Lets go of those that are gone and have finished.
    pub(crate) fn forget_retired(&mut self) {
        self.retired.retain(|endpoint| endpoint.in_flight() > 0);
        let surplus = self.retired.len().saturating_sub(MAX_ENDPOINTS);
        self.retired.drain(..surplus);
    }

    fn is_candidate(&self, member: &Member) -> bool {
        member.wanted.weight > 0 && !member.wanted.is_draining && !self.drained.contains(&member.wanted.address)
    }

    /// A snapshot of now, and until when it holds.
    pub(crate) fn snapshot(
        &mut self,
        shared: &Shared,
        zone: Option<&str>,
        before: &Snapshot,
        now: Duration,
    ) -> (Snapshot, Duration) {
        let settings = self.settings.clone();
        let (ejected, next_turn) = shared.ejected(now);
        let ejected: HashMap<EndpointId, Duration> = ejected.into_iter().collect();
        let candidates: Vec<bool> = self.list.iter().map(|member| self.is_candidate(member)).collect();
        let of_candidates = || self.list.iter().zip(&candidates).filter(|(_, is)| **is).map(|(member, _)| member);
        let is_any_known = of_candidates().any(|member| member.endpoint.health() == Health::Healthy);
        let is_well = |member: &Member| {
            let is_healthy = match member.endpoint.health() {
                Health::Healthy => true,
                // Not asked yet: taken for well until another one is known to be.
                Health::Unknown => !is_any_known,
                Health::Unhealthy => false,
            };
            is_healthy && member.wanted.is_healthy && !ejected.contains_key(&member.endpoint.id)
        };
        let well: Vec<bool> = self.list.iter().zip(&candidates).map(|(member, is)| *is && is_well(member)).collect();

        // Tiers, and whether they are enough.
        let tier_key = |member: &Member| {
            let is_far = settings.spec.balance.prefer_zone && zone.is_some() && member.wanted.zone.as_deref() != zone;
            (member.wanted.priority, is_far)
        };
        let mut capacities: BTreeMap<(u8, bool), Capacity> = BTreeMap::new();
        for ((member, _), is_well) in self.list.iter().zip(&candidates).zip(&well).filter(|((_, is), _)| **is) {
            let capacity = capacities.entry(tier_key(member)).or_insert(Capacity { well: 0, total: 0 });
            let weight = u64::from(member.wanted.weight);
            capacity.total += weight;
            capacity.well += if *is_well { weight } else { 0 };
        }
        let (keys, capacities): (Vec<_>, Vec<_>) = capacities.into_iter().unzip();
        let count = |of: &[bool]| of.iter().filter(|is| **is).count();
        let (well_count, candidate_count) = (count(&well), count(&candidates));
        let is_few = well_count * 100 < candidate_count * settings.panic_percent() as usize;
        let is_panic = candidate_count > 0 && (well_count == 0 || (is_few && !is_enough(&capacities)));
        let shares: BTreeMap<(u8, bool), u32> =
            if is_panic { [((0, false), 100)].into() } else { keys.into_iter().zip(share_out(&capacities)).collect() };

        // Who becomes well beside others grows to its weight.
        let slow_start = settings.spec.balance.slow_start.0;
        let mut next_step = Duration::MAX;
        for ((member, is_well), is_candidate) in self.list.iter_mut().zip(&well).zip(&candidates) {
            member.ejected_until = ejected.get(&member.endpoint.id).copied();
            if *is_well && !member.is_well && self.has_begun {
                member.warm_since = Some(now);
            }
            member.warm_since = member.warm_since.filter(|since| *is_well && now < since.saturating_add(slow_start));
            member.is_well = *is_well;
            member.is_usable = *is_well || (is_panic && *is_candidate);
            if member.warm_since.is_some() {
                next_step = now.saturating_add((slow_start / WARM_STEPS).max(Duration::from_millis(10)));
            }
        }
        self.has_begun |= !self.list.is_empty();

        let mut snapshot = Snapshot::empty(settings.clone());
        snapshot.is_panic = is_panic;
        for (key, share) in shares {
            let of_tier = self
                .list
                .iter()
                .zip(&candidates)
                .filter(|(member, is)| **is && (is_panic || tier_key(member) == key))
                .map(|(member, _)| member);
            if let Some(tier) = tier(&settings, key, share, of_tier, before, now) {
                snapshot.tiers.push(tier);
            }
        }
        for (t, tier) in snapshot.tiers.iter().enumerate() {
            snapshot.places.extend(tier.seats.iter().enumerate().map(|(s, seat)| (seat.endpoint.id, t, s)));
        }
        snapshot.places.sort_unstable();
        (snapshot, next_turn.min(next_step))
    }
}

/// The tier of some members; `None` when it has nobody to ask.
fn tier<'a>(
    settings: &Settings,
    key: (u8, bool),
    share: u32,
    members: impl Iterator<Item = &'a Member>,
    before: &Snapshot,
    now: Duration,
) -> Option<Tier> {
    let balance = &settings.spec.balance;
    // Tables of hashing hold everyone, so that they need not be made anew when one falls ill.
    let of_tier: Vec<&Member> = members.filter(|member| member.is_usable || balance.algorithm.is_hashing()).collect();
    let is_warming = of_tier.iter().any(|member| member.warm_since.is_some());
    let weight_of = |member: &Member| {
        let weight = if balance.algorithm == Algorithm::RoundRobin { 1 } else { member.wanted.weight.min(1_000) };
        if is_warming { weight * warmth_percent(member, balance.slow_start.0, now) } else { weight }
    };
    let seats: Vec<Place> = of_tier
        .iter()
        .map(|member| Place {
            endpoint: member.endpoint.clone(),
            weight: weight_of(member),
            is_usable: member.is_usable,
        })
        .collect();
    let weight: u64 = seats.iter().filter(|seat| seat.is_usable).map(|seat| u64::from(seat.weight)).sum();
    if weight == 0 {
        return None;
    }
    let members: Vec<(u64, u32)> = seats.iter().map(|seat| (seat.endpoint.id.0, seat.weight)).collect();
    let was = before.tiers.iter().find(|tier| tier.key == key);
    let chooser = Chooser::new(balance.algorithm, &members, was.map(|tier| (&tier.chooser, tier.members.as_slice())));
    let turns = was.map(|tier| tier.turns.clone()).unwrap_or_default();
    Some(Tier { key, share, seats, members, chooser, turns, weight })
}

/// How much of its weight a back end has, in percent: from 10 to 100 over the time of its slow start.
pub(crate) fn warmth_percent(member: &Member, slow_start: Duration, now: Duration) -> u32 {
    let Some(since) = member.warm_since else { return 100 };
    let passed = now.saturating_sub(since).as_millis() * 100 / slow_start.as_millis().max(1);
    u32::try_from(passed).unwrap_or(100).clamp(COLDEST_PERCENT, 100)
}
