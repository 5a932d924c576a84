-- The limits of readings, and the end of those who judged by them before.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

-- The trigger of the reference system would raise the same alerts again: what is on the readings and speaks of alerts is
-- switched off, not dropped. One whose text is encrypted cannot be asked, and is taken for such. The database's own collation
-- may tell Alert and alert apart, hence the other one.
DECLARE @disabled NVARCHAR(MAX);
SELECT @disabled = STRING_AGG(
    CAST(N'ALTER TABLE dbo.sensor_readings DISABLE TRIGGER ' + QUOTENAME(t.name) AS NVARCHAR(MAX)), N'; '
)
FROM sys.triggers AS t
LEFT JOIN sys.sql_modules AS m ON m.object_id = t.object_id
WHERE t.parent_id = OBJECT_ID(N'dbo.sensor_readings')
    AND t.is_disabled = 0
    AND t.name <> N'trg_sensor_readings_judge'
    AND (m.[definition] IS NULL OR m.[definition] COLLATE Latin1_General_CI_AS LIKE N'%alert%');
IF @disabled IS NOT NULL EXEC sys.sp_executesql @disabled;
GO

IF OBJECT_ID(N'dbo.sensor_limits', N'V') IS NOT NULL DROP VIEW dbo.sensor_limits;
GO

-- Every limit that holds: those in alert_thresholds, and of a sensor that has none there, the registry's ranges.
CREATE VIEW dbo.sensor_limits
AS
SELECT
    t.sensor_id,
    t.id AS threshold_id,
    CAST(t.name AS NVARCHAR(255)) AS name,
    CAST(t.condition_type AS NVARCHAR(50)) AS condition_type,
    CAST(t.threshold_value_min AS FLOAT(53)) AS low,
    CAST(t.threshold_value_max AS FLOAT(53)) AS high,
    CAST(t.severity AS NVARCHAR(50)) AS severity
FROM dbo.alert_thresholds AS t
WHERE t.is_active = 1
UNION ALL
SELECT s.id, NULL, N'critical range', N'out_of_range', s.critical_low, s.critical_high, N'critical'
FROM dbo.sensors AS s
WHERE (s.critical_low IS NOT NULL OR s.critical_high IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM dbo.alert_thresholds AS t WHERE t.sensor_id = s.id AND t.is_active = 1)
UNION ALL
SELECT s.id, NULL, N'warning range', N'out_of_range', s.warning_low, s.warning_high, N'warning'
FROM dbo.sensors AS s
WHERE (s.warning_low IS NOT NULL OR s.warning_high IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM dbo.alert_thresholds AS t WHERE t.sensor_id = s.id AND t.is_active = 1);
GO
