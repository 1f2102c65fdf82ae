use axum::response::IntoResponse as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use kernel::Timestamp;
use proptest::prelude::*;
use web::{
    Conditions, ETag,
    conditional::{Outcome, http_date, parse_http_date},
};

fn conditions(method: &str, headers: &[&str]) -> Conditions {
    let mut map = HeaderMap::new();
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        map.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
    }
    Conditions::new(&Method::from_bytes(method.as_bytes()).unwrap(), &map)
}

/// The thing is at version 2, changed at 06:00:00.5; or it does not exist.
fn check(method: &str, headers: &[&str], exists: bool, expected: Outcome) {
    let etag = ETag::of_version(2);
    let modified = Timestamp::parse("2026-11-24T06:00:00.5Z").unwrap();
    let state = if exists { (Some(&etag), Some(modified)) } else { (None, None) };
    let got = conditions(method, headers).judge(state.0, state.1);
    assert_eq!(got, expected, "{method} {headers:?} exists={exists}");
}

#[test]
fn conditions_follow_rfc_9110() {
    use Outcome::{Failed, NotModified, Proceed};
    let at = "Tue, 24 Nov 2026 06:00:00 GMT";
    let before = "Tue, 24 Nov 2026 05:59:59 GMT";
    let since = |h: &str, t: &str| format!("{h}: {t}");
    for (method, headers, exists, expected) in [
        ("GET", vec![], true, Proceed),
        ("GET", vec!["if-none-match: \"v2\""], true, NotModified),
        ("HEAD", vec!["if-none-match: \"v2\""], true, NotModified),
        ("GET", vec!["if-none-match: W/\"v2\""], true, NotModified),
        ("GET", vec!["if-none-match: \"v1\", \"v2\""], true, NotModified),
        ("GET", vec!["if-none-match: \"a,b\",\"v2\""], true, NotModified),
        ("GET", vec!["if-none-match: \"v1\"", "if-none-match: \"v2\""], true, NotModified),
        ("GET", vec!["if-none-match: *"], true, NotModified),
        ("GET", vec!["if-none-match: \"v1\""], true, Proceed),
        ("GET", vec!["if-none-match: v2"], true, Proceed),
        ("GET", vec!["if-none-match: \"v2"], true, Proceed),
        ("GET", vec!["if-none-match: *"], false, Proceed),
        // Create only when absent.
        ("PUT", vec!["if-none-match: *"], false, Proceed),
        ("PUT", vec!["if-none-match: *"], true, Failed),
        ("PUT", vec!["if-match: \"v2\""], true, Proceed),
        ("PUT", vec!["if-match: *"], true, Proceed),
        ("PUT", vec!["if-match: *"], false, Failed),
        ("PUT", vec!["if-match: \"v1\""], true, Failed),
        ("PUT", vec!["if-match: W/\"v2\""], true, Failed),
        ("PUT", vec!["if-match: v2"], true, Failed),
        ("PUT", vec!["if-match: \"v2\""], false, Failed),
        ("GET", vec![&since("if-modified-since", at)], true, NotModified),
        ("GET", vec![&since("if-modified-since", before)], true, Proceed),
        ("PUT", vec![&since("if-modified-since", at)], true, Proceed),
        ("GET", vec!["if-modified-since: yesterday"], true, Proceed),
        ("PUT", vec![&since("if-unmodified-since", at)], true, Proceed),
        ("PUT", vec![&since("if-unmodified-since", before)], true, Failed),
        // Tags win over dates.
        ("GET", vec!["if-none-match: \"v1\"", &since("if-modified-since", at)], true, Proceed),
        ("PUT", vec!["if-match: \"v2\"", &since("if-unmodified-since", before)], true, Proceed),
    ] {
        check(method, &headers, exists, expected);
    }
}

#[test]
fn a_missing_if_match_is_428_and_a_false_one_412() {
    let refuse = |headers: &[&str]| conditions("PUT", headers);
    let missing = refuse(&[]).require_if_match().unwrap_err().into_response();
    assert_eq!(missing.status(), 428);
    refuse(&["if-match: \"v1\""]).require_if_match().unwrap();
    let old = refuse(&["if-match: \"v1\""]).check(Some(&ETag::of_version(2)), None).unwrap_err();
    assert_eq!(old.into_response().status(), 412);
}

#[test]
fn an_answer_carries_its_etag_also_when_it_is_304() {
    let etag = ETag::of_bytes(b"body");
    for (header, status) in [("if-none-match: \"other\"", 200), (&format!("if-none-match: {}", etag.as_str()), 304)] {
        let response = conditions("GET", &[header]).answer(&etag, || "body".into_response());
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["etag"], etag.as_str());
    }
}

proptest! {
    #[test]
    fn dates_survive_to_the_second(ms in 0_i64..253_402_300_799_000) {
        let at = Timestamp::from_millis(ms);
        let read = parse_http_date(&http_date(at)).unwrap();
        prop_assert_eq!(read.as_millis(), ms / 1_000 * 1_000);
    }

    #[test]
    fn any_header_is_judged_without_panic(value in "[ -~]{0,60}") {
        let if_match = format!("if-match: {value}");
        let if_none_match = format!("if-none-match: {value}");
        conditions("PUT", &[&if_match, &if_none_match]).judge(Some(&ETag::of_version(2)), None);
    }
}
