use http::{HeaderMap, HeaderValue};
use kernel::Rng;
use proptest::prelude::*;
use web::trace::{TraceContext, TraceParent};

fn check(text: &str, accepted: bool) {
    assert_eq!(TraceParent::parse(text).is_some(), accepted, "{text}");
}

#[test]
fn traceparent_is_read_strictly() {
    let t = "4bf92f3577b34da6a3ce929d0e0e4736";
    let p = "00f067aa0ba902b7";
    for (text, accepted) in [
        (format!("00-{t}-{p}-01"), true),
        (format!("00-{t}-{p}-00"), true),
        (format!("00-{t}-{p}-01-more"), false),
        (format!("cc-{t}-{p}-01"), true),
        (format!("cc-{t}-{p}-01-more"), true),
        (format!("cc-{t}-{p}-01.more"), false),
        (format!("ff-{t}-{p}-01"), false),
        (format!("00-{}-{p}-01", t.to_uppercase()), false),
        (format!("00-{}-{p}-01", "0".repeat(32)), false),
        (format!("00-{t}-{}-01", "0".repeat(16)), false),
        (format!("00-{t}-{p}-0"), false),
        (format!("00-{t}-{p}-0x"), false),
        (format!("0-{t}-{p}-01"), false),
        (format!("00_{t}-{p}-01"), false),
        (String::new(), false),
        ("é".repeat(28), false),
    ] {
        check(&text, accepted);
    }
}

fn context(headers: &[(&'static str, &str)]) -> TraceContext {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    TraceContext::from_headers(&map, &Rng::seeded(1))
}

#[test]
fn tracestate_is_kept_whole_or_dropped() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (states, expected) in [
        (vec!["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (vec!["a=1", "b=2 , ,c=3"], "a=1,b=2,c=3"),
        (vec!["1a@b=1"], "1a@b=1"),
        (vec!["a=1,a=2"], ""),
        (vec!["A=1"], ""),
        (vec!["a"], ""),
        (vec!["a=b=c"], ""),
        (vec!["a@1b=1"], ""),
    ] {
        let mut headers = vec![("traceparent", parent)];
        headers.extend(states.iter().map(|s| ("tracestate", *s)));
        assert_eq!(context(&headers).state, expected, "{states:?}");
    }
    // Without a valid traceparent there is no state to keep; two of them are no valid one.
    assert_eq!(context(&[("tracestate", "a=1")]).state, "");
    assert_eq!(context(&[("traceparent", parent), ("traceparent", parent)]).parent_id, None);
}

proptest! {
    #[test]
    fn traceparent_survives_the_wire(trace_id: [u8; 16], parent_id: [u8; 8], flags: u8) {
        prop_assume!(trace_id != [0; 16] && parent_id != [0; 8]);
        let parent = TraceParent { trace_id, parent_id, flags };
        prop_assert_eq!(TraceParent::parse(&parent.to_string()), Some(parent));
    }

    #[test]
    fn what_is_read_is_written_the_same(text in "00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}") {
        if let Some(parent) = TraceParent::parse(&text) {
            prop_assert_eq!(parent.to_string(), text);
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(text in "\\PC{0,80}") {
        let _read = TraceParent::parse(&text);
    }

    #[test]
    fn a_child_stays_in_the_trace_of_its_parent(trace_id: [u8; 16], parent_id: [u8; 8], flags: u8) {
        prop_assume!(trace_id != [0; 16] && parent_id != [0; 8]);
        let text = TraceParent { trace_id, parent_id, flags }.to_string();
        let child = context(&[("traceparent", &text)]);
        prop_assert_eq!(child.trace_id, trace_id);
        prop_assert_eq!(child.parent_id, Some(parent_id));
        prop_assert_ne!(child.span_id, parent_id);
        prop_assert_eq!(child.sampled(), flags & 1 == 1);
    }
}
