//! Typed ids: two kinds of id cannot be mixed, and an id sorts after those of earlier milliseconds.

use uuid::Uuid;

use crate::{Clock, Rng};

/// A fresh UUIDv7 (RFC 9562): 48 bits of milliseconds, then randomness, so ids sort by creation time, to the millisecond of
/// the wall clock that made them.
pub fn uuid_v7(clock: &Clock, rng: &Rng) -> Uuid {
    let ms = u64::try_from(clock.now().as_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(ms, &rng.bytes()).into_uuid()
}

/// Declares an id type: `typed_id!(/** … */ LinkId, "lnk")` shows as `lnk_0198f6c2…` (32 hexadecimal digits).
#[macro_export]
macro_rules! typed_id {
    ($(#[$meta:meta])* $name:ident, $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($crate::__private::uuid::Uuid);

        impl $name {
            /// What the text form starts with, before the `_`.
            pub const PREFIX: &'static str = $prefix;

            /// A fresh id that sorts after those made in earlier milliseconds.
            pub fn new(clock: &$crate::Clock, rng: &$crate::Rng) -> Self {
                Self($crate::id::uuid_v7(clock, rng))
            }

            /// From the 16 bytes that [`Self::as_bytes`] gave.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self($crate::__private::uuid::Uuid::from_bytes(bytes))
            }

            /// The 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Reads the text form; `None` when it is not one of this type.
            pub fn parse(text: &str) -> Option<Self> {
                let hex = text.strip_prefix(concat!($prefix, "_"))?;
                if hex.len() != 32 || hex.bytes().any(|b| b.is_ascii_uppercase()) {
                    return None;
                }
                $crate::__private::uuid::Uuid::try_parse(hex).ok().map(Self)
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(self, f)
            }
        }

        impl $crate::__private::serde::Serialize for $name {
            fn serialize<S: $crate::__private::serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> $crate::__private::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::__private::serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <String as $crate::__private::serde::Deserialize>::deserialize(d)?;
                Self::parse(&text).ok_or_else(|| {
                    $crate::__private::serde::de::Error::custom(concat!("expected an id that starts with ", $prefix, "_"))
                })
            }
        }
    };
}
