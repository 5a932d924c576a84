-- What people look through newest first: the events of all sensors by their time, as grave as is asked for.
CREATE INDEX IF NOT EXISTS ml_events_by_time ON ml_events (created_at, id, severity);

-- What stands, whether somebody has acknowledged it or not. The index before knew of active ones alone, so that a list of all
-- that stands read the whole table. SQLite uses this one for a query of either status, too.
CREATE INDEX IF NOT EXISTS ml_events_standing ON ml_events (sensor_id)
WHERE status = 'active' OR status = 'acknowledged';
DROP INDEX IF EXISTS ml_events_active;
