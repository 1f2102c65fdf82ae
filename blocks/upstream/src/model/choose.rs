//! Which of the back ends of a tier is next.

use std::{sync::Arc, time::Duration};

use super::{
    hash::{below, halves, mix},
    maglev::Maglev,
    ring::Ring,
    schedule::Schedule,
    spec::Algorithm,
};

/// How many back ends `least_requests` looks at; with more of them, at so many that stand together, from a random one on.
const MOST_COMPARED: usize = 64;
/// How many random draws and how many steps of a walk are made before whoever is allowed and comes first is taken.
const MOST_DRAWS: usize = 8;
const MOST_STEPS: usize = 1_024;

/// A back end as a chooser sees it.
pub trait Seat {
    /// Tells it apart; the same on every node.
    fn id(&self) -> u64;
    /// Its share beside the others; above 0.
    fn weight(&self) -> u32;
    /// Whether it may be chosen at all: it is well, or none is.
    fn is_usable(&self) -> bool;
    /// Requests under way.
    fn in_flight(&self) -> u32;
    /// What one more request costs: latency × requests under way.
    fn cost(&self, now: Duration) -> f32;
}

/// What one choice goes by.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// The hash of the request's key; a random one when it has none.
    pub hash: u64,
    /// A random number.
    pub random: u64,
    /// Counts choices.
    pub turn: usize,
    /// The time.
    pub now: Duration,
    /// Requests under way to all.
    pub in_flight: u32,
    /// Weights of all that are usable, summed up.
    pub weight: u64,
    /// Of hashing: most load of one, in percent of the mean.
    pub load_bound_percent: Option<u32>,
}

/// What an algorithm works out beforehand.
#[derive(Debug, Clone)]
pub enum Chooser {
    /// `round_robin` and `weighted_round_robin`.
    Turns(Schedule),
    /// `least_requests`.
    LeastRequests,
    /// `p2c`.
    TwoChoices,
    /// `ring_hash`.
    Ring(Arc<Ring>),
    /// `maglev`.
    Maglev(Arc<Maglev>),
    /// `random`: sums of weights up to and with each.
    Random(Box<[u64]>),
    /// `first`.
    First,
}

impl Chooser {
    /// For members by id and weight. `before` is the one of an earlier membership, with its members: its tables are used again when they
    /// are the same.
    pub fn new(algorithm: Algorithm, members: &[(u64, u32)], before: Option<(&Self, &[(u64, u32)])>) -> Self {
        let same = before.filter(|(_, were)| *were == members).map(|(chooser, _)| chooser);
        let weights = || members.iter().map(|(_, weight)| *weight).collect::<Vec<_>>();
        match (algorithm, same) {
            (Algorithm::RingHash, Some(Self::Ring(ring))) => Self::Ring(ring.clone()),
            (Algorithm::RingHash, _) => Self::Ring(Arc::new(Ring::new(members))),
            (Algorithm::Maglev, Some(Self::Maglev(table))) => Self::Maglev(table.clone()),
            (Algorithm::Maglev, _) => Self::Maglev(Arc::new(Maglev::new(members))),
            // Whoever calls gives equal weights for the plain one.
            (Algorithm::RoundRobin | Algorithm::WeightedRoundRobin, _) => Self::Turns(Schedule::new(&weights())),
            (Algorithm::LeastRequests, _) => Self::LeastRequests,
            (Algorithm::P2c, _) => Self::TwoChoices,
            (Algorithm::First, _) => Self::First,
            (Algorithm::Random, _) => Self::Random(
                members
                    .iter()
                    .scan(0_u64, |sum, (_, weight)| {
                        *sum += u64::from(*weight);
                        Some(*sum)
                    })
                    .collect(),
            ),
        }
    }

    /// Whether it needs choices to be counted.
    pub fn takes_turns(&self) -> bool {
        matches!(self, Self::Turns(_))
    }

    /// The place of the seat that is next, of those that are usable and that `is_allowed` takes; `None` when there is none.
    ///
    /// - UPSTREAM-1: what it gives is usable and allowed; while a seat is both, it gives one.
    pub fn choose<S: Seat>(&self, seats: &[S], ask: &Ask, is_allowed: impl Fn(&S) -> bool) -> Option<usize> {
        let fits = |at: usize| seats.get(at).is_some_and(|seat| seat.is_usable() && is_allowed(seat));
        if seats.is_empty() {
            return None;
        }
        let chosen = match self {
            Self::Turns(schedule) => take_turns(schedule, ask.turn, seats.len(), fits),
            Self::LeastRequests => fewest_requests(seats, ask.random, fits),
            Self::TwoChoices => two_choices(seats, ask, fits),
            Self::Ring(ring) => walk(ring.walk(ask.hash), seats, ask, fits),
            Self::Maglev(table) => walk(table.walk(ask.hash), seats, ask, fits),
            Self::Random(sums) => any(sums, ask.random, fits),
            Self::First => None,
        };
        // `first`; and whoever is left when the above looked at enough.
        chosen.or_else(|| {
            let start = if matches!(self, Self::First) { 0 } else { below(halves(mix(ask.random)).0, seats.len()) };
            (start..seats.len()).chain(0..start).find(|at| fits(*at))
        })
    }
}

fn take_turns(schedule: &Schedule, turn: usize, seats: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    // Twice around is enough to meet everyone unless weights are far apart.
    (0..seats.saturating_mul(2)).map(|n| schedule.at(turn.wrapping_add(n))).find(|at| fits(*at))
}

fn fewest_requests<S: Seat>(seats: &[S], random: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
    // From a random one on, so that ties do not all go to the same.
    let start = below(halves(random).0, seats.len());
    let mut best: Option<(usize, u64, u64)> = None;
    for at in (start..seats.len()).chain(0..start).take(MOST_COMPARED).filter(|at| fits(*at)) {
        let (load, weight) = (u64::from(seats[at].in_flight()) + 1, u64::from(seats[at].weight()));
        // load ÷ weight, without the division.
        if best.is_none_or(|(_, least, of)| load * of < least * weight) {
            best = Some((at, load, weight));
        }
    }
    best.map(|(at, ..)| at)
}

#[allow(clippy::cast_precision_loss, reason = "weights are small")]
fn two_choices<S: Seat>(seats: &[S], ask: &Ask, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let (high, low) = halves(ask.random);
    let first = below(high, seats.len());
    let second = match seats.len() - 1 {
        0 => first,
        others => (first + 1 + below(low, others)) % seats.len(),
    };
    let (first, second) = if fits(first) && fits(second) {
        (first, second)
    } else {
        // Some are excluded or full: the next two that are not.
        let mut others = (first..seats.len()).chain(0..first).filter(|at| fits(*at));
        let first = others.next()?;
        (first, others.next().unwrap_or(first))
    };
    let cost = |at: usize| seats[at].cost(ask.now) / seats[at].weight() as f32;
    Some(if first != second && cost(second) < cost(first) { second } else { first })
}

fn any(sums: &[u64], random: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let total = u128::from(*sums.last()?);
    let mut random = random;
    for _ in 0..MOST_DRAWS {
        let drawn = u64::try_from((u128::from(random) * total) >> 64).unwrap_or(0);
        let at = sums.partition_point(|sum| *sum <= drawn);
        if fits(at) {
            return Some(at);
        }
        random = mix(random);
    }
    None
}

/// The first of a walk that fits and has room: consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, SODA 2018).
fn walk<S: Seat>(
    order: impl Iterator<Item = usize>,
    seats: &[S],
    ask: &Ask,
    fits: impl Fn(usize) -> bool,
) -> Option<usize> {
    let Some(percent) = ask.load_bound_percent else { return order.take(MOST_STEPS).find(|at| fits(*at)) };
    let most_of_all = (u64::from(ask.in_flight) + 1) * u64::from(percent);
    let mut first = None;
    for at in order.take(MOST_STEPS) {
        // The same one again is met often on the way; whoever was passed over stays passed over.
        if !fits(at) {
            continue;
        }
        let seat = &seats[at];
        let most = (most_of_all * u64::from(seat.weight())).div_ceil(ask.weight.max(1) * 100);
        if u64::from(seat.in_flight()) < most {
            return Some(at);
        }
        first = first.or(Some(at));
    }
    first
}
