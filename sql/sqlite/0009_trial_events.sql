-- What trials would have told, for `streamproc trial report`; people hear of none of it. A sensor's begin in a trial is a row of
-- the cause 'begun'. payload is JSON: value, lineage. Delete old rows as you like, such as those of trials that are over.
CREATE TABLE IF NOT EXISTS trial_events (
    id INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    trial TEXT NOT NULL,
    trial_version INTEGER NOT NULL,
    begun_at TEXT NOT NULL,
    sensor_id INTEGER NOT NULL REFERENCES sensors (id),
    severity TEXT NOT NULL CHECK (severity IN ('NORMAL', 'WARN', 'CRITICAL')),
    previous_severity TEXT NOT NULL CHECK (previous_severity IN ('NORMAL', 'WARN', 'CRITICAL')),
    cause TEXT NOT NULL,
    message TEXT NOT NULL,
    created_at TEXT NOT NULL,
    payload TEXT
);

CREATE INDEX IF NOT EXISTS trial_events_by_trial ON trial_events (trial, trial_version, begun_at);
