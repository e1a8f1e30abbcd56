-- Times are microseconds since 1970, UTC. The tables are those of SQLite; what differs is said there.

CREATE TABLE events (
    id BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    type TEXT NOT NULL,
    source TEXT NOT NULL,
    subject TEXT NOT NULL,
    -- Of an event about a replica: its workload, so that a workload's events are found with it.
    workload TEXT,
    severity BIGINT NOT NULL,
    -- type and data, as in the CloudEvent. Not jsonb, which refuses what a process may have said (U+0000).
    data TEXT NOT NULL
);
CREATE INDEX events_by_subject ON events (subject, id);
CREATE INDEX events_by_workload ON events (workload, id) WHERE workload IS NOT NULL;

-- What is known of each replica: what its events add up to.
CREATE TABLE replicas (
    name TEXT PRIMARY KEY,
    workload TEXT NOT NULL,
    record TEXT NOT NULL
);

-- The last hundred outcomes of each probe: slot is seq modulo 100, so that a new one takes the place of the oldest.
-- The probe of a target is ''.
CREATE TABLE outcomes (
    subject TEXT NOT NULL,
    probe TEXT NOT NULL,
    slot BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    incarnation BIGINT NOT NULL,
    at BIGINT NOT NULL,
    took_us BIGINT NOT NULL,
    reason TEXT,
    detail TEXT,
    consecutive BIGINT NOT NULL,
    threshold BIGINT NOT NULL,
    PRIMARY KEY (subject, probe, slot)
);

-- Outcomes of one kind in a row.
CREATE TABLE outcome_runs (
    id BIGINT PRIMARY KEY,
    subject TEXT NOT NULL,
    probe TEXT NOT NULL,
    incarnation BIGINT NOT NULL,
    reason TEXT,
    count BIGINT NOT NULL,
    from_at BIGINT NOT NULL,
    until_at BIGINT NOT NULL,
    slowest_us BIGINT NOT NULL
);
CREATE INDEX outcome_runs_by_probe ON outcome_runs (subject, probe, id);

-- Every write by a person or token.
CREATE TABLE audit (
    id BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    by TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
);

-- One row: the last of every number that is given. It is locked by the transaction that gives numbers, until it is
-- committed: so numbers rise in the order of commits, over all servers, and a reader misses none.
CREATE TABLE numbers (
    only_row BIGINT PRIMARY KEY CHECK (only_row = 1),
    revision BIGINT NOT NULL,
    -- What was deleted up to this revision is no longer told.
    floor BIGINT NOT NULL,
    last_event BIGINT NOT NULL,
    -- Ids of events between these two were given, if at all, before the database was restored, and are not in it.
    gap_from BIGINT NOT NULL,
    gap_to BIGINT NOT NULL,
    last_audit BIGINT NOT NULL,
    last_run BIGINT NOT NULL
) WITH (fillfactor = 10);
INSERT INTO numbers VALUES (1, 0, 0, 0, 0, 0, 0, 0);

-- The nouns of the cluster. Without a body: it was deleted, which is told for a while.
CREATE TABLE records (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    revision BIGINT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT,
    PRIMARY KEY (kind, name)
);
CREATE INDEX records_by_revision ON records (revision);
CREATE INDEX records_deleted ON records (revision) WHERE body IS NULL;

-- A holder of '' : it was given back. The number only rises.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    number BIGINT NOT NULL,
    until_at BIGINT NOT NULL
);

-- The last batch that each writer committed, so that it can ask whether a commit without an answer was done.
CREATE TABLE writers (
    writer TEXT PRIMARY KEY,
    batch BIGINT NOT NULL,
    at BIGINT NOT NULL
);
