//! The section `[discovery]` of `mainstay.toml`.

use std::{net::SocketAddr, time::Duration};

use kernel::config::{ConfigError, Origin};

use crate::model::{Damping, is_name};

kernel::section! {
    /// The service registry.
    pub struct DiscoveryConfig("discovery") {
        /// When fewer than so many percent of a service's instances are well, all that were well once are given out, and the answer says
        /// so: stale is better than none. 0: never.
        panic_percent: u32 = "30", "percent";
        /// What one fall of an instance to critical costs it halves in this time; an instance that falls more than twice within it is held
        /// down for a while. 0: nothing is damped.
        flap_half_life: std::time::Duration = "\"1m\"", "time";
        /// An instance that has been critical for so long is removed, unless its checks say otherwise.
        remove_after: std::time::Duration = "\"24h\"", "time";
        /// Instances that one project may register.
        max_instances: usize = "10000", "instances";
        /// Requests and streams on each node that wait for a change; more are refused with 503.
        max_watchers: usize = "10000", "watchers";
        /// Checks that each node probes at once; more wait their turn.
        max_probes: usize = "256", "probes";
        /// Address of the DNS server, UDP and TCP. Empty: none.
        dns_listen: Option<SocketAddr> = "\"\"", "host:port";
        /// What names in the DNS end with, as in `shop.service.mainstay.internal`.
        dns_domains: Vec<String> = "[\"mainstay.internal\", \"consul\"]", "domains";
        /// Projects that the DNS tells of, which asks nobody for a key. Names without a project are of the first.
        dns_projects: Vec<String> = "[\"default\"]", "projects";
        /// How long resolvers may keep an answer.
        dns_ttl: std::time::Duration = "\"1s\"", "time";
        /// TCP connections that the DNS server holds at once.
        dns_max_connections: usize = "256", "connections";
        /// What Consul's API calls its one datacenter.
        datacenter: String = "\"dc1\"", "name";
    }
}

impl DiscoveryConfig {
    /// Checks what single values cannot say. Returns every mistake.
    pub fn validate(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut refuse = |is_wrong: bool, key: &str, detail: &str| {
            if is_wrong {
                let (key, detail) = (format!("discovery.{key}"), detail.to_owned());
                errors.push(ConfigError { key, origin: Origin::Default, detail });
            }
        };
        refuse(self.panic_percent > 100, "panic_percent", "must be 0 to 100");
        refuse(self.remove_after < Duration::from_mins(1), "remove_after", "must be at least 1m");
        refuse(self.flap_half_life > Duration::from_hours(1), "flap_half_life", "must be at most 1h");
        refuse(!(1..=100_000).contains(&self.max_instances), "max_instances", "must be 1 to 100000");
        refuse(self.max_watchers == 0, "max_watchers", "must be at least 1");
        refuse(!(1..=10_000).contains(&self.max_probes), "max_probes", "must be 1 to 10000");
        refuse(self.dns_max_connections == 0, "dns_max_connections", "must be at least 1");
        refuse(self.dns_ttl > Duration::from_hours(1), "dns_ttl", "must be at most 1h");
        refuse(!is_name(&self.datacenter), "datacenter", "must be 1 to 63 of A-Z, a-z, 0-9, -, _ and .");
        refuse(self.dns_domains.is_empty(), "dns_domains", "must name at least one");
        let is_domain = |name: &String| !name.is_empty() && name.trim_end_matches('.').split('.').all(is_name);
        refuse(!self.dns_domains.iter().all(is_domain), "dns_domains", "must be names such as \"mainstay.internal\"");
        let is_project = |name: &String| kernel::ProjectId::parse(name).is_some();
        refuse(self.dns_projects.is_empty(), "dns_projects", "must name at least one");
        refuse(!self.dns_projects.iter().all(is_project), "dns_projects", "must be names of projects");
        errors
    }

    pub(crate) fn damping(&self) -> Damping {
        Damping { half_life: self.flap_half_life }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let check = |config: DiscoveryConfig, key: &str| {
            let errors = config.validate();
            assert!(errors.iter().any(|e| e.key == key), "{key}: {errors:?}");
        };
        let good = DiscoveryConfig::default;
        assert!(good().validate().is_empty());
        check(DiscoveryConfig { panic_percent: 101, ..good() }, "discovery.panic_percent");
        check(DiscoveryConfig { remove_after: Duration::ZERO, ..good() }, "discovery.remove_after");
        check(DiscoveryConfig { max_probes: 0, ..good() }, "discovery.max_probes");
        check(DiscoveryConfig { dns_domains: vec!["a..b".to_owned()], ..good() }, "discovery.dns_domains");
        check(DiscoveryConfig { dns_projects: vec!["A".to_owned()], ..good() }, "discovery.dns_projects");
    }
}
