//! Failed attempts are answered ever more slowly.
//!
//! Per subject (an address, a key) the first [`Policy::free_count`] failures cost nothing; each further one closes the door for
//! twice as long as the one before, up to [`Policy::max_delay`]. A subject without a failure for [`Policy::forget_after`] is
//! forgotten. While the door is closed, attempts are neither looked at nor counted, so a client that hammers on does not lock
//! itself out for longer.
//!
//! Invariants:
//! - THROTTLE-1: at most [`Policy::capacity`] subjects are held. Past it, the one whose last failure is oldest is let go.
//! - THROTTLE-2: no wait that is told is longer than [`Policy::max_delay`].
//! - THROTTLE-3: of two subjects, neither's failures are counted to the other.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kernel::Clock;

use crate::KeyId;

/// Whose failures are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A network address; of IPv6 its /64, since one host has all of it.
    Address(IpAddr),
    /// A key, wherever the attempts on it come from.
    Key(KeyId),
    /// Anything else that is tried and has a number, such as a link with a password.
    Thing(u64),
}

impl Subject {
    /// The subject of a peer's address.
    pub fn of_address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// How failures are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures that cost nothing.
    pub free_count: u32,
    /// How long the door is closed after the first failure past these.
    pub first_delay: Duration,
    /// The longest time that it is closed.
    pub max_delay: Duration,
    /// A subject is forgotten after so long without a failure.
    pub forget_after: Duration,
    /// The most subjects held.
    pub capacity: usize,
}

impl Default for Policy {
    /// 10 free failures, then 1 s doubling to 60 s, forgotten after 15 minutes; 10,000 subjects (about 2 MB).
    fn default() -> Self {
        Self {
            free_count: 10,
            first_delay: Duration::from_secs(1),
            max_delay: Duration::from_mins(1),
            forget_after: Duration::from_mins(15),
            capacity: 10_000,
        }
    }
}

impl Policy {
    /// How long the door is closed after failure number `count` (1 is the first).
    pub fn delay(&self, count: u32) -> Duration {
        match count.checked_sub(self.free_count.saturating_add(1)) {
            None => Duration::ZERO,
            Some(doublings) => {
                self.first_delay.saturating_mul(2_u32.saturating_pow(doublings.min(31))).min(self.max_delay)
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct State {
    failure_count: u32,
    open_at: Duration,
    /// Its place in [`Core::by_age`]: when it last failed, and a number that tells equal times apart.
    age: (Duration, u64),
}

/// The pure core: monotonic time is a parameter.
#[derive(Debug)]
pub struct Core {
    policy: Policy,
    subjects: HashMap<Subject, State>,
    by_age: BTreeMap<(Duration, u64), Subject>,
    next: u64,
}

impl Core {
    /// An empty one.
    pub fn new(policy: Policy) -> Self {
        Self { policy, subjects: HashMap::new(), by_age: BTreeMap::new(), next: 0 }
    }

    /// How long this subject has to wait; `None` when its attempt may be looked at.
    pub fn wait(&self, subject: &Subject, now: Duration) -> Option<Duration> {
        let left = self.subjects.get(subject)?.open_at.saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }

    /// Counts a failure.
    pub fn failed(&mut self, subject: Subject, now: Duration) {
        let mut failure_count = 1;
        if let Some(state) = self.subjects.remove(&subject) {
            self.by_age.remove(&state.age);
            if now.saturating_sub(state.age.0) < self.policy.forget_after {
                failure_count = state.failure_count.saturating_add(1);
            }
        }
        while self.subjects.len() >= self.policy.capacity.max(1) {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.subjects.remove(&oldest);
        }
        let age = (now, self.next);
        self.next += 1;
        let open_at = now.saturating_add(self.policy.delay(failure_count));
        self.subjects.insert(subject, State { failure_count, open_at, age });
        self.by_age.insert(age, subject);
    }

    /// Forgets a subject that proved itself.
    pub fn succeeded(&mut self, subject: &Subject) {
        if let Some(state) = self.subjects.remove(subject) {
            self.by_age.remove(&state.age);
        }
    }

    /// How many subjects are held.
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }
}

/// The core behind a lock, on a [`Clock`]'s monotonic time.
#[derive(Debug)]
pub struct Throttle {
    clock: Clock,
    core: Mutex<Core>,
}

impl Throttle {
    /// An empty one.
    pub fn new(policy: Policy, clock: Clock) -> Self {
        Self { clock, core: Mutex::new(Core::new(policy)) }
    }

    /// The longest time that any of `subjects` has to wait; `None` when the attempt may be looked at.
    pub fn wait(&self, subjects: &[Subject]) -> Option<Duration> {
        let now = self.clock.monotonic();
        let core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        subjects.iter().filter_map(|s| core.wait(s, now)).max()
    }

    /// Counts a failure of each.
    pub fn failed(&self, subjects: &[Subject]) {
        let now = self.clock.monotonic();
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        for subject in subjects {
            core.failed(*subject, now);
        }
    }

    /// Forgets a subject that proved itself.
    pub fn succeeded(&self, subject: &Subject) {
        self.core.lock().unwrap_or_else(PoisonError::into_inner).succeeded(subject);
    }

    /// How many subjects are held.
    pub fn subject_count(&self) -> usize {
        self.core.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
