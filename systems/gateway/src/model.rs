//! The pure core: what is written, whether it can hold, and which route a request takes.

pub mod action;
mod check;
mod compile;
pub mod compiled;
mod index;
mod matching;
pub mod path;
pub mod route;
mod spec;
mod stand_in;
mod stats;
mod table;
mod template;
pub mod units;

pub use check::{Findings, check};
pub use compile::{Parts, compile};
pub use compiled::{Action, Route};
pub use matching::Captures;
pub use route::RouteSpec;
pub use spec::Document;
pub use stand_in::{Chain, Cors, CorsSpec, PolicySpec, Upstream, UpstreamSpec};
pub use stats::{InFlight, RouteNumbers, RouteStats};
pub use table::{Origin, RequestHead, Table};
pub use template::{Template, Values, Variable};
