//! Service registry and health: who serves what, where, and is it well.
