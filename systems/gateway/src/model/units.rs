//! Sizes as people write them; times are [`kernel::Span`].

use kernel::limits::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A number of bytes: `64KiB`, `10MiB`, or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub ByteSize);

impl Size {
    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0.0
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Number(u64),
            Text(String),
        }
        let wrong = || D::Error::custom("expected a size such as 64KiB or 10MiB");
        match Given::deserialize(deserializer).map_err(|_| wrong())? {
            Given::Number(bytes) => Ok(Self(ByteSize(bytes))),
            Given::Text(text) => ByteSize::parse(&text).map(Self).ok_or_else(wrong),
        }
    }
}
