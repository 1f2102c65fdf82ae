//! Things by host name: exact names first, then `*.` of one label.

use std::collections::HashMap;

/// Host names in lower case, each with a value.
#[derive(Debug, Clone)]
pub struct Hosts<T> {
    exact: HashMap<Box<str>, T>,
    /// By what follows the `*.`.
    wildcard: HashMap<Box<str>, T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new() }
    }
}

impl<T> Hosts<T> {
    /// Puts a value under `shop.example.com` or `*.example.com`; gives the one before.
    pub fn insert(&mut self, host: &str, value: T) -> Option<T> {
        match host.strip_prefix("*.") {
            Some(parent) => self.wildcard.insert(parent.into(), value),
            None => self.exact.insert(host.into(), value),
        }
    }

    /// The value for a name in lower case. A wildcard stands for exactly one label (RFC 6125 §6.4.3).
    pub fn get(&self, host: &str) -> Option<&T> {
        self.exact.get(host).or_else(|| self.wildcard.get(host.split_once('.')?.1))
    }

    /// Every value, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.wildcard.values())
    }
}
