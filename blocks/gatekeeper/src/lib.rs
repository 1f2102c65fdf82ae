//! Policies at the door: API keys, JWT, OIDC sign-in, basic, forward auth, addresses, CORS, expressions.
