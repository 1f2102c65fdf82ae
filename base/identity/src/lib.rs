//! Who asks: API keys, scopes, principals, and slowing down failed attempts. Pure: no I/O, no async.
//!
//! | module | what it gives |
//! |---|---|
//! | [`scope`] | [`Scope`], [`Scopes`], [`Verb`]: what a key may do |
//! | [`key`] | [`ApiKey`], [`KeyId`], [`SecretHash`]: the text `msk_<id>_<secret>` and what is stored of it |
//! | [`principal`] | [`Principal`]: who asks, once that is known |
//! | [`throttle`] | [`Throttle`]: failed attempts are answered ever more slowly |
//!
//! # Promises
//! - IDENTITY-1: nothing is allowed that no scope names: an unknown verb, an empty list or a malformed scope allows nothing.
//! - IDENTITY-2: a key with one character changed, or two neighbours exchanged, is told apart from a key that does not
//!   exist, without asking anybody.
//! - IDENTITY-3: of a key's secret only the SHA-256 is kept, and comparing takes the same time wherever it differs.
//! - IDENTITY-4: [`Throttle`] holds at most its capacity of subjects, whatever is thrown at it.
//!
//! # Does not promise
//! - That a throttle slows an attacker who has more addresses than its capacity; the 256 bits of a secret do that.

mod base62;
pub mod key;
pub mod principal;
pub mod scope;
pub mod throttle;

pub use key::{ApiKey, KeyError, KeyId, SecretHash};
pub use principal::Principal;
pub use scope::{Scope, ScopeError, Scopes, Verb};
pub use throttle::{Policy, Subject, Throttle};
