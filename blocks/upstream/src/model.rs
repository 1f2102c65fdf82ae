//! The pure core: what documents say, and which back end is next. No I/O, no clock.

pub mod check;
pub mod choose;
pub mod ewma;
pub mod hash;
pub mod hysteresis;
pub mod maglev;
pub mod ring;
pub mod schedule;
pub mod spec;
pub mod tiers;
