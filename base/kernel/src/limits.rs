//! Limits as people write them: `10MiB`, `250ms`.

use std::{fmt, time::Duration};

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
