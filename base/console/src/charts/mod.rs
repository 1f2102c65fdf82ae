//! Charts as server-rendered SVG that need no script: axes with units, round ticks, zero where it matters, gaps drawn as
//! gaps, a description for screen readers, and the numbers one click away. Script adds reading values by pointer or arrow
//! keys, from that same table.
//!
//! | chart | for |
//! |---|---|
//! | [`Chart::line`] | latency (p50 and p99 together), gauges |
//! | [`Chart::area`] | parts of a whole over time |
//! | [`Chart::bars`] | counts by time bucket |
//! | [`Breakdown`] | parts of a whole by name |
//! | [`HeatMap`] | where latencies fall, over time |
//! | [`Histogram`] | how values are spread |
//! | [`sparkline`] | the course of one number, beside it |
//! | [`Topology`] | what talks to what |

mod breakdown;
mod frame;
mod heat;
mod histogram;
mod scale;
mod series;
mod spark;
mod topology;

pub use breakdown::Breakdown;
pub use heat::{HeatMap, MAX_ROWS};
pub use histogram::{Histogram, MAX_BUCKETS};
pub use series::{Chart, MAX_POINTS, MAX_SERIES};
pub use spark::sparkline;
pub use topology::{MAX_NODES, Topology};
