-- What a database of the reference system lacks. No row of its tables is changed: columns are added, columns that must not
-- be empty get defaults or may be empty from now on, and types stay as they are (value is DECIMAL(15, 5) there). On a
-- database that 0001 made, nothing here finds anything to do.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

IF COL_LENGTH(N'dbo.devices', N'stream_key') IS NULL
ALTER TABLE dbo.devices ADD stream_key NVARCHAR(256) COLLATE Latin1_General_100_BIN2 NULL;
GO

IF COL_LENGTH(N'dbo.devices', N'uuid') IS NULL
ALTER TABLE dbo.devices
ADD uuid AS (COALESCE(stream_key, CAST(LOWER(CAST(device_uuid AS NVARCHAR(36))) AS NVARCHAR(256)))) PERSISTED;
GO

IF COL_LENGTH(N'dbo.sensors', N'stream_key') IS NULL
ALTER TABLE dbo.sensors ADD stream_key NVARCHAR(256) COLLATE Latin1_General_100_BIN2 NULL;
GO

IF COL_LENGTH(N'dbo.sensors', N'uuid') IS NULL
ALTER TABLE dbo.sensors
ADD uuid AS (COALESCE(stream_key, CAST(LOWER(CAST(sensor_uuid AS NVARCHAR(36))) AS NVARCHAR(256)))) PERSISTED;
GO

IF COL_LENGTH(N'dbo.sensors', N'warning_low') IS NULL ALTER TABLE dbo.sensors ADD warning_low FLOAT(53) NULL;
IF COL_LENGTH(N'dbo.sensors', N'warning_high') IS NULL ALTER TABLE dbo.sensors ADD warning_high FLOAT(53) NULL;
IF COL_LENGTH(N'dbo.sensors', N'critical_low') IS NULL ALTER TABLE dbo.sensors ADD critical_low FLOAT(53) NULL;
IF COL_LENGTH(N'dbo.sensors', N'critical_high') IS NULL ALTER TABLE dbo.sensors ADD critical_high FLOAT(53) NULL;
IF COL_LENGTH(N'dbo.sensors', N'version') IS NULL
ALTER TABLE dbo.sensors ADD version INT NOT NULL CONSTRAINT DF_sensors_version DEFAULT 1;
IF COL_LENGTH(N'dbo.sensors', N'created_at') IS NULL
ALTER TABLE dbo.sensors
ADD created_at DATETIME2(6) NOT NULL CONSTRAINT DF_sensors_created_at DEFAULT SYSUTCDATETIME();
IF COL_LENGTH(N'dbo.sensors', N'updated_at') IS NULL
ALTER TABLE dbo.sensors
ADD updated_at DATETIME2(6) NULL CONSTRAINT DF_sensors_updated_at DEFAULT SYSUTCDATETIME();
GO

-- Columns that may be empty and have no default for rows that are there: these cost the same on a table of any size.
IF COL_LENGTH(N'dbo.sensor_readings', N'device_timestamp') IS NULL
ALTER TABLE dbo.sensor_readings
ADD device_timestamp DATETIME2(6) NULL CONSTRAINT DF_sensor_readings_device_timestamp DEFAULT SYSUTCDATETIME();
IF COL_LENGTH(N'dbo.sensor_readings', N'dedupe_ms') IS NULL ALTER TABLE dbo.sensor_readings ADD dedupe_ms BIGINT NULL;
IF COL_LENGTH(N'dbo.sensor_readings', N'reading_key') IS NULL ALTER TABLE dbo.sensor_readings ADD reading_key BIGINT NULL;
IF COL_LENGTH(N'dbo.sensor_readings', N'kafka_partition') IS NULL
ALTER TABLE dbo.sensor_readings ADD kafka_partition INT NULL;
IF COL_LENGTH(N'dbo.sensor_readings', N'kafka_offset') IS NULL
ALTER TABLE dbo.sensor_readings ADD kafka_offset BIGINT NULL;
IF COL_LENGTH(N'dbo.sensor_readings', N'kafka_landmark') IS NULL
ALTER TABLE dbo.sensor_readings ADD kafka_landmark BIGINT NULL;
GO

IF COL_LENGTH(N'dbo.ml_models', N'created_at') IS NULL
ALTER TABLE dbo.ml_models
ADD created_at DATETIME2(6) NOT NULL CONSTRAINT DF_ml_models_created_at DEFAULT SYSUTCDATETIME();
GO

IF COL_LENGTH(N'dbo.predictions', N'device_id') IS NULL ALTER TABLE dbo.predictions ADD device_id BIGINT NULL;
IF COL_LENGTH(N'dbo.predictions', N'is_anomaly') IS NULL
ALTER TABLE dbo.predictions ADD is_anomaly INT NULL CONSTRAINT DF_predictions_is_anomaly DEFAULT 0;
IF COL_LENGTH(N'dbo.predictions', N'anomaly_score') IS NULL ALTER TABLE dbo.predictions ADD anomaly_score FLOAT(53) NULL;
IF COL_LENGTH(N'dbo.predictions', N'explanation') IS NULL ALTER TABLE dbo.predictions ADD explanation NVARCHAR(MAX) NULL;
IF COL_LENGTH(N'dbo.predictions', N'lower') IS NULL ALTER TABLE dbo.predictions ADD [lower] FLOAT(53) NULL;
IF COL_LENGTH(N'dbo.predictions', N'upper') IS NULL ALTER TABLE dbo.predictions ADD [upper] FLOAT(53) NULL;
GO

-- NEWID() gives each row that is there an id of its own.
IF COL_LENGTH(N'dbo.ml_events', N'event_id') IS NULL
ALTER TABLE dbo.ml_events
ADD event_id NVARCHAR(64) NOT NULL
CONSTRAINT DF_ml_events_event_id DEFAULT LOWER(CONVERT(NVARCHAR(36), NEWID()));
IF COL_LENGTH(N'dbo.ml_events', N'recommended_action') IS NULL
ALTER TABLE dbo.ml_events ADD recommended_action NVARCHAR(2000) NULL;
IF COL_LENGTH(N'dbo.ml_events', N'severity') IS NULL
ALTER TABLE dbo.ml_events
ADD severity NVARCHAR(10) NULL CONSTRAINT CK_ml_events_severity CHECK (severity IN (N'NORMAL', N'WARN', N'CRITICAL'));
IF COL_LENGTH(N'dbo.ml_events', N'previous_severity') IS NULL
ALTER TABLE dbo.ml_events
ADD previous_severity NVARCHAR(10) NULL
CONSTRAINT CK_ml_events_previous_severity CHECK (previous_severity IN (N'NORMAL', N'WARN', N'CRITICAL'));
IF COL_LENGTH(N'dbo.ml_events', N'prediction_id') IS NULL ALTER TABLE dbo.ml_events ADD prediction_id BIGINT NULL;
IF COL_LENGTH(N'dbo.ml_events', N'payload') IS NULL ALTER TABLE dbo.ml_events ADD payload NVARCHAR(MAX) NULL;
GO

IF COL_LENGTH(N'dbo.alert_notifications', N'notification_id') IS NULL
ALTER TABLE dbo.alert_notifications
ADD notification_id NVARCHAR(64) NOT NULL
CONSTRAINT DF_alert_notifications_notification_id DEFAULT LOWER(CONVERT(NVARCHAR(36), NEWID()));
IF COL_LENGTH(N'dbo.alert_notifications', N'event_id') IS NULL
ALTER TABLE dbo.alert_notifications ADD event_id NVARCHAR(64) NULL;
IF COL_LENGTH(N'dbo.alert_notifications', N'sensor_id') IS NULL
ALTER TABLE dbo.alert_notifications ADD sensor_id BIGINT NULL;
IF COL_LENGTH(N'dbo.alert_notifications', N'device_id') IS NULL
ALTER TABLE dbo.alert_notifications ADD device_id BIGINT NULL;
IF COL_LENGTH(N'dbo.alert_notifications', N'triggered_value') IS NULL
ALTER TABLE dbo.alert_notifications ADD triggered_value FLOAT(53) NULL;
IF COL_LENGTH(N'dbo.alert_notifications', N'event_type') IS NULL
ALTER TABLE dbo.alert_notifications ADD event_type NVARCHAR(50) NULL;
GO

-- Columns that streamproc has nothing to write to: they get a default where they have none and may not be empty.
DECLARE @defaults NVARCHAR(MAX);
SELECT @defaults = STRING_AGG(
    CAST(N'ALTER TABLE dbo.' + QUOTENAME(w.table_name) + N' ADD CONSTRAINT '
        + QUOTENAME(N'DF_streamproc_' + w.table_name + N'_' + w.column_name) + N' DEFAULT ' + w.value
        + N' FOR ' + QUOTENAME(w.column_name) AS NVARCHAR(MAX)), N'; '
)
FROM (VALUES
    (N'devices', N'device_uuid', N'NEWID()'),
    (N'devices', N'name', N'N'''''),
    (N'devices', N'device_type', N'N'''''),
    (N'devices', N'status', N'N''online'''),
    (N'devices', N'created_at', N'SYSUTCDATETIME()'),
    (N'sensors', N'sensor_uuid', N'NEWID()'),
    (N'sensors', N'name', N'N'''''),
    (N'sensors', N'unit', N'N'''''),
    (N'sensors', N'sensor_type', N'N'''''),
    (N'sensors', N'status', N'N''online'''),
    (N'sensors', N'is_active', N'1'),
    (N'sensors', N'created_at', N'SYSUTCDATETIME()'),
    (N'sensor_readings', N'timestamp', N'SYSUTCDATETIME()'),
    (N'ml_models', N'model_type', N'N''streaming'''),
    (N'ml_models', N'is_active', N'1'),
    (N'ml_models', N'trained_at', N'SYSUTCDATETIME()'),
    (N'ml_events', N'status', N'N''active'''),
    (N'ml_events', N'created_at', N'SYSUTCDATETIME()'),
    (N'alerts', N'status', N'N''active'''),
    (N'alert_notifications', N'is_read', N'0'),
    (N'alert_notifications', N'created_at', N'SYSUTCDATETIME()')
) AS w (table_name, column_name, value)
JOIN INFORMATION_SCHEMA.COLUMNS AS c
    ON c.TABLE_SCHEMA = N'dbo' AND c.TABLE_NAME = w.table_name AND c.COLUMN_NAME = w.column_name
WHERE c.IS_NULLABLE = N'NO' AND c.COLUMN_DEFAULT IS NULL;
IF @defaults IS NOT NULL EXEC sys.sp_executesql @defaults;
GO

-- References that streamproc cannot always give: a sensor whose device is not known yet, a model for all sensors, a
-- notification whose event is not there. That a column may be empty is a change of the catalogue alone.
DECLARE @relaxed NVARCHAR(MAX);
SELECT @relaxed = STRING_AGG(
    CAST(N'ALTER TABLE dbo.' + QUOTENAME(w.table_name) + N' ALTER COLUMN '
        + QUOTENAME(w.column_name) + N' ' + c.DATA_TYPE + N' NULL' AS NVARCHAR(MAX)), N'; '
)
FROM (VALUES
    (N'sensors', N'device_id'),
    (N'ml_models', N'sensor_id'),
    (N'predictions', N'device_id'),
    (N'ml_events', N'device_id'),
    (N'alerts', N'device_id'),
    (N'alerts', N'threshold_id'),
    (N'alert_notifications', N'source_event_id')
) AS w (table_name, column_name)
JOIN INFORMATION_SCHEMA.COLUMNS AS c
    ON c.TABLE_SCHEMA = N'dbo' AND c.TABLE_NAME = w.table_name AND c.COLUMN_NAME = w.column_name
WHERE c.IS_NULLABLE = N'NO' AND c.DATA_TYPE IN (N'int', N'bigint');
IF @relaxed IS NOT NULL EXEC sys.sp_executesql @relaxed;
GO

-- Checks that other programs put on what kind and how grave an event or notification is know nothing of streamproc's own
-- words (severity_change, NORMAL, WARN): they are switched off, not dropped.
DECLARE @unchecked NVARCHAR(MAX);
SELECT @unchecked = STRING_AGG(
    CAST(N'ALTER TABLE dbo.' + QUOTENAME(OBJECT_NAME(k.parent_object_id))
        + N' NOCHECK CONSTRAINT ' + QUOTENAME(k.name) AS NVARCHAR(MAX)), N'; '
)
FROM sys.check_constraints AS k
WHERE k.is_disabled = 0
    AND k.name NOT IN (N'CK_ml_events_severity', N'CK_ml_events_previous_severity')
    AND (
        k.parent_object_id = OBJECT_ID(N'dbo.ml_events')
        AND (k.[definition] LIKE N'%event_type%' OR k.[definition] LIKE N'%event_code%' OR k.[definition] LIKE N'%status%')
        OR k.parent_object_id = OBJECT_ID(N'dbo.alert_notifications')
        AND (k.[definition] LIKE N'%severity%' OR k.[definition] LIKE N'%source%' OR k.[definition] LIKE N'%event_type%')
    );
IF @unchecked IS NOT NULL EXEC sys.sp_executesql @unchecked;
GO

-- The ranges that people set in alert_thresholds become the registry's, once: an entry that was edited since has a higher
-- version. The first of several counts, as in the reference's programs.
WITH ranges AS (
    SELECT
        sensor_id,
        severity,
        threshold_value_min,
        threshold_value_max,
        ROW_NUMBER() OVER (PARTITION BY sensor_id, severity ORDER BY id) AS place
    FROM dbo.alert_thresholds
    WHERE is_active = 1 AND condition_type = N'out_of_range' AND severity IN (N'warning', N'critical')
)
UPDATE s
SET
    warning_low = w.threshold_value_min,
    warning_high = w.threshold_value_max,
    critical_low = c.threshold_value_min,
    critical_high = c.threshold_value_max
FROM dbo.sensors AS s
LEFT JOIN ranges AS w ON w.sensor_id = s.id AND w.severity = N'warning' AND w.place = 1
LEFT JOIN ranges AS c ON c.sensor_id = s.id AND c.severity = N'critical' AND c.place = 1
WHERE s.version = 1
    AND s.warning_low IS NULL AND s.warning_high IS NULL AND s.critical_low IS NULL AND s.critical_high IS NULL
    AND (w.sensor_id IS NOT NULL OR c.sensor_id IS NOT NULL);
GO
