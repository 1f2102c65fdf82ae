//! The whole document.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    PolicySpec, UpstreamSpec,
    route::{RouteSpec, is_default},
};
use crate::{l4::ListenerSpec, tls::CertificateSpec};

/// Everything that the gateway does: one document, in TOML as a file, in JSON over the API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GatewayDocument)]
pub struct Document {
    /// Back ends. At most 1,000.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upstreams: Vec<UpstreamSpec>,
    /// Policies, for routes to name. At most 1,000.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policies: Vec<PolicySpec>,
    /// Routes. At most 5,000.
    #[serde(default, skip_serializing_if = "is_default")]
    pub routes: Vec<RouteSpec>,
    /// Certificates of the public listener and of listeners that end TLS. At most 1,000.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(value_type = Vec<Object>)]
    pub certificates: Vec<CertificateSpec>,
    /// Listeners beside the public one. At most 100.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(value_type = Vec<Object>)]
    pub listeners: Vec<ListenerSpec>,
}

impl Document {
    /// What holds while there is none: the public listener serves short links.
    pub fn built_in() -> Self {
        let links = RouteSpec { name: "links".to_owned(), service: Some("links".to_owned()), ..RouteSpec::default() };
        Self { routes: vec![links], ..Self::default() }
    }
}
