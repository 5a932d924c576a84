-- The limits of readings that did not come from the stream. The engine judges what the sink writes (rows with a
-- kafka_partition); the trigger judges the rest: those of the procedures below, and of programs that insert by themselves.
-- The procedures only insert, so that each reading is judged once, whoever writes it.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

-- The trigger of the reference system would raise the same alerts again: what is on the readings and speaks of alerts is
-- switched off, not dropped. One whose text is encrypted cannot be asked, and is taken for such.
DECLARE @disabled NVARCHAR(MAX) = N'';
SELECT @disabled = @disabled + N'ALTER TABLE dbo.sensor_readings DISABLE TRIGGER ' + QUOTENAME(t.name) + N'; '
FROM sys.triggers AS t
LEFT JOIN sys.sql_modules AS m ON m.object_id = t.object_id
WHERE t.parent_id = OBJECT_ID(N'dbo.sensor_readings')
    AND t.is_disabled = 0
    AND t.name <> N'trg_sensor_readings_judge'
    AND (m.definition IS NULL OR m.definition LIKE N'%alert%');
EXEC sys.sp_executesql @disabled;
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

IF OBJECT_ID(N'dbo.trg_sensor_readings_judge', N'TR') IS NOT NULL DROP TRIGGER dbo.trg_sensor_readings_judge;
GO

CREATE TRIGGER dbo.trg_sensor_readings_judge ON dbo.sensor_readings
AFTER INSERT
AS
BEGIN
    SET NOCOUNT ON;
    IF NOT EXISTS (SELECT 1 FROM inserted) RETURN;

    DECLARE @now DATETIME2(6) = SYSUTCDATETIME();

    -- One row for each sensor: its newest reading of this statement.
    DECLARE @newest TABLE (
        sensor_id BIGINT NOT NULL PRIMARY KEY,
        reading_id BIGINT NOT NULL,
        value FLOAT(53) NOT NULL,
        at DATETIME2(6) NOT NULL,
        is_first BIT NOT NULL DEFAULT 0
    );
    INSERT INTO @newest (sensor_id, reading_id, value, at)
    SELECT n.sensor_id, n.id, n.value, n.[timestamp]
    FROM (
        SELECT
            i.id,
            i.sensor_id,
            i.value,
            i.[timestamp],
            ROW_NUMBER() OVER (PARTITION BY i.sensor_id ORDER BY i.[timestamp] DESC, i.id DESC) AS place
        FROM inserted AS i
    ) AS n
    WHERE n.place = 1;

    -- Judge, unless all of it came from the stream. A sensor with neither a limit nor a standing alert costs one look.
    IF EXISTS (SELECT 1 FROM inserted WHERE kafka_partition IS NULL)
    AND (
        EXISTS (SELECT 1 FROM @newest AS n JOIN dbo.sensor_limits AS l ON l.sensor_id = n.sensor_id)
        OR EXISTS (SELECT 1 FROM @newest AS n JOIN dbo.alerts AS a ON a.sensor_id = n.sensor_id WHERE a.status <> N'resolved')
    )
    BEGIN
        -- The gravest limit that each reading breaks. A value inside the user's WARNING range breaks none.
        DECLARE @broken TABLE (
            reading_id BIGINT NOT NULL PRIMARY KEY,
            sensor_id BIGINT NOT NULL,
            value FLOAT(53) NOT NULL,
            at DATETIME2(6) NOT NULL,
            threshold_id BIGINT NULL,
            name NVARCHAR(255) NOT NULL,
            severity NVARCHAR(50) NOT NULL,
            place INT NOT NULL,
            device_id BIGINT NULL,
            sensor_name NVARCHAR(255) NOT NULL,
            unit NVARCHAR(50) NOT NULL,
            is_new BIT NOT NULL DEFAULT 0,
            alert_id BIGINT NULL
        );
        INSERT INTO @broken (
            reading_id, sensor_id, value, at, threshold_id, name, severity, place, device_id, sensor_name, unit
        )
        SELECT
            b.id,
            b.sensor_id,
            b.value,
            b.[timestamp],
            b.threshold_id,
            b.name,
            b.severity,
            ROW_NUMBER() OVER (PARTITION BY b.sensor_id, b.severity ORDER BY b.[timestamp] DESC, b.id DESC),
            b.device_id,
            b.sensor_name,
            b.unit
        FROM (
            SELECT
                i.id,
                i.sensor_id,
                i.value,
                i.[timestamp],
                l.threshold_id,
                l.name,
                l.severity,
                s.device_id,
                s.name AS sensor_name,
                s.unit,
                ROW_NUMBER() OVER (
                    PARTITION BY i.id
                    ORDER BY CASE l.severity WHEN N'critical' THEN 1 WHEN N'warning' THEN 2 ELSE 3 END, l.threshold_id
                ) AS gravest
            FROM inserted AS i
            JOIN dbo.sensor_limits AS l ON l.sensor_id = i.sensor_id
            JOIN dbo.sensors AS s ON s.id = i.sensor_id
            WHERE i.kafka_partition IS NULL
                AND (
                    l.condition_type = N'greater_than' AND i.value > l.low
                    OR l.condition_type = N'less_than' AND i.value < l.low
                    OR l.condition_type = N'equal_to' AND i.value = l.low
                    OR l.condition_type = N'out_of_range' AND (i.value < l.low OR i.value > l.high)
                )
                AND NOT EXISTS (
                    SELECT 1 FROM dbo.sensor_limits AS w
                    WHERE w.sensor_id = i.sensor_id AND w.severity = N'warning' AND w.condition_type = N'out_of_range'
                        AND (w.low IS NOT NULL OR w.high IS NOT NULL)
                        AND (w.low IS NULL OR i.value >= w.low) AND (w.high IS NULL OR i.value <= w.high)
                )
        ) AS b
        WHERE b.gravest = 1;

        -- One alert of a severity stands for a sensor at a time. The lock on the sensor's key, there or not, has a second
        -- writer wait here until the first has committed, and then find its alert.
        UPDATE b
        SET is_new = 1
        FROM @broken AS b
        WHERE b.place = 1
            AND NOT EXISTS (
                SELECT 1 FROM dbo.alerts AS a WITH (UPDLOCK, HOLDLOCK)
                WHERE a.sensor_id = b.sensor_id AND a.severity = b.severity
                    AND a.status IN (N'active', N'acknowledged')
            );

        -- One that stands already tells of the newest reading that broke its limit.
        UPDATE a
        SET triggered_value = b.value, triggered_at = b.at, threshold_id = b.threshold_id
        FROM dbo.alerts AS a
        JOIN @broken AS b ON b.sensor_id = a.sensor_id AND b.severity = a.severity AND b.place = 1 AND b.is_new = 0
        WHERE a.status IN (N'active', N'acknowledged');

        -- What a later reading of the same statement has ended is told all the same, as resolved.
        INSERT INTO dbo.alerts (
            threshold_id, sensor_id, device_id, severity, status, triggered_value, triggered_at, resolved_at
        )
        SELECT
            b.threshold_id,
            b.sensor_id,
            b.device_id,
            b.severity,
            CASE WHEN b.reading_id = n.reading_id THEN N'active' ELSE N'resolved' END,
            b.value,
            b.at,
            CASE WHEN b.reading_id = n.reading_id THEN NULL ELSE @now END
        FROM @broken AS b
        JOIN @newest AS n ON n.sensor_id = b.sensor_id
        WHERE b.is_new = 1;

        -- The alert just made is the last of its sensor and severity: nobody else can have made one since.
        UPDATE b
        SET alert_id = (SELECT MAX(a.id) FROM dbo.alerts AS a WHERE a.sensor_id = b.sensor_id AND a.severity = b.severity)
        FROM @broken AS b
        WHERE b.is_new = 1;

        INSERT INTO dbo.alert_notifications (
            source, source_event_id, sensor_id, device_id, severity, title, message, is_read, created_at, triggered_value,
            event_type
        )
        SELECT
            N'alert',
            b.alert_id,
            b.sensor_id,
            b.device_id,
            b.severity,
            LEFT(CONCAT(UPPER(b.severity), N': ', b.sensor_name, N' is out of its limits'), 255),
            CONCAT(N'The value ', b.value, N' ', b.unit, N' breaks the limit "', b.name, N'".'),
            0,
            @now,
            b.value,
            N'THRESHOLD_VIOLATION'
        FROM @broken AS b
        WHERE b.is_new = 1;

        -- What the sensor's newest reading does not break any more is over.
        UPDATE a
        SET status = N'resolved', resolved_at = @now
        FROM dbo.alerts AS a
        JOIN @newest AS n ON n.sensor_id = a.sensor_id
        WHERE a.status IN (N'active', N'acknowledged')
            AND EXISTS (SELECT 1 FROM inserted AS i WHERE i.id = n.reading_id AND i.kafka_partition IS NULL)
            AND NOT EXISTS (
                SELECT 1 FROM @broken AS b WHERE b.reading_id = n.reading_id AND b.severity = a.severity
            );
    END;

    -- The newest of each sensor, of the stream's as well: dashboards of the reference system look here.
    UPDATE l
    SET latest_value = n.value, latest_timestamp = n.at
    FROM dbo.sensor_readings_latest AS l
    JOIN @newest AS n ON n.sensor_id = l.sensor_id
    WHERE l.latest_timestamp IS NULL OR l.latest_timestamp <= n.at;

    UPDATE n
    SET is_first = 1
    FROM @newest AS n
    WHERE NOT EXISTS (
        SELECT 1 FROM dbo.sensor_readings_latest AS l WITH (UPDLOCK, HOLDLOCK) WHERE l.sensor_id = n.sensor_id
    );

    INSERT INTO dbo.sensor_readings_latest (sensor_id, latest_value, latest_timestamp)
    SELECT n.sensor_id, n.value, n.at
    FROM @newest AS n
    WHERE n.is_first = 1;
END;
GO

-- ALTER, not DROP and CREATE: what other programs were granted on a procedure stays.
IF OBJECT_ID(N'dbo.sp_insert_reading_and_check_threshold', N'P') IS NULL
EXEC (N'CREATE PROCEDURE dbo.sp_insert_reading_and_check_threshold AS RETURN 0');
GO

ALTER PROCEDURE dbo.sp_insert_reading_and_check_threshold
    @p_sensor_id BIGINT,
    @p_value FLOAT(53),
    @p_device_timestamp DATETIME2(6) = NULL
AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @now DATETIME2(6) = SYSUTCDATETIME();
    INSERT INTO dbo.sensor_readings (sensor_id, value, device_timestamp, [timestamp])
    VALUES (@p_sensor_id, @p_value, COALESCE(@p_device_timestamp, @now), @now);
END;
GO

IF OBJECT_ID(N'dbo.sp_insert_readings_bulk_json_and_check_threshold', N'P') IS NULL
EXEC (N'CREATE PROCEDURE dbo.sp_insert_readings_bulk_json_and_check_threshold AS RETURN 0');
GO

-- A JSON array of {"sensor_id", "value", "device_timestamp"?}, the time as ISO 8601, in UTC or with its offset. All of it is
-- inserted or, with an error, nothing.
ALTER PROCEDURE dbo.sp_insert_readings_bulk_json_and_check_threshold
    @p_readings_json NVARCHAR(MAX)
AS
BEGIN
    SET NOCOUNT ON;
    IF ISJSON(@p_readings_json) <> 1 THROW 50011, N'@p_readings_json is not a JSON array of readings', 1;
    DECLARE @now DATETIME2(6) = SYSUTCDATETIME();
    INSERT INTO dbo.sensor_readings (sensor_id, value, device_timestamp, [timestamp])
    SELECT
        r.sensor_id,
        r.value,
        COALESCE(
            CONVERT(DATETIME2(6), SWITCHOFFSET(CONVERT(DATETIMEOFFSET(6), r.device_timestamp), N'+00:00')), @now
        ),
        @now
    FROM OPENJSON(@p_readings_json) WITH (
        sensor_id BIGINT '$.sensor_id',
        value FLOAT(53) '$.value',
        device_timestamp NVARCHAR(40) '$.device_timestamp'
    ) AS r;
END;
GO
