-- One row an instance: as it was registered, and how it is. `revision` orders the changes of all instances, so that a node reads only
-- what is new to it. One that left stays for a while (`is_gone`), so that nodes hear of that too.
CREATE TABLE discovery_instances (
    project    TEXT /*pg COLLATE "C" */ NOT NULL,
    id         TEXT /*pg COLLATE "C" */ NOT NULL,
    spec       TEXT NOT NULL,
    state      TEXT NOT NULL,
    is_gone    BOOLEAN NOT NULL,
    created    BIGINT NOT NULL,
    revision   BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (project, id)
);

CREATE UNIQUE INDEX discovery_instances_by_revision ON discovery_instances (revision);
CREATE INDEX discovery_instances_gone ON discovery_instances (is_gone, changed_at);

-- One row: the revision of the last change, and up to which one changes have been forgotten.
CREATE TABLE discovery_revision (
    name      TEXT NOT NULL PRIMARY KEY,
    revision  BIGINT NOT NULL,
    forgotten BIGINT NOT NULL
);

-- The nodes that run, by a number that each counts up: alive is whose number moves. No clock is compared with another.
CREATE TABLE discovery_nodes (
    node     TEXT NOT NULL PRIMARY KEY,
    name     TEXT NOT NULL,
    beat     BIGINT NOT NULL,
    is_blind BOOLEAN NOT NULL
);
