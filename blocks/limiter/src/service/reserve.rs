//! Reserving what a request may cost, and settling what it did.
//!
//! - RESERVE-1: a reservation is settled once, on whatever node, however often it is tried.
//! - RESERVE-2: a token that was changed, or that another project was given, settles nothing.
//! - RESERVE-3: a place that is not given back is free again after the lease of its rule.
//!
//! The token holds everything that settling needs, signed with a secret of the installation; no node keeps a list.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kernel::{Problem, ProjectId};
use memory::{Adjust, Once, RateKey};
use ring::hmac;

use super::{
    Limiter,
    check::{Answers, How, plan, rate_key},
};
use crate::{
    MAX_LEASE,
    error::{Error, Result},
    model::{
        Check, MAX_COST, Outcome, ReservationToken, Settled, Source,
        index::Plan,
        token::{Reservation, Reserved},
    },
};

const TAG_BYTES: usize = 16;
/// The longest token; the largest reservation, of 32 cells, is shorter.
pub(crate) const MAX_TOKEN_CHARS: usize = 4096;
/// How much longer a settlement is remembered than its token lasts: clocks of nodes differ.
const GRACE: Duration = Duration::from_mins(1);

/// Signs tokens.
pub(super) struct Seal(hmac::Key);

impl Seal {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    fn sign(&self, project: &ProjectId, payload: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&(project.as_str().len() as u64).to_le_bytes());
        context.update(project.as_str().as_bytes());
        context.update(payload);
        context.sign()
    }

    fn seal(&self, project: &ProjectId, mut payload: Vec<u8>) -> ReservationToken {
        let tag = self.sign(project, &payload);
        payload.extend_from_slice(&tag.as_ref()[..TAG_BYTES]);
        ReservationToken::new(URL_SAFE_NO_PAD.encode(payload))
    }

    fn open(&self, project: &ProjectId, token: &str) -> Option<Reservation> {
        if token.len() > MAX_TOKEN_CHARS {
            return None;
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let tag = bytes.split_off(bytes.len().checked_sub(TAG_BYTES)?);
        let expected = self.sign(project, &bytes);
        // Constant time over the 16 bytes that the token carries.
        let differing = expected.as_ref()[..TAG_BYTES].iter().zip(&tag).fold(0_u8, |acc, (a, b)| acc | (a ^ b));
        if differing == 0 { Reservation::decode(&bytes) } else { None }
    }
}

impl Limiter {
    /// As [`Limiter::check`], of what is not known exactly yet: [`Limiter::settle`] says what it cost in the end, within `lease` (a
    /// second to [`MAX_LEASE`]). Rules of concurrency need a reservation: settling gives the place back, and so does the end of
    /// the rule's own lease. The token is `None` when the outcome is a refusal.
    pub async fn reserve(
        &self,
        project: &ProjectId,
        check: &Check<'_>,
        lease: Duration,
    ) -> Result<(Outcome, Option<ReservationToken>)> {
        if !(Duration::from_secs(1)..=MAX_LEASE).contains(&lease) {
            let detail = "expected 1 second to 1 hour".to_owned();
            return Err(Error::CheckInvalid { field: "/lease_ms".to_owned(), detail });
        }
        let domain = self.held(project, check.domain);
        let plan = plan(&domain, check)?;
        let id = u128::from_le_bytes(self.0.rng.bytes());
        let answers = self.answer(project, &plan, How::Charge, Some(id)).await?;
        let outcome = self.conclude(&domain, project, check, &plan, &answers, true);
        if !outcome.is_allowed {
            return Ok((outcome, None));
        }
        let reservation = Reservation {
            id,
            expires_at: self.0.clock.now().plus(lease),
            reserved: reserved(check, &plan),
            is_local: answers.iter().any(|answer| answer.source == Source::Fallback),
            cells: charged(&plan, &answers),
        };
        Ok((outcome, Some(self.0.seal.seal(project, reservation.encode()))))
    }

    /// Charges or gives back the difference between what was reserved and what it cost, once: a second time does nothing. What
    /// was used beyond the limit is owed. Where rules name an entry as their cost, only those are corrected: a request stays a
    /// request, whatever its tokens were.
    ///
    /// While the memory plane is away this fails with [`Error::Unavailable`] and may be tried again.
    pub async fn settle(&self, project: &ProjectId, token: &str, actual_cost: u64) -> Result<Settled> {
        let reservation = self.0.seal.open(project, token).ok_or(Error::ReservationInvalid)?;
        if actual_cost > MAX_COST {
            let detail = format!("at most {MAX_COST}");
            return Err(Error::CheckInvalid { field: "/actual_cost".to_owned(), detail });
        }
        let now = self.0.clock.now();
        if reservation.expires_at <= now {
            return Err(Error::ReservationExpired);
        }
        let keys: Vec<RateKey> = reservation.cells.iter().map(|cell| rate_key(project, cell.key)).collect();
        let adjusts: Vec<Adjust<'_>> = reservation
            .cells
            .iter()
            .zip(&keys)
            .filter_map(|(cell, key)| {
                let (delta, holder) = match cell.rate {
                    memory::Rate::Concurrency { .. } => (-signed(cell.cost), Some(reservation.id)),
                    _ if cell.is_corrected => (signed(actual_cost) - signed(cell.cost), None),
                    _ => return None,
                };
                // A correction by nothing still settles: whoever comes second is told so.
                Some(Adjust { key, rate: cell.rate, at: cell.at, delta, holder })
            })
            .collect();
        let settled = |is_first| Settled { is_first, reserved: reservation.reserved, charged: actual_cost };
        if adjusts.is_empty() {
            return Ok(settled(true));
        }
        let once = Once { id: reservation.id, ttl: reservation.expires_at.since(now) + GRACE };
        let space = if reservation.is_local { &self.0.stand_in } else { &self.0.space };
        match space.adjust(Some(once), &adjusts).await {
            Ok(is_first) => {
                for cell in &reservation.cells {
                    self.0.short_cuts.forget(cell.key);
                }
                Ok(settled(is_first))
            }
            Err(e) if e.is_down() => {
                self.0.down.is_away(now);
                Err(Error::Unavailable)
            }
            Err(e) => Err(Problem::from(e).into()),
        }
    }
}

/// What settling compares with: the cost that rules named, else that of the check.
fn reserved(check: &Check<'_>, plan: &Plan<'_>) -> u64 {
    plan.cells.iter().filter(|cell| cell.is_cost_named).map(|cell| cell.cost).max().unwrap_or(check.cost)
}

/// The cells that the reservation has charged.
fn charged(plan: &Plan<'_>, answers: &Answers) -> Vec<Reserved> {
    let has_named = plan.cells.iter().any(|cell| cell.is_cost_named);
    let cells = plan.cells.iter().zip(answers);
    // A rule in shadow mode that refused has charged nothing, and what nobody counted has no cell.
    let cells = cells
        .filter(|(_, answer)| answer.charged.is_allowed && !matches!(answer.source, Source::Open | Source::Closed));
    let reserved = |(cell, answer): (&crate::model::index::Cell<'_>, &super::check::Answer)| Reserved {
        key: cell.key,
        rate: cell.limit.rate(answer.charged.at.timestamp()),
        cost: cell.cost,
        at: answer.charged.at,
        is_corrected: cell.is_cost_named || !has_named,
    };
    cells.map(reserved).collect()
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
