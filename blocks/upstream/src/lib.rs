//! Back ends: which there are (static, DNS, registry), which are well, and which one is next.
