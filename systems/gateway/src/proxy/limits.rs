//! What is refused before anything is done for a request.

use http::{HeaderMap, StatusCode};
use limiter::{Check, Descriptor, Matching};

use super::{
    asked::Asked,
    refuse::{RATE_LIMITED, Refusal},
    worker::Inner,
};
use crate::model::{Route, compiled::RateLimit};

/// The longest value of a descriptor that the limiter takes; what is longer is cut, which only makes more requests count together.
const MAX_VALUE_BYTES: usize = 1024;

/// Sizes that the head tells.
pub(super) fn sizes(asked: &Asked, route: &Route) -> Result<(), Refusal> {
    if asked.header_bytes() > route.max_request_headers {
        return Err(Refusal::headers_too_large());
    }
    match (route.max_body, asked.content_length()) {
        (Some(max), Some(length)) if length > max => Err(Refusal::body_too_large()),
        _ => Ok(()),
    }
}

/// Asks the limiter; gives the headers that tell of the limits.
pub(super) async fn rate(
    worker: &Inner,
    asked: &Asked,
    route: &Route,
    rules: &RateLimit,
    identity: &dyn Fn(&str) -> Option<String>,
) -> Result<HeaderMap, (Refusal, HeaderMap)> {
    let Some(limiter) = &worker.shared.limiter else { return Ok(HeaderMap::new()) };
    let descriptors: Vec<Descriptor> = asked.with_values(route, identity, |values| {
        let fill = |entries: &Vec<(Box<str>, crate::model::Template)>| {
            let entries = entries.iter().map(|(key, template)| {
                let mut value = template.render(values)?.into_owned();
                if value.len() > MAX_VALUE_BYTES {
                    let end = (0..=MAX_VALUE_BYTES).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0);
                    value.truncate(end);
                }
                Some((key.to_string(), value))
            });
            entries.collect::<Option<Vec<_>>>().map(Descriptor::new)
        };
        rules.descriptors.iter().filter_map(fill).collect()
    });
    if descriptors.is_empty() {
        return Ok(HeaderMap::new());
    }
    let check = Check { domain: &rules.domain, descriptors: &descriptors, matching: Matching::Contains, cost: 1 };
    let outcome = match limiter.check(&rules.project, &check).await {
        Ok(outcome) => outcome,
        Err(limiter::Error::DomainUnknown) => return Ok(HeaderMap::new()),
        Err(e) => {
            // What happens without the memory plane each rule says itself; what is left is a check that cannot be decided.
            tracing::warn!(error = %e, route = %route.name, "a rate limit could not be asked; the request goes on");
            return Ok(HeaderMap::new());
        }
    };
    let headers = limiter::http::headers::headers(&outcome, limiter::http::headers::Form::Standard);
    if outcome.is_allowed {
        return Ok(headers);
    }
    let refusal = Refusal::new(
        &RATE_LIMITED,
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limited",
        "The headers RateLimit and Retry-After say when it makes sense to come back.",
    );
    Err((refusal, headers))
}
