//! The operations on rate cells, and what they do while Redis is down.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::{
    Adjust, Charge, Charged, Moment, Once, check_keys,
    form::Form,
    small::{self, Admit},
    table::holder,
    time::wall_us,
};
use crate::{Error, MAX_TTL, OnDown, Result, Space, plane::Engine};

/// Rate cells; see [`crate::Rate`] for what is guaranteed.
impl Space {
    /// Charges up to [`crate::MAX_CELLS`] cells of one project at one instant: all of them when every cell that is no shadow allows
    /// it, else none. One round trip on Redis, by the clock of the server. Answers are in the order of the charges;
    /// [`Charged::all_allowed`] says whether the call was allowed.
    ///
    /// While Redis is down: [`OnDown::Open`] answers as if nothing had been charged before, [`OnDown::BoundedLocal`] by cells of
    /// this process. A call that ended with [`Error::Unavailable`] may have charged.
    pub async fn charge(&self, charges: &[Charge<'_>]) -> Result<Vec<Charged>> {
        self.decide(charges, true).await
    }

    /// As [`Space::charge`], without charging: what would be answered now.
    pub async fn peek(&self, charges: &[Charge<'_>]) -> Result<Vec<Charged>> {
        self.decide(charges, false).await
    }

    /// [`Space::charge`] where it never waits: `Some` when the engine is in this process.
    pub fn try_charge(&self, charges: &[Charge<'_>]) -> Option<Result<Vec<Charged>>> {
        let Engine::Local = self.shared.engine else { return None };
        self.counters.operations.fetch_add(1, Relaxed);
        Some(self.shared.local.rates.charge(charges, true))
    }

    /// [`Space::try_charge`] for one cell; allocates nothing.
    pub fn try_charge_one(&self, charge: &Charge<'_>) -> Option<Result<Charged>> {
        let Engine::Local = self.shared.engine else { return None };
        self.counters.operations.fetch_add(1, Relaxed);
        Some(self.shared.local.rates.charge_one(charge))
    }

    /// Corrects up to [`crate::MAX_CELLS`] cells of one project after the fact: gives back what was not used, adds what was used
    /// beyond it, releases places. With `once`, whoever comes second with its id changes nothing and gets `false`.
    ///
    /// While Redis is down: [`OnDown::Open`] drops it (`true`), [`OnDown::BoundedLocal`] corrects the cells of this process.
    pub async fn adjust(&self, once: Option<Once>, adjusts: &[Adjust<'_>]) -> Result<bool> {
        if let Some(once) = &once {
            if once.ttl < Duration::from_millis(1) {
                return Err(Error::Invalid("a time to live of less than a millisecond"));
            }
            if once.ttl > MAX_TTL {
                return Err(Error::Invalid("a time to live of more than 10 years"));
            }
        }
        if adjusts.is_empty() {
            return Err(Error::Invalid("a correction of no cell"));
        }
        self.counters.operations.fetch_add(1, Relaxed);
        let redis = match &self.shared.engine {
            Engine::Local => return self.shared.local.rates.adjust(once.as_ref(), adjusts),
            Engine::Redis(redis) => redis,
        };
        match redis.adjust(once.as_ref(), adjusts).await {
            Err(e) if e.is_down() => {
                self.counters.down.fetch_add(1, Relaxed);
                match self.declared.on_down {
                    OnDown::Open => Ok(true),
                    OnDown::BoundedLocal => self.shared.local.rates.adjust(once.as_ref(), adjusts),
                    OnDown::Closed => Err(e),
                }
            }
            other => other,
        }
    }

    async fn decide(&self, charges: &[Charge<'_>], is_real: bool) -> Result<Vec<Charged>> {
        self.counters.operations.fetch_add(1, Relaxed);
        if charges.is_empty() {
            return Ok(Vec::new());
        }
        let redis = match &self.shared.engine {
            Engine::Local => return self.shared.local.rates.charge(charges, is_real),
            Engine::Redis(redis) => redis,
        };
        match redis.charge(charges, is_real).await {
            Err(e) if e.is_down() => {
                self.counters.down.fetch_add(1, Relaxed);
                match self.declared.on_down {
                    OnDown::Open => as_if_empty(charges, wall_us(&self.shared.clock)),
                    OnDown::BoundedLocal => self.shared.local.rates.charge(charges, is_real),
                    OnDown::Closed => Err(e),
                }
            }
            other => other,
        }
    }
}

/// What cells answer that have counted nothing yet.
fn as_if_empty(charges: &[Charge<'_>], now: u64) -> Result<Vec<Charged>> {
    check_keys(charges.iter().map(|charge| charge.key), charges.len())?;
    let answer = |charge: &Charge<'_>| {
        let form = Form::new(&charge.rate)?;
        holder(&form, charge.holder)?;
        let (admit, remaining, reset) = match form {
            Form::Log { limit, horizon } | Form::Holders { limit, horizon } => {
                let admit = if charge.cost > limit { Admit::NEVER } else { Admit::YES };
                let is_charged = admit.is_allowed && charge.cost > 0;
                let left = if is_charged { limit - charge.cost } else { limit };
                (admit, left, if is_charged { horizon } else { 0 })
            }
            _ => {
                let (admit, next) = small::admit(&form, None, now, charge.cost)?;
                let report = small::report(&form, admit.is_allowed.then_some(next), now)?;
                (admit, report.remaining, report.reset)
            }
        };
        Ok(Charged {
            is_allowed: admit.is_allowed,
            remaining,
            retry_after: admit.retry.map(Duration::from_micros),
            reset_after: Duration::from_micros(reset),
            at: Moment::from_micros(now),
        })
    };
    charges.iter().map(answer).collect()
}
