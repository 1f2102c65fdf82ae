//! Limits as people write them: `10MiB`, `250ms`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes, written as `512`, `64KiB`, `10MiB`, `2GiB` (powers of 1,024) or `kB`, `MB`, `GB` (powers of 1,000).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

const SIZES: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// Mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// Kibibytes.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// The number as a `usize`, capped to what this machine can address.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Reads the forms above.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (number, unit) =
            SIZES.iter().find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|n| (n, *unit))).unwrap_or((text, 1));
        let number = number.trim_end();
        // `parse` alone would take a sign.
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        number.parse::<u64>().ok().filter(|_| digits)?.checked_mul(unit).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (suffix, unit) in &SIZES[..3] {
            if self.0 >= *unit && self.0.is_multiple_of(*unit) {
                return write!(f, "{}{suffix}", self.0 / unit);
            }
        }
        write!(f, "{}B", self.0)
    }
}

const TIMES: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads `250ms`, `5s`, `10m`, `2h`, `30d`; whole numbers only.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, ms) = TIMES.iter().find(|(suffix, _)| *suffix == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(*ms).map(Duration::from_millis)
}

/// Writes a duration so that [`parse_duration`] reads it back (to the millisecond).
pub fn format_duration(d: Duration) -> String {
    let ms = u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let (suffix, unit) =
        TIMES.iter().rev().find(|(_, unit)| ms >= *unit && ms.is_multiple_of(*unit)).unwrap_or(&("ms", 1));
    format!("{}{suffix}", ms / unit)
}

/// A duration in a document that people write, as text such as `250ms`; see [`parse_duration`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

impl Span {
    /// Seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// Milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_duration(self.0))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("expected a time such as 250ms, 5s, 10m, 2h or 30d"))
    }
}

/// gRPC's units from the finest, in nanoseconds.
const GRPC_TIMES: [(char, u128); 6] =
    [('n', 1), ('u', 1_000), ('m', 1_000_000), ('S', 1_000_000_000), ('M', 60_000_000_000), ('H', 3_600_000_000_000)];

/// Reads the value of `grpc-timeout`: one to eight digits and one of `H M S m u n` ("PROTOCOL-HTTP2.md" of gRPC).
pub fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let (_, nanos) = GRPC_TIMES.iter().find(|(name, _)| *name == unit)?;
    let digits = &text[..text.len() - 1];
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u32 = is_number.then(|| digits.parse().ok())??;
    Some(nanos_as_duration(u128::from(number) * nanos))
}

/// Writes the value of `grpc-timeout` in the finest unit that fits, rounded down, so that nobody works for who no longer waits. More
/// than 99,999,999 hours become that.
pub fn format_grpc_timeout(d: Duration) -> String {
    const MOST: u128 = 99_999_999;
    let (unit, nanos) = GRPC_TIMES.into_iter().find(|(_, nanos)| d.as_nanos() / nanos <= MOST).unwrap_or(GRPC_TIMES[5]);
    format!("{}{unit}", (d.as_nanos() / nanos).min(MOST))
}

fn nanos_as_duration(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    let seconds = u64::try_from(nanos / SECOND).unwrap_or(u64::MAX);
    Duration::new(seconds, u32::try_from(nanos % SECOND).unwrap_or(0))
}
