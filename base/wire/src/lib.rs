//! HTTP to back ends: pools of connections that belong to one thread, an own HTTP/1 codec, HTTP/2 and TLS.
