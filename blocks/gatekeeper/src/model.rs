//! What is decided, without I/O: policies as people write them, who asks, what the answer is.

pub mod ask;
pub mod certificate;
pub mod network;
pub mod spec;

pub use ask::{Ask, Identity, Method, Outcome, Passed, Step, Verdict};
pub use certificate::ClientCertificate;
pub use spec::{
    AddressesSpec, ApiKeySpec, BasicSpec, ClientCertificateSpec, CorsSpec, ExpressionSpec, ForwardClaims, ForwardSpec,
    JwksSpec, JwtSpec, OidcSpec, PlaceSpec, PolicySpec, SessionSpec, UserSpec,
};
