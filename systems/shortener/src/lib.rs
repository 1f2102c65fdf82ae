//! Short links with click analytics (SD1).
