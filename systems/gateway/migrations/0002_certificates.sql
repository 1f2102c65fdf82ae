-- Accounts at certificate authorities (RFC 8555), one for each directory. Credentials are sealed.
CREATE TABLE gateway_acme_accounts (
    id          TEXT /*pg COLLATE "C" */ NOT NULL PRIMARY KEY,
    credentials BYTEA NOT NULL,
    made_at     BIGINT NOT NULL
);

-- Certificates that are got by themselves, one for each set of hosts at a directory. The chain is empty until there is one; the key is
-- sealed. `leased_until` is the node's that is getting it.
CREATE TABLE gateway_acme_certificates (
    id            TEXT /*pg COLLATE "C" */ NOT NULL PRIMARY KEY,
    hosts         TEXT NOT NULL,
    chain         TEXT NOT NULL,
    private_key   BYTEA NOT NULL,
    version       BIGINT NOT NULL,
    attempt_at    BIGINT NOT NULL,
    failure_count BIGINT NOT NULL,
    trouble       TEXT NOT NULL,
    leased_until  BIGINT NOT NULL,
    leased_by     TEXT NOT NULL
);

-- What authorities are answered that look whether a host is ours; whichever node they reach answers.
CREATE TABLE gateway_acme_challenges (
    kind    TEXT /*pg COLLATE "C" */ NOT NULL,
    name    TEXT /*pg COLLATE "C" */ NOT NULL,
    answer  TEXT NOT NULL,
    ends_at BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE INDEX gateway_acme_challenges_ends ON gateway_acme_challenges (ends_at);
