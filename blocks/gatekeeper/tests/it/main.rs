//! Policies asked from outside, by those who should pass and by those who should not.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod basic;
mod cors;
mod expressions;
mod forward;
mod keys;
mod login;
mod policies;
mod real_tokens;
mod tokens;
mod world;
