//! Telling other nodes that a link or domain changed, over the memory plane.
//!
//! What is told is only what makes near caches fresh sooner: an invalidation that is lost costs at most `cache_max_age`
//! (NEAR-1). What could not be sent is sent again as soon as the plane serves; what was not received shows as a gap, after which
//! everything is forgotten.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use kernel::{Clock, ProjectId, Shutdown};
use memory::{Event, Key, Memory, OnDown, Space, Subscription, Use};

use super::{
    block_lists::BlockLists,
    domains::Domains,
    near::{Near, SpotRef},
};
use crate::{model::DomainId, telemetry::Telemetry};

/// A failure is seen here, and answered by sending again.
const INVALIDATIONS: Use = Use { name: "shortener.invalidations", on_down: OnDown::Closed };
/// The message that makes a node forget everything; no code holds this character.
const EVERYTHING: &str = "*";
/// The message that makes a node read the domains anew.
const DOMAINS: &str = "+";
/// The message that makes a node read the blocks of moderators anew.
const BLOCKS: &str = "!";
/// Invalidations that wait to be sent; beyond, "everything" takes their place.
const MAX_UNSENT: usize = 10_000;
/// How often what was not sent is tried again, and the state of the subscription looked at.
const TICK: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Invalidations {
    space: Space,
    channel: Key,
    unsent: Mutex<VecDeque<Bytes>>,
    telemetry: Telemetry,
}

impl Invalidations {
    pub(crate) fn new(memory: &Memory, telemetry: Telemetry) -> Self {
        // One channel for the installation: visitors belong to no project.
        let channel = Key::new(&ProjectId::default_project(), "shortener", ["invalidations"]);
        Self { space: memory.with(INVALIDATIONS), channel, unsent: Mutex::default(), telemetry }
    }

    /// Tells other nodes to forget a code, now or when the memory plane serves again.
    pub(crate) async fn tell_others(&self, spot: SpotRef<'_>) {
        self.tell(format!("{}/{}", spot.domain.0, spot.code).into()).await;
    }

    /// Tells other nodes that a domain came, changed or went.
    pub(crate) async fn tell_domains(&self) {
        self.tell(Bytes::from_static(DOMAINS.as_bytes())).await;
    }

    /// Tells other nodes that moderators have blocked a destination, or no longer do.
    pub(crate) async fn tell_blocks(&self) {
        self.tell(Bytes::from_static(BLOCKS.as_bytes())).await;
    }

    async fn tell(&self, message: Bytes) {
        if let Err(e) = self.space.publish(&self.channel, message.clone()).await {
            self.telemetry.invalidations_unsent.inc();
            tracing::warn!(error = %e, "other nodes were not told of a changed link; they are told when the memory plane serves");
            let mut unsent = self.unsent();
            if unsent.len() >= MAX_UNSENT {
                unsent.clear();
                unsent.push_back(Bytes::from_static(EVERYTHING.as_bytes()));
            } else {
                unsent.push_back(message);
            }
        }
    }

    /// Applies what other nodes tell until shutdown, and sends again what could not be sent.
    pub(crate) async fn hear(
        &self,
        near: &Near,
        (domains, lists): (&Domains, &BlockLists),
        clock: &Clock,
        shutdown: &Shutdown,
    ) {
        while !shutdown.is_triggered() {
            match self.space.subscribe(&self.channel).await {
                Ok(subscription) => self.follow(subscription, near, (domains, lists), clock, shutdown).await,
                Err(e) => tracing::warn!(error = %e, "invalidations cannot be received; trying again"),
            }
            near.set_degraded(true);
            if shutdown.or(clock.sleep(TICK)).await.is_none() {
                return;
            }
        }
    }

    /// Until the subscription ends or shutdown.
    async fn follow(
        &self,
        mut subscription: Subscription,
        near: &Near,
        (domains, lists): (&Domains, &BlockLists),
        clock: &Clock,
        shutdown: &Shutdown,
    ) {
        // What was loaded before anything was heard may have changed unheard.
        near.forget_all();
        domains.read_anew();
        lists.read_anew();
        loop {
            near.set_degraded(!subscription.is_live());
            tokio::select! {
                event = subscription.recv() => match event {
                    Some(Event::Message(message)) => self.apply(&message, near, (domains, lists)),
                    Some(Event::Gap) => self.forget_all(near, (domains, lists)),
                    None => return,
                },
                () = clock.sleep(TICK) => self.send_again().await,
                () = shutdown.wait() => return,
            }
        }
    }

    fn apply(&self, message: &[u8], near: &Near, (domains, lists): (&Domains, &BlockLists)) {
        match std::str::from_utf8(message).unwrap_or_default() {
            EVERYTHING => self.forget_all(near, (domains, lists)),
            DOMAINS => domains.read_anew(),
            BLOCKS => lists.read_anew(),
            text => {
                let named = text.split_once('/').and_then(|(domain, code)| Some((domain.parse().ok()?, code)));
                let Some((domain, code)) = named else {
                    tracing::warn!("an invalidation that names no link was ignored");
                    return;
                };
                near.forget(SpotRef { domain: DomainId(domain), code });
                self.telemetry.invalidated_elsewhere.inc();
            }
        }
    }

    fn forget_all(&self, near: &Near, (domains, lists): (&Domains, &BlockLists)) {
        near.forget_all();
        domains.read_anew();
        lists.read_anew();
        self.telemetry.invalidated_all.inc();
    }

    async fn send_again(&self) {
        while let Some(message) = { self.unsent().front().cloned() } {
            if self.space.publish(&self.channel, message.clone()).await.is_err() {
                return;
            }
            let mut unsent = self.unsent();
            if unsent.front() == Some(&message) {
                unsent.pop_front();
            }
        }
    }

    fn unsent(&self) -> std::sync::MutexGuard<'_, VecDeque<Bytes>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
