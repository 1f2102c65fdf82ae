//! Who visits, as far as it is kept: facts from headers, and a position in a sketch that only holds for a day.
//!
//! An address is never stored and never leaves the request: it is hashed together with the user agent under the salt of the day
//! (SipHash-1-3 with a key of 128 random bits), and of the hash only the 17 bits stay that [`Position`] needs. The salt is
//! the same on every node, and deleted a few minutes after its day; from then on nobody can repeat the hash.

use std::{
    hash::Hasher as _,
    net::IpAddr,
    sync::{Arc, Mutex, TryLockError},
    time::Duration,
};

use arc_swap::ArcSwap;
use database::Db;
use kernel::{Clock, Rng, Timestamp};
use siphasher::sip::SipHasher13;

use crate::{
    model::{Agent, Facts, Language, Position, Step, agent_digest, referrer_host},
    store,
};

/// Different values of a header that each worker remembers; about 100 bytes each.
const REMEMBERED: usize = 1024;
/// How long after its day a salt is kept, for nodes whose clocks are behind.
pub(crate) const SALT_GRACE: Duration = Duration::from_mins(10);

type Salt = [u8; 16];

/// The salts of today and tomorrow.
#[derive(Debug)]
pub(crate) struct Salts {
    known: ArcSwap<Vec<(Timestamp, Salt)>>,
}

impl Salts {
    pub(crate) fn new() -> Self {
        Self { known: ArcSwap::default() }
    }

    /// Makes sure that the salts of today and tomorrow are known.
    pub(crate) async fn refresh(&self, db: &Db, clock: &Clock, rng: &Rng) -> database::Result<()> {
        let today = clock.now().floor(Step::Day.width());
        let known = self.known.load_full();
        let mut now_known = Vec::with_capacity(2);
        for day in [today, today.plus(Step::Day.width())] {
            let salt = match known.iter().find(|(known, _)| *known == day) {
                Some((_, salt)) => *salt,
                None => store::salt_of_day(db, day, rng.bytes()).await?,
            };
            now_known.push((day, salt));
        }
        if now_known != *known {
            self.known.store(Arc::new(now_known));
        }
        Ok(())
    }

    /// Where a visitor falls on that day; `None` when the salt of the day could not be had.
    pub(crate) fn position(&self, at: Timestamp, client: IpAddr, facts: &Facts) -> Option<Position> {
        let known = self.known.load();
        let (_, salt) = known.iter().find(|(day, _)| *day <= at && at < day.plus(Step::Day.width()))?;
        let mut hasher = SipHasher13::new_with_key(salt);
        match client {
            IpAddr::V4(v4) => hasher.write(&v4.octets()),
            IpAddr::V6(v6) => hasher.write(&v6.octets()),
        }
        hasher.write_u64(facts.agent_digest);
        Some(Position::of_hash(hasher.finish()))
    }
}

/// What was read from one header, by a hash of it under a key of this process; the header itself is not kept. A slot has the last
/// one that fell into it.
#[derive(Debug)]
struct Slots<T>(Vec<Option<(u64, T)>>);

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone> Slots<T> {
    fn get(&mut self, key: &Salt, header: &[u8], read: impl FnOnce(&[u8]) -> T) -> T {
        let mut hasher = SipHasher13::new_with_key(key);
        hasher.write(header);
        let hash = hasher.finish();
        if self.0.is_empty() {
            self.0.resize(REMEMBERED, None);
        }
        let index = usize::try_from(hash % REMEMBERED as u64).unwrap_or(0);
        match &self.0[index] {
            Some((known, value)) if *known == hash => value.clone(),
            _ => {
                let value = read(header);
                self.0[index] = Some((hash, value.clone()));
                value
            }
        }
    }
}

#[derive(Debug, Default)]
struct Memory {
    agents: Slots<(Agent, u64)>,
    languages: Slots<Option<Language>>,
    referrers: Slots<Option<Arc<str>>>,
}

/// What each worker read from headers lately, each header for itself: there are few that are common, and very many combinations.
#[derive(Debug)]
pub(crate) struct Remembered {
    workers: Box<[Mutex<Memory>]>,
    key: Salt,
}

impl Remembered {
    pub(crate) fn new(worker_count: usize, rng: &Rng) -> Self {
        Self { workers: (0..worker_count.max(1)).map(|_| Mutex::default()).collect(), key: rng.bytes() }
    }

    /// What the headers tell. Never waits.
    pub(crate) fn facts(
        &self,
        worker: usize,
        user_agent: Option<&[u8]>,
        accept_language: Option<&[u8]>,
        referer: Option<&[u8]>,
    ) -> Facts {
        let mut memory = match self.workers[worker % self.workers.len()].try_lock() {
            Ok(memory) => memory,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return Facts::of_headers(user_agent, accept_language, referer),
        };
        let read_agent = |header: &[u8]| (Agent::parse(header), agent_digest(header));
        let (agent, agent_digest) = memory.agents.get(&self.key, user_agent.unwrap_or_default(), read_agent);
        let language = accept_language.and_then(|h| memory.languages.get(&self.key, h, Language::of_header));
        let referrer = referer.and_then(|h| memory.referrers.get(&self.key, h, referrer_host));
        Facts { agent, language, country: None, referrer, agent_digest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_remembered_for_exactly_these_headers() {
        let remembered = Remembered::new(2, &Rng::seeded(1));
        let headers: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"Firefox/133.0"), Some(b"de")];
        for worker in 0..3 {
            for _ in 0..2 {
                for agent in headers {
                    for language in headers {
                        for referer in [None, Some(&b"https://example.com/"[..]), Some(b"https://example.org/")] {
                            let facts = remembered.facts(worker, agent, language, referer);
                            assert_eq!(facts, Facts::of_headers(agent, language, referer));
                        }
                    }
                }
            }
        }
        for i in 0..10_000 {
            let referer = format!("https://h{i}.example/");
            let facts = remembered.facts(0, None, None, Some(referer.as_bytes()));
            assert_eq!(facts.referrer.as_deref(), Some(format!("h{i}.example").as_str()));
        }
        assert_eq!(remembered.workers[0].lock().unwrap().referrers.0.len(), REMEMBERED, "bounded");
    }

    #[test]
    fn a_visitor_is_told_apart_within_a_day_only() {
        let salts = Salts::new();
        let day = Timestamp::from_millis(1_795_478_400_000);
        let next = day.plus(Step::Day.width());
        let facts = |agent: &str| Facts::of_headers(Some(agent.as_bytes()), None, None);
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(salts.position(day, here, &facts("a")), None, "without a salt nothing is hashed");
        salts.known.store(Arc::new(vec![(day, [1; 16]), (next, [2; 16])]));
        let one = salts.position(day, here, &facts("a")).unwrap();
        assert_eq!(salts.position(next.minus(Duration::from_millis(1)), here, &facts("a")), Some(one));
        assert_ne!(salts.position(day, here, &facts("b")), Some(one));
        assert_ne!(salts.position(day, "192.0.2.2".parse().unwrap(), &facts("a")), Some(one));
        assert_ne!(salts.position(next, here, &facts("a")), Some(one));
        assert_eq!(salts.position(next.plus(Step::Day.width()), here, &facts("a")), None);
    }
}
