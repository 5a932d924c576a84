-- What of `alert_notifications` was told to people, on which channel, and what is still to be. A row is one notification on one
-- channel, and is there before anything is sent. Rows of one message_id go as one message; thread_id is the message that told of
-- the beginning. follows is the notification that the sensor's present trouble was told by before this one. Who sends a
-- message holds it (claimed_by) until lease_until; nobody else sends it meanwhile. due_at is when it is to be tried next.
CREATE TABLE IF NOT EXISTS notification_deliveries (
    id INTEGER PRIMARY KEY,
    notification_id TEXT NOT NULL REFERENCES alert_notifications (notification_id) ON DELETE CASCADE,
    channel TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'sent', 'failed', 'skipped')),
    scope TEXT NOT NULL,
    follows TEXT,
    message_id TEXT,
    thread_id TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    created_at TEXT NOT NULL,
    due_at TEXT NOT NULL,
    claimed_by TEXT,
    lease_until TEXT,
    sent_at TEXT
);

CREATE UNIQUE INDEX IF NOT EXISTS notification_deliveries_identity
ON notification_deliveries (notification_id, channel);
CREATE INDEX IF NOT EXISTS notification_deliveries_due ON notification_deliveries (status, channel, due_at);
CREATE INDEX IF NOT EXISTS notification_deliveries_message ON notification_deliveries (status, channel, message_id);

-- Up to where a channel has looked at `alert_notifications`: all up to after_id have been looked at, and none comes any more.
-- seen_id was the newest at seen_at, and takes its place once no transaction from before can still be open.
CREATE TABLE IF NOT EXISTS notification_channels (
    channel TEXT PRIMARY KEY,
    after_id INTEGER NOT NULL,
    seen_id INTEGER NOT NULL,
    seen_at TEXT NOT NULL
);

-- When the first channel has told it to people.
ALTER TABLE alert_notifications ADD COLUMN delivered_at TEXT;

-- What was told of a sensor before.
CREATE INDEX IF NOT EXISTS alert_notifications_by_sensor ON alert_notifications (sensor_id, created_at);
