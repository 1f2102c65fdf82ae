-- The tenants.
CREATE TABLE access_projects (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- API keys. Of a secret only its SHA-256 is here. Ids sort by creation time.
CREATE TABLE access_keys (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES access_projects (id),
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    is_admin BOOLEAN NOT NULL,
    secret_hash BYTEA NOT NULL,
    previous_hash BYTEA,
    previous_until BIGINT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT,
    request_token BYTEA UNIQUE,
    rotation_token BYTEA
);
CREATE INDEX access_keys_by_project ON access_keys (project, id);
CREATE INDEX access_keys_admins ON access_keys (id) WHERE is_admin AND revoked_at IS NULL;

-- Every administrative change; rows are only ever added. Ids sort by time.
CREATE TABLE access_audit (
    id TEXT PRIMARY KEY,
    at BIGINT NOT NULL,
    project TEXT NOT NULL,
    actor TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX access_audit_by_project ON access_audit (project, id);
CREATE INDEX access_audit_by_actor ON access_audit (project, actor, id);
CREATE INDEX access_audit_by_action ON access_audit (project, action, id);
CREATE INDEX access_audit_by_object ON access_audit (project, object, id);

-- Idempotency keys. The id is a hash of scope and key; the answer is sealed under the key itself, which is not here.
CREATE TABLE access_idempotency (
    id BYTEA PRIMARY KEY,
    fingerprint BYTEA NOT NULL,
    holder BYTEA NOT NULL,
    lease_until BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    answer BYTEA
);
CREATE INDEX access_idempotency_by_expiry ON access_idempotency (expires_at);

-- What one installation has once: its root secret, its name, whether it was started before.
CREATE TABLE access_installation (
    name TEXT PRIMARY KEY,
    value BYTEA NOT NULL
);

-- Sessions of the console. Of a token only its SHA-256 is here; a session lives only while the secret that opened it does.
CREATE TABLE access_sessions (
    id BYTEA PRIMARY KEY,
    key_id TEXT NOT NULL,
    secret_hash BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX access_sessions_by_expiry ON access_sessions (expires_at);
CREATE INDEX access_sessions_by_seen ON access_sessions (seen_at);
