//! Who asks: API keys, scopes, principals, and slowing down failed attempts.
