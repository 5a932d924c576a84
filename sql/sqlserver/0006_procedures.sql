-- The procedures that other programs call to insert readings, and one to delete old rows.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
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
            CONVERT(DATETIME2(6), SWITCHOFFSET(CONVERT(DATETIMEOFFSET(6), r.device_timestamp), '+00:00')), @now
        ),
        @now
    FROM OPENJSON(@p_readings_json) WITH (
        sensor_id BIGINT '$.sensor_id',
        value FLOAT(53) '$.value',
        device_timestamp NVARCHAR(40) '$.device_timestamp'
    ) AS r;
END;
GO

IF OBJECT_ID(N'dbo.streamproc_set_latest', N'P') IS NULL
EXEC (N'CREATE PROCEDURE dbo.streamproc_set_latest AS RETURN 0');
GO

-- The newest reading of each sensor of a batch, for those who look into sensor_readings_latest: a JSON array of arrays
-- [sensor_id, value, "timestamp"], one for a sensor, in UTC. A newer one that is there stays.
ALTER PROCEDURE dbo.streamproc_set_latest
    @p_latest_json NVARCHAR(MAX)
AS
BEGIN
    SET NOCOUNT ON;
    UPDATE l
    SET latest_value = n.value, latest_timestamp = n.at
    FROM dbo.sensor_readings_latest AS l
    JOIN OPENJSON(@p_latest_json) WITH (
        sensor_id BIGINT '$[0]',
        value FLOAT(53) '$[1]',
        at DATETIME2(6) '$[2]'
    ) AS n ON n.sensor_id = l.sensor_id
    WHERE l.latest_timestamp IS NULL OR l.latest_timestamp <= n.at;

    INSERT INTO dbo.sensor_readings_latest (sensor_id, latest_value, latest_timestamp)
    SELECT n.sensor_id, n.value, n.at
    FROM OPENJSON(@p_latest_json) WITH (
        sensor_id BIGINT '$[0]',
        value FLOAT(53) '$[1]',
        at DATETIME2(6) '$[2]'
    ) AS n
    WHERE NOT EXISTS (
        SELECT 1 FROM dbo.sensor_readings_latest AS l WITH (UPDLOCK, HOLDLOCK) WHERE l.sensor_id = n.sensor_id
    );
END;
GO

-- Old rows away, a few at a time: each batch is a transaction of its own and locks fewer than the 5,000 rows at which SQL
-- Server would lock the table. Nothing calls it: whoever wants it has a job do so, at an hour of their own.
IF OBJECT_ID(N'dbo.streamproc_delete_old', N'P') IS NULL
EXEC (N'CREATE PROCEDURE dbo.streamproc_delete_old AS RETURN 0');
GO

-- EXEC dbo.streamproc_delete_old @p_readings_before = '2025-01-01', @p_windows_before = NULL, @p_predictions_before = NULL;
-- NULL keeps all. @p_max_batches bounds a call; call again for the rest. Predictions that an event refers to stay. The
-- result has one row: how many were deleted of each, and whether old rows may be left.
--
-- Readings and predictions are walked through by id, from the oldest: there is no index on their times, which would cost the
-- sink more than this saves. The walk ends at the first stretch of ids that has rows and none of them old; rows that were
-- added late wait until those around them are old, too.
ALTER PROCEDURE dbo.streamproc_delete_old
    @p_readings_before DATETIME2(6) = NULL,
    @p_windows_before DATETIME2(6) = NULL,
    @p_predictions_before DATETIME2(6) = NULL,
    @p_batch_rows INT = 4000,
    @p_max_batches INT = 1000
AS
BEGIN
    SET NOCOUNT ON;
    IF @@TRANCOUNT > 0 THROW 50012, N'call streamproc_delete_old outside of a transaction: it would keep every lock', 1;
    IF @p_batch_rows IS NULL OR @p_batch_rows NOT BETWEEN 1 AND 4000 SET @p_batch_rows = 4000;

    DECLARE @readings BIGINT = 0, @windows BIGINT = 0, @predictions BIGINT = 0, @batches INT = 0;
    DECLARE @from BIGINT, @rows INT, @going INT;

    SET @from = CASE WHEN @p_readings_before IS NOT NULL THEN (SELECT MIN(id) FROM dbo.sensor_readings) END;
    WHILE @from IS NOT NULL AND @batches < @p_max_batches
    BEGIN
        DELETE FROM dbo.sensor_readings
        WHERE id >= @from AND id < @from + @p_batch_rows AND [timestamp] < @p_readings_before;
        SELECT @rows = @@ROWCOUNT, @batches = @batches + 1;
        SET @readings = @readings + @rows;
        SET @from = CASE WHEN @rows > 0
            THEN (SELECT MIN(id) FROM dbo.sensor_readings WHERE id >= @from + @p_batch_rows) END;
    END;

    SET @from = CASE WHEN @p_predictions_before IS NOT NULL THEN (SELECT MIN(id) FROM dbo.predictions) END;
    WHILE @from IS NOT NULL AND @batches < @p_max_batches
    BEGIN
        SET @going = (
            SELECT COUNT(*) FROM dbo.predictions
            WHERE id >= @from AND id < @from + @p_batch_rows AND predicted_at < @p_predictions_before
        );
        DELETE p
        FROM dbo.predictions AS p
        WHERE p.id >= @from AND p.id < @from + @p_batch_rows AND p.predicted_at < @p_predictions_before
            AND NOT EXISTS (SELECT 1 FROM dbo.ml_events AS e WHERE e.prediction_id = p.id);
        SELECT @rows = @@ROWCOUNT, @batches = @batches + 1;
        SET @predictions = @predictions + @rows;
        SET @from = CASE WHEN @going > 0
            THEN (SELECT MIN(id) FROM dbo.predictions WHERE id >= @from + @p_batch_rows) END;
    END;

    SET @rows = CASE WHEN @p_windows_before IS NOT NULL THEN 1 ELSE 0 END;
    WHILE @rows > 0 AND @batches < @p_max_batches
    BEGIN
        DELETE TOP (@p_batch_rows) FROM dbo.sensor_windows WHERE window_start < @p_windows_before;
        SELECT @rows = @@ROWCOUNT, @batches = @batches + 1;
        SET @windows = @windows + @rows;
    END;

    SELECT
        @readings AS readings,
        @predictions AS predictions,
        @windows AS windows,
        CAST(CASE WHEN @batches < @p_max_batches THEN 0 ELSE 1 END AS BIT) AS unfinished;
END;
GO
