//! What HTTP tells about trying again.

use std::time::Duration;

use kernel::Timestamp;

use crate::{Safe, Verdict};

/// Longest `Retry-After` that is believed.
const LONGEST_HINT: Duration = Duration::from_hours(24);

impl Safe {
    /// What a method says of itself (RFC 9110, 9.2.2); an `Idempotency-Key` makes any request safe to send again.
    pub fn of_request(method: &str, has_idempotency_key: bool) -> Self {
        match method {
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE" => Self::Always,
            _ if has_idempotency_key => Self::Always,
            _ => Self::WhenNothingWasDone,
        }
    }
}

impl Verdict {
    /// What the status of a failure and Mainstay's `code` (if it has one) say. 429 and 503 refuse before they work, a 503 whose
    /// code ends with `OUTCOME_UNKNOWN` apart; 408, 425 and what a gateway or a broken server says (500, 502, 504) leave it open; everything else
    /// would be the same again.
    pub fn of_status(status: u16, code: Option<&str>, after: Option<Duration>) -> Self {
        match status {
            503 if code.is_some_and(|code| code.ends_with(kernel::error::OUTCOME_UNKNOWN.name)) => {
                Self::Unknown { after }
            }
            429 | 503 => Self::NothingDone { after },
            408 | 425 | 500 | 502 | 504 => Self::Unknown { after },
            _ => Self::Final,
        }
    }
}

/// Reads `Retry-After` (RFC 9110, 10.2.3): seconds or an HTTP date; at most a day, and zero for what is past.
pub fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let after = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let at = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Timestamp::EPOCH.plus(at).since(now)
    };
    Some(after.min(LONGEST_HINT))
}
