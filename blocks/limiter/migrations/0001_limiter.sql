-- The rules of a domain as they hold now. `revision` orders the changes of all domains, so that a node reads only what is new to it.
CREATE TABLE limiter_rule_sets (
    project    TEXT /*pg COLLATE "C" */ NOT NULL,
    domain     TEXT /*pg COLLATE "C" */ NOT NULL,
    version    BIGINT NOT NULL,
    revision   BIGINT NOT NULL,
    rule_count BIGINT NOT NULL,
    bytes      BIGINT NOT NULL,
    PRIMARY KEY (project, domain)
);

CREATE UNIQUE INDEX limiter_rule_sets_by_revision ON limiter_rule_sets (revision);

-- Every version that is kept, the one that holds included.
CREATE TABLE limiter_versions (
    project        TEXT /*pg COLLATE "C" */ NOT NULL,
    domain         TEXT /*pg COLLATE "C" */ NOT NULL,
    version        BIGINT NOT NULL,
    rules          TEXT NOT NULL,
    rule_count     BIGINT NOT NULL,
    message        TEXT NOT NULL,
    written_at     BIGINT NOT NULL,
    written_by     TEXT NOT NULL,
    rolled_back_to BIGINT,
    PRIMARY KEY (project, domain, version)
);

-- One row: the revision of the last change.
CREATE TABLE limiter_revision (
    name     TEXT NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL
);
