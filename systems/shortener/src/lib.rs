//! Short links with click analytics (SD1).

pub mod config;
pub mod error;
pub mod model;

pub use config::ShortenerConfig;
pub use error::Error;
