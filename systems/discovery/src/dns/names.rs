//! What a name asks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kernel::ProjectId;

use crate::config::DiscoveryConfig;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// One of our domains itself.
    Apex,
    /// Instances of a service.
    Service { project: ProjectId, service: String, tag: Option<String> },
    /// A node.
    Node { project: ProjectId, node: String },
    /// An address that is spelled in the name.
    Address(IpAddr),
    /// Nothing that there could be.
    Nothing,
}

/// Reads the labels of a name, in lower case; `None` when it is not below one of our domains. Gives the domain too.
pub(super) fn read(labels: &[String], config: &DiscoveryConfig) -> Option<(Asked, String)> {
    let below = |domain: &String| {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let parts: Vec<&str> = domain.split('.').collect();
        let rest = labels.len().checked_sub(parts.len())?;
        let is_below = labels[rest..].iter().zip(&parts).all(|(label, part)| label == part);
        is_below.then_some((rest, domain))
    };
    let (rest, domain) = config.dns_domains.iter().filter_map(below).min_by_key(|(rest, _)| *rest)?;
    Some((of(&labels[..rest], config), domain))
}

/// The project that a last label names: the datacenter and nothing name the first.
fn project(label: Option<&str>, config: &DiscoveryConfig) -> Option<ProjectId> {
    let named = match label {
        None => config.dns_projects.first(),
        Some(label) => config
            .dns_projects
            .iter()
            .find(|project| *project == label)
            .or_else(|| config.dns_projects.first().filter(|_| label.eq_ignore_ascii_case(&config.datacenter))),
    };
    named.and_then(|name| ProjectId::parse(name))
}

fn of(labels: &[String], config: &DiscoveryConfig) -> Asked {
    let all: Vec<&str> = labels.iter().map(String::as_str).collect();
    if all.is_empty() {
        return Asked::Apex;
    }
    let plain = |label: &str| label.strip_prefix('_').map(str::to_owned);
    // RFC 2782: `_shop._tcp`, with or without `service`.
    if let [service, tag, rest @ ..] = all.as_slice()
        && let (Some(service), Some(tag)) = (plain(service), plain(tag))
    {
        let rest = rest.strip_prefix(&["service"]).unwrap_or(rest);
        let Some(project) = (rest.len() <= 1).then(|| project(rest.first().copied(), config)).flatten() else {
            return Asked::Nothing;
        };
        let tag = (!matches!(tag.as_str(), "tcp" | "udp")).then_some(tag);
        return Asked::Service { project, service, tag };
    }
    // The kind is the last label but the project.
    let kind = |label: &str| matches!(label, "service" | "node" | "addr");
    let at = match all.as_slice() {
        [.., last] if kind(last) => all.len() - 1,
        [.., last, _] if kind(last) => all.len() - 2,
        _ => return Asked::Nothing,
    };
    let Some(project) = project(all.get(at + 1).copied(), config) else { return Asked::Nothing };
    let before = &all[..at];
    match (all[at], before) {
        ("service", [service]) => Asked::Service { project, service: (*service).to_owned(), tag: None },
        // A service whose name has a point is asked for by SRV names, or without a tag by none: here the first label is the tag.
        ("service", [tag, service]) => {
            Asked::Service { project, service: (*service).to_owned(), tag: Some((*tag).to_owned()) }
        }
        ("node", [_, ..]) => Asked::Node { project, node: before.join(".") },
        ("addr", [hex]) => address(hex).map_or(Asked::Nothing, Asked::Address),
        _ => Asked::Nothing,
    }
}

/// `0a000007` as 10.0.0.7; 32 digits as an address of IPv6.
fn address(hex: &str) -> Option<IpAddr> {
    if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    match hex.len() {
        8 => u32::from_str_radix(hex, 16).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
        32 => u128::from_str_radix(hex, 16).ok().map(|bits| Ipv6Addr::from_bits(bits).into()),
        _ => None,
    }
}

/// The other way around.
pub(super) fn spelled(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => format!("{:08x}", ip.to_bits()),
        IpAddr::V6(ip) => format!("{:032x}", ip.to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ask_for_what_they_say() {
        let config = DiscoveryConfig {
            dns_projects: vec!["default".to_owned(), "acme".to_owned()],
            ..DiscoveryConfig::default()
        };
        let asked = |name: &str| {
            let labels: Vec<String> = name.split('.').filter(|l| !l.is_empty()).map(str::to_owned).collect();
            read(&labels, &config).map(|(asked, _)| asked)
        };
        let service = |project: &str, service: &str, tag: Option<&str>| {
            let project = ProjectId::parse(project).unwrap();
            Some(Asked::Service { project, service: service.to_owned(), tag: tag.map(str::to_owned) })
        };
        assert_eq!(asked("shop.service.consul"), service("default", "shop", None));
        assert_eq!(asked("shop.service.mainstay.internal"), service("default", "shop", None));
        assert_eq!(asked("v2.shop.service.consul"), service("default", "shop", Some("v2")));
        assert_eq!(asked("shop.service.dc1.consul"), service("default", "shop", None));
        assert_eq!(asked("shop.service.acme.consul"), service("acme", "shop", None));
        assert_eq!(asked("_shop._tcp.consul"), service("default", "shop", None));
        assert_eq!(asked("_shop._v2.service.acme.consul"), service("acme", "shop", Some("v2")));
        assert_eq!(asked("_shop._tcp.service.dc1.consul"), service("default", "shop", None));
        assert_eq!(asked("0a000007.addr.dc1.consul"), Some(Asked::Address([10, 0, 0, 7].into())));
        let node = Asked::Node { project: ProjectId::default_project(), node: "m1.rack".to_owned() };
        assert_eq!(asked("m1.rack.node.consul"), Some(node));
        assert_eq!(asked("consul"), Some(Asked::Apex));
        for nothing in [
            "x.consul",
            "service.consul",
            "shop.service.other.consul",
            "a.b.c.service.consul",
            "zz.addr.consul",
            "_shop._tcp.x.y.consul",
            "shop.service.x.y.consul",
        ] {
            assert_eq!(asked(nothing), Some(Asked::Nothing), "{nothing}");
        }
        for elsewhere in ["", "com", "example.com", "notconsul", "internal"] {
            assert_eq!(asked(elsewhere), None, "{elsewhere}");
        }
        for ip in ["10.0.0.7", "2001:db8::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(address(&spelled(ip)), Some(ip));
        }
    }
}
