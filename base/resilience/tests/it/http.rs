use std::time::Duration;

use kernel::Timestamp;
use resilience::{Safe, Verdict, parse_retry_after};

#[test]
fn what_may_be_sent_again() {
    for (method, has_key, safe) in [
        ("GET", false, Safe::Always),
        ("HEAD", false, Safe::Always),
        ("PUT", false, Safe::Always),
        ("DELETE", false, Safe::Always),
        ("POST", false, Safe::WhenNothingWasDone),
        ("PATCH", false, Safe::WhenNothingWasDone),
        ("POST", true, Safe::Always),
        ("get", false, Safe::WhenNothingWasDone),
    ] {
        assert_eq!(Safe::of_request(method, has_key), safe, "{method} {has_key}");
    }
}

#[test]
fn what_a_refusal_tells() {
    let after = Some(Duration::from_secs(2));
    for (status, code, verdict) in [
        (429, None, Verdict::NothingDone { after }),
        (503, Some("OVERLOADED"), Verdict::NothingDone { after }),
        (503, Some("OUTCOME_UNKNOWN"), Verdict::Unknown { after }),
        (503, Some("DATABASE_OUTCOME_UNKNOWN"), Verdict::Unknown { after }),
        (500, None, Verdict::Unknown { after }),
        (502, None, Verdict::Unknown { after }),
        (504, None, Verdict::Unknown { after }),
        (400, None, Verdict::Final),
        (404, None, Verdict::Final),
        (409, None, Verdict::Final),
        (501, None, Verdict::Final),
    ] {
        assert_eq!(Verdict::of_status(status, code, after), verdict, "{status} {code:?}");
    }
}

#[test]
fn hints_are_read_in_both_forms_and_have_a_limit() {
    let now = Timestamp::parse("2026-11-24T06:00:00Z").unwrap();
    for (text, seconds) in [
        ("0", Some(0)),
        (" 120 ", Some(120)),
        ("Tue, 24 Nov 2026 06:00:30 GMT", Some(30)),
        ("Tue, 24 Nov 2026 05:00:30 GMT", Some(0)),
        ("99999999999999999999999", Some(86_400)),
        ("Thu, 24 Nov 2050 06:00:30 GMT", Some(86_400)),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
    ] {
        assert_eq!(parse_retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
    }
}
