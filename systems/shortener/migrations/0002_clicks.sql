-- Clicks by link and by project: buckets of `step` minutes (1, 60, 1440) that start at `at`. Raw clicks are never stored.
CREATE TABLE shortener_clicks (
    link_id BIGINT NOT NULL,
    step    BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    people  BIGINT NOT NULL,
    bots    BIGINT NOT NULL,
    PRIMARY KEY (link_id, step, at)
);

-- For taking old minutes away in bounded steps.
CREATE INDEX shortener_clicks_oldest ON shortener_clicks (step, at);

CREATE TABLE shortener_project_clicks (
    project TEXT NOT NULL,
    step    BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    people  BIGINT NOT NULL,
    bots    BIGINT NOT NULL,
    PRIMARY KEY (project, step, at)
);

CREATE INDEX shortener_project_clicks_oldest ON shortener_project_clicks (step, at);

CREATE TABLE shortener_totals (
    link_id       BIGINT NOT NULL PRIMARY KEY,
    last_click_at BIGINT NOT NULL,
    people        BIGINT NOT NULL,
    bots          BIGINT NOT NULL
);

CREATE TABLE shortener_project_totals (
    project       TEXT NOT NULL PRIMARY KEY,
    last_click_at BIGINT NOT NULL,
    people        BIGINT NOT NULL,
    bots          BIGINT NOT NULL
);

-- The last batch that each node's click writer committed, so that a batch whose COMMIT was in doubt counts once.
CREATE TABLE shortener_flushes (
    writer   TEXT NOT NULL PRIMARY KEY,
    batch    BIGINT NOT NULL,
    at       BIGINT NOT NULL
);
