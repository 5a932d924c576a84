-- Indexes, each where there is none of its name (or of that and more: some servers append to names). On a large table of a
-- reference system's database these take the most time of all, and keep writers out of each table until the script is done.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.devices') AND name LIKE N'UX[_]devices[_]uuid%')
CREATE UNIQUE NONCLUSTERED INDEX UX_devices_uuid ON dbo.devices (uuid);
GO

IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.sensors') AND name LIKE N'UX[_]sensors[_]uuid%')
CREATE UNIQUE NONCLUSTERED INDEX UX_sensors_uuid ON dbo.sensors (uuid);
GO

IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.sensors') AND name LIKE N'IX[_]sensors[_]device%')
CREATE NONCLUSTERED INDEX IX_sensors_device ON dbo.sensors (device_id);
GO

-- Grows at its end, as time does. Rows of other writers are not in it: NULLs would be equal to each other.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.sensor_readings') AND name LIKE N'UX[_]sensor[_]readings[_]identity%'
)
CREATE UNIQUE NONCLUSTERED INDEX UX_sensor_readings_identity ON dbo.sensor_readings (dedupe_ms, reading_key)
WHERE dedupe_ms IS NOT NULL;
GO

-- The last readings of a sensor, for console and jobs.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.sensor_readings') AND name LIKE N'IX[_]sensor[_]readings[_]latest%'
)
CREATE NONCLUSTERED INDEX IX_sensor_readings_latest ON dbo.sensor_readings (sensor_id, device_timestamp);
GO

-- Where every 64th record of a topic's partition is among the readings, for replays, as in sql/sqlite/0003.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.sensor_readings') AND name LIKE N'IX[_]sensor[_]readings[_]landmarks%'
)
CREATE NONCLUSTERED INDEX IX_sensor_readings_landmarks ON dbo.sensor_readings (kafka_partition, kafka_landmark)
WHERE kafka_landmark IS NOT NULL;
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.ml_models') AND name LIKE N'IX[_]ml[_]models[_]name%'
)
CREATE NONCLUSTERED INDEX IX_ml_models_name ON dbo.ml_models (model_name, version, sensor_id);
GO

-- Unique, unless other programs have written two of the same: the sink asks before it inserts in any case.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.predictions') AND name LIKE N'%[_]predictions[_]identity%'
)
IF EXISTS (
    SELECT 1 FROM dbo.predictions GROUP BY sensor_id, target_timestamp, model_id, predicted_at HAVING COUNT(*) > 1
)
CREATE NONCLUSTERED INDEX IX_predictions_identity
ON dbo.predictions (sensor_id, target_timestamp, model_id, predicted_at);
ELSE
CREATE UNIQUE NONCLUSTERED INDEX UX_predictions_identity
ON dbo.predictions (sensor_id, target_timestamp, model_id, predicted_at);
GO

-- A filter that no explanation takes a row out of: an update of explanation then leaves the index alone, and the job reads
-- at most the anomalies of which most are explained.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.predictions') AND name LIKE N'IX[_]predictions[_]anomalies%'
)
CREATE NONCLUSTERED INDEX IX_predictions_anomalies ON dbo.predictions (target_timestamp, anomaly_score)
WHERE is_anomaly = 1;
GO

-- No filters on events, notifications and alerts but for what must be unique: they are small, and procedures of other
-- programs write to them.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.ml_events') AND name LIKE N'UX[_]ml[_]events[_]event[_]id%'
)
CREATE UNIQUE NONCLUSTERED INDEX UX_ml_events_event_id ON dbo.ml_events (event_id);
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.ml_events') AND name LIKE N'IX[_]ml[_]events[_]latest%'
)
CREATE NONCLUSTERED INDEX IX_ml_events_latest ON dbo.ml_events (sensor_id, created_at) INCLUDE (event_type, status);
GO

-- The active events of all sensors, newest first.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.ml_events') AND name LIKE N'IX[_]ml[_]events[_]status%'
)
CREATE NONCLUSTERED INDEX IX_ml_events_status ON dbo.ml_events (status, created_at) INCLUDE (sensor_id, event_code);
GO

-- So that a prediction can be deleted without a look at every event.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.ml_events') AND name LIKE N'IX[_]ml[_]events[_]prediction%'
)
CREATE NONCLUSTERED INDEX IX_ml_events_prediction ON dbo.ml_events (prediction_id);
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.alert_notifications')
        AND name LIKE N'UX[_]alert[_]notifications[_]identity%'
)
CREATE UNIQUE NONCLUSTERED INDEX UX_alert_notifications_identity
ON dbo.alert_notifications (notification_id);
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.alert_notifications') AND name LIKE N'IX[_]alert[_]notifications[_]unread%'
)
CREATE NONCLUSTERED INDEX IX_alert_notifications_unread ON dbo.alert_notifications (is_read, created_at);
GO

-- The notifications of an event, which the sink has name its number, whichever of the two comes first.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.alert_notifications') AND name LIKE N'IX[_]alert[_]notifications[_]event%'
)
CREATE NONCLUSTERED INDEX IX_alert_notifications_event ON dbo.alert_notifications (event_id);
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.alert_thresholds') AND name LIKE N'IX[_]alert[_]thresholds[_]sensor%'
)
CREATE NONCLUSTERED INDEX IX_alert_thresholds_sensor ON dbo.alert_thresholds (sensor_id, is_active);
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.delta_thresholds') AND name LIKE N'IX[_]delta[_]thresholds[_]sensor%'
)
CREATE NONCLUSTERED INDEX IX_delta_thresholds_sensor ON dbo.delta_thresholds (sensor_id, is_active);
GO

-- What the trigger asks, and locks, before it raises an alert: one sensor's key, not the table.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.alerts') AND name LIKE N'IX[_]alerts[_]standing%'
)
CREATE NONCLUSTERED INDEX IX_alerts_standing ON dbo.alerts (sensor_id, severity, status);
GO

-- A database of the reference system has an index like this under a name of its own, and one without may have two active
-- alerts already.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.alerts')
        AND (name LIKE N'UX[_]alerts[_]active%' OR is_unique = 1 AND has_filter = 1)
)
AND NOT EXISTS (
    SELECT 1 FROM dbo.alerts WHERE status = N'active' GROUP BY sensor_id, severity HAVING COUNT(*) > 1
)
CREATE UNIQUE NONCLUSTERED INDEX UX_alerts_active ON dbo.alerts (sensor_id, severity) WHERE status = N'active';
GO

-- The last windows of one sensor.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.sensor_windows') AND name LIKE N'IX[_]sensor[_]windows[_]latest%'
)
CREATE NONCLUSTERED INDEX IX_sensor_windows_latest ON dbo.sensor_windows (sensor_id, size_ms, window_start);
GO
