//! Where a visitor of a link goes: rules, splits, campaign parameters, the visitor's own query.
//!
//! Everything that does not depend on the visitor is computed once, when the link is read: a link without rules, split and
//! query forwarding is one ready header value.
//!
//! - ROUTES-1: what is given is a valid header value of at most [`MAX_LOCATION_BYTES`].
//! - ROUTES-2: a visitor of a split goes to the same destination each time, while the weights stay.
//! - ROUTES-3: visitors of a split are shared in proportion to the weights.

use std::{borrow::Cow, collections::HashSet, net::IpAddr};

use http::HeaderValue;
use ring::hmac;
use url::form_urlencoded;

use super::{Country, Device, Facts, Language, LinkId, LinkSettings, Rule, Utm, Variant};

/// The longest location that is given: what every recipient of a URI should support (RFC 9110, section 4.1).
pub const MAX_LOCATION_BYTES: usize = 8000;
/// How much of a user agent tells visitors apart.
const AGENT_BYTES: usize = 512;

/// The ways that a link leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ways {
    /// One for everybody.
    One(HeaderValue),
    /// It depends on the visitor.
    Many(Box<Routes>),
}

/// Ways that depend on the visitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    audiences: Vec<Audience>,
    others: Split,
    forwards_query: bool,
}

/// Visitors that a rule names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Audience {
    devices: Vec<Device>,
    languages: Vec<Language>,
    countries: Vec<Country>,
    to: Split,
}

/// Destinations that share visitors by weight.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Split {
    /// Each with the sum of the weights up to and with its own; none has a weight of 0.
    shares: Vec<(u32, HeaderValue)>,
    total: u32,
}

impl Ways {
    /// Of a link at `url` that answers under `code` on the host `domain`. The settings were checked; `None` when a destination
    /// is no header value, which no checked one is.
    pub fn new(settings: &LinkSettings, url: &str, code: &str, domain: &str) -> Option<Self> {
        let make = |url: &str| HeaderValue::try_from(with_campaign(url, &settings.utm, code, domain)).ok();
        let audiences = settings.rules.iter().map(|rule| Audience::new(rule, make)).collect::<Option<Vec<_>>>()?;
        let others =
            if settings.split.is_empty() { Split::one(make(url)?) } else { Split::new(&settings.split, make)? };
        Some(match others.shares.as_slice() {
            [(_, only)] if audiences.is_empty() && !settings.forward_query => Self::One(only.clone()),
            _ => Self::Many(Box::new(Routes { audiences, others, forwards_query: settings.forward_query })),
        })
    }

    /// The bytes of every location.
    pub fn bytes(&self) -> usize {
        match self {
            Self::One(location) => location.len(),
            Self::Many(routes) => {
                routes.audiences.iter().map(|a| &a.to).chain([&routes.others]).map(Split::bytes).sum()
            }
        }
    }
}

impl Routes {
    /// Whether there is more than one destination.
    pub fn differs(&self) -> bool {
        !self.audiences.is_empty() || self.others.shares.len() > 1
    }

    /// Where a visitor goes. `visitor` is a number from [`Visitors`].
    pub fn location(&self, facts: &Facts, visitor: impl FnOnce() -> u64, query: Option<&str>) -> HeaderValue {
        let split = self.audiences.iter().find(|a| a.holds(facts)).map_or(&self.others, |a| &a.to);
        let location = split.pick(visitor);
        match query {
            Some(query) if self.forwards_query => {
                location.to_str().ok().and_then(|to| with_query(to, query)).unwrap_or_else(|| location.clone())
            }
            _ => location.clone(),
        }
    }
}

impl Audience {
    fn new(rule: &Rule, make: impl Fn(&str) -> Option<HeaderValue>) -> Option<Self> {
        Some(Self {
            devices: rule.device.clone(),
            languages: rule.language.clone(),
            countries: rule.country.clone(),
            to: Split::new(&rule.to, make)?,
        })
    }

    /// Every list that is not empty has the visitor's value; one that is not known is in none.
    fn holds(&self, facts: &Facts) -> bool {
        fn fits<T: PartialEq>(list: &[T], value: Option<T>) -> bool {
            list.is_empty() || value.is_some_and(|value| list.contains(&value))
        }
        fits(&self.devices, Some(facts.agent.device))
            && fits(&self.languages, facts.language)
            && fits(&self.countries, facts.country)
    }
}

impl Split {
    fn one(location: HeaderValue) -> Self {
        Self { shares: vec![(1, location)], total: 1 }
    }

    fn new(variants: &[Variant], make: impl Fn(&str) -> Option<HeaderValue>) -> Option<Self> {
        let mut total = 0;
        let mut shares = Vec::with_capacity(variants.len());
        for variant in variants.iter().filter(|v| v.weight > 0) {
            total += variant.weight;
            shares.push((total, make(&variant.url)?));
        }
        (total > 0).then_some(Self { shares, total })
    }

    fn bytes(&self) -> usize {
        self.shares.iter().map(|(_, location)| location.len()).sum()
    }

    fn pick(&self, visitor: impl FnOnce() -> u64) -> &HeaderValue {
        let point = if self.shares.len() > 1 {
            // The high half of the product: a number below `total`, each as likely as every other.
            u32::try_from((u128::from(visitor()) * u128::from(self.total)) >> 64).unwrap_or(0)
        } else {
            0
        };
        let at = self.shares.partition_point(|(end, _)| *end <= point);
        &self.shares[at.min(self.shares.len() - 1)].1
    }
}

/// Tells the visitors of a link apart without knowing who they are: a keyed hash of link, address and user agent. It is kept
/// nowhere, and two links have unrelated numbers of the same visitor.
#[derive(Clone)]
pub struct Visitors(hmac::Key);

impl Visitors {
    /// From 32 secret bytes, the same on every node.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The number of a visitor of a link. Of an IPv6 address its first 64 bits count: the rest changes by the day.
    pub fn number(&self, link: LinkId, client: IpAddr, user_agent: Option<&[u8]>) -> u64 {
        let mut tag = hmac::Context::with_key(&self.0);
        tag.update(&link.0.to_le_bytes());
        match client.to_canonical() {
            IpAddr::V4(v4) => tag.update(&v4.octets()),
            IpAddr::V6(v6) => tag.update(&v6.octets()[..8]),
        }
        let agent = user_agent.unwrap_or_default();
        tag.update(&agent[..agent.len().min(AGENT_BYTES)]);
        let tag = tag.sign();
        let mut number = [0; 8];
        number.copy_from_slice(&tag.as_ref()[..8]);
        u64::from_le_bytes(number)
    }
}

impl std::fmt::Debug for Visitors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Visitors(…)")
    }
}

/// A URL in the parts that matter here.
struct Parts<'a> {
    base: &'a str,
    query: &'a str,
    /// With its `#`; empty where there is none.
    fragment: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Self {
        let (rest, fragment) = url.split_at(url.find('#').unwrap_or(url.len()));
        let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
        Self { base, query, fragment }
    }

    /// With another query.
    fn with(&self, query: &str) -> String {
        let mark = if query.is_empty() { "" } else { "?" };
        [self.base, mark, query, self.fragment].concat()
    }
}

/// Every `name=value` of a query as it is written, empty ones left out.
fn pairs(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|pair| !pair.is_empty())
}

/// The name of a `name=value`, decoded as forms are.
fn name(pair: &str) -> Cow<'_, str> {
    form_urlencoded::parse(pair.as_bytes()).next().map_or(Cow::Borrowed(""), |(name, _)| name)
}

/// Adds campaign parameters that the URL does not have yet. In values `{code}` and `{domain}` stand for those of the link. One
/// that would make the URL longer than [`MAX_LOCATION_BYTES`] is left out.
fn with_campaign(url: &str, utm: &Utm, code: &str, domain: &str) -> String {
    let mut result = Cow::Borrowed(url);
    for (utm_name, value) in utm.parameters() {
        let parts = Parts::of(&result);
        if pairs(parts.query).any(|pair| name(pair) == utm_name) {
            continue;
        }
        let value = value.replace("{code}", code).replace("{domain}", domain);
        let joint = if parts.query.is_empty() || parts.query.ends_with('&') { "" } else { "&" };
        let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let longer = parts.with(&format!("{}{joint}{utm_name}={value}", parts.query));
        if longer.len() <= MAX_LOCATION_BYTES {
            result = Cow::Owned(longer);
        }
    }
    result.into_owned()
}

/// Appends a visitor's query. A parameter of the visitor takes the place of every one of that name. Bytes that a query may not
/// hold are percent-encoded (WHATWG URL, the special-query set). `None` when nothing is to be appended, or when the result would be
/// longer than [`MAX_LOCATION_BYTES`]: a query that was cut would say something else.
fn with_query(url: &str, query: &str) -> Option<HeaderValue> {
    if url.len() + query.len() > MAX_LOCATION_BYTES {
        return None;
    }
    let names: HashSet<Cow<'_, str>> = pairs(query).map(name).collect();
    if names.is_empty() {
        return None;
    }
    let parts = Parts::of(url);
    let mut joined = String::with_capacity(url.len() + query.len() + 1);
    for pair in pairs(parts.query).filter(|pair| !names.contains(&name(pair))) {
        joined.push_str(pair);
        joined.push('&');
    }
    for (i, pair) in pairs(query).enumerate() {
        if i > 0 {
            joined.push('&');
        }
        for byte in pair.bytes() {
            match byte {
                b'"' | b'#' | b'<' | b'>' | b'\'' | 0..=0x20 | 0x7f.. => joined.push_str(&format!("%{byte:02X}")),
                _ => joined.push(char::from(byte)),
            }
        }
    }
    let location = parts.with(&joined);
    if location.len() > MAX_LOCATION_BYTES {
        return None;
    }
    HeaderValue::try_from(location).ok()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Agent, Destination};

    const URL: &str = "https://example.com/";

    fn to(url: &str, weight: u32) -> Variant {
        Variant { url: url.to_owned(), weight }
    }

    fn ways(settings: &LinkSettings, url: &str) -> Ways {
        Ways::new(settings, url, "spring", "go.example.com").unwrap()
    }

    fn visit(settings: &LinkSettings, url: &str, facts: &Facts, visitor: u64, query: Option<&str>) -> String {
        let location = match ways(settings, url) {
            Ways::One(location) => location,
            Ways::Many(routes) => routes.location(facts, || visitor, query),
        };
        location.to_str().unwrap().to_owned()
    }

    fn facts(device: Device, language: Option<&str>, country: Option<&str>) -> Facts {
        Facts {
            agent: Agent { device, ..Agent::default() },
            language: language.and_then(Language::parse),
            country: country.and_then(Country::parse),
            ..Facts::default()
        }
    }

    #[test]
    fn a_link_without_settings_has_one_ready_way() {
        assert_eq!(ways(&LinkSettings::default(), URL), Ways::One(HeaderValue::from_static(URL)));
        let utm = Utm { source: Some("mail".to_owned()), ..Utm::default() };
        let expected = HeaderValue::from_static("https://example.com/?utm_source=mail");
        assert_eq!(ways(&LinkSettings { utm, ..LinkSettings::default() }, URL), Ways::One(expected));
        let split = vec![to("https://a.example/", 3), to("https://b.example/", 0)];
        let expected = HeaderValue::from_static("https://a.example/");
        assert_eq!(ways(&LinkSettings { split, ..LinkSettings::default() }, URL), Ways::One(expected));
    }

    #[test]
    fn the_first_rule_that_fits_wins() {
        let rule = |device: &[Device], language: &[&str], country: &[&str], url: &str| Rule {
            device: device.to_vec(),
            language: language.iter().map(|l| Language::parse(l).unwrap()).collect(),
            country: country.iter().map(|c| Country::parse(c).unwrap()).collect(),
            to: vec![to(url, 1)],
        };
        let settings = LinkSettings {
            rules: vec![
                rule(&[Device::Mobile, Device::Tablet], &[], &["DE", "AT"], "https://phone-de.example/"),
                rule(&[Device::Mobile], &[], &[], "https://phone.example/"),
                rule(&[], &["de"], &[], "https://german.example/"),
                rule(&[], &["de", "fr"], &["CH"], "https://swiss.example/"),
            ],
            ..LinkSettings::default()
        };
        for (device, language, country, expected) in [
            (Device::Mobile, None, Some("DE"), "https://phone-de.example/"),
            (Device::Tablet, Some("de"), Some("AT"), "https://phone-de.example/"),
            (Device::Tablet, Some("de"), Some("CH"), "https://german.example/"),
            (Device::Mobile, Some("de"), Some("CH"), "https://phone.example/"),
            (Device::Mobile, None, None, "https://phone.example/"),
            (Device::Desktop, Some("de"), None, "https://german.example/"),
            (Device::Desktop, Some("fr"), Some("CH"), "https://swiss.example/"),
            (Device::Desktop, Some("fr"), Some("FR"), URL),
            (Device::Desktop, Some("fr"), None, URL),
            (Device::Desktop, None, Some("CH"), URL),
            (Device::Other, None, None, URL),
        ] {
            let facts = facts(device, language, country);
            assert_eq!(visit(&settings, URL, &facts, 0, None), expected, "{device} {language:?} {country:?}");
        }
    }

    #[test]
    fn queries_are_forwarded() {
        let settings = LinkSettings { forward_query: true, ..LinkSettings::default() };
        for (url, query, expected) in [
            ("https://a.example/", None, "https://a.example/"),
            ("https://a.example/", Some(""), "https://a.example/"),
            ("https://a.example/", Some("&&"), "https://a.example/"),
            ("https://a.example/", Some("x=1"), "https://a.example/?x=1"),
            ("https://a.example/?", Some("x=1"), "https://a.example/?x=1"),
            ("https://a.example/?y=2", Some("x=1"), "https://a.example/?y=2&x=1"),
            ("https://a.example/?y=2&", Some("x=1&"), "https://a.example/?y=2&x=1"),
            ("https://a.example/#top", Some("x=1"), "https://a.example/?x=1#top"),
            ("https://a.example/?y=2#a?b=3", Some("x=1"), "https://a.example/?y=2&x=1#a?b=3"),
            // The visitor's takes the place of every parameter of that name, however it is written.
            ("https://a.example/?x=0&y=2&x=3", Some("x=1"), "https://a.example/?y=2&x=1"),
            ("https://a.example/?%78=0&y=2", Some("x=1"), "https://a.example/?y=2&x=1"),
            ("https://a.example/?a+b=0", Some("a%20b=1"), "https://a.example/?a%20b=1"),
            ("https://a.example/?a[]=0", Some("a[]=1&a[]=2"), "https://a.example/?a[]=1&a[]=2"),
            ("https://a.example/?X=0", Some("x=1"), "https://a.example/?X=0&x=1"),
            ("https://a.example/?flag", Some("flag"), "https://a.example/?flag"),
            ("https://a.example/?x=0", Some("x"), "https://a.example/?x"),
            // Nothing that a query may not hold.
            ("https://a.example/", Some("q=\"<ü>#'"), "https://a.example/?q=%22%3C%C3%BC%3E%23%27"),
            ("https://a.example/", Some("q=a\r\nSet-Cookie: b"), "https://a.example/?q=a%0D%0ASet-Cookie:%20b"),
            ("https://a.example/", Some("q=%zz%0d"), "https://a.example/?q=%zz%0d"),
        ] {
            assert_eq!(visit(&settings, url, &Facts::default(), 0, query), expected, "{url} {query:?}");
        }
        let fits = format!("q={}", "x".repeat(MAX_LOCATION_BYTES - URL.len() - 3));
        assert_eq!(visit(&settings, URL, &Facts::default(), 0, Some(&fits)).len(), MAX_LOCATION_BYTES);
        assert_eq!(visit(&settings, URL, &Facts::default(), 0, Some(&format!("{fits}x"))), URL);
        let plain = LinkSettings { split: vec![to(URL, 1), to(URL, 1)], ..LinkSettings::default() };
        assert_eq!(visit(&plain, URL, &Facts::default(), 0, Some("x=1")), URL);
    }

    #[test]
    fn campaign_parameters_are_added() {
        let utm = |source: &str, campaign: &str| Utm {
            source: Some(source.to_owned()),
            campaign: Some(campaign.to_owned()),
            ..Utm::default()
        };
        for (url, utm, expected) in [
            ("https://a.example/", utm("x", "y"), "https://a.example/?utm_source=x&utm_campaign=y"),
            ("https://a.example/?q=1#f", utm("x", "y"), "https://a.example/?q=1&utm_source=x&utm_campaign=y#f"),
            ("https://a.example/?utm_source=own", utm("x", "y"), "https://a.example/?utm_source=own&utm_campaign=y"),
            (
                "https://a.example/?%75tm_source=own",
                utm("x", "y"),
                "https://a.example/?%75tm_source=own&utm_campaign=y",
            ),
            (
                "https://a.example/?UTM_source=own",
                utm("x", "y"),
                "https://a.example/?UTM_source=own&utm_source=x&utm_campaign=y",
            ),
            ("https://a.example/?", utm("a b", "ü&="), "https://a.example/?utm_source=a+b&utm_campaign=%C3%BC%26%3D"),
            (
                "https://a.example/",
                utm("{domain}", "{code}-{code}"),
                "https://a.example/?utm_source=go.example.com&utm_campaign=spring-spring",
            ),
            ("https://a.example/", utm("{other}", "{"), "https://a.example/?utm_source=%7Bother%7D&utm_campaign=%7B"),
        ] {
            assert_eq!(with_campaign(url, &utm, "spring", "go.example.com"), expected);
        }
        // A visitor's own parameter is the visitor's.
        let settings = LinkSettings { utm: utm("x", "y"), forward_query: true, ..LinkSettings::default() };
        let got = visit(&settings, URL, &Facts::default(), 0, Some("utm_source=me"));
        assert_eq!(got, "https://example.com/?utm_campaign=y&utm_source=me");
        let long = "ü".repeat(2000);
        assert_eq!(with_campaign(URL, &utm(&long, "y"), "", ""), "https://example.com/?utm_campaign=y");
    }

    proptest! {
        /// ROUTES-3: evenly spread numbers are shared by weight, each share off by at most the two numbers at its ends.
        #[test]
        fn a_split_is_in_proportion(weights in proptest::collection::vec(0_u32..=1000, 1..20)) {
            prop_assume!(weights.iter().any(|w| *w > 0));
            let variants: Vec<Variant> =
                weights.iter().enumerate().map(|(i, w)| to(&format!("https://example.com/{i}"), *w)).collect();
            let split = Split::new(&variants, |url| HeaderValue::try_from(url).ok()).unwrap();
            let mut counts = vec![0_u64; weights.len()];
            let visitors = 5_000_u64;
            for i in 0..visitors {
                let location = split.pick(|| i * (u64::MAX / visitors)).to_str().unwrap().to_owned();
                counts[location.rsplit('/').next().unwrap().parse::<usize>().unwrap()] += 1;
            }
            let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let expected = visitors * u64::from(*weight) / total;
                prop_assert!(count.abs_diff(expected) <= 2, "{} of {}, expected {}", count, weight, expected);
                prop_assert!(*weight > 0 || *count == 0);
            }
        }

        /// ROUTES-1.
        #[test]
        fn what_is_given_is_a_bounded_header_value(
            url in "https://a\\.example/[a-z]{0,9}(\\?[a-z=&%0-9+]{0,40})?(#[a-z?&]{0,9})?",
            query in "\\PC{0,200}|[a-z=&%#\\x00-\\x20]{0,9000}",
            utm in proptest::option::of("\\PC{0,100}"),
        ) {
            let url = Destination::parse(&url).unwrap().into_string();
            let settings =
                LinkSettings { forward_query: true, utm: Utm { term: utm, ..Utm::default() }, ..LinkSettings::default() };
            let got = visit(&settings, &url, &Facts::default(), 0, Some(&query));
            prop_assert!(got.len() <= MAX_LOCATION_BYTES);
            prop_assert!(got.bytes().all(|b| (0x21..0x7f).contains(&b)));
            let (before, after) = (url::Url::parse(&url).unwrap(), url::Url::parse(&got).unwrap());
            prop_assert_eq!((before.host(), before.path(), before.fragment()), (after.host(), after.path(), after.fragment()));
        }

        /// Every parameter of the visitor arrives, and of the destination's those of other names.
        #[test]
        fn a_query_arrives_whole(
            own in proptest::collection::vec(("[ab]{1,2}", "[a-z ü&=#]{0,5}"), 0..6),
            given in proptest::collection::vec(("[ab]{1,2}", "[a-z ü&=#]{0,5}"), 0..6),
        ) {
            let url = url::Url::parse_with_params("https://a.example/", &own).unwrap();
            let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&given).finish();
            let settings = LinkSettings { forward_query: true, ..LinkSettings::default() };
            let got = visit(&settings, url.as_str(), &Facts::default(), 0, Some(&query));
            let got: Vec<(String, String)> = url::Url::parse(&got).unwrap().query_pairs().into_owned().collect();
            let mut expected: Vec<_> =
                own.iter().filter(|(name, _)| given.iter().all(|(n, _)| n != name)).cloned().collect();
            expected.extend(given);
            prop_assert_eq!(got, expected);
        }
    }

    /// ROUTES-2, and that numbers of visitors are spread evenly enough for ROUTES-3.
    #[test]
    fn visitors_are_told_apart() {
        let visitors = Visitors::new(&[1; 32]);
        let number = |link, client: IpAddr, agent: &str| visitors.number(LinkId(link), client, Some(agent.as_bytes()));
        let v4 = |n: u32| IpAddr::V4(Ipv4Addr::from(n));
        let me = number(1, v4(7), "Firefox");
        assert_eq!(me, number(1, v4(7), "Firefox"));
        assert_eq!(me, number(1, IpAddr::V6(Ipv4Addr::from(7).to_ipv6_mapped()), "Firefox"));
        for other in [number(2, v4(7), "Firefox"), number(1, v4(8), "Firefox"), number(1, v4(7), "Chrome")] {
            assert_ne!(me, other);
        }
        let v6 = |low: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, low));
        assert_eq!(number(1, v6(1), ""), number(1, v6(2), ""));
        // 10,000 neighbours over a split of 1 to 3: 2,500 ± 5 sigma (43).
        let split =
            Split::new(&[to("https://a.example/", 1), to("https://b.example/", 3)], |u| HeaderValue::try_from(u).ok());
        let split = split.unwrap();
        let first = (0..10_000).filter(|n| split.pick(|| number(1, v4(*n), "")) == "https://a.example/").count();
        assert!((2_284..2_716).contains(&first), "{first}");
    }
}
