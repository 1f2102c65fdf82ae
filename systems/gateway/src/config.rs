//! The section `[gateway]` of `mainstay.toml`.

kernel::section! {
    /// The API gateway and load balancer on the public listener.
    pub struct GatewayConfig("gateway") {
        /// The document of upstreams, routes, policies, certificates and listeners in TOML, read again when it changes. It cannot be changed
        /// over the API then. Empty: the document is the one that was put over the API.
        config_file: String = "\"\"", "path";
        /// File for a line about each request that the gateway served; `-` is standard output, empty is none. A file that was moved away is
        /// made anew within a second.
        access_log: String = "\"\"", "path";
        /// How its lines look: `json`, `combined`, or a template such as `{client} {method} {path} {status} {duration_ms}`; see
        /// docs/gateway.md for all fields.
        access_log_format: String = "\"json\"", "";
        /// Whether answers say in `Server-Timing` how long the back end and the gateway took.
        server_timing: bool = "false", "true or false";
    }
}
