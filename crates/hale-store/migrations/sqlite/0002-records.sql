-- One row: the last of every number that is given. Read and raised by the transaction that gives it.
CREATE TABLE numbers (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    revision INTEGER NOT NULL,
    -- What was deleted up to this revision is no longer told.
    floor INTEGER NOT NULL,
    last_event INTEGER NOT NULL,
    -- Ids of events between these two were given, if at all, before the database was restored, and are not in it.
    gap_from INTEGER NOT NULL,
    gap_to INTEGER NOT NULL,
    last_audit INTEGER NOT NULL,
    last_run INTEGER NOT NULL
);
INSERT INTO numbers SELECT 1, 0, 0,
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0), 0, 0,
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'audit'), 0),
    coalesce((SELECT max(id) FROM outcome_runs), 0);

-- The nouns of the cluster. Without a body: it was deleted, which is told for a while.
CREATE TABLE records (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    at INTEGER NOT NULL,
    body TEXT,
    UNIQUE (kind, name)
);
CREATE INDEX records_by_revision ON records (revision);
CREATE INDEX records_deleted ON records (revision) WHERE body IS NULL;

-- A holder of '' : it was given back. The number only rises.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    number INTEGER NOT NULL,
    until_at INTEGER NOT NULL
) WITHOUT ROWID;

-- The last batch that each writer committed, so that it can ask whether a commit without an answer was done.
CREATE TABLE writers (
    writer TEXT PRIMARY KEY,
    batch INTEGER NOT NULL,
    at INTEGER NOT NULL
) WITHOUT ROWID;
