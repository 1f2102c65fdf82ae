-- Links. `id` comes from a block (below) and orders nothing; `code` is what follows the slash. `domain` is empty until a
-- project has domains of its own. A deleted link keeps its row, so that its code can never lead elsewhere.
CREATE TABLE shortener_links (
    id             BIGINT NOT NULL PRIMARY KEY,
    project        TEXT NOT NULL,
    domain         TEXT NOT NULL DEFAULT '',
    code           TEXT /*pg COLLATE "C" */ NOT NULL,
    is_alias       BOOLEAN NOT NULL,
    url            TEXT NOT NULL,
    created_at     BIGINT NOT NULL,
    created_by     TEXT NOT NULL,
    creation_token TEXT,
    expires_at     BIGINT,
    deleted_at     BIGINT,
    version        BIGINT NOT NULL
);

CREATE UNIQUE INDEX shortener_links_by_code ON shortener_links (domain, code);
-- A repeated creation finds what the first one made. NULLs are distinct on both engines.
CREATE UNIQUE INDEX shortener_links_by_token ON shortener_links (project, creation_token);
CREATE INDEX shortener_links_newest ON shortener_links (project, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX shortener_links_named ON shortener_links (project, code) WHERE deleted_at IS NULL;

-- How many links a project has, in 16 parts so that concurrent creations do not wait for one row.
CREATE TABLE shortener_link_counts (
    project TEXT NOT NULL,
    shard   BIGINT NOT NULL,
    links   BIGINT NOT NULL,
    PRIMARY KEY (project, shard)
);

-- The first id that no node has taken. Its row comes with the first block, not here: an installation moves and is restored into
-- a database that holds no rows.
CREATE TABLE shortener_blocks (
    name    TEXT NOT NULL PRIMARY KEY,
    next_id BIGINT NOT NULL
);
