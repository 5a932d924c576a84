-- What the registry has beside names and ranges, keys of devices, and who has changed what. Columns are added, no row is
-- changed: a sensor is in the registry while it is_active, a device unless its status is removed.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

-- Clear levels are where values count as calm again after a breach; rules is a JSON array of what else a sensor is judged by.
IF COL_LENGTH(N'dbo.sensors', N'site') IS NULL ALTER TABLE dbo.sensors ADD site NVARCHAR(128) NULL;
IF COL_LENGTH(N'dbo.sensors', N'tenant') IS NULL ALTER TABLE dbo.sensors ADD tenant NVARCHAR(128) NULL;
IF COL_LENGTH(N'dbo.sensors', N'warning_clear_low') IS NULL ALTER TABLE dbo.sensors ADD warning_clear_low FLOAT(53) NULL;
IF COL_LENGTH(N'dbo.sensors', N'warning_clear_high') IS NULL ALTER TABLE dbo.sensors ADD warning_clear_high FLOAT(53) NULL;
IF COL_LENGTH(N'dbo.sensors', N'critical_clear_low') IS NULL ALTER TABLE dbo.sensors ADD critical_clear_low FLOAT(53) NULL;
IF COL_LENGTH(N'dbo.sensors', N'critical_clear_high') IS NULL
ALTER TABLE dbo.sensors ADD critical_clear_high FLOAT(53) NULL;
IF COL_LENGTH(N'dbo.sensors', N'rules') IS NULL ALTER TABLE dbo.sensors ADD rules NVARCHAR(MAX) NULL;
GO

-- status is disabled of a device from which nothing is taken, removed of one that has left the registry. Programs of the
-- reference system have other words for one that may write, and those stay.
IF COL_LENGTH(N'dbo.devices', N'site') IS NULL ALTER TABLE dbo.devices ADD site NVARCHAR(128) NULL;
IF COL_LENGTH(N'dbo.devices', N'tenant') IS NULL ALTER TABLE dbo.devices ADD tenant NVARCHAR(128) NULL;
IF COL_LENGTH(N'dbo.devices', N'version') IS NULL
ALTER TABLE dbo.devices ADD version INT NOT NULL CONSTRAINT DF_devices_version DEFAULT 1;
GO

-- A check of another program's on a device's status knows nothing of these words: it is switched off, not dropped.
DECLARE @unchecked NVARCHAR(MAX);
SELECT @unchecked = STRING_AGG(
    CAST(N'ALTER TABLE dbo.' + QUOTENAME(OBJECT_NAME(k.parent_object_id))
        + N' NOCHECK CONSTRAINT ' + QUOTENAME(k.name) AS NVARCHAR(MAX)), N'; '
)
FROM sys.check_constraints AS k
WHERE k.is_disabled = 0
    AND CASE WHEN k.parent_object_id = OBJECT_ID(N'dbo.devices') THEN k.[definition] END LIKE N'%status%';
IF @unchecked IS NOT NULL EXEC sys.sp_executesql @unchecked;
GO

-- A key itself is nowhere: sha256 is that of its text, as 64 hexadecimal digits. A revoked key keeps its row.
IF OBJECT_ID(N'dbo.device_keys', N'U') IS NULL
CREATE TABLE dbo.device_keys (
    key_id NVARCHAR(32) COLLATE Latin1_General_100_BIN2 NOT NULL CONSTRAINT PK_device_keys PRIMARY KEY CLUSTERED,
    device_id BIGINT NOT NULL CONSTRAINT FK_device_keys_devices REFERENCES dbo.devices (id),
    sha256 NVARCHAR(64) COLLATE Latin1_General_100_BIN2 NOT NULL CONSTRAINT UQ_device_keys_sha256 UNIQUE,
    created_at DATETIME2(6) NOT NULL CONSTRAINT DF_device_keys_created_at DEFAULT SYSUTCDATETIME(),
    expires_at DATETIME2(6) NULL,
    revoked_at DATETIME2(6) NULL,
    created_by NVARCHAR(128) NOT NULL CONSTRAINT DF_device_keys_created_by DEFAULT N''
);
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.device_keys') AND name LIKE N'IX[_]device[_]keys[_]device%'
)
CREATE NONCLUSTERED INDEX IX_device_keys_device ON dbo.device_keys (device_id);
GO

-- Who has changed what: written in the transaction of the change, never changed. kind is sensor or device, before and after are
-- the entries as JSON, without keys' hashes; version is the one that the entry has after the change.
IF OBJECT_ID(N'dbo.registry_audit', N'U') IS NULL
CREATE TABLE dbo.registry_audit (
    id BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT PK_registry_audit PRIMARY KEY CLUSTERED,
    at DATETIME2(6) NOT NULL CONSTRAINT DF_registry_audit_at DEFAULT SYSUTCDATETIME(),
    actor NVARCHAR(128) NOT NULL,
    action NVARCHAR(20) NOT NULL,
    kind NVARCHAR(10) NOT NULL CONSTRAINT CK_registry_audit_kind CHECK (kind IN (N'sensor', N'device')),
    name NVARCHAR(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    version INT NOT NULL,
    [before] NVARCHAR(MAX) NULL,
    [after] NVARCHAR(MAX) NULL
);
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.registry_audit') AND name LIKE N'IX[_]registry[_]audit[_]of%'
)
CREATE NONCLUSTERED INDEX IX_registry_audit_of ON dbo.registry_audit (kind, name, version);
GO

-- Keys' hashes are for those alone who bring the registry to the topic: streamproc_reader has none of them.
GRANT SELECT, INSERT, UPDATE ON dbo.device_keys TO streamproc_writer;
GRANT SELECT, INSERT ON dbo.registry_audit TO streamproc_writer;
GRANT SELECT ON dbo.registry_audit TO streamproc_reader;
GO
