//! The section `[gateway]` of `mainstay.toml`.

kernel::section! {
    /// The API gateway and load balancer on the public listener.
    pub struct GatewayConfig("gateway") {
        /// The document of upstreams, routes, policies, certificates and listeners in TOML, read again when it changes. It cannot be changed
        /// over the API then. Empty: the document is the one that was put over the API.
        config_file: String = "\"\"", "path";
    }
}
