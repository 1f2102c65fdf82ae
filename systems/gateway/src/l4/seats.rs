//! How many are here at once, in all and of one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::pump;

/// Why a connection was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// No PROXY header where one has to be.
    ProxyHeader,
    /// No ClientHello, or none in time.
    NotTls,
    /// A host that nothing is configured for.
    UnknownHost,
    /// Too many of its address, or (datagrams) in all.
    TooMany,
    /// The upstream has no room, or its breaker is open, or nobody is in it.
    NoEndpoint,
    /// No endpoint that was tried took the connection.
    Connect,
    /// The TLS handshake failed.
    Handshake,
}

impl Refused {
    pub(super) const ALL: [Self; 7] = [
        Self::ProxyHeader,
        Self::NotTls,
        Self::UnknownHost,
        Self::TooMany,
        Self::NoEndpoint,
        Self::Connect,
        Self::Handshake,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ProxyHeader => "proxy_header",
            Self::NotTls => "not_tls",
            Self::UnknownHost => "unknown_host",
            Self::TooMany => "too_many",
            Self::NoEndpoint => "no_endpoint",
            Self::Connect => "connect",
            Self::Handshake => "handshake",
        }
    }
}

/// The clients of one listener, and what became of those before.
#[derive(Debug, Default)]
pub(super) struct Seats {
    count: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    pub(super) left: Notify,
    pub(super) accepted: AtomicU64,
    pub(super) refused: [AtomicU64; Refused::ALL.len()],
    pub(super) idle_closed: AtomicU64,
    pub(super) bytes: pump::Bytes,
}

impl Seats {
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self, why: Refused) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a place; the caller has seen that there is one.
    pub(super) fn sit(self: &Arc<Self>) -> Seat {
        self.count.fetch_add(1, Ordering::Relaxed);
        Seat { seats: self.clone(), address: None }
    }
}

/// A place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    address: Option<IpAddr>,
}

impl Seat {
    /// Counts it to an address, of which there may be `most` (0: any number). Gives whether there was room.
    pub(super) fn name(&mut self, client: IpAddr, most: usize) -> bool {
        if most == 0 {
            return true;
        }
        let key = key(client);
        let mut by_address = self.seats.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(key).or_default();
        if *count >= most {
            return false;
        }
        *count += 1;
        self.address = Some(key);
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(key) = self.address {
            let mut by_address = self.seats.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = by_address.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&key);
                }
            }
        }
        self.seats.count.fetch_sub(1, Ordering::Relaxed);
        self.seats.left.notify_one();
    }
}

/// IPv4 as it is; of IPv6 the /64 that one customer has.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}
