-- The runs of scheduled jobs (`streamproc jobs`). started_by is 'schedule' or 'command'; schedule is what it went by, due_at
-- the time that the run is for, attempt its number for that time. outcome is 'running' while claimed_by holds the job, until
-- lease_until, which it moves on while it lives; 'enrolled' is no run, but since when a schedule counts. counts is JSON.
CREATE TABLE IF NOT EXISTS job_runs (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    started_by TEXT NOT NULL CHECK (started_by IN ('schedule', 'command')),
    schedule TEXT NOT NULL,
    due_at TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('enrolled', 'running', 'done', 'failed', 'stopped', 'lost')),
    claimed_by TEXT,
    lease_until TEXT,
    began_at TEXT NOT NULL,
    ended_at TEXT,
    counts TEXT NOT NULL DEFAULT '{}',
    last_error TEXT
);

-- Whatever goes wrong, a job is held by one.
CREATE UNIQUE INDEX IF NOT EXISTS job_runs_running ON job_runs (name) WHERE outcome = 'running';
CREATE INDEX IF NOT EXISTS job_runs_of ON job_runs (name, started_by, id);

-- For the deletion of old rows: whether a notification names an event, and an event a prediction, is asked for each row.
CREATE INDEX IF NOT EXISTS alert_notifications_of ON alert_notifications (source_event_id);
CREATE INDEX IF NOT EXISTS ml_events_of_prediction ON ml_events (prediction_id) WHERE prediction_id IS NOT NULL;
