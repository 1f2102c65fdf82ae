-- Files of links on their way in. `id` sorts by time. The rows of a file wait in chunks until a worker has made links of them; a chunk
-- goes in the same transaction. `is_spooled`: there may be chunks. `token` names the request, `digest` is the file's SHA-256.
CREATE TABLE shortener_imports (
    id           TEXT /*pg COLLATE "C" */ NOT NULL PRIMARY KEY,
    project      TEXT NOT NULL,
    format       TEXT NOT NULL,
    host         TEXT,
    state        TEXT NOT NULL,
    is_spooled   BOOLEAN NOT NULL,
    token        TEXT,
    digest       TEXT,
    rows_total   BIGINT NOT NULL,
    rows_created BIGINT NOT NULL,
    rows_failed  BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    created_by   TEXT NOT NULL,
    started_at   BIGINT,
    finished_at  BIGINT,
    worked_at    BIGINT NOT NULL,
    holder       TEXT,
    held_until   BIGINT NOT NULL
);

CREATE UNIQUE INDEX shortener_imports_by_token ON shortener_imports (project, token);
CREATE INDEX shortener_imports_of ON shortener_imports (project, id);
-- What there is to work on, and what is old.
CREATE INDEX shortener_imports_by_work ON shortener_imports (is_spooled, worked_at);

CREATE TABLE shortener_import_chunks (
    import_id TEXT /*pg COLLATE "C" */ NOT NULL,
    seq       BIGINT NOT NULL,
    content   TEXT NOT NULL,
    PRIMARY KEY (import_id, seq)
);

-- Why rows were left out; the first of each import.
CREATE TABLE shortener_import_errors (
    import_id TEXT /*pg COLLATE "C" */ NOT NULL,
    number    BIGINT NOT NULL,
    name      TEXT NOT NULL,
    code      TEXT NOT NULL,
    detail    TEXT NOT NULL,
    PRIMARY KEY (import_id, number)
);
