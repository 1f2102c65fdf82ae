-- The version of the document that holds now: one row.
CREATE TABLE gateway_config (
    name    TEXT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
);

-- Every version that is kept, the one that holds included. The document belongs to the installation, so there is no project.
CREATE TABLE gateway_versions (
    version        BIGINT NOT NULL PRIMARY KEY,
    document       TEXT NOT NULL,
    route_count    BIGINT NOT NULL,
    upstream_count BIGINT NOT NULL,
    message        TEXT NOT NULL,
    written_at     BIGINT NOT NULL,
    written_by     TEXT NOT NULL,
    rolled_back_to BIGINT
);

-- Endpoints that an operator took requests away from, on every node, until they are given back.
CREATE TABLE gateway_drains (
    upstream   TEXT /*pg COLLATE "C" */ NOT NULL,
    endpoint   TEXT /*pg COLLATE "C" */ NOT NULL,
    drained_at BIGINT NOT NULL,
    drained_by TEXT NOT NULL,
    PRIMARY KEY (upstream, endpoint)
);
