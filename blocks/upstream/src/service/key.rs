//! The key of a request, by which hashing algorithms choose.

use std::net::IpAddr;

use http::{HeaderMap, header};

use super::settings::{KeyOf, Settings};

/// What of a request a key can be made of.
#[derive(Debug, Clone, Copy)]
pub struct KeyParts<'a> {
    /// Its headers; none for a connection below HTTP.
    pub headers: Option<&'a HeaderMap>,
    /// Its path, without the query.
    pub path: &'a str,
    /// Its query, without the `?`.
    pub query: Option<&'a str>,
    /// Where the client is.
    pub client: IpAddr,
}

impl KeyParts<'_> {
    /// Of a connection of which only the address is known.
    pub fn of_client(client: IpAddr) -> Self {
        Self { headers: None, path: "", query: None, client }
    }

    pub(crate) fn hash(&self, key: &KeyOf) -> Option<u64> {
        let of = |bytes: &[u8]| Some(Settings::hash_of(bytes));
        match key {
            KeyOf::Header(name) => of(self.headers?.get(name)?.as_bytes()),
            KeyOf::Cookie(name) => of(cookie(self.headers?, name)?.as_bytes()),
            KeyOf::Query(name) => of(parameter(self.query?, name)?.as_bytes()),
            KeyOf::Path => of(self.path.as_bytes()),
            KeyOf::Address => match self.client.to_canonical() {
                IpAddr::V4(ip) => of(&ip.octets()),
                IpAddr::V6(ip) => of(&ip.octets()),
            },
        }
    }
}

/// The value of a cookie (RFC 6265 §4.2).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// The first value of a parameter as it is written: for a key its escapes do not matter.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find_map(|(key, value)| (key == name).then_some(value))
}
