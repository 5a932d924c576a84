-- The tables that the sink and the registry write. Times are ISO 8601 text in UTC with milliseconds, all of one form
-- (2024-01-15T12:34:56.789Z): people can read them, SQLite's date functions take them, and because their order as text is
-- their order in time, an index on them serves a range query. SQL Server has datetime2(3) for the same.

CREATE TABLE IF NOT EXISTS devices (
    id INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    name TEXT,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

-- uuid is the sensor's key on the topics: the lower-case sensor_uuid, or the sensor_id as text.
CREATE TABLE IF NOT EXISTS sensors (
    id INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    device_id INTEGER REFERENCES devices (id),
    name TEXT,
    unit TEXT,
    kind TEXT,
    warning_low REAL,
    warning_high REAL,
    critical_low REAL,
    critical_high REAL,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

CREATE INDEX IF NOT EXISTS sensors_by_device ON sensors (device_id);

-- timestamp is when Kafka got the reading, device_timestamp when it was measured. dedupe_ms and reading_key are its
-- identity, so that a device's retry makes no second row; other writers leave them, and the place on the topic, empty.
CREATE TABLE IF NOT EXISTS sensor_readings (
    id INTEGER PRIMARY KEY,
    sensor_id INTEGER NOT NULL REFERENCES sensors (id),
    value REAL NOT NULL,
    device_timestamp TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    timestamp TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    dedupe_ms INTEGER,
    reading_key INTEGER,
    kafka_partition INTEGER,
    kafka_offset INTEGER
);

CREATE UNIQUE INDEX IF NOT EXISTS sensor_readings_identity ON sensor_readings (dedupe_ms, reading_key);
CREATE INDEX IF NOT EXISTS sensor_readings_latest ON sensor_readings (sensor_id, device_timestamp);

CREATE TABLE IF NOT EXISTS ml_models (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    is_active INTEGER NOT NULL DEFAULT 1,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    UNIQUE (name, version)
);

-- explanation is written later, by the job that explains anomalies. lower and upper bound predicted_value.
CREATE TABLE IF NOT EXISTS predictions (
    id INTEGER PRIMARY KEY,
    model_id INTEGER NOT NULL REFERENCES ml_models (id),
    sensor_id INTEGER NOT NULL REFERENCES sensors (id),
    predicted_value REAL NOT NULL,
    confidence REAL NOT NULL,
    predicted_at TEXT NOT NULL,
    target_timestamp TEXT NOT NULL,
    is_anomaly INTEGER NOT NULL DEFAULT 0,
    anomaly_score REAL,
    explanation TEXT,
    lower REAL,
    upper REAL
);

CREATE UNIQUE INDEX IF NOT EXISTS predictions_identity
ON predictions (sensor_id, target_timestamp, model_id, predicted_at);
CREATE INDEX IF NOT EXISTS predictions_unexplained ON predictions (anomaly_score)
WHERE is_anomaly = 1 AND explanation IS NULL;

-- payload is JSON: cause, value, lineage. An event is 'active' until the sensor's next event, a recovery never is.
CREATE TABLE IF NOT EXISTS ml_events (
    id INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    device_id INTEGER REFERENCES devices (id),
    sensor_id INTEGER NOT NULL REFERENCES sensors (id),
    prediction_id INTEGER REFERENCES predictions (id),
    event_type TEXT NOT NULL,
    event_code TEXT NOT NULL,
    title TEXT NOT NULL,
    message TEXT NOT NULL,
    recommended_action TEXT,
    severity TEXT NOT NULL CHECK (severity IN ('NORMAL', 'WARN', 'CRITICAL')),
    previous_severity TEXT CHECK (previous_severity IN ('NORMAL', 'WARN', 'CRITICAL')),
    status TEXT NOT NULL DEFAULT 'active',
    created_at TEXT NOT NULL,
    payload TEXT
);

CREATE INDEX IF NOT EXISTS ml_events_latest ON ml_events (sensor_id, created_at);
CREATE INDEX IF NOT EXISTS ml_events_active ON ml_events (sensor_id) WHERE status = 'active';

CREATE TABLE IF NOT EXISTS alert_notifications (
    id INTEGER PRIMARY KEY,
    notification_id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    source_event_id TEXT,
    sensor_id INTEGER REFERENCES sensors (id),
    severity TEXT NOT NULL CHECK (severity IN ('NORMAL', 'WARN', 'CRITICAL')),
    title TEXT NOT NULL,
    message TEXT NOT NULL,
    is_read INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS alert_notifications_unread ON alert_notifications (created_at) WHERE is_read = 0;

-- Where the sink starts again: written in the transaction that writes the rows before it.
CREATE TABLE IF NOT EXISTS stream_offsets (
    consumer_group TEXT NOT NULL,
    topic TEXT NOT NULL,
    "partition" INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, topic, "partition")
);
