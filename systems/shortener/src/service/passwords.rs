//! Passwords of links, looked at without holding up anybody else.
//!
//! - PASSWORDS-1: at most 2 passwords are hashed at once, on threads of their own, and nobody waits longer than 2 s for their turn.
//! - PASSWORDS-2: wrong ones are slowed down by address (10 are free, then 1 s doubling to 1 min) and by link (100 are
//!   free, then 1 s doubling to 10 s), on each node for itself. While the door is closed nothing is looked at.

use std::{net::IpAddr, sync::Arc, time::Duration};

use identity::{Policy, Subject, Throttle};
use kernel::{Clock, Problem, Rng};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Shortener, Target};
use crate::{
    error::Error,
    model::{Invalid, LinkId, MAX_PASSWORD_BYTES, Password, PasswordHash},
};

/// How many are hashed at once.
const AT_ONCE: usize = 2;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// What became of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PasswordCheck {
    /// It is the link's.
    Right,
    /// It is not.
    Wrong,
    /// It was not looked at: too many wrong ones came before.
    Wait(Duration),
    /// It was not looked at: others are.
    Busy,
}

#[derive(Debug)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    by_address: Throttle,
    by_link: Throttle,
    clock: Clock,
    rng: Rng,
}

impl Passwords {
    pub(crate) fn new(clock: Clock, rng: Rng) -> Self {
        // Anybody can close the door of a link for others: therefore late, and never for long.
        let by_link = Policy { free_count: 100, max_delay: Duration::from_secs(10), ..Policy::default() };
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            by_address: Throttle::new(Policy::default(), clock.clone()),
            by_link: Throttle::new(by_link, clock.clone()),
            clock,
            rng,
        }
    }

    /// Waits for a turn; `None` when it does not come in time.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.clock.timeout(PATIENCE, self.turns.clone().acquire_owned()).await?.ok()
    }

    async fn check(&self, link: LinkId, client: IpAddr, kept: PasswordHash, given: String) -> PasswordCheck {
        // A right password forgives no address its wrong ones: whoever sends it may have set it.
        let (address, link) = ([Subject::of_address(client)], [Subject::Thing(link.0)]);
        let wait = || self.by_address.wait(&address).max(self.by_link.wait(&link));
        if let Some(time) = wait() {
            return PasswordCheck::Wait(time);
        }
        if given.len() > MAX_PASSWORD_BYTES {
            return PasswordCheck::Wrong;
        }
        let Some(turn) = self.turn().await else { return PasswordCheck::Busy };
        // Others may have failed meanwhile.
        if let Some(time) = wait() {
            return PasswordCheck::Wait(time);
        }
        match hash(turn, move || kept.is(&given)).await {
            None => PasswordCheck::Busy,
            Some(true) => PasswordCheck::Right,
            Some(false) => {
                self.by_address.failed(&address);
                self.by_link.failed(&link);
                PasswordCheck::Wrong
            }
        }
    }
}

/// Works on a thread of its own. The turn ends with the work, also when nobody waits for it any more.
async fn hash<T: Send + 'static>(turn: OwnedSemaphorePermit, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let work = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    work.await.ok()
}

impl Shortener {
    /// What is kept of a password that its owner gives.
    pub(crate) async fn hash_password(&self, password: Password) -> Result<PasswordHash, Error> {
        password.check().map_err(|why| Error::Field(Invalid::new("/password", why)))?;
        let passwords = &self.0.passwords;
        let salt = passwords.rng.bytes();
        let busy = || Problem::new(&kernel::error::UNAVAILABLE, "Too many passwords are being looked at; try again.");
        let turn = passwords.turn().await.ok_or_else(busy)?;
        Ok(hash(turn, move || PasswordHash::new(password.as_str(), salt)).await.ok_or_else(busy)?)
    }

    /// Whether a visitor knows the password of a link.
    pub(crate) async fn check_password(&self, target: &Target, client: IpAddr, given: String) -> PasswordCheck {
        match target.password() {
            None => PasswordCheck::Right,
            Some(kept) => self.0.passwords.check(target.link, client, kept.clone(), given).await,
        }
    }
}
