//! One module a command.

pub(crate) mod again;
pub(crate) mod backup;
pub(crate) mod check_config;
pub(crate) mod client;
pub(crate) mod discovery;
pub(crate) mod domains;
pub(crate) mod gateway;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod links;
pub(crate) mod migrate;
pub(crate) mod serve;
pub(crate) mod state;
pub(crate) mod tour;
