//! What other crates bring: upstreams, policies, listeners.

use std::sync::Arc;

use kernel::FieldError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

macro_rules! named {
    ($($name:ident: $what:literal;)+) => {$(
        #[doc = $what]
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
        pub struct $name {
            /// Its name.
            #[serde(default)]
            pub name: String,
            /// Everything else.
            #[serde(flatten)]
            #[schema(value_type = Object)]
            pub rest: Map<String, Value>,
        }
    )+};
}

named! {
    UpstreamSpec: "Back ends.";
    PolicySpec: "A policy.";
    CorsSpec: "Cross-origin requests.";
}

/// Back ends that run.
#[derive(Debug)]
pub struct Upstream {
    /// Its name.
    pub name: Arc<str>,
}

/// Policies in order.
#[derive(Debug)]
pub struct Chain {
    /// Their names.
    pub names: Vec<String>,
}

impl UpstreamSpec {
    /// Every mistake.
    pub fn validate(&self, at: &str) -> Vec<FieldError> {
        let _ = at;
        Vec::new()
    }
}

/// Cross-origin requests, compiled.
#[derive(Debug)]
pub struct Cors(pub CorsSpec);

impl Cors {
    /// Compiles.
    pub fn new(spec: &CorsSpec) -> Result<Self, String> {
        Ok(Self(spec.clone()))
    }
}
