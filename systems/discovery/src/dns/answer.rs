//! From the bytes of a query to those of its answer.

use std::{net::IpAddr, sync::Arc};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, NS, SOA, SRV},
    },
};

use super::names::{self, Asked};
use crate::{
    model::{Instance, View},
    service::Discovery,
};

/// What an asker takes that does not say (RFC 1035, section 4.2.1).
const PLAIN_BYTES: u16 = 512;
/// The most that is sent over UDP: what passes every network whole (DNS flag day 2020).
const MAX_UDP_BYTES: u16 = 1_232;
/// The most that is sent over TCP.
const MAX_TCP_BYTES: usize = 65_535;
/// The most instances of one answer.
const MAX_INSTANCES: usize = 500;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Udp,
    Tcp,
}

/// The answer to a query; `None` for what is no query.
pub(super) fn answer(discovery: &Discovery, bytes: &[u8], over: Over) -> Option<Vec<u8>> {
    let query = match Message::from_vec(bytes) {
        Ok(query) if query.metadata.message_type == MessageType::Query => query,
        // Answers are never answered: two servers would talk for ever.
        Ok(_) => return None,
        Err(_) => {
            let head: [u8; 3] = bytes.get(..3)?.try_into().ok()?;
            let is_query = bytes.len() >= 12 && head[2] & 0x80 == 0;
            discovery.shared().telemetry.asked("malformed");
            let id = u16::from_be_bytes([head[0], head[1]]);
            let told = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            return is_query.then(|| told.to_vec().ok()).flatten();
        }
    };
    let mut told = Message::response(query.metadata.id, query.metadata.op_code);
    told.metadata.recursion_desired = query.metadata.recursion_desired;
    let takes = query.edns.as_ref().map_or(PLAIN_BYTES, |edns| edns.max_payload().clamp(PLAIN_BYTES, MAX_UDP_BYTES));
    if let Some(edns) = &query.edns {
        let mut ours = Edns::new();
        ours.set_max_payload(MAX_UDP_BYTES);
        ours.set_version(0);
        told.set_edns(ours);
        if edns.version() > 0 {
            told.metadata.response_code = ResponseCode::BADVERS;
            return told.to_vec().ok();
        }
    }
    told.metadata.response_code = match (query.metadata.op_code, query.queries.as_slice()) {
        (OpCode::Query, [one]) => {
            told.add_query(one.clone());
            if one.query_class() == DNSClass::IN {
                fill(discovery, &mut told, one.name(), one.query_type())
            } else {
                ResponseCode::Refused
            }
        }
        (OpCode::Query, _) => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    let outcome = match told.metadata.response_code {
        ResponseCode::NoError if told.answers.is_empty() => "empty",
        ResponseCode::NoError => "answered",
        ResponseCode::NXDomain => "unknown",
        ResponseCode::Refused => "refused",
        _ => "not_understood",
    };
    discovery.shared().telemetry.asked(outcome);
    fit(told, if over == Over::Udp { usize::from(takes) } else { MAX_TCP_BYTES })
}

/// Leaves out what is too much, first what is only helpful.
fn fit(mut told: Message, most: usize) -> Option<Vec<u8>> {
    loop {
        let bytes = told.to_vec().ok()?;
        if bytes.len() <= most {
            return Some(bytes);
        }
        let share = |count: usize| (count * most / bytes.len()).min(count.saturating_sub(1));
        if !told.additionals.is_empty() {
            told.additionals.truncate(share(told.additionals.len()));
        } else if told.answers.is_empty() {
            return None;
        } else {
            told.answers.truncate(share(told.answers.len()));
            told.metadata.truncation = true;
        }
    }
}

fn fill(discovery: &Discovery, told: &mut Message, name: &Name, kind: RecordType) -> ResponseCode {
    let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    let config = &discovery.shared().config;
    let Some((asked, domain)) = names::read(&labels, config) else { return ResponseCode::Refused };
    told.metadata.authoritative = true;
    let ttl = u32::try_from(config.dns_ttl.as_secs()).unwrap_or(u32::MAX);
    let zone = Zone { ttl, name: name.clone(), domain };
    let code = match asked {
        Asked::Apex => {
            match kind {
                RecordType::SOA => told.answers.extend(zone.soa(discovery)),
                RecordType::NS => told.answers.extend(zone.ns()),
                _ => {}
            }
            ResponseCode::NoError
        }
        Asked::Address(address) => {
            told.answers.extend(zone.address(&zone.name, address, kind));
            ResponseCode::NoError
        }
        Asked::Node { project, node } => {
            let services = discovery.services(&project).0;
            let mut all = services.iter().flat_map(|service| &service.instances);
            match all.find(|one| one.spec.node.eq_ignore_ascii_case(&node)) {
                Some(one) => {
                    told.answers.extend(zone.host(one, kind));
                    ResponseCode::NoError
                }
                None => ResponseCode::NXDomain,
            }
        }
        Asked::Service { project, service, tag } => {
            let service = discovery.service(&project, &service);
            let view = View { tags: Vec::new(), zone: None };
            let mut usable = match &tag {
                None => service.usable(&view, config.panic_percent).0,
                Some(wanted) => {
                    // Names tell no case apart, tags do.
                    let found = service.tags().into_iter().find(|tag| tag.eq_ignore_ascii_case(wanted));
                    found
                        .map(|tag| service.usable(&View { tags: vec![tag], zone: None }, config.panic_percent).0)
                        .unwrap_or_default()
                }
            };
            shuffle(discovery, &mut usable);
            usable.truncate(MAX_INSTANCES);
            for one in &usable {
                match kind {
                    RecordType::SRV => zone.srv(one, told),
                    _ => told.answers.extend(zone.host(one, kind)),
                }
            }
            one_alias(told);
            // As Consul has it: a service that nobody can be sent to is not there.
            if usable.is_empty() { ResponseCode::NXDomain } else { ResponseCode::NoError }
        }
        Asked::Nothing => ResponseCode::NXDomain,
    };
    if told.answers.is_empty() {
        // For how long that there is nothing may be kept (RFC 2308).
        told.authorities.extend(zone.soa(discovery));
    }
    code
}

/// An alias stands alone at its name (RFC 1034, section 3.6.2): of several names the first, and none beside addresses.
fn one_alias(told: &mut Message) {
    let is_alias = |record: &Record| matches!(record.data, RData::CNAME(_));
    if told.answers.len() > 1 && told.answers.iter().any(is_alias) {
        if told.answers.iter().all(is_alias) {
            told.answers.truncate(1);
        } else {
            told.answers.retain(|record| !is_alias(record));
        }
    }
}

/// In any order, so that those who take the first do not all take the same.
fn shuffle(discovery: &Discovery, all: &mut [Arc<Instance>]) {
    for n in (1..all.len()).rev() {
        let other = discovery.shared().rng.below(n as u64 + 1);
        all.swap(n, usize::try_from(other).unwrap_or(n));
    }
}

/// The name that was asked for, and where it stands.
struct Zone {
    ttl: u32,
    name: Name,
    domain: String,
}

impl Zone {
    fn below(&self, label: &str) -> Option<Name> {
        Name::from_ascii(format!("{label}{}.", self.domain)).ok()
    }

    fn address(&self, name: &Name, address: IpAddr, kind: RecordType) -> Option<Record> {
        let is_any = kind == RecordType::ANY;
        let data = match address {
            IpAddr::V4(ip) if is_any || kind == RecordType::A => RData::A(A(ip)),
            IpAddr::V6(ip) if is_any || kind == RecordType::AAAA => RData::AAAA(AAAA(ip)),
            _ => return None,
        };
        Some(Record::from_rdata(name.clone(), self.ttl, data))
    }

    /// Where an instance is: its address, or the name that it gave.
    fn host(&self, one: &Instance, kind: RecordType) -> Option<Record> {
        if let Some(address) = one.spec.ip() {
            return self.address(&self.name, address, kind);
        }
        let is_asked = matches!(kind, RecordType::A | RecordType::AAAA | RecordType::ANY | RecordType::CNAME);
        let target = Name::from_ascii(format!("{}.", one.spec.address.trim_end_matches('.'))).ok()?;
        is_asked.then(|| Record::from_rdata(self.name.clone(), self.ttl, RData::CNAME(CNAME(target))))
    }

    fn srv(&self, one: &Instance, told: &mut Message) {
        let address = one.spec.ip();
        let target = match address {
            Some(address) => self.below(&format!("{}.addr.", names::spelled(address))),
            None => Name::from_ascii(format!("{}.", one.spec.address.trim_end_matches('.'))).ok(),
        };
        let Some(target) = target else { return };
        let weight = u16::try_from(one.spec.weight).unwrap_or(u16::MAX);
        let data = RData::SRV(SRV::new(1, weight, one.spec.port, target.clone()));
        told.answers.push(Record::from_rdata(self.name.clone(), self.ttl, data));
        if let Some(address) = address {
            let kind = if address.is_ipv4() { RecordType::A } else { RecordType::AAAA };
            let known = told.additionals.iter().any(|record| record.name == target);
            told.additionals.extend(self.address(&target, address, kind).filter(|_| !known));
        }
    }

    fn soa(&self, discovery: &Discovery) -> Option<Record> {
        let (server, person) = (self.below("ns.")?, self.below("hostmaster.")?);
        let serial = u32::try_from(discovery.overview().revision & 0xffff_ffff).unwrap_or_default();
        let soa = SOA::new(server, person, serial, 3_600, 600, 86_400, self.ttl);
        Some(Record::from_rdata(self.below("")?, self.ttl, RData::SOA(soa)))
    }

    fn ns(&self) -> Option<Record> {
        Some(Record::from_rdata(self.below("")?, self.ttl, RData::NS(NS(self.below("ns.")?))))
    }
}
