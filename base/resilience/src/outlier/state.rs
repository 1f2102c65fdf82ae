//! The pure core of outlier detection.

use std::{collections::HashMap, hash::Hash, time::Duration};

/// When a host is taken for an outlier, and for how long it is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlierConfig {
    /// So many failures in a row eject a host; 0: never for that.
    pub consecutive_failures: u32,
    /// How often success rates are compared; at least 1 ms.
    pub interval: Duration,
    /// Hosts that must have `min_calls` in an interval for rates to be compared; 0: rates are never compared.
    pub min_hosts: u32,
    /// Calls in an interval for a host's rate to mean something.
    pub min_calls: u32,
    /// A host is ejected when its rate is below the mean of all by so many thousandths of their standard deviation.
    pub deviation_thousandths: u32,
    /// How long the first ejection lasts; the second twice as long, the third three times.
    pub base_ejection: Duration,
    /// The longest ejection.
    pub max_ejection: Duration,
    /// At most this percentage of hosts is ejected at a time; one may always be, and never all.
    pub max_ejected_percent: u32,
    /// When less than this percentage of hosts is well, all are used: a few would only be overrun as well.
    pub panic_percent: u32,
}

impl Default for OutlierConfig {
    /// As Envoy has it: five failures in a row, or 1.9 deviations below the mean of at least five hosts with 100 calls in 10 s; 30 s
    /// up to 5 min; a tenth of hosts; panic below a half.
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            interval: Duration::from_secs(10),
            min_hosts: 5,
            min_calls: 100,
            deviation_thousandths: 1_900,
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_mins(5),
            max_ejected_percent: 10,
            panic_percent: 50,
        }
    }
}

/// Which hosts to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usable<K> {
    /// In the order in which they were given. Empty only when there are none.
    pub hosts: Vec<K>,
    /// Whether so few are well that all are used.
    pub is_panic: bool,
}

/// The state machine: time comes in, nothing waits. As many hosts as its owner gives it.
#[derive(Debug, Clone)]
pub struct OutlierCore<K> {
    config: OutlierConfig,
    hosts: Vec<Host<K>>,
    places: HashMap<K, usize>,
    interval_end: Duration,
    ejections: u64,
}

#[derive(Debug, Clone)]
struct Host<K> {
    key: K,
    failures_in_row: u32,
    calls: u32,
    successes: u32,
    /// How often it was ejected, less one for each interval that it was in since.
    times: u32,
    ejected_until: Option<Duration>,
}

impl<K: Hash + Eq + Clone> OutlierCore<K> {
    /// With no hosts.
    pub fn new(config: OutlierConfig) -> Self {
        let interval = config.interval.max(Duration::from_millis(1));
        Self {
            config: OutlierConfig { interval, ..config },
            hosts: Vec::new(),
            places: HashMap::new(),
            interval_end: interval,
            ejections: 0,
        }
    }

    /// Says which hosts there are. What is known of those that stay is kept.
    pub fn set_hosts(&mut self, keys: impl IntoIterator<Item = K>) {
        let mut old = std::mem::take(&mut self.places);
        let mut hosts: Vec<Host<K>> = Vec::new();
        for key in keys {
            if self.places.contains_key(&key) {
                continue;
            }
            let known = old.remove(&key).map(|at| self.hosts[at].clone());
            self.places.insert(key.clone(), hosts.len());
            hosts.push(known.unwrap_or(Host {
                key,
                failures_in_row: 0,
                calls: 0,
                successes: 0,
                times: 0,
                ejected_until: None,
            }));
        }
        self.hosts = hosts;
    }

    /// Says at `now` how a call to a host ended. Of a host that is not known, nothing is kept.
    pub fn report(&mut self, now: Duration, key: &K, is_success: bool) {
        self.turn(now);
        let Some(at) = self.places.get(key).copied() else { return };
        let limit = self.config.consecutive_failures;
        let host = &mut self.hosts[at];
        host.calls = host.calls.saturating_add(1);
        host.successes = host.successes.saturating_add(u32::from(is_success));
        host.failures_in_row = if is_success { 0 } else { host.failures_in_row.saturating_add(1) };
        if limit > 0 && host.failures_in_row >= limit {
            self.eject(now, at);
        }
    }

    /// Adds successes that were counted elsewhere since the last report of this host, so that not each has to come here. To be called
    /// before [`OutlierCore::next_turn`] passes, or they count in the next interval.
    pub fn add_successes(&mut self, key: &K, count: u32) {
        if count > 0
            && let Some(at) = self.places.get(key).copied()
        {
            let host = &mut self.hosts[at];
            host.calls = host.calls.saturating_add(count);
            host.successes = host.successes.saturating_add(count);
            host.failures_in_row = 0;
        }
    }

    /// The hosts that are ejected at `now`, with when they come back.
    pub fn ejected(&mut self, now: Duration) -> impl Iterator<Item = (&K, Duration)> {
        self.turn(now);
        self.hosts.iter().filter_map(|host| Some((&host.key, host.ejected_until?)))
    }

    /// When something changes by itself: an ejection ends, or rates are compared.
    pub fn next_turn(&self) -> Duration {
        self.hosts.iter().filter_map(|host| host.ejected_until).min().unwrap_or(Duration::MAX).min(self.interval_end)
    }

    /// The hosts to use at `now`, of those that `is_healthy` (an active check) also takes for well.
    pub fn usable(&mut self, now: Duration, is_healthy: impl Fn(&K) -> bool) -> Usable<K> {
        self.turn(now);
        let well: Vec<K> = self
            .hosts
            .iter()
            .filter(|host| host.ejected_until.is_none() && is_healthy(&host.key))
            .map(|host| host.key.clone())
            .collect();
        if well.len() * 100 < self.hosts.len() * self.config.panic_percent as usize || well.is_empty() {
            let hosts: Vec<K> = self.hosts.iter().map(|host| host.key.clone()).collect();
            return Usable { is_panic: !hosts.is_empty(), hosts };
        }
        Usable { hosts: well, is_panic: false }
    }

    /// Whether a host is ejected at `now`.
    pub fn is_ejected(&mut self, now: Duration, key: &K) -> bool {
        self.turn(now);
        self.places.get(key).is_some_and(|at| self.hosts[*at].ejected_until.is_some())
    }

    /// Hosts that are ejected at `now`.
    pub fn ejected_count(&mut self, now: Duration) -> usize {
        self.turn(now);
        self.hosts.iter().filter(|host| host.ejected_until.is_some()).count()
    }

    /// Ejections so far.
    pub fn ejection_count(&self) -> u64 {
        self.ejections
    }

    /// Lets those back whose time is over, and compares when an interval has ended.
    fn turn(&mut self, now: Duration) {
        for host in &mut self.hosts {
            if host.ejected_until.is_some_and(|until| now >= until) {
                host.ejected_until = None;
                host.failures_in_row = 0;
            }
        }
        if now < self.interval_end {
            return;
        }
        for host in self.hosts.iter_mut().filter(|host| host.ejected_until.is_none()) {
            host.times = host.times.saturating_sub(1);
        }
        self.compare(now);
        for host in &mut self.hosts {
            (host.calls, host.successes) = (0, 0);
        }
        self.interval_end = now.saturating_add(self.config.interval);
    }

    fn compare(&mut self, now: Duration) {
        let rates: Vec<(usize, f64)> = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| host.calls >= self.config.min_calls.max(1) && host.ejected_until.is_none())
            .map(|(at, host)| (at, f64::from(host.successes) / f64::from(host.calls)))
            .collect();
        let Ok(count) = u32::try_from(rates.len()) else { return };
        if self.config.min_hosts == 0 || count < self.config.min_hosts {
            return;
        }
        let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / f64::from(count);
        let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / f64::from(count);
        let least = mean - variance.sqrt() * f64::from(self.config.deviation_thousandths) / 1_000.0;
        let mut worst: Vec<_> = rates.into_iter().filter(|(_, rate)| *rate < least).collect();
        // The worst first, should there not be room for all.
        worst.sort_by(|a, b| a.1.total_cmp(&b.1));
        for (at, _) in worst {
            self.eject(now, at);
        }
    }

    fn eject(&mut self, now: Duration, at: usize) {
        let out = self.hosts.iter().filter(|host| host.ejected_until.is_some()).count();
        let share = self.hosts.len() * self.config.max_ejected_percent.min(100) as usize / 100;
        let most = share.max(1).min(self.hosts.len().saturating_sub(1));
        let config = self.config;
        let host = &mut self.hosts[at];
        if host.ejected_until.is_some() || out >= most {
            return;
        }
        host.times = host.times.saturating_add(1);
        host.failures_in_row = 0;
        let out_for =
            config.base_ejection.saturating_mul(host.times).min(config.max_ejection.max(config.base_ejection));
        host.ejected_until = Some(now.saturating_add(out_for));
        self.ejections += 1;
    }
}
