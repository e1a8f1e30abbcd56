-- Times are microseconds since 1970, UTC.

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    type TEXT NOT NULL,
    source TEXT NOT NULL,
    subject TEXT NOT NULL,
    -- Of an event about a replica: its workload, so that a workload's events are found with it.
    workload TEXT,
    severity INTEGER NOT NULL,
    -- type and data, as in the CloudEvent.
    data TEXT NOT NULL
);
CREATE INDEX events_by_subject ON events (subject, id);
CREATE INDEX events_by_workload ON events (workload, id) WHERE workload IS NOT NULL;

-- What is known of each replica: what its events add up to.
CREATE TABLE replicas (
    name TEXT PRIMARY KEY,
    workload TEXT NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID;

-- The last hundred outcomes of each probe: slot is seq modulo 100, so that a new one takes the place of the oldest.
-- The probe of a target is ''.
CREATE TABLE outcomes (
    subject TEXT NOT NULL,
    probe TEXT NOT NULL,
    slot INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    at INTEGER NOT NULL,
    took_us INTEGER NOT NULL,
    reason TEXT,
    detail TEXT,
    consecutive INTEGER NOT NULL,
    threshold INTEGER NOT NULL,
    PRIMARY KEY (subject, probe, slot)
) WITHOUT ROWID;

-- Outcomes of one kind in a row.
CREATE TABLE outcome_runs (
    id INTEGER PRIMARY KEY,
    subject TEXT NOT NULL,
    probe TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    reason TEXT,
    count INTEGER NOT NULL,
    from_at INTEGER NOT NULL,
    until_at INTEGER NOT NULL,
    slowest_us INTEGER NOT NULL
);
CREATE INDEX outcome_runs_by_probe ON outcome_runs (subject, probe, id);

-- Every write by a person or token.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    by TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
);
