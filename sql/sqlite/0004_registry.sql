-- What the registry has beside names and ranges. Clear levels are where values count as calm again after a breach; rules is a
-- JSON array of what else a sensor is judged by. A sensor that is removed keeps its row, for its readings refer to it, and is
-- not active any more.
ALTER TABLE sensors ADD COLUMN site TEXT;
ALTER TABLE sensors ADD COLUMN tenant TEXT;
ALTER TABLE sensors ADD COLUMN warning_clear_low REAL;
ALTER TABLE sensors ADD COLUMN warning_clear_high REAL;
ALTER TABLE sensors ADD COLUMN critical_clear_low REAL;
ALTER TABLE sensors ADD COLUMN critical_clear_high REAL;
ALTER TABLE sensors ADD COLUMN rules TEXT;
ALTER TABLE sensors ADD COLUMN is_active INTEGER NOT NULL DEFAULT 1;

-- status is 'disabled' of a device from which nothing is taken, 'removed' of one that has left the registry; programs may
-- have other words for one that may write.
ALTER TABLE devices ADD COLUMN site TEXT;
ALTER TABLE devices ADD COLUMN tenant TEXT;
ALTER TABLE devices ADD COLUMN status TEXT NOT NULL DEFAULT 'online';
ALTER TABLE devices ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE devices ADD COLUMN updated_at TEXT;

-- A key itself is nowhere: sha256 is that of its text, as 64 hexadecimal digits. A revoked key keeps its row.
CREATE TABLE IF NOT EXISTS device_keys (
    key_id TEXT PRIMARY KEY,
    device_id INTEGER NOT NULL REFERENCES devices (id),
    sha256 TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT,
    created_by TEXT NOT NULL DEFAULT ''
);

CREATE INDEX IF NOT EXISTS device_keys_by_device ON device_keys (device_id);

-- Who has changed what: written in the transaction of the change, never changed. kind is 'sensor' or 'device', before and after
-- are the entries as JSON, without keys' hashes; version is the one that the entry has after the change.
CREATE TABLE IF NOT EXISTS registry_audit (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('sensor', 'device')),
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    before TEXT,
    after TEXT
);

CREATE INDEX IF NOT EXISTS registry_audit_of ON registry_audit (kind, name, version);
