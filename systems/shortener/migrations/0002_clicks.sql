-- Clicks as they came, a segment of them a row (`src/model/segment.rs`): appended about every second by each node, marked when they
-- are in the rollups, deleted some days later.
CREATE TABLE shortener_click_log (
    writer TEXT NOT NULL,
    seq    BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    format BIGINT NOT NULL,
    clicks BIGINT NOT NULL,
    rolled BOOLEAN NOT NULL,
    data   BYTEA NOT NULL,
    PRIMARY KEY (writer, seq)
);

CREATE INDEX shortener_click_log_waiting ON shortener_click_log (at) WHERE NOT rolled;
CREATE INDEX shortener_click_log_oldest ON shortener_click_log (at) WHERE rolled;

-- Segments that are in the rollups in part: those of links up to `rolled_to`. Gone when the segment is rolled.
CREATE TABLE shortener_click_log_parts (
    writer    TEXT NOT NULL,
    seq       BIGINT NOT NULL,
    rolled_to BIGINT NOT NULL,
    PRIMARY KEY (writer, seq)
);

-- Whoever rolls holds the row of this, so that nodes do it one after another.
CREATE TABLE shortener_rollers (
    name TEXT NOT NULL PRIMARY KEY,
    at   BIGINT NOT NULL
);

-- Clicks by link and by project: buckets of `step` minutes (1, 60, 1440) that start at `at`.
CREATE TABLE shortener_clicks (
    link_id BIGINT NOT NULL,
    step    BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    people  BIGINT NOT NULL,
    bots    BIGINT NOT NULL,
    PRIMARY KEY (link_id, step, at)
);

-- For taking old minutes away in bounded steps.
CREATE INDEX shortener_clicks_oldest ON shortener_clicks (at) WHERE step = 1;

CREATE TABLE shortener_project_clicks (
    project TEXT NOT NULL,
    step    BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    people  BIGINT NOT NULL,
    bots    BIGINT NOT NULL,
    PRIMARY KEY (project, step, at)
);

CREATE INDEX shortener_project_clicks_oldest ON shortener_project_clicks (at) WHERE step = 1;

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

-- What is kept of a day of people's clicks beside their number: how many visitors there were, and counts by value of each dimension
-- (`src/model/tally.rs`). `sketch` (`src/model/sketch.rs`) goes when the day is over; the number stays.
CREATE TABLE shortener_link_days (
    link_id   BIGINT NOT NULL,
    day       BIGINT NOT NULL,
    visitors  BIGINT NOT NULL,
    sketch    BYTEA,
    referrers BYTEA NOT NULL,
    browsers  BYTEA NOT NULL,
    systems   BYTEA NOT NULL,
    devices   BYTEA NOT NULL,
    countries BYTEA NOT NULL,
    languages BYTEA NOT NULL,
    PRIMARY KEY (link_id, day)
);

CREATE INDEX shortener_link_days_open ON shortener_link_days (day) WHERE sketch IS NOT NULL;

CREATE TABLE shortener_project_days (
    project   TEXT NOT NULL,
    day       BIGINT NOT NULL,
    visitors  BIGINT NOT NULL,
    sketch    BYTEA,
    referrers BYTEA NOT NULL,
    browsers  BYTEA NOT NULL,
    systems   BYTEA NOT NULL,
    devices   BYTEA NOT NULL,
    countries BYTEA NOT NULL,
    languages BYTEA NOT NULL,
    PRIMARY KEY (project, day)
);

CREATE INDEX shortener_project_days_open ON shortener_project_days (day) WHERE sketch IS NOT NULL;

-- What visitors of a day are hashed with, the same on every node; deleted when the day is over.
CREATE TABLE shortener_click_salts (
    day  BIGINT NOT NULL PRIMARY KEY,
    salt BYTEA NOT NULL
);
