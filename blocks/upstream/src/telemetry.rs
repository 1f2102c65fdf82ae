//! Every metric that it emits; each shows as `mainstay_upstream_…`.

use telemetry::RoomRegistry;

use crate::Upstreams;

pub(crate) fn register(_registry: &RoomRegistry, _upstreams: &Upstreams) {}
