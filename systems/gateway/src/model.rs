//! The pure core: what is written, whether it can hold, and which route a request takes.

pub mod action;
mod check;
mod compile;
pub mod compiled;
mod diff;
mod explain;
mod index;
pub mod json;
mod matching;
pub mod path;
pub mod route;
mod spec;
mod stats;
mod table;
mod template;
pub mod units;

pub use check::{Findings, check, toml_path};
pub(crate) use compile::told;
pub use compile::{ChainOf, Parts, compile};
pub use compiled::{Action, Route};
pub use diff::{Change, Changes};
pub use explain::{Explanation, Named, Step, Tried};
pub use gatekeeper::{Chain, Cors, CorsSpec, PolicySpec};
pub use matching::Captures;
pub use route::RouteSpec;
pub use spec::Document;
pub use stats::{RouteNumbers, RouteStats};
pub use table::{Origin, RequestHead, Table};
pub use template::{Template, Values, Variable};
pub use upstream::{Upstream, UpstreamSpec, Upstreams};
