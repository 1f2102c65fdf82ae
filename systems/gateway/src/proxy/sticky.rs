//! The cookie by which a client stays with an endpoint.
//!
//! - STICKY-1: only what this installation signed, for the same route, and not longer ago than the route allows, is followed: nobody chooses
//!   a back end by writing a cookie.

use std::time::Duration;

use http::HeaderValue;
use kernel::Timestamp;
use ring::hmac;
use upstream::EndpointId;

use crate::model::compiled::Sticky;

/// Signs and reads cookies.
pub(super) struct Seal(hmac::Key);

/// Bytes of the signature that the cookie has.
const TAG_BYTES: usize = 16;

impl Seal {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    fn tag(&self, route: &str, endpoint: &str, until: &str) -> String {
        let text = format!("sticky\n{route}\n{endpoint}\n{until}");
        let signature = hmac::sign(&self.0, text.as_bytes());
        let mut half = [0; TAG_BYTES];
        half.copy_from_slice(&signature.as_ref()[..TAG_BYTES]);
        format!("{:032x}", u128::from_be_bytes(half))
    }

    /// The endpoint that a cookie names, if it holds.
    pub(super) fn read(&self, route: &str, cookie: &str, now: Timestamp) -> Option<EndpointId> {
        let mut parts = cookie.split('.');
        let (endpoint, until, tag) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || tag.len() != 2 * TAG_BYTES {
            return None;
        }
        let right = self.tag(route, endpoint, until);
        // Each byte is looked at, so that the time tells nothing.
        let differs = right.bytes().zip(tag.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        let until: i64 = until.parse().ok()?;
        (differs == 0 && (until == 0 || now.as_millis() / 1000 < until)).then(|| endpoint.parse().ok()).flatten()
    }

    /// The `Set-Cookie` that names an endpoint.
    pub(super) fn write(
        &self,
        route: &str,
        sticky: &Sticky,
        endpoint: EndpointId,
        now: Timestamp,
        is_tls: bool,
    ) -> Option<HeaderValue> {
        let seconds = |ttl: Duration| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let until = sticky.ttl.map_or(0, |ttl| (now.as_millis() / 1000).saturating_add(seconds(ttl)));
        let (endpoint, until) = (endpoint.to_string(), until.to_string());
        let tag = self.tag(route, &endpoint, &until);
        let mut text = format!("{}={endpoint}.{until}.{tag}; Path=/; HttpOnly; SameSite=Lax", sticky.cookie);
        if let Some(ttl) = sticky.ttl {
            text.push_str(&format!("; Max-Age={}", seconds(ttl)));
        }
        if is_tls {
            text.push_str("; Secure");
        }
        HeaderValue::try_from(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_for_the_route_is_followed_and_not_for_ever() {
        let seal = Seal::new(&[7; 32]);
        let sticky = Sticky { cookie: "ms_route".into(), ttl: Some(Duration::from_mins(1)) };
        let now = Timestamp::from_millis(1_000_000_000_000);
        let value = seal.write("api", &sticky, EndpointId(0xab), now, true).unwrap();
        let text = value.to_str().unwrap();
        assert!(text.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure"), "{text}");
        let cookie = text.split([';', '=']).nth(1).unwrap();
        assert_eq!(seal.read("api", cookie, now), Some(EndpointId(0xab)));
        assert_eq!(seal.read("api", cookie, now.plus(Duration::from_mins(1))), None, "over");
        assert_eq!(seal.read("other", cookie, now), None, "another route");
        assert_eq!(Seal::new(&[8; 32]).read("api", cookie, now), None, "another installation");
        for (from, to) in [("ab.", "ac."), (".1000000060.", ".2000000060.")] {
            assert_eq!(seal.read("api", &cookie.replace(from, to), now), None, "{from}");
        }
        for at in 0..cookie.len() {
            assert_eq!(seal.read("api", &cookie[..at], now), None, "{at}");
        }
        let forever = Sticky { ttl: None, ..sticky };
        let value = seal.write("api", &forever, EndpointId(1), now, false).unwrap();
        let cookie = value.to_str().unwrap().split([';', '=']).nth(1).unwrap().to_owned();
        assert_eq!(seal.read("api", &cookie, now.plus(Duration::from_secs(1 << 30))), Some(EndpointId(1)));
    }
}
