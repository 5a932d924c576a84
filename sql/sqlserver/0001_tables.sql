-- The tables, where they are not there yet: an empty database gets all of them in this form. A database of the reference
-- system has most of them already, as its own programs made them; those are left as they are here, and 0002 adds to them
-- what is missing.
--
-- Names are those of sql/sqlite, but where programs of the reference system call a column by another name, that name stays:
-- device_uuid, sensor_uuid and sensor_type, ml_models.model_name, alert_notifications.source_event_id. Times are UTC without
-- an offset, microseconds kept. GETDATE() in older programs is the server's local time: run the server in UTC.
--
-- Filtered indexes need QUOTED_IDENTIFIER ON from whoever writes to a table that has one. Every driver sets it; sqlcmd only
-- does with -I. A procedure or trigger keeps the setting that it was made under, hence the first line of each script.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

-- A module that was made with QUOTED_IDENTIFIER OFF cannot write to a table with a filtered index (error 1934): better to
-- stop here, with nothing changed, than to break another program's procedure. The remedy is in the message. The database's
-- own collation may tell INSERT and insert apart, hence the other one.
DECLARE @modules NVARCHAR(MAX);
SELECT @modules = STRING_AGG(
    CAST(QUOTENAME(OBJECT_SCHEMA_NAME(m.object_id)) + N'.' + QUOTENAME(OBJECT_NAME(m.object_id)) AS NVARCHAR(MAX)), N', '
)
FROM sys.sql_modules AS m
WHERE m.uses_quoted_identifier = 0
    AND (
        m.[definition] COLLATE Latin1_General_CI_AS LIKE N'%sensor_readings%'
        OR m.[definition] COLLATE Latin1_General_CI_AS LIKE N'%predictions%'
        OR m.[definition] COLLATE Latin1_General_CI_AS LIKE N'%alerts%'
    )
    AND (
        m.[definition] COLLATE Latin1_General_CI_AS LIKE N'%INSERT%'
        OR m.[definition] COLLATE Latin1_General_CI_AS LIKE N'%UPDATE%'
        OR m.[definition] COLLATE Latin1_General_CI_AS LIKE N'%DELETE%'
        OR m.[definition] COLLATE Latin1_General_CI_AS LIKE N'%MERGE%'
    )
    AND OBJECT_NAME(m.object_id) NOT IN (
        N'sp_insert_reading_and_check_threshold', N'sp_insert_readings_bulk_json_and_check_threshold'
    )
    AND NOT EXISTS (
        SELECT 1 FROM sys.triggers AS t
        WHERE t.object_id = m.object_id AND t.parent_id = OBJECT_ID(N'dbo.sensor_readings')
            AND m.[definition] COLLATE Latin1_General_CI_AS LIKE N'%alert%'
    );
IF @modules IS NOT NULL
BEGIN
    DECLARE @told NVARCHAR(2048) = LEFT(
        N'these were made with QUOTED_IDENTIFIER OFF and could no longer write to their tables; run the text of each'
        + N' again after SET QUOTED_IDENTIFIER ON, then migrate again: ' + @modules, 2048
    );
    THROW 50010, @told, 1;
END;
GO

-- uuid is the device's key on the topics: its device_uuid in lower case, or stream_key where the key is no GUID. It is
-- computed, so that a device that another program registers has it, too.
IF OBJECT_ID(N'dbo.devices', N'U') IS NULL
CREATE TABLE dbo.devices (
    id BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT PK_devices PRIMARY KEY CLUSTERED,
    device_uuid UNIQUEIDENTIFIER NOT NULL CONSTRAINT DF_devices_device_uuid DEFAULT NEWID(),
    stream_key NVARCHAR(256) COLLATE Latin1_General_100_BIN2 NULL,
    uuid AS (COALESCE(stream_key, CAST(LOWER(CAST(device_uuid AS NVARCHAR(36))) AS NVARCHAR(256)))) PERSISTED,
    name NVARCHAR(255) NOT NULL CONSTRAINT DF_devices_name DEFAULT N'',
    device_type NVARCHAR(100) NOT NULL CONSTRAINT DF_devices_device_type DEFAULT N'',
    status NVARCHAR(50) NOT NULL CONSTRAINT DF_devices_status DEFAULT N'online',
    last_connection DATETIME2(6) NULL,
    metadata NVARCHAR(MAX) NULL,
    created_at DATETIME2(6) NOT NULL CONSTRAINT DF_devices_created_at DEFAULT SYSUTCDATETIME(),
    updated_at DATETIME2(6) NULL
);
GO

-- uuid as above. name, unit and sensor_type are empty where they are unknown: the reference's programs do not expect NULL.
IF OBJECT_ID(N'dbo.sensors', N'U') IS NULL
CREATE TABLE dbo.sensors (
    id BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT PK_sensors PRIMARY KEY CLUSTERED,
    sensor_uuid UNIQUEIDENTIFIER NOT NULL CONSTRAINT DF_sensors_sensor_uuid DEFAULT NEWID(),
    stream_key NVARCHAR(256) COLLATE Latin1_General_100_BIN2 NULL,
    uuid AS (COALESCE(stream_key, CAST(LOWER(CAST(sensor_uuid AS NVARCHAR(36))) AS NVARCHAR(256)))) PERSISTED,
    device_id BIGINT NULL CONSTRAINT FK_sensors_devices REFERENCES dbo.devices (id),
    name NVARCHAR(255) NOT NULL CONSTRAINT DF_sensors_name DEFAULT N'',
    unit NVARCHAR(50) NOT NULL CONSTRAINT DF_sensors_unit DEFAULT N'',
    sensor_type NVARCHAR(100) NOT NULL CONSTRAINT DF_sensors_sensor_type DEFAULT N'',
    status NVARCHAR(25) NOT NULL CONSTRAINT DF_sensors_status DEFAULT N'online',
    is_active BIT NOT NULL CONSTRAINT DF_sensors_is_active DEFAULT 1,
    warning_low FLOAT(53) NULL,
    warning_high FLOAT(53) NULL,
    critical_low FLOAT(53) NULL,
    critical_high FLOAT(53) NULL,
    version INT NOT NULL CONSTRAINT DF_sensors_version DEFAULT 1,
    created_at DATETIME2(6) NOT NULL CONSTRAINT DF_sensors_created_at DEFAULT SYSUTCDATETIME(),
    updated_at DATETIME2(6) NULL CONSTRAINT DF_sensors_updated_at DEFAULT SYSUTCDATETIME()
);
GO

-- timestamp is when Kafka got the reading, device_timestamp when it was measured. dedupe_ms and reading_key are its
-- identity, so that a device's retry makes no second row; other writers leave them, and the place on the topic, empty.
-- Clustered by id, which only grows: rows are added at the table's end, whatever their times are. kafka_landmark is the
-- kafka_offset of a row where 64 divides it, else NULL: what an index on every 64th record can be filtered by, as a filter
-- may neither compute nor name a computed column.
IF OBJECT_ID(N'dbo.sensor_readings', N'U') IS NULL
CREATE TABLE dbo.sensor_readings (
    id BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT PK_sensor_readings PRIMARY KEY CLUSTERED,
    sensor_id BIGINT NOT NULL CONSTRAINT FK_sensor_readings_sensors REFERENCES dbo.sensors (id),
    value FLOAT(53) NOT NULL,
    device_timestamp DATETIME2(6) NULL CONSTRAINT DF_sensor_readings_device_timestamp DEFAULT SYSUTCDATETIME(),
    [timestamp] DATETIME2(6) NOT NULL CONSTRAINT DF_sensor_readings_timestamp DEFAULT SYSUTCDATETIME(),
    dedupe_ms BIGINT NULL,
    reading_key BIGINT NULL,
    kafka_partition INT NULL,
    kafka_offset BIGINT NULL,
    kafka_landmark BIGINT NULL
);
GO

-- The newest reading of each sensor: what dashboards ask for again and again, and what a change is measured against.
IF OBJECT_ID(N'dbo.sensor_readings_latest', N'U') IS NULL
CREATE TABLE dbo.sensor_readings_latest (
    sensor_id BIGINT NOT NULL CONSTRAINT PK_sensor_readings_latest PRIMARY KEY CLUSTERED
    CONSTRAINT FK_sensor_readings_latest_sensors REFERENCES dbo.sensors (id),
    latest_value FLOAT(53) NULL,
    latest_timestamp DATETIME2(6) NULL
);
GO

-- The reference's programs have a model for each sensor; those of streamproc are for all, and have no sensor_id.
IF OBJECT_ID(N'dbo.ml_models', N'U') IS NULL
CREATE TABLE dbo.ml_models (
    id BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT PK_ml_models PRIMARY KEY CLUSTERED,
    sensor_id BIGINT NULL CONSTRAINT FK_ml_models_sensors REFERENCES dbo.sensors (id),
    model_name NVARCHAR(255) NOT NULL,
    model_type NVARCHAR(100) NOT NULL CONSTRAINT DF_ml_models_model_type DEFAULT N'streaming',
    version NVARCHAR(50) NOT NULL,
    is_active BIT NOT NULL CONSTRAINT DF_ml_models_is_active DEFAULT 1,
    trained_at DATETIME2(6) NOT NULL CONSTRAINT DF_ml_models_trained_at DEFAULT SYSUTCDATETIME(),
    accuracy DECIMAL(5, 4) NULL,
    metadata NVARCHAR(MAX) NULL,
    created_at DATETIME2(6) NOT NULL CONSTRAINT DF_ml_models_created_at DEFAULT SYSUTCDATETIME()
);
GO

-- explanation is written later, by the job that explains anomalies. lower and upper bound predicted_value.
IF OBJECT_ID(N'dbo.predictions', N'U') IS NULL
CREATE TABLE dbo.predictions (
    id BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT PK_predictions PRIMARY KEY CLUSTERED,
    model_id BIGINT NOT NULL CONSTRAINT FK_predictions_ml_models REFERENCES dbo.ml_models (id),
    sensor_id BIGINT NOT NULL CONSTRAINT FK_predictions_sensors REFERENCES dbo.sensors (id),
    device_id BIGINT NULL,
    predicted_value FLOAT(53) NOT NULL,
    confidence FLOAT(53) NOT NULL,
    predicted_at DATETIME2(6) NOT NULL,
    target_timestamp DATETIME2(6) NOT NULL,
    horizon_minutes INT NULL,
    trend NVARCHAR(10) NULL,
    window_points INT NULL,
    is_anomaly INT NULL CONSTRAINT DF_predictions_is_anomaly DEFAULT 0,
    anomaly_score FLOAT(53) NULL,
    risk_level NVARCHAR(20) NULL,
    severity NVARCHAR(50) NULL,
    status NVARCHAR(50) NULL,
    explanation NVARCHAR(MAX) NULL,
    [lower] FLOAT(53) NULL,
    [upper] FLOAT(53) NULL
);
GO

-- payload is JSON: cause, value, lineage. An event is 'active' until the sensor's next event, a recovery never is. Events
-- of other programs get an event_id by themselves, and have no severity: theirs is in event_type.
IF OBJECT_ID(N'dbo.ml_events', N'U') IS NULL
CREATE TABLE dbo.ml_events (
    id BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT PK_ml_events PRIMARY KEY CLUSTERED,
    event_id NVARCHAR(64) NOT NULL
    CONSTRAINT DF_ml_events_event_id DEFAULT LOWER(CONVERT(NVARCHAR(36), NEWID())),
    device_id BIGINT NULL CONSTRAINT FK_ml_events_devices REFERENCES dbo.devices (id),
    sensor_id BIGINT NULL CONSTRAINT FK_ml_events_sensors REFERENCES dbo.sensors (id),
    prediction_id BIGINT NULL CONSTRAINT FK_ml_events_predictions REFERENCES dbo.predictions (id),
    event_type NVARCHAR(50) NOT NULL,
    event_code NVARCHAR(100) NOT NULL,
    title NVARCHAR(255) NOT NULL,
    message NVARCHAR(2000) NULL,
    recommended_action NVARCHAR(2000) NULL,
    severity NVARCHAR(10) NULL CONSTRAINT CK_ml_events_severity CHECK (severity IN (N'NORMAL', N'WARN', N'CRITICAL')),
    previous_severity NVARCHAR(10) NULL
    CONSTRAINT CK_ml_events_previous_severity CHECK (previous_severity IN (N'NORMAL', N'WARN', N'CRITICAL')),
    status NVARCHAR(50) NOT NULL CONSTRAINT DF_ml_events_status DEFAULT N'active',
    created_at DATETIME2(6) NOT NULL CONSTRAINT DF_ml_events_created_at DEFAULT SYSUTCDATETIME(),
    acknowledged_at DATETIME2(6) NULL,
    acknowledged_by BIGINT NULL,
    resolved_at DATETIME2(6) NULL,
    resolved_by BIGINT NULL,
    payload NVARCHAR(MAX) NULL
);
GO

-- source_event_id is the id in ml_events or alerts, whichever source names. event_id is the ml_events.event_id of those
-- that streamproc writes, which is sqlite's source_event_id.
IF OBJECT_ID(N'dbo.alert_notifications', N'U') IS NULL
CREATE TABLE dbo.alert_notifications (
    id BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT PK_alert_notifications PRIMARY KEY CLUSTERED,
    notification_id NVARCHAR(64) NOT NULL
    CONSTRAINT DF_alert_notifications_notification_id DEFAULT LOWER(CONVERT(NVARCHAR(36), NEWID())),
    source NVARCHAR(50) NOT NULL,
    source_event_id BIGINT NULL,
    event_id NVARCHAR(64) NULL,
    sensor_id BIGINT NULL CONSTRAINT FK_alert_notifications_sensors REFERENCES dbo.sensors (id),
    device_id BIGINT NULL,
    severity NVARCHAR(50) NOT NULL,
    title NVARCHAR(255) NOT NULL,
    message NVARCHAR(2000) NULL,
    is_read BIT NOT NULL CONSTRAINT DF_alert_notifications_is_read DEFAULT 0,
    created_at DATETIME2(6) NOT NULL CONSTRAINT DF_alert_notifications_created_at DEFAULT SYSUTCDATETIME(),
    read_at DATETIME2(6) NULL,
    triggered_value FLOAT(53) NULL,
    event_type NVARCHAR(50) NULL,
    snapshot_data NVARCHAR(MAX) NULL
);
GO

-- The limits that people set, one row each. For greater_than, less_than and equal_to the limit is threshold_value_min.
IF OBJECT_ID(N'dbo.alert_thresholds', N'U') IS NULL
CREATE TABLE dbo.alert_thresholds (
    id BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT PK_alert_thresholds PRIMARY KEY CLUSTERED,
    sensor_id BIGINT NOT NULL CONSTRAINT FK_alert_thresholds_sensors REFERENCES dbo.sensors (id),
    name NVARCHAR(255) NOT NULL CONSTRAINT DF_alert_thresholds_name DEFAULT N'',
    condition_type NVARCHAR(50) NOT NULL
    CONSTRAINT CK_alert_thresholds_condition_type
    CHECK (condition_type IN (N'greater_than', N'less_than', N'equal_to', N'out_of_range')),
    threshold_value_min FLOAT(53) NULL,
    threshold_value_max FLOAT(53) NULL,
    severity NVARCHAR(50) NOT NULL CONSTRAINT DF_alert_thresholds_severity DEFAULT N'warning'
    CONSTRAINT CK_alert_thresholds_severity CHECK (severity IN (N'info', N'warning', N'critical')),
    is_active BIT NOT NULL CONSTRAINT DF_alert_thresholds_is_active DEFAULT 1,
    created_at DATETIME2(6) NOT NULL CONSTRAINT DF_alert_thresholds_created_at DEFAULT SYSUTCDATETIME(),
    updated_at DATETIME2(6) NULL
);
GO

-- How far and how fast a value may change from one reading to the next; any limit that is reached counts.
IF OBJECT_ID(N'dbo.delta_thresholds', N'U') IS NULL
CREATE TABLE dbo.delta_thresholds (
    id BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT PK_delta_thresholds PRIMARY KEY CLUSTERED,
    sensor_id BIGINT NOT NULL CONSTRAINT FK_delta_thresholds_sensors REFERENCES dbo.sensors (id),
    abs_delta FLOAT(53) NULL,
    rel_delta FLOAT(53) NULL,
    abs_slope FLOAT(53) NULL,
    rel_slope FLOAT(53) NULL,
    severity NVARCHAR(50) NOT NULL CONSTRAINT DF_delta_thresholds_severity DEFAULT N'warning'
    CONSTRAINT CK_delta_thresholds_severity CHECK (severity IN (N'info', N'warning', N'critical')),
    is_active BIT NOT NULL CONSTRAINT DF_delta_thresholds_is_active DEFAULT 1,
    created_at DATETIME2(6) NOT NULL CONSTRAINT DF_delta_thresholds_created_at DEFAULT SYSUTCDATETIME(),
    updated_at DATETIME2(6) NULL
);
GO

-- A state, not a history: of one sensor and severity at most one alert is active.
IF OBJECT_ID(N'dbo.alerts', N'U') IS NULL
CREATE TABLE dbo.alerts (
    id BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT PK_alerts PRIMARY KEY CLUSTERED,
    threshold_id BIGINT NULL CONSTRAINT FK_alerts_alert_thresholds REFERENCES dbo.alert_thresholds (id),
    sensor_id BIGINT NOT NULL CONSTRAINT FK_alerts_sensors REFERENCES dbo.sensors (id),
    device_id BIGINT NULL CONSTRAINT FK_alerts_devices REFERENCES dbo.devices (id),
    severity NVARCHAR(50) NOT NULL CONSTRAINT CK_alerts_severity CHECK (severity IN (N'info', N'warning', N'critical')),
    status NVARCHAR(50) NOT NULL CONSTRAINT DF_alerts_status DEFAULT N'active',
    triggered_value FLOAT(53) NOT NULL,
    triggered_at DATETIME2(6) NOT NULL CONSTRAINT DF_alerts_triggered_at DEFAULT SYSUTCDATETIME(),
    acknowledged_at DATETIME2(6) NULL,
    acknowledged_by BIGINT NULL,
    resolved_at DATETIME2(6) NULL,
    resolved_by BIGINT NULL
);
GO

-- Where the sink starts again: written in the transaction that writes the rows before it. The lengths keep the key within
-- the 900 bytes that a clustered index may have; a topic's name has at most 249 characters.
IF OBJECT_ID(N'dbo.stream_offsets', N'U') IS NULL
CREATE TABLE dbo.stream_offsets (
    consumer_group NVARCHAR(190) NOT NULL,
    topic NVARCHAR(249) NOT NULL,
    [partition] INT NOT NULL,
    next_offset BIGINT NOT NULL,
    CONSTRAINT PK_stream_offsets PRIMARY KEY CLUSTERED (consumer_group, topic, [partition])
);
GO

-- Closed windows: a row is what the topic `windows` says of one sensor, size and start. mean, min, max, deviation (the
-- population's), first and last are in the sensor's unit, trend in units per second. kafka_partition, first_offset and
-- last_offset are the records of `readings` that it was made of.
--
-- The key is the identity, time first: rows come in time's order, so they are added at the table's end, and ranges of time
-- (all sensors at once, or what is too old) lie together.
IF OBJECT_ID(N'dbo.sensor_windows', N'U') IS NULL
CREATE TABLE dbo.sensor_windows (
    sensor_id BIGINT NOT NULL CONSTRAINT FK_sensor_windows_sensors REFERENCES dbo.sensors (id),
    size_ms INT NOT NULL,
    window_start DATETIME2(6) NOT NULL,
    [count] BIGINT NOT NULL,
    mean FLOAT(53) NOT NULL,
    [min] FLOAT(53) NOT NULL,
    [max] FLOAT(53) NOT NULL,
    deviation FLOAT(53) NOT NULL,
    [first] FLOAT(53) NOT NULL,
    [last] FLOAT(53) NOT NULL,
    trend FLOAT(53) NOT NULL,
    first_offset BIGINT NOT NULL,
    last_offset BIGINT NOT NULL,
    kafka_partition INT NOT NULL,
    CONSTRAINT PK_sensor_windows PRIMARY KEY CLUSTERED (window_start, size_ms, sensor_id)
);
GO
