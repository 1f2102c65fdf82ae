//! Where WebSocket frames begin and end (RFC 6455, 5.2): enough to say goodbye between two of them.
//!
//! Payloads are passed over, not read. Extensions change what is in a frame, never its length, so that they do not matter here.

/// Follows the bytes of one direction.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The head of the frame that comes, as far as it is here: at most 14 bytes.
    head: [u8; 14],
    head_len: usize,
    /// Bytes of payload still to come.
    payload: u64,
    has_closed: bool,
}

impl Frames {
    /// Looks at the next bytes.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                bytes = &bytes[skipped..];
                self.payload -= skipped as u64;
                continue;
            }
            self.head[self.head_len] = bytes[0];
            self.head_len += 1;
            bytes = &bytes[1..];
            if self.head_len >= 2 && self.head_len == self.head_size() {
                self.payload = self.length();
                self.has_closed |= self.head[0] & 0x0f == 0x8;
                self.head_len = 0;
            }
        }
    }

    /// Whether the last byte was the last of a frame.
    pub(super) fn is_between(&self) -> bool {
        self.head_len == 0 && self.payload == 0
    }

    /// Whether this side has said that it closes: nothing may follow.
    pub(super) fn has_closed(&self) -> bool {
        self.has_closed
    }

    fn head_size(&self) -> usize {
        let extended = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if self.head[1] & 0x80 == 0 { 0 } else { 4 }
    }

    fn length(&self) -> u64 {
        match self.head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
            127 => {
                let mut length = [0; 8];
                length.copy_from_slice(&self.head[2..10]);
                u64::from_be_bytes(length)
            }
            short => u64::from(short),
        }
    }
}

/// 1001, "going away" (RFC 6455, 7.4.1), as servers send it.
pub(super) const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];
/// The same as clients send it: masked, with a mask of zeros, which hides nothing and needs to hide nothing.
pub(super) const GOING_AWAY_MASKED: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut out = vec![0x80 | opcode];
        match length {
            0..126 => out.push(mask | u8::try_from(length).unwrap()),
            126..65_536 => {
                out.push(mask | 0x7e);
                out.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                out.push(mask | 0x7f);
                out.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            out.extend([1, 2, 3, 4]);
        }
        out.extend(std::iter::repeat_n(0x88, length));
        out
    }

    proptest! {
        #[test]
        fn ends_are_found_however_the_bytes_are_cut(
            frames in prop::collection::vec((0_u8..3, prop_oneof![0_usize..130, 65_530_usize..65_540], any::<bool>()), 1..6),
            cut in 1_usize..5_000,
        ) {
            let mut seen = Frames::default();
            for (opcode, length, masked) in frames {
                let bytes = frame(opcode, length, masked);
                let (all, last) = bytes.split_at(bytes.len() - 1);
                for piece in all.chunks(cut) {
                    seen.pass(piece);
                    prop_assert!(!seen.is_between());
                }
                seen.pass(last);
                prop_assert!(seen.is_between());
                prop_assert!(!seen.has_closed());
            }
            seen.pass(&GOING_AWAY);
            prop_assert!(seen.is_between() && seen.has_closed());
            let mut masked = Frames::default();
            masked.pass(&GOING_AWAY_MASKED);
            prop_assert!(masked.is_between() && masked.has_closed());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut seen = Frames::default();
            seen.pass(&bytes);
        }
    }
}
