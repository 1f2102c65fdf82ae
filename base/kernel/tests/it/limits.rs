use std::time::Duration;

use kernel::{
    ByteSize,
    limits::{format_duration, format_grpc_timeout, parse_duration, parse_grpc_timeout},
};
use proptest::prelude::*;

#[test]
fn sizes_are_read_with_their_unit() {
    for (text, bytes) in [
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("64KiB", 65_536),
        (" 64 KiB ", 65_536),
        ("10MiB", 10 << 20),
        ("2GiB", 2 << 30),
        ("1kB", 1_000),
        ("3MB", 3_000_000),
        ("1GB", 1_000_000_000),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(ByteSize::parse(text), Some(ByteSize(bytes)), "{text}");
    }
    for bad in [
        "",
        "B",
        "KiB",
        "-1",
        "+1",
        "+1KiB",
        "1.5MiB",
        "1 MiB MiB",
        "1TiB",
        "1kib",
        "1e3",
        "18446744073709551616",
        "99999999999GiB",
    ] {
        assert_eq!(ByteSize::parse(bad), None, "{bad}");
    }
    assert_eq!((ByteSize::kib(3), ByteSize::mib(3)), (ByteSize(3_072), ByteSize(3_145_728)));
    assert_eq!(ByteSize(5).as_usize(), 5);
}

#[test]
fn durations_are_read_with_their_unit() {
    for (text, ms) in
        [("0ms", 0), ("250ms", 250), ("5s", 5_000), (" 10 m ", 600_000), ("2h", 7_200_000), ("30d", 2_592_000_000)]
    {
        assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
    }
    for bad in ["", "5", "s", "-5s", "+5s", "1.5s", "5S", "5sec", "1h30m", "99999999999999999999s", "300000000000000d"]
    {
        assert_eq!(parse_duration(bad), None, "{bad}");
    }
    assert_eq!(format_duration(Duration::from_mins(90)), "90m");
    assert_eq!(format_duration(Duration::ZERO), "0ms");
    assert_eq!(format_duration(Duration::from_micros(1_500)), "1ms", "to the millisecond");
}

#[test]
fn grpc_timeouts_are_read_as_the_protocol_has_them() {
    for (text, nanos) in [
        ("1H", Some(3_600_000_000_000_u128)),
        ("2M", Some(120_000_000_000)),
        ("5S", Some(5_000_000_000)),
        ("250m", Some(250_000_000)),
        ("3000u", Some(3_000_000)),
        ("99999999n", Some(99_999_999)),
        ("99999999H", Some(359_999_996_400_000_000_000)),
        ("0n", Some(0)),
        ("", None),
        ("S", None),
        ("5", None),
        ("5s", None),
        ("+5S", None),
        ("-5S", None),
        ("100000000S", None),
        ("5é", None),
    ] {
        assert_eq!(parse_grpc_timeout(text).map(|d| d.as_nanos()), nanos, "{text}");
    }
    for (d, text) in [
        (Duration::ZERO, "0n"),
        (Duration::from_millis(99), "99000000n"),
        (Duration::from_millis(100), "100000u"),
        (Duration::from_secs(30), "30000000u"),
        (Duration::from_hours(30), "108000S"),
        (Duration::MAX, "99999999H"),
    ] {
        assert_eq!(format_grpc_timeout(d), text, "{d:?}");
    }
}

proptest! {
    /// Never longer than what is left, and shorter by no more than a part in a hundred thousand.
    #[test]
    fn grpc_timeouts_lose_next_to_nothing(seconds in 0_u64..300_000_000_000, nanos in 0_u32..1_000_000_000, shift in 0_u32..38) {
        let d = Duration::new(seconds >> shift, nanos);
        let back = parse_grpc_timeout(&format_grpc_timeout(d)).unwrap();
        prop_assert!(back <= d && (d.as_nanos() - back.as_nanos()) * 99_999 <= d.as_nanos(), "{:?} {:?}", d, back);
    }

    #[test]
    fn sizes_round_trip(bytes in any::<u64>()) {
        prop_assert_eq!(ByteSize::parse(&ByteSize(bytes).to_string()), Some(ByteSize(bytes)));
    }

    #[test]
    fn round_sizes_stay_short(n in 1_u64..1_000, unit in prop::sample::select(vec![10, 20, 30])) {
        let text = ByteSize(n << unit).to_string();
        prop_assert!(text.len() <= 7, "{}", text);
        prop_assert_eq!(ByteSize::parse(&text), Some(ByteSize(n << unit)));
    }

    #[test]
    fn durations_round_trip(ms in any::<u64>()) {
        let d = Duration::from_millis(ms);
        prop_assert_eq!(parse_duration(&format_duration(d)), Some(d));
    }

    #[test]
    fn no_text_panics(text in "\\PC*") {
        ByteSize::parse(&text);
        parse_duration(&text);
        parse_grpc_timeout(&text);
    }
}
