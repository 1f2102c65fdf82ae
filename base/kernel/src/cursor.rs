//! Opaque page cursors that notice tampering: `base64url(payload ‖ first 16 bytes of HMAC-SHA-256)`.
//!
//! A cursor names where a reader stands, so it must not be a way to read elsewhere: the signature covers the payload and the
//! scope (route, project, filters), and a cursor from one list is refused by another.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;

use crate::{Problem, error::INVALID_CURSOR};

const TAG_BYTES: usize = 16;
/// A cursor longer than this is refused before it is decoded.
pub const MAX_CURSOR_CHARS: usize = 512;
/// The longest position that fits a cursor.
pub const MAX_PAYLOAD_BYTES: usize = MAX_CURSOR_CHARS / 4 * 3 - TAG_BYTES;

/// The key that signs cursors; the same on every node of an installation.
#[derive(Clone)]
pub struct CursorKey(hmac::Key);

impl CursorKey {
    /// From 32 secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    fn tag(&self, scope: &str, payload: &[u8]) -> hmac::Tag {
        let mut ctx = hmac::Context::with_key(&self.0);
        ctx.update(&(scope.len() as u64).to_le_bytes());
        ctx.update(scope.as_bytes());
        ctx.update(payload);
        ctx.sign()
    }

    /// Seals a position of at most [`MAX_PAYLOAD_BYTES`] (a longer one would be refused by [`CursorKey::open`]). `scope` names the list it belongs to, with its project and filters.
    pub fn seal(&self, scope: &str, payload: &[u8]) -> String {
        let mut bytes = payload.to_vec();
        bytes.extend_from_slice(&self.tag(scope, payload).as_ref()[..TAG_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Opens a cursor; refuses one that was changed or that belongs to another scope.
    pub fn open(&self, scope: &str, cursor: &str) -> Result<Vec<u8>, Problem> {
        let refuse = || Problem::new(&INVALID_CURSOR, "Start again from the first page: leave the cursor out.");
        if cursor.len() > MAX_CURSOR_CHARS {
            return Err(refuse());
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refuse())?;
        let split = bytes.len().checked_sub(TAG_BYTES).ok_or_else(refuse)?;
        let tag = bytes.split_off(split);
        let expected = self.tag(scope, &bytes);
        // Constant time over the 16 bytes that the cursor carries.
        let differing = expected.as_ref()[..TAG_BYTES].iter().zip(&tag).fold(0_u8, |acc, (a, b)| acc | (a ^ b));
        if differing == 0 { Ok(bytes) } else { Err(refuse()) }
    }
}

impl std::fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CursorKey(…)")
    }
}
