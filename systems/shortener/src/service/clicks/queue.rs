//! Between the redirect and the log: clicks as they come, without a wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, TryLockError},
};

use kernel::Timestamp;

use super::ProjectIndex;
use crate::model::{LinkId, Position, Traits};

/// The most hosts of referrers that a part of the queue holds until it is emptied; further ones are not kept.
const MAX_HOSTS: usize = 4096;

/// A referrer as a number: 0 none, 1 not kept, from 2 on a host of the part that holds the click.
const NONE: u32 = 0;
const NOT_KEPT: u32 = 1;
const FIRST_HOST: u32 = 2;

/// One visit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Click {
    pub(crate) at: Timestamp,
    pub(crate) link: LinkId,
    pub(crate) visitor: Option<Position>,
    pub(crate) project: ProjectIndex,
    referrer: u32,
    pub(crate) traits: Traits,
}

const _: () = assert!(size_of::<Click>() <= 48, "a click is copied on every redirect");

impl Click {
    pub(crate) fn new(
        at: Timestamp,
        link: LinkId,
        project: ProjectIndex,
        traits: Traits,
        visitor: Option<Position>,
    ) -> Self {
        Self { at, link, visitor, project, referrer: NONE, traits }
    }
}

/// Clicks of one part, and the hosts that they came from.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) clicks: Vec<Click>,
    numbers: HashMap<Arc<str>, u32>,
    hosts: Vec<Arc<str>>,
}

impl Taken {
    fn push(&mut self, mut click: Click, referrer: Option<&Arc<str>>) {
        click.referrer = match referrer {
            None => NONE,
            Some(host) => match self.numbers.get(host) {
                Some(number) => *number,
                None if self.hosts.len() >= MAX_HOSTS => NOT_KEPT,
                None => {
                    let number = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX).saturating_add(FIRST_HOST);
                    self.numbers.insert(host.clone(), number);
                    self.hosts.push(host.clone());
                    number
                }
            },
        };
        self.clicks.push(click);
    }

    /// Where a click of this part came from.
    pub(super) fn referrer(&self, click: &Click) -> crate::model::Referrer<&str> {
        use crate::model::Referrer;
        match click.referrer {
            NONE => Referrer::None,
            number => {
                let index = number.checked_sub(FIRST_HOST).and_then(|i| usize::try_from(i).ok());
                index.and_then(|i| self.hosts.get(i)).map_or(Referrer::NotKept, |host| Referrer::Host(host))
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.clicks.clear();
        self.numbers.clear();
        self.hosts.clear();
    }
}

/// One part of the queue, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part(Mutex<Taken>);

/// As many parts as there may be workers.
#[derive(Debug)]
pub(super) struct Queue {
    parts: Box<[Part]>,
    part_capacity: usize,
}

impl Queue {
    pub(super) fn new(part_count: usize, part_capacity: usize) -> Self {
        Self { parts: (0..part_count.max(1)).map(|_| Part::default()).collect(), part_capacity }
    }

    /// Takes a click if there is room: in the worker's own part, else in another. Never waits.
    pub(super) fn push(&self, worker: usize, click: Click, referrer: Option<&Arc<str>>) -> bool {
        let count = self.parts.len();
        for i in 0..count {
            let mut part = match self.parts[(worker + i) % count].0.try_lock() {
                Ok(part) => part,
                Err(TryLockError::Poisoned(e)) => e.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            if part.clicks.len() < self.part_capacity {
                part.push(click, referrer);
                return true;
            }
        }
        false
    }

    /// Empties the queue, part by part.
    pub(super) fn drain(&self, scratch: &mut Taken, mut each: impl FnMut(&Taken)) {
        for part in &self.parts {
            // The buffers change places, so the lock is held for a few words and neither side allocates.
            std::mem::swap(scratch, &mut *part.0.lock().unwrap_or_else(PoisonError::into_inner));
            each(scratch);
            scratch.clear();
        }
    }
}
