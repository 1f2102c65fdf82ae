//! Bytes as letters and digits only, so that a double click selects a whole key and no shell quotes it.

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Characters of 32 bytes: 62^42 < 2^256 < 62^43.
pub(crate) const CHARS_OF_32_BYTES: usize = 43;
/// Characters of 32 bits: 62^5 < 2^32 < 62^6.
pub(crate) const CHARS_OF_U32: usize = 6;

/// The big-endian number `bytes` in `CHARS_OF_32_BYTES` digits.
pub(crate) fn encode_32(bytes: &[u8; 32]) -> String {
    let mut number = *bytes;
    let mut out = [b'0'; CHARS_OF_32_BYTES];
    for digit in out.iter_mut().rev() {
        // Long division of the whole number by 62; the remainder is the next digit.
        let mut remainder = 0_u32;
        for byte in &mut number {
            let part = (remainder << 8) | u32::from(*byte);
            *byte = u8::try_from(part / 62).unwrap_or(u8::MAX);
            remainder = part % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    out.iter().copied().map(char::from).collect()
}

/// Reads what [`encode_32`] wrote; `None` for another length, another character, or a number of more than 256 bits.
pub(crate) fn decode_32(text: &str) -> Option<[u8; 32]> {
    if text.len() != CHARS_OF_32_BYTES {
        return None;
    }
    let mut number = [0_u8; 32];
    for character in text.bytes() {
        let mut carry = value_of(character)?;
        for byte in number.iter_mut().rev() {
            let part = u32::from(*byte) * 62 + carry;
            *byte = (part & 0xff) as u8;
            carry = part >> 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}

/// A 32-bit number in `CHARS_OF_U32` digits.
pub(crate) fn encode_u32(mut number: u32) -> String {
    let mut out = [b'0'; CHARS_OF_U32];
    for digit in out.iter_mut().rev() {
        *digit = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    out.iter().copied().map(char::from).collect()
}

fn value_of(character: u8) -> Option<u32> {
    let value = match character {
        b'0'..=b'9' => character - b'0',
        b'A'..=b'Z' => character - b'A' + 10,
        b'a'..=b'z' => character - b'a' + 36,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_and_overflow() {
        assert_eq!(encode_32(&[0; 32]), "0".repeat(43));
        assert_eq!(decode_32(&encode_32(&[0xff; 32])), Some([0xff; 32]));
        // One more than the largest, and the largest that 43 digits can say.
        let mut next = encode_32(&[0xff; 32]).into_bytes();
        *next.last_mut().unwrap() += 1;
        assert_eq!(decode_32(std::str::from_utf8(&next).unwrap()), None);
        assert_eq!(decode_32(&"z".repeat(43)), None);
        assert_eq!(encode_u32(u32::MAX), "4gfFC3");
    }

    proptest::proptest! {
        #[test]
        fn round_trip(bytes: [u8; 32]) {
            proptest::prop_assert_eq!(decode_32(&encode_32(&bytes)), Some(bytes));
        }

        #[test]
        fn whatever_decodes_is_canonical(text in "[0-9A-Za-z]{43}") {
            if let Some(bytes) = decode_32(&text) {
                proptest::prop_assert_eq!(encode_32(&bytes), text);
            }
        }
    }
}
