//! The database plane, against its contract.

mod contract;
mod support;
