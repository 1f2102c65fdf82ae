//! Proves the layer rules and the papers.
