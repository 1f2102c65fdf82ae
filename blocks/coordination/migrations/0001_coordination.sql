-- One row a keyspace: how far it is, and what history was given up. A writer locks it, so revisions are committed in their order.
CREATE TABLE coordination_heads (
    project   TEXT /*pg COLLATE "C" */ NOT NULL PRIMARY KEY,
    revision  BIGINT NOT NULL,
    compacted BIGINT NOT NULL,
    swept     BIGINT NOT NULL
);

-- Every change since the last compaction, and what was current then. `previous` is the revision of the row that this one supersedes.
CREATE TABLE coordination_log (
    project         TEXT /*pg COLLATE "C" */ NOT NULL,
    revision        BIGINT NOT NULL,
    sub             BIGINT NOT NULL,
    key             BYTEA NOT NULL,
    is_delete       BOOLEAN NOT NULL,
    create_revision BIGINT NOT NULL,
    version         BIGINT NOT NULL,
    lease           BIGINT NOT NULL,
    previous        BIGINT NOT NULL,
    value           BYTEA NOT NULL,
    PRIMARY KEY (project, revision, sub)
);

CREATE INDEX coordination_log_by_key ON coordination_log (project, key, revision);

CREATE TABLE coordination_leases (
    project     TEXT /*pg COLLATE "C" */ NOT NULL,
    id          BIGINT NOT NULL,
    ttl_seconds BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    PRIMARY KEY (project, id)
);

CREATE INDEX coordination_leases_by_end ON coordination_leases (expires_at);
