//! Numbers and times as people read them at three in the morning: short, with units, always the same way.

use std::time::Duration;

use kernel::Timestamp;
use maud::{Markup, html};

/// What a number counts; decides how an axis steps and how a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// Things: `1.2k`.
    #[default]
    Count,
    /// Things each second: `1.2k/s`.
    PerSecond,
    /// Milliseconds; written as `µs`, `ms`, `s` or `min`.
    Millis,
    /// Bytes; written in powers of 1,024.
    Bytes,
    /// Bytes each second.
    BytesPerSecond,
    /// 0 to 100.
    Percent,
}

impl Unit {
    /// The value with its unit, such as `1.2k/s`, `340 ms`, `1.5 MiB`, `99.9 %`. Not finite becomes an en dash.
    pub fn format(self, value: f64) -> String {
        if !value.is_finite() {
            return "–".to_owned();
        }
        match self {
            Self::Count => short(value),
            Self::PerSecond => format!("{}/s", short(value)),
            Self::Millis => millis(value),
            Self::Bytes => bytes(value),
            Self::BytesPerSecond => format!("{}/s", bytes(value)),
            Self::Percent => format!("{} %", significant(value)),
        }
    }

    /// The word beside an axis.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::PerSecond => "per second",
            Self::Millis => "time",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "bytes per second",
            Self::Percent => "percent",
        }
    }

    /// True when an axis steps in powers of two.
    pub(crate) const fn is_binary(self) -> bool {
        matches!(self, Self::Bytes | Self::BytesPerSecond)
    }
}

/// Three significant digits without trailing zeros: `0.125`, `1.25`, `12.5`, `125`, `1250`.
fn significant(value: f64) -> String {
    let size = value.abs();
    let digits = if size >= 100.0 || size == 0.0 {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 1.0 {
        2
    } else {
        3
    };
    let mut text = format!("{value:.digits$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    if text == "-0" { "0".to_owned() } else { text.replacen('-', "−", 1) }
}

/// Divides by the largest step whose rounded result is at least 1: 999,999 is `1M`, never `1000k`.
fn scaled(value: f64, steps: &[(f64, &str)]) -> String {
    for (size, suffix) in steps {
        if (value / size).abs() >= 0.9995 {
            return format!("{}{suffix}", significant(value / size));
        }
    }
    significant(value)
}

/// A number in short: `7`, `1.2k`, `3.45M`, `1.2G`, `8T`.
pub fn short(value: f64) -> String {
    scaled(value, &[(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")])
}

/// A whole number in full, thousands apart: `1,234,567`.
pub fn full(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut out = String::from(if value < 0 { "−" } else { "" });
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Bytes in powers of 1,024: `512 B`, `1.5 KiB`, `20 MiB`.
pub fn bytes(value: f64) -> String {
    const KIB: f64 = 1024.0;
    let steps = [(KIB.powi(4), " TiB"), (KIB.powi(3), " GiB"), (KIB.powi(2), " MiB"), (KIB, " KiB")];
    if value.abs() < KIB * 0.9995 { format!("{} B", significant(value)) } else { scaled(value, &steps) }
}

/// Milliseconds as `250 µs`, `12.5 ms`, `1.2 s`, `3.5 min`, `2 h`.
pub fn millis(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0 ms".to_owned()
    } else if size < 0.9995 {
        format!("{} µs", significant(value * 1e3))
    } else {
        let steps = [(86_400_000.0, " d"), (3_600_000.0, " h"), (60_000.0, " min"), (1_000.0, " s"), (1.0, " ms")];
        scaled(value, &steps)
    }
}

/// A duration: as [`millis`].
pub fn duration(d: Duration) -> String {
    millis(d.as_secs_f64() * 1e3)
}

/// `2026-11-24 06:00:00` (UTC), to the second.
pub fn date_time(at: Timestamp) -> String {
    slice(at, 0, 19).replacen('T', " ", 1)
}

/// `06:00` (UTC).
pub fn clock(at: Timestamp) -> String {
    slice(at, 11, 16)
}

/// `06:00:12` (UTC).
pub fn clock_seconds(at: Timestamp) -> String {
    slice(at, 11, 19)
}

/// `11-24` (UTC).
pub fn month_day(at: Timestamp) -> String {
    slice(at, 5, 10)
}

/// A part of RFC 3339 text; the whole text for years that do not have four digits.
fn slice(at: Timestamp, from: usize, to: usize) -> String {
    let text = at.to_string();
    match text.as_bytes().get(4) {
        Some(b'-') if !text.starts_with('-') => text.get(from..to).unwrap_or(&text).to_owned(),
        _ => text,
    }
}

/// How long ago (or until): `now`, `12 s ago`, `5 min ago`, `in 3 h`, `40 d ago`.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let (past, ms) = if at <= now { (true, now.since(at)) } else { (false, at.since(now)) };
    let seconds = ms.as_secs();
    let text = match seconds {
        0 => return "now".to_owned(),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    };
    if past { format!("{text} ago") } else { format!("in {text}") }
}

/// A `<time>`: reads as [`ago`], holds the exact instant for machines and on hover.
pub fn time(at: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(at.to_string()) title={ (date_time(at)) " UTC" } { (ago(at, now)) } }
}

/// A `<time>` that shows the instant itself.
pub fn exact_time(at: Timestamp) -> Markup {
    html! { time datetime=(at.to_string()) { (date_time(at)) " UTC" } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (value, text) in [
            (0.0, "0"),
            (7.0, "7"),
            (0.125, "0.125"),
            (999.0, "999"),
            (999.9, "1k"),
            (1_000.0, "1k"),
            (1_234.0, "1.23k"),
            (12_345.0, "12.3k"),
            (999_999.0, "1M"),
            (-1_500.0, "−1.5k"),
            (2.5e9, "2.5G"),
            (-0.0001, "−0"),
        ] {
            let want = if text == "−0" { "0" } else { text };
            assert_eq!(short(value), want, "{value}");
        }
        assert_eq!((full(0), full(1_234_567), full(-1_000)), ("0".into(), "1,234,567".into(), "−1,000".into()));
        for (value, text) in [(0.0, "0 B"), (512.0, "512 B"), (1_536.0, "1.5 KiB"), (20_971_520.0, "20 MiB")] {
            assert_eq!(bytes(value), text);
        }
        for (value, text) in
            [(0.0, "0 ms"), (0.25, "250 µs"), (12.5, "12.5 ms"), (1_200.0, "1.2 s"), (210_000.0, "3.5 min")]
        {
            assert_eq!(millis(value), text);
        }
        assert_eq!(Unit::PerSecond.format(1_200.0), "1.2k/s");
        assert_eq!(Unit::Percent.format(f64::NAN), "–");
    }

    #[test]
    fn times() {
        let at = Timestamp::parse("2026-11-24T06:07:08.9Z").unwrap();
        assert_eq!(date_time(at), "2026-11-24 06:07:08");
        assert_eq!((clock(at), clock_seconds(at), month_day(at)), ("06:07".into(), "06:07:08".into(), "11-24".into()));
        assert_eq!(date_time(Timestamp::EPOCH), "1970-01-01 00:00:00");
        for (seconds, text) in
            [(0, "now"), (12, "12 s ago"), (300, "5 min ago"), (7_200, "2 h ago"), (864_000, "10 d ago")]
        {
            assert_eq!(ago(at, at.plus(Duration::from_secs(seconds))), text);
        }
        assert_eq!(ago(at.plus(Duration::from_mins(1)), at), "in 1 min");
        // A year beyond four digits is shown whole rather than cut wrongly.
        let _whole: String = date_time(Timestamp::from_millis(i64::MAX));
        let _whole: String = clock(Timestamp::from_millis(i64::MIN));
    }
}
