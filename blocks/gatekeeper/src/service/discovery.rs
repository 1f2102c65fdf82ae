//! What an OpenID provider says of itself (OpenID Connect Discovery 1.0, RFC 8414).

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use kernel::Clock;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use url::Url;

use super::keys::{BETWEEN_READS, get_json};
use crate::{Fetch, FetchError, model::json::read_object};

/// What is older than this is read again.
const REFRESH: Duration = Duration::from_hours(1);
const MAX_BYTES: usize = 64 * 1024;

/// What of the metadata is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) jwks_uri: String,
    pub(super) authorization_endpoint: Option<Url>,
    pub(super) token_endpoint: Option<String>,
    pub(super) end_session_endpoint: Option<Url>,
    /// Whether the client's secret goes into the body, since the header is not taken.
    pub(super) secret_in_body: bool,
    /// Whether answers of the authorization endpoint say who they are from (RFC 9207).
    pub(super) names_itself: bool,
}

pub(super) struct Discovery {
    issuer: String,
    clock: Clock,
    fetch: Arc<dyn Fetch>,
    known: ArcSwapOption<(Metadata, Duration)>,
    tried_at: Mutex<Option<(Duration, FetchError)>>,
}

impl Discovery {
    pub(super) fn new(issuer: &str, clock: &Clock, fetch: &Arc<dyn Fetch>) -> Self {
        Self {
            issuer: issuer.to_owned(),
            clock: clock.clone(),
            fetch: fetch.clone(),
            known: ArcSwapOption::empty(),
            tried_at: Mutex::new(None),
        }
    }

    /// The metadata, read again when it is an hour old. What was read stays while the provider does not answer.
    pub(super) async fn metadata(&self) -> Result<Arc<(Metadata, Duration)>, FetchError> {
        if let Some(known) = self.fresh() {
            return Ok(known);
        }
        let mut tried = self.tried_at.lock().await;
        if let Some(known) = self.fresh() {
            return Ok(known);
        }
        let now = self.clock.monotonic();
        let failure = match &*tried {
            Some((at, failure)) if now.saturating_sub(*at) < BETWEEN_READS => failure.clone(),
            _ => match self.read().await {
                Ok(metadata) => {
                    *tried = None;
                    let known = Arc::new((metadata, now));
                    self.known.store(Some(known.clone()));
                    return Ok(known);
                }
                Err(failure) => {
                    tracing::warn!(issuer = self.issuer, why = failure.0, "the metadata of the issuer cannot be read");
                    *tried = Some((self.clock.monotonic(), failure.clone()));
                    failure
                }
            },
        };
        self.known.load_full().ok_or(failure)
    }

    fn fresh(&self) -> Option<Arc<(Metadata, Duration)>> {
        let now = self.clock.monotonic();
        self.known.load_full().filter(|known| now.saturating_sub(known.1) < REFRESH)
    }

    async fn read(&self) -> Result<Metadata, FetchError> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let bytes = get_json(&*self.fetch, &url, MAX_BYTES).await?;
        let object = read_object(&bytes).ok_or_else(|| FetchError(format!("{url}: not a JSON object")))?;
        Metadata::parse(&self.issuer, &object).map_err(|why| FetchError(format!("{url}: {why}")))
    }
}

impl Metadata {
    fn parse(issuer: &str, object: &Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        // OpenID Connect Discovery §4.3: whoever answers for another issuer is not believed.
        if text("issuer") != Some(issuer) {
            return Err(format!("it is of the issuer {:?}, not {issuer:?}", text("issuer").unwrap_or_default()));
        }
        let checked =
            |name: &str| text(name).map(|url| check_url(url).map_err(|why| format!("{name}: {why}"))).transpose();
        let methods = object.get("token_endpoint_auth_methods_supported").and_then(Value::as_array);
        let takes = |method: &str| methods.is_some_and(|list| list.iter().any(|name| name == method));
        Ok(Self {
            jwks_uri: checked("jwks_uri")?.ok_or("no jwks_uri")?.to_string(),
            authorization_endpoint: checked("authorization_endpoint")?,
            token_endpoint: checked("token_endpoint")?.map(|url| url.to_string()),
            end_session_endpoint: checked("end_session_endpoint")?,
            secret_in_body: takes("client_secret_post") && !takes("client_secret_basic"),
            names_itself: object.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
        })
    }
}

/// `https`, or `http` to this very machine: keys that came in the open are anybody's.
pub(super) fn check_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    let is_here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" if url.host().is_some() => {}
        "http" if is_here => {}
        _ => return Err("an https URL; http only to this machine".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("without a name, a password or a fragment".to_owned());
    }
    Ok(url)
}
