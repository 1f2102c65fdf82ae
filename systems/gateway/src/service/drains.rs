//! Endpoints that an operator takes requests away from: on every node within a second, and after a restart.
//!
//! - DRAIN-1: what was acknowledged is committed with its entry in the audit log, and holds until it is taken back.

use std::collections::HashSet;

use identity::Principal;
use serde_json::json;
use upstream::UpstreamState;

use super::Gateway;
use crate::{
    error::{Error, Result},
    store::{self, Drain},
};

/// The most endpoints that are drained by hand.
pub const MAX_DRAINS: usize = 1_000;

impl Gateway {
    /// Takes requests away from an endpoint of an upstream, or gives them back. Those under way end by themselves.
    pub async fn set_drained(&self, who: &Principal, upstream: &str, endpoint: &str, is_drained: bool) -> Result<()> {
        if !who.is_admin {
            return Err(Error::NotOperator);
        }
        // What is gone can still be given back: it may come again.
        if is_drained && !self.upstream_state(upstream)?.endpoints.iter().any(|one| one.address == endpoint) {
            return Err(Error::EndpointUnknown);
        }
        let drain = Drain {
            upstream: upstream.to_owned(),
            endpoint: endpoint.to_owned(),
            at: self.0.clock.now(),
            by: who.name.to_string(),
        };
        let (access, who) = (self.0.access.clone(), who.clone());
        self.0
            .db
            .tx(async move |tx| -> Result<()> {
                let action = if is_drained {
                    if usize::try_from(store::drain_count(tx).await?).unwrap_or(usize::MAX) >= MAX_DRAINS {
                        return Err(Error::DrainsFull);
                    }
                    store::drain(tx, &drain).await?;
                    "gateway.endpoint.drain"
                } else {
                    store::undrain(tx, &drain.upstream, &drain.endpoint).await?;
                    "gateway.endpoint.undrain"
                };
                let object = format!("{}/{}", drain.upstream, drain.endpoint);
                access.audit(tx, &who, action, &object, &json!({})).await?;
                tx.notify(store::TOPIC, 0);
                Ok(())
            })
            .await?;
        self.refresh_drains().await
    }

    /// Every endpoint that is drained by hand.
    pub async fn drains(&self) -> Result<Vec<Drain>> {
        Ok(store::drains(&self.0.db, u32::try_from(MAX_DRAINS).unwrap_or(u32::MAX)).await?)
    }

    /// An upstream as it is now.
    pub fn upstream_state(&self, name: &str) -> Result<UpstreamState> {
        self.0.upstreams.get(name).map(|upstream| upstream.state()).ok_or(Error::UpstreamUnknown)
    }

    /// Brings the upstreams of this node to what is drained, as the background does several times a second.
    pub async fn refresh_drains(&self) -> Result<()> {
        let wanted: HashSet<(String, String)> =
            self.drains().await?.into_iter().map(|drain| (drain.upstream, drain.endpoint)).collect();
        let before = self.state(|state| std::mem::replace(&mut state.drained, wanted.clone()));
        if wanted.is_empty() && before.is_empty() {
            return Ok(());
        }
        for state in self.0.upstreams.states() {
            let Some(upstream) = self.0.upstreams.get(&state.name) else { continue };
            for endpoint in &state.endpoints {
                let place = (state.name.clone(), endpoint.address.clone());
                // Endpoints come and go with DNS and the registry: those that are drained are told each time, which changes nothing when they
                // know.
                if wanted.contains(&place) != before.contains(&place)
                    || (wanted.contains(&place) && !endpoint.is_draining)
                {
                    upstream.set_drained(endpoint.id, wanted.contains(&place));
                }
            }
        }
        Ok(())
    }
}
