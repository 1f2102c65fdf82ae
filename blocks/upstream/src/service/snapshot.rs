//! What a pick looks at: made anew when something changes, never changed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    endpoint::{Endpoint, EndpointId},
    settings::Settings,
    upstream::Pick,
};
use crate::model::{
    choose::{Ask, Chooser, Seat},
    hash::{below, halves, mix},
};

/// See the module.
pub(crate) struct Snapshot {
    pub(crate) settings: Arc<Settings>,
    /// Tiers in the order in which they take over.
    pub(crate) tiers: Vec<Tier>,
    /// Whether so few are well that all are used.
    pub(crate) is_panic: bool,
    /// Sorted by id: where each is.
    pub(crate) places: Vec<(EndpointId, usize, usize)>,
}

/// Back ends that are equals.
pub(crate) struct Tier {
    /// Priority, and whether it is of another zone.
    pub(crate) key: (u8, bool),
    /// In percent of the load.
    pub(crate) share: u32,
    pub(crate) seats: Vec<Place>,
    pub(crate) members: Vec<(u64, u32)>,
    pub(crate) chooser: Chooser,
    /// Counts choices; goes on over snapshots.
    pub(crate) turns: Arc<AtomicUsize>,
    /// Of the usable ones.
    pub(crate) weight: u64,
}

/// A back end in a tier.
pub(crate) struct Place {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) weight: u32,
    pub(crate) is_usable: bool,
}

impl Seat for Place {
    fn id(&self) -> u64 {
        self.endpoint.id.0
    }

    fn weight(&self) -> u32 {
        self.weight
    }

    fn is_usable(&self) -> bool {
        self.is_usable
    }

    fn in_flight(&self) -> u32 {
        self.endpoint.in_flight()
    }

    fn cost(&self, now: Duration) -> f32 {
        self.endpoint.latency().cost(now, self.endpoint.in_flight())
    }
}

/// What a choice goes by that is the same for all tiers.
#[derive(Clone, Copy)]
pub(crate) struct Draw {
    pub(crate) random: u64,
    pub(crate) now: Duration,
    pub(crate) in_flight: u32,
}

impl Snapshot {
    /// Of an upstream of which nothing is known yet.
    pub(crate) fn empty(settings: Arc<Settings>) -> Self {
        Self { settings, tiers: Vec::new(), is_panic: false, places: Vec::new() }
    }

    /// Requests that may be under way to one back end.
    pub(crate) fn most_each(&self) -> u32 {
        self.settings.spec.limits.max_in_flight_per_endpoint.unwrap_or(u32::MAX)
    }

    /// Whether there is anyone to ask.
    pub(crate) fn is_empty(&self) -> bool {
        self.tiers.iter().all(|tier| tier.weight == 0)
    }

    /// - UPSTREAM-2: one that is excluded is given only when no other is well and has room.
    pub(crate) fn choose(&self, pick: &Pick<'_>, draw: Draw) -> Option<&Arc<Endpoint>> {
        let most = self.most_each();
        let has_room = |place: &Place| place.endpoint.in_flight() < most;
        let is_new = |place: &Place| !pick.exclude.contains(&place.endpoint.id);
        if let Some(place) = pick.sticky.and_then(|id| self.place(id))
            && place.is_usable
            && is_new(place)
            && has_room(place)
        {
            return Some(&place.endpoint);
        }
        let allowed = self.choose_in_tiers(pick, draw, |place| is_new(place) && has_room(place));
        if allowed.is_some() || pick.exclude.is_empty() {
            return allowed;
        }
        self.choose_in_tiers(pick, draw, has_room)
    }

    fn choose_in_tiers(
        &self,
        pick: &Pick<'_>,
        draw: Draw,
        is_allowed: impl Fn(&Place) -> bool,
    ) -> Option<&Arc<Endpoint>> {
        let hash = pick.hash.unwrap_or(draw.random);
        let choose = |tier: &'_ Tier| {
            let ask = Ask {
                hash,
                random: draw.random,
                turn: if tier.chooser.takes_turns() { tier.turns.fetch_add(1, Ordering::Relaxed) } else { 0 },
                now: draw.now,
                in_flight: draw.in_flight,
                weight: tier.weight,
                load_bound_percent: self.settings.spec.balance.load_bound_percent,
            };
            tier.chooser.choose(&tier.seats, &ask, &is_allowed)
        };
        let drawn = self.draw_tier(if self.settings.spec.balance.algorithm.is_hashing() { hash } else { draw.random });
        let from = |at: usize| {
            let tier = self.tiers.get(at)?;
            choose(tier).map(|seat| &tier.seats[seat].endpoint)
        };
        // The others are there for what the first has no room for.
        from(drawn).or_else(|| (0..self.tiers.len()).filter(|at| *at != drawn).find_map(from))
    }

    fn draw_tier(&self, random: u64) -> usize {
        if self.tiers.first().is_none_or(|tier| tier.share >= 100) {
            return 0;
        }
        let mut left = u32::try_from(below(halves(mix(random)).0, 100)).unwrap_or(0);
        for (at, tier) in self.tiers.iter().enumerate() {
            if left < tier.share {
                return at;
            }
            left -= tier.share;
        }
        0
    }

    fn place(&self, id: EndpointId) -> Option<&Place> {
        let at = self.places.binary_search_by_key(&id, |(id, ..)| *id).ok()?;
        let (_, tier, seat) = self.places[at];
        self.tiers.get(tier)?.seats.get(seat)
    }
}
