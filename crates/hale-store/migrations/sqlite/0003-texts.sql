-- Large texts that belong to a record: manifests, results of diagnostics. Beside the records, so that they do not travel
-- to every server with each change. They go with their record.
CREATE TABLE texts (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);
