-- A database as the reference system has it, as far as its public programs tell: tables and columns that they name, of the
-- types that they name, and procedures and a trigger of the same names and parameters. Users and what else is not touched
-- by streamproc are left out.
SET QUOTED_IDENTIFIER ON;
GO
CREATE TABLE dbo.devices (
    id BIGINT IDENTITY(1, 1) NOT NULL PRIMARY KEY,
    device_uuid UNIQUEIDENTIFIER NOT NULL UNIQUE,
    name VARCHAR(255) NOT NULL,
    device_type VARCHAR(100) NOT NULL,
    status VARCHAR(50) NOT NULL,
    last_connection DATETIME2 NULL,
    metadata NVARCHAR(MAX) NULL,
    created_at DATETIME2 NOT NULL DEFAULT GETDATE(),
    updated_at DATETIME2 NULL
);
CREATE TABLE dbo.sensors (
    id BIGINT IDENTITY(1, 1) NOT NULL PRIMARY KEY,
    device_id BIGINT {NOT NULL} REFERENCES dbo.devices (id),
    sensor_uuid UNIQUEIDENTIFIER NOT NULL UNIQUE,
    sensor_type VARCHAR(100) NOT NULL,
    name VARCHAR(255) NOT NULL,
    unit VARCHAR(50) NOT NULL,
    status VARCHAR(25) NOT NULL DEFAULT 'draft',
    is_active BIT NOT NULL DEFAULT 1,
    claim_token VARCHAR(64) NULL,
    operational_state VARCHAR(20) NOT NULL DEFAULT 'INITIALIZING',
    created_at DATETIME2 NOT NULL DEFAULT GETDATE(),
    updated_at DATETIME2 NULL
);
CREATE TABLE dbo.sensor_readings (
    id BIGINT IDENTITY(1, 1) NOT NULL PRIMARY KEY,
    sensor_id BIGINT NOT NULL REFERENCES dbo.sensors (id),
    value DECIMAL(15, 5) NOT NULL,
    [timestamp] DATETIME2(6) NOT NULL DEFAULT GETDATE()
);
CREATE TABLE dbo.sensor_readings_latest (
    sensor_id BIGINT NOT NULL PRIMARY KEY,
    latest_value DECIMAL(15, 5) NULL,
    latest_timestamp DATETIME2 NULL
);
CREATE TABLE dbo.alert_thresholds (
    id BIGINT IDENTITY(1, 1) NOT NULL PRIMARY KEY,
    sensor_id BIGINT NOT NULL REFERENCES dbo.sensors (id),
    name VARCHAR(255) NOT NULL,
    condition_type VARCHAR(50) NOT NULL,
    threshold_value_min DECIMAL(15, 5) NULL,
    threshold_value_max DECIMAL(15, 5) NULL,
    severity VARCHAR(50) NOT NULL DEFAULT 'warning',
    is_active BIT NOT NULL DEFAULT 1,
    created_at DATETIME2 NOT NULL DEFAULT GETDATE(),
    updated_at DATETIME2 NULL
);
CREATE TABLE dbo.alerts (
    id BIGINT IDENTITY(1, 1) NOT NULL PRIMARY KEY,
    threshold_id BIGINT NULL REFERENCES dbo.alert_thresholds (id),
    sensor_id BIGINT NOT NULL REFERENCES dbo.sensors (id),
    device_id BIGINT {NOT NULL} REFERENCES dbo.devices (id),
    severity VARCHAR(50) NOT NULL,
    status VARCHAR(50) NOT NULL DEFAULT 'active',
    triggered_value DECIMAL(15, 5) NOT NULL,
    triggered_at DATETIME2 NOT NULL,
    acknowledged_at DATETIME2 NULL,
    acknowledged_by BIGINT NULL,
    resolved_at DATETIME2 NULL,
    resolved_by BIGINT NULL
);
CREATE TABLE dbo.ml_models (
    id BIGINT IDENTITY(1, 1) NOT NULL PRIMARY KEY,
    sensor_id BIGINT {NOT NULL} REFERENCES dbo.sensors (id),
    model_name VARCHAR(255) NOT NULL,
    model_type VARCHAR(100) NOT NULL,
    version VARCHAR(50) NOT NULL,
    is_active BIT NOT NULL DEFAULT 0,
    trained_at DATETIME2 NOT NULL,
    accuracy DECIMAL(5, 4) NULL,
    metadata NVARCHAR(MAX) NULL
);
CREATE TABLE dbo.predictions (
    id BIGINT IDENTITY(1, 1) NOT NULL PRIMARY KEY,
    model_id BIGINT NOT NULL REFERENCES dbo.ml_models (id),
    sensor_id BIGINT NOT NULL REFERENCES dbo.sensors (id),
    device_id BIGINT {NOT NULL} REFERENCES dbo.devices (id),
    predicted_value DECIMAL(15, 5) NOT NULL,
    confidence DECIMAL(5, 4) NOT NULL,
    predicted_at DATETIME2 NOT NULL,
    target_timestamp DATETIME2 NOT NULL,
    is_anomaly INT NULL,
    anomaly_score FLOAT NULL,
    explanation NVARCHAR(1000) NULL
);
CREATE TABLE dbo.ml_events (
    id BIGINT IDENTITY(1, 1) NOT NULL PRIMARY KEY,
    device_id BIGINT {NOT NULL} REFERENCES dbo.devices (id),
    sensor_id BIGINT NULL REFERENCES dbo.sensors (id),
    prediction_id BIGINT NULL REFERENCES dbo.predictions (id),
    event_type VARCHAR(50) NOT NULL,
    event_code VARCHAR(100) NOT NULL,
    title NVARCHAR(255) NOT NULL,
    message NVARCHAR(1000) NULL,
    status VARCHAR(50) NOT NULL DEFAULT 'active',
    created_at DATETIME2 NOT NULL DEFAULT GETDATE(),
    payload NVARCHAR(MAX) NULL
);
CREATE TABLE dbo.alert_notifications (
    id BIGINT IDENTITY(1, 1) NOT NULL PRIMARY KEY,
    source VARCHAR(50) NOT NULL,
    source_event_id BIGINT {NOT NULL},
    severity VARCHAR(50) NOT NULL,
    title NVARCHAR(255) NOT NULL,
    message NVARCHAR(2000) NULL,
    is_read BIT NOT NULL DEFAULT 0,
    created_at DATETIME2 NOT NULL,
    read_at DATETIME2 NULL
);
GO
CREATE TRIGGER dbo.trg_check_threshold ON dbo.sensor_readings AFTER INSERT
AS
INSERT INTO dbo.alerts (threshold_id, sensor_id, device_id, severity, triggered_value, triggered_at)
SELECT t.id, i.sensor_id, s.device_id, t.severity, i.value, i.[timestamp]
FROM inserted AS i
JOIN dbo.sensors AS s ON s.id = i.sensor_id
JOIN dbo.alert_thresholds AS t ON t.sensor_id = i.sensor_id
WHERE i.value > t.threshold_value_max;
GO
CREATE TRIGGER dbo.trg_last_connection ON dbo.sensor_readings AFTER INSERT
AS
UPDATE d SET last_connection = GETDATE() FROM dbo.devices AS d
WHERE d.id IN (SELECT s.device_id FROM inserted AS i JOIN dbo.sensors AS s ON s.id = i.sensor_id);
GO
CREATE PROCEDURE dbo.sp_insert_reading_and_check_threshold @p_sensor_id BIGINT, @p_value DECIMAL(15, 5)
AS
INSERT INTO dbo.sensor_readings (sensor_id, value) VALUES (@p_sensor_id, @p_value);
GO
INSERT INTO dbo.devices (device_uuid, name, device_type, status)
VALUES ('AAAAAAAA-0000-0000-0000-000000000001', 'Pump house', 'gateway', 'online');
INSERT INTO dbo.sensors (device_id, sensor_uuid, sensor_type, name, unit)
VALUES (1, 'AAAAAAAA-0000-0000-0000-000000000101', 'pressure', 'Inlet', 'bar'),
    (1, 'AAAAAAAA-0000-0000-0000-000000000102', 'temperature', 'Bearing', 'C');
INSERT INTO dbo.alert_thresholds (sensor_id, name, condition_type, threshold_value_min, threshold_value_max, severity)
VALUES (1, 'usual', 'out_of_range', 10, 20, 'warning'), (1, 'burst', 'out_of_range', 0, 30.5, 'critical'),
    (2, 'hot', 'greater_than', 90, NULL, 'critical');
INSERT INTO dbo.sensor_readings (sensor_id, value, [timestamp])
VALUES (1, 12.34567, '2025-11-02T10:00:00.123456'), (1, 35, '2025-11-02T10:00:01'), (2, 60, '2025-11-02T10:00:02');
INSERT INTO dbo.ml_models (sensor_id, model_name, model_type, version, is_active, trained_at)
VALUES (1, 'baseline', 'moving_average', '1.0', 1, '2025-11-01'), (1, 'baseline', 'moving_average', '1.0', 0, '2025-10-01');
INSERT INTO dbo.predictions (
    model_id, sensor_id, device_id, predicted_value, confidence, predicted_at, target_timestamp, is_anomaly, anomaly_score
)
VALUES (1, 1, 1, 13, 0.9, '2025-11-02T10:00:03', '2025-11-02T10:05:00', 1, 0.8),
    (1, 1, 1, 13, 0.9, '2025-11-02T10:00:03', '2025-11-02T10:05:00', 0, NULL);
INSERT INTO dbo.ml_events (device_id, sensor_id, prediction_id, event_type, event_code, title, created_at, payload)
VALUES (1, 1, 1, 'critical', 'PRED_THRESHOLD_BREACH', N'Predicción', '2025-11-02T10:00:04', N'{}'),
    (1, 2, NULL, 'warning', 'DELTA_SPIKE', N'Cambio', '2025-11-02T10:00:05', N'{}');
INSERT INTO dbo.alert_notifications (source, source_event_id, severity, title, created_at)
VALUES ('ml_event', 1, 'critical', N'Predicción', '2025-11-02T10:00:04'), ('alert', 1, 'warning', N'Umbral', '2025-11-02');
GO
