//! What the console kit promises, tried on the pages it makes.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what failed by failing"
)]

mod charts;
mod colours;
mod escaping;
mod html;
mod pages;
