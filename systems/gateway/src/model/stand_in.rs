//! Cross-origin requests, until `blocks/gatekeeper` compiles them.

use gatekeeper::CorsSpec;

/// Cross-origin requests, compiled.
#[derive(Debug)]
pub struct Cors(pub CorsSpec);

impl Cors {
    /// Compiles.
    pub fn new(spec: &CorsSpec) -> Result<Self, String> {
        Ok(Self(spec.clone()))
    }
}
