//! What is decided, without I/O: policies as people write them, who asks, what the answer is.

pub mod algorithm;
pub mod ask;
pub mod certificate;
pub(crate) mod expression;
pub(crate) mod json;
pub mod network;
pub(crate) mod password;
pub mod spec;
pub(crate) mod token;

pub use ask::{Ask, Identity, Method, Outcome, Passed, Step, Verdict};
pub use certificate::ClientCertificate;
pub use password::hash_password;
pub use spec::{
    AddressesSpec, ApiKeySpec, BasicSpec, ClientCertificateSpec, CorsSpec, ExpressionSpec, ForwardClaims, ForwardSpec,
    JwksSpec, JwtSpec, OidcSpec, PlaceSpec, PolicySpec, SessionSpec, UserSpec,
};
