-- Outcomes of each probe in buckets, a row for each day (days since 1970): five minutes each, and of an older day an hour
-- each (coarse). Buckets are added behind those there are. The probe of a target is ''.
CREATE TABLE series (
    subject TEXT NOT NULL,
    probe TEXT NOT NULL,
    day INTEGER NOT NULL,
    coarse INTEGER NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (subject, probe, day)
) WITHOUT ROWID;
CREATE INDEX series_by_day ON series (day);
CREATE INDEX series_fine ON series (day) WHERE coarse = 0;
