//! Codes: a keyed bijection from dense ids to base62 text, and the aliases that people choose.
//!
//! - CODES-1: within an installation two ids never have the same code, because [`Codes::encode`] is a bijection within each
//!   length and lengths do not overlap.
//! - CODES-2: without the key, one code says nothing about another: ids are permuted by a Feistel network whose round
//!   function is HMAC-SHA-256, walked until it falls inside the space (Black and Rogaway, "Ciphers with Arbitrary Finite
//!   Domains", CT-RSA 2002; ten rounds as in NIST SP 800-38G).
//! - CODES-3: lengths grow with the space: the first 62⁶ ids (57 thousand million) have 6 characters, the next 62⁷ have 7, …

use std::fmt;

use ring::hmac;

/// Digits of base62, in order of value.
pub const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The shortest generated code.
pub const MIN_CODE_CHARS: u32 = 6;
/// The longest generated code.
const MAX_GENERATED_CHARS: u32 = 10;
/// The longest code of any sort, an alias included.
pub const CODE_CHARS_MAX: usize = 64;
/// The shortest alias.
const MIN_ALIAS_CHARS: usize = 3;
/// Ids below this have a code: 62⁶ + … + 62¹⁰, about 8.5 × 10¹⁷.
pub const ID_LIMIT: u64 = {
    let (mut sum, mut n) = (0, MIN_CODE_CHARS);
    while n <= MAX_GENERATED_CHARS {
        sum += space(n);
        n += 1;
    }
    sum
};
const ROUNDS: u8 = 10;

/// How many codes of `chars` characters there are.
const fn space(chars: u32) -> u64 {
    62_u64.pow(chars)
}

/// What follows the slash of a short URL: 1 to 64 of `A-Z a-z 0-9 _ -`. Case matters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(Box<str>);

impl Code {
    /// Reads a code; `None` when it cannot be one, so that no lookup is needed.
    pub fn parse(text: &str) -> Option<Self> {
        looks_like_code(text).then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text could be a code at all.
pub fn looks_like_code(text: &str) -> bool {
    (1..=CODE_CHARS_MAX).contains(&text.len()) && text.bytes().all(is_code_byte)
}

fn is_code_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
}

impl std::borrow::Borrow<str> for Code {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({})", self.0)
    }
}

/// The keyed bijection. The same key gives the same codes on every node; another key gives others.
#[derive(Clone)]
pub struct Codes(hmac::Key);

impl Codes {
    /// From 32 secret bytes, the same on every node. Changing them is safe only before the first link: afterwards new codes
    /// may meet old ones (creation then moves on to the next id; nothing is overwritten).
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The code of an id; `None` from [`ID_LIMIT`] on.
    pub fn encode(&self, id: u64) -> Option<Code> {
        let (chars, offset) = tier_of(id)?;
        let mut value = self.permute(chars, offset);
        let mut text = vec![b'0'; chars as usize];
        for slot in text.iter_mut().rev() {
            *slot = ALPHABET[usize::try_from(value % 62).unwrap_or(0)];
            value /= 62;
        }
        String::from_utf8(text).ok().map(|text| Code(text.into()))
    }

    /// The id whose code this is; `None` for text that no id has.
    pub fn decode(&self, code: &str) -> Option<u64> {
        let chars = u32::try_from(code.len()).ok()?;
        if !(MIN_CODE_CHARS..=MAX_GENERATED_CHARS).contains(&chars) {
            return None;
        }
        let mut value = 0;
        for b in code.bytes() {
            let digit = ALPHABET.iter().position(|a| *a == b)?;
            value = value * 62 + digit as u64;
        }
        let before: u64 = (MIN_CODE_CHARS..chars).map(space).sum();
        Some(before + self.unpermute(chars, value))
    }

    /// Moves `value` inside `0..62^chars`. Walks the cycle while it is outside: the domain of the network is less than 1.3
    /// times the space, so about one step in four is repeated.
    fn permute(&self, chars: u32, value: u64) -> u64 {
        let half_bits = half_bits(chars);
        let mut value = value;
        loop {
            value = self.network(chars, half_bits, value, (0..ROUNDS).map(|r| (r, false)));
            if value < space(chars) {
                return value;
            }
        }
    }

    fn unpermute(&self, chars: u32, value: u64) -> u64 {
        let half_bits = half_bits(chars);
        let mut value = value;
        loop {
            value = self.network(chars, half_bits, value, (0..ROUNDS).rev().map(|r| (r, true)));
            if value < space(chars) {
                return value;
            }
        }
    }

    /// A balanced Feistel network over `2 × half_bits` bits; the rounds backwards undo the rounds forwards.
    fn network(&self, chars: u32, half_bits: u32, value: u64, rounds: impl Iterator<Item = (u8, bool)>) -> u64 {
        let mask = (1_u64 << half_bits) - 1;
        let (mut left, mut right) = (value >> half_bits, value & mask);
        for (round, is_backwards) in rounds {
            if is_backwards {
                (left, right) = (right ^ (self.round(chars, round, left) & mask), left);
            } else {
                (left, right) = (right, left ^ (self.round(chars, round, right) & mask));
            }
        }
        (left << half_bits) | right
    }

    fn round(&self, chars: u32, round: u8, half: u64) -> u64 {
        let mut input = [0; 10];
        input[0] = u8::try_from(chars).unwrap_or(u8::MAX);
        input[1] = round;
        input[2..].copy_from_slice(&half.to_le_bytes());
        let tag = hmac::sign(&self.0, &input);
        let mut out = [0; 8];
        out.copy_from_slice(&tag.as_ref()[..8]);
        u64::from_le_bytes(out)
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codes(…)")
    }
}

/// The length of the code of `id`, and the place of `id` among the ids of that length.
fn tier_of(id: u64) -> Option<(u32, u64)> {
    let mut offset = id;
    for chars in MIN_CODE_CHARS..=MAX_GENERATED_CHARS {
        if offset < space(chars) {
            return Some((chars, offset));
        }
        offset -= space(chars);
    }
    None
}

/// Half of the even number of bits that holds `62^chars` values: 36 bits for 6 characters, 60 for 10.
const fn half_bits(chars: u32) -> u32 {
    (space(chars) - 1).ilog2().wrapping_add(2) / 2
}

/// What is wrong with an alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AliasError {
    /// Not 3 to 64 of `A-Z a-z 0-9 _ -`, or without any letter or digit.
    Malformed,
    /// A word that this installation keeps for itself.
    Reserved,
}

/// A code that its owner chose: 3 to 64 of `A-Z a-z 0-9 _ -`, with at least one letter or digit, and not a reserved word.
///
/// An alias may look like a generated code (`launch` does). The unique key of the links decides: an alias that a link
/// already has is taken, and a generated code that an alias already has is skipped for the next id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias(Code);

impl Alias {
    /// Checks the rules above; reserved words are compared without regard to case.
    pub fn parse(text: &str, reserved: &[String]) -> Result<Self, AliasError> {
        if text.len() < MIN_ALIAS_CHARS || !text.bytes().any(|b| b.is_ascii_alphanumeric()) {
            return Err(AliasError::Malformed);
        }
        let code = Code::parse(text).ok_or(AliasError::Malformed)?;
        if reserved.iter().any(|word| word.eq_ignore_ascii_case(text)) {
            return Err(AliasError::Reserved);
        }
        Ok(Self(code))
    }

    /// The code that it becomes.
    pub fn into_code(self) -> Code {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn codes(secret: u8) -> Codes {
        Codes::new(&[secret; 32])
    }

    #[test]
    fn lengths_grow_with_the_space() {
        let codes = codes(1);
        let first_of = |chars: u32| (MIN_CODE_CHARS..chars).map(space).sum::<u64>();
        for (id, chars) in [
            (0, Some(6)),
            (first_of(7) - 1, Some(6)),
            (first_of(7), Some(7)),
            (first_of(8) - 1, Some(7)),
            (first_of(10), Some(10)),
            (ID_LIMIT - 1, Some(10)),
            (ID_LIMIT, None),
            (u64::MAX, None),
        ] {
            assert_eq!(codes.encode(id).map(|c| c.as_str().len()), chars, "id {id}");
        }
        assert!(i64::try_from(ID_LIMIT).is_ok(), "ids fit the database's BIGINT");
    }

    #[test]
    fn the_network_is_wide_enough_for_each_length_and_not_much_wider() {
        for chars in MIN_CODE_CHARS..=MAX_GENERATED_CHARS {
            let domain = 1_u64 << (2 * half_bits(chars));
            assert!(domain >= space(chars), "{chars}");
            assert!(domain < 4 * space(chars), "{chars}");
        }
    }

    #[test]
    fn a_run_of_ids_never_collides_and_its_neighbours_look_unrelated() {
        let codes = codes(2);
        let run: Vec<Code> = (0..20_000).map(|id| codes.encode(id).unwrap()).collect();
        assert_eq!(run.iter().collect::<HashSet<_>>().len(), run.len());
        // Neighbours agree in a position as often as chance has it: 1 in 62, 1935 of 119,994 positions, ± 5 sigma (44).
        let agreeing: usize = run
            .windows(2)
            .map(|w| w[0].as_str().bytes().zip(w[1].as_str().bytes()).filter(|(a, b)| a == b).count())
            .sum();
        assert!((1_715..2_155).contains(&agreeing), "{agreeing} positions agree");
        // Every digit is used about as often as every other in each position: 20,000 / 62 = 322, ± 5 sigma (18).
        for position in 0..6 {
            let mut counts = [0_u32; 62];
            for code in &run {
                let digit = ALPHABET.iter().position(|a| *a == code.as_str().as_bytes()[position]).unwrap();
                counts[digit] += 1;
            }
            assert!(counts.iter().all(|n| (232..412).contains(n)), "position {position}: {counts:?}");
        }
    }

    #[test]
    fn another_key_gives_other_codes() {
        let (a, b) = (codes(3), codes(4));
        let same = (0..1_000).filter(|id| a.encode(*id) == b.encode(*id)).count();
        assert_eq!(same, 0);
    }

    #[test]
    fn codes_are_stable_across_versions() {
        // Links outlive releases: if this changes, every id would have another code.
        let codes = Codes::new(b"0123456789abcdef0123456789abcdef");
        let shown: Vec<String> =
            [0, 1, 2, 56_800_235_584].iter().map(|id| codes.encode(*id).unwrap().to_string()).collect();
        assert_eq!(shown, ["7gQsw2", "PZqcbw", "ZXV4Bv", "Vxb2Apx"]);
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(id in 0..ID_LIMIT, secret: [u8; 32]) {
            let codes = Codes::new(&secret);
            let code = codes.encode(id).unwrap();
            prop_assert!(code.as_str().bytes().all(|b| ALPHABET.contains(&b)));
            prop_assert_eq!(codes.decode(code.as_str()), Some(id));
        }

        #[test]
        fn encode_undoes_decode(text in "[0-9A-Za-z]{6,10}") {
            let codes = codes(5);
            let id = codes.decode(&text).unwrap();
            let back = codes.encode(id).unwrap();
            prop_assert_eq!(back.as_str(), text.as_str());
        }

        #[test]
        fn two_ids_never_share_a_code(a in 0..ID_LIMIT, distance in 1..1_000_u64) {
            let codes = codes(6);
            prop_assume!(a + distance < ID_LIMIT);
            prop_assert_ne!(codes.encode(a), codes.encode(a + distance));
        }
    }

    #[test]
    fn aliases() {
        let reserved = ["admin".to_owned(), "v1".to_owned()];
        for (text, expected) in [
            ("launch", Ok(())),
            ("a-b", Ok(())),
            ("2026_sale", Ok(())),
            ("ab", Err(AliasError::Malformed)),
            ("", Err(AliasError::Malformed)),
            ("---", Err(AliasError::Malformed)),
            ("a b c", Err(AliasError::Malformed)),
            ("a/b", Err(AliasError::Malformed)),
            ("größe", Err(AliasError::Malformed)),
            ("robots.txt", Err(AliasError::Malformed)),
            ("admin", Err(AliasError::Reserved)),
            ("AdMin", Err(AliasError::Reserved)),
            ("administration", Ok(())),
        ] {
            assert_eq!(Alias::parse(text, &reserved).map(|_| ()), expected, "{text:?}");
        }
        assert!(Alias::parse(&"x".repeat(64), &[]).is_ok());
        assert_eq!(Alias::parse(&"x".repeat(65), &[]), Err(AliasError::Malformed));
    }
}
