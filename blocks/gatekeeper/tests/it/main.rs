//! Policies asked from outside, by those who should pass and by those who should not.

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
