-- streamproc_delete_old of 0018 once more, which looks for a sensor's last event by the index. There it read, for each old event
-- that notifications keep, all before it: of a sensor with many a call grew with their square, beyond the time it may take.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

IF OBJECT_ID(N'dbo.streamproc_delete_old', N'P') IS NULL
EXEC (N'CREATE PROCEDURE dbo.streamproc_delete_old AS RETURN 0');
GO

-- EXEC dbo.streamproc_delete_old @p_readings_before = '2025-01-01', @p_notifications_before = '2025-06-01';
-- NULL, or a parameter left out, keeps all. @p_max_batches bounds a call; call again while `unfinished` is 1: a call that
-- has not finished has deleted something. The result has one row: how many were deleted of each.
--
-- What is referred to goes after what refers to it: notifications, then alerts and events, then predictions. Active and
-- acknowledged events and alerts stay, with their notifications; so do the last event of each sensor, which tells its state,
-- and the last line of each entry in the audit, which tells its version. A change of severity that another program has
-- acknowledged stands until its sensor's next one: nobody else ends it.
--
-- Tables but the windows are walked through by id, from the oldest: there is no index on the times of readings and
-- predictions, which would cost the sink more than this saves. The walk ends at the first stretch of rows none of which is
-- old; rows that were added late wait until those around them are old, too. A stretch is so many rows, and not ids: behind a
-- young one most may have been deleted, and it would be alone in its stretch for ever.
ALTER PROCEDURE dbo.streamproc_delete_old
    @p_readings_before DATETIME2(6) = NULL,
    @p_windows_before DATETIME2(6) = NULL,
    @p_predictions_before DATETIME2(6) = NULL,
    @p_batch_rows INT = 4000,
    @p_max_batches INT = 1000,
    @p_events_before DATETIME2(6) = NULL,
    @p_notifications_before DATETIME2(6) = NULL,
    @p_alerts_before DATETIME2(6) = NULL,
    @p_audit_before DATETIME2(6) = NULL
AS
BEGIN
    SET NOCOUNT ON;
    -- Whoever writes goes on, and this is called again.
    SET DEADLOCK_PRIORITY LOW;
    IF @@TRANCOUNT > 0 THROW 50012, N'call streamproc_delete_old outside of a transaction: it would keep every lock', 1;
    IF @p_batch_rows IS NULL OR @p_batch_rows NOT BETWEEN 1 AND 4000 SET @p_batch_rows = 4000;
    IF @p_max_batches IS NULL OR @p_max_batches < 1 SET @p_max_batches = 1000;

    DECLARE @readings BIGINT = 0, @windows BIGINT = 0, @predictions BIGINT = 0, @events BIGINT = 0;
    DECLARE @notifications BIGINT = 0, @alerts BIGINT = 0, @audit BIGINT = 0, @batches INT = 0;
    DECLARE @from BIGINT, @upto BIGINT, @rows INT, @going INT;

    SET @from = CASE WHEN @p_notifications_before IS NOT NULL THEN (SELECT MIN(id) FROM dbo.alert_notifications) END;
    WHILE @from IS NOT NULL AND @batches < @p_max_batches
    BEGIN
        SET @upto = (
            SELECT MAX(s.id)
            FROM (SELECT TOP (@p_batch_rows) id FROM dbo.alert_notifications WHERE id >= @from ORDER BY id) AS s
        );
        SET @going = (
            SELECT COUNT(*) FROM dbo.alert_notifications
            WHERE id >= @from AND id <= @upto AND created_at < @p_notifications_before
        );
        DELETE n
        FROM dbo.alert_notifications AS n
        WHERE n.id >= @from AND n.id <= @upto AND n.created_at < @p_notifications_before
            AND NOT EXISTS (
                SELECT 1 FROM dbo.ml_events AS e
                WHERE e.event_id = n.event_id
                    AND (
                        e.status = N'active'
                        OR e.status = N'acknowledged' AND (
                            e.event_type <> N'severity_change'
                            OR e.id = (
                                SELECT TOP (1) l.id FROM dbo.ml_events AS l
                                WHERE l.sensor_id = e.sensor_id
                                    AND l.event_type = N'severity_change' AND l.status <> N'superseded'
                                ORDER BY l.created_at DESC, l.id DESC
                            )
                        )
                    )
            )
            AND NOT EXISTS (
                SELECT 1 FROM dbo.ml_events AS e
                WHERE n.source = N'ml_event' AND e.id = n.source_event_id
                    AND (
                        e.status = N'active'
                        OR e.status = N'acknowledged' AND (
                            e.event_type <> N'severity_change'
                            OR e.id = (
                                SELECT TOP (1) l.id FROM dbo.ml_events AS l
                                WHERE l.sensor_id = e.sensor_id
                                    AND l.event_type = N'severity_change' AND l.status <> N'superseded'
                                ORDER BY l.created_at DESC, l.id DESC
                            )
                        )
                    )
            )
            AND NOT EXISTS (
                SELECT 1 FROM dbo.alerts AS a
                WHERE n.source <> N'ml_event' AND a.id = n.source_event_id AND a.status IN (N'active', N'acknowledged')
            );
        SELECT @rows = @@ROWCOUNT;
        SELECT @notifications = @notifications + @rows, @batches = @batches + SIGN(@rows);
        SET @from = CASE WHEN @going > 0
            THEN (SELECT MIN(id) FROM dbo.alert_notifications WHERE id > @upto) END;
    END;

    SET @from = CASE WHEN @p_alerts_before IS NOT NULL THEN (SELECT MIN(id) FROM dbo.alerts) END;
    WHILE @from IS NOT NULL AND @batches < @p_max_batches
    BEGIN
        SET @upto = (
            SELECT MAX(s.id) FROM (SELECT TOP (@p_batch_rows) id FROM dbo.alerts WHERE id >= @from ORDER BY id) AS s
        );
        SET @going = (
            SELECT COUNT(*) FROM dbo.alerts
            WHERE id >= @from AND id <= @upto AND COALESCE(resolved_at, triggered_at) < @p_alerts_before
        );
        DELETE a
        FROM dbo.alerts AS a
        WHERE a.id >= @from AND a.id <= @upto
            AND COALESCE(a.resolved_at, a.triggered_at) < @p_alerts_before
            AND a.status = N'resolved'
            AND NOT EXISTS (
                SELECT 1 FROM dbo.alert_notifications AS n WHERE n.source_event_id = a.id AND n.source <> N'ml_event'
            );
        SELECT @rows = @@ROWCOUNT;
        SELECT @alerts = @alerts + @rows, @batches = @batches + SIGN(@rows);
        SET @from = CASE WHEN @going > 0 THEN (SELECT MIN(id) FROM dbo.alerts WHERE id > @upto) END;
    END;

    SET @from = CASE WHEN @p_events_before IS NOT NULL THEN (SELECT MIN(id) FROM dbo.ml_events) END;
    WHILE @from IS NOT NULL AND @batches < @p_max_batches
    BEGIN
        SET @upto = (
            SELECT MAX(s.id) FROM (SELECT TOP (@p_batch_rows) id FROM dbo.ml_events WHERE id >= @from ORDER BY id) AS s
        );
        SET @going = (
            SELECT COUNT(*) FROM dbo.ml_events
            WHERE id >= @from AND id <= @upto AND created_at < @p_events_before
        );
        DELETE e
        FROM dbo.ml_events AS e
        WHERE e.id >= @from AND e.id <= @upto AND e.created_at < @p_events_before
            AND (
                e.status = N'superseded'
                OR e.status = N'resolved' AND e.event_type <> N'severity_change'
                OR e.status IN (N'resolved', N'acknowledged') AND e.event_type = N'severity_change'
                AND e.id <> (
                    SELECT TOP (1) l.id FROM dbo.ml_events AS l
                    WHERE l.sensor_id = e.sensor_id AND l.event_type = N'severity_change' AND l.status <> N'superseded'
                    ORDER BY l.created_at DESC, l.id DESC
                )
            )
            AND NOT EXISTS (SELECT 1 FROM dbo.alert_notifications AS n WHERE n.event_id = e.event_id)
            AND NOT EXISTS (
                SELECT 1 FROM dbo.alert_notifications AS n WHERE n.source_event_id = e.id AND n.source = N'ml_event'
            );
        SELECT @rows = @@ROWCOUNT;
        SELECT @events = @events + @rows, @batches = @batches + SIGN(@rows);
        SET @from = CASE WHEN @going > 0 THEN (SELECT MIN(id) FROM dbo.ml_events WHERE id > @upto) END;
    END;

    SET @from = CASE WHEN @p_predictions_before IS NOT NULL THEN (SELECT MIN(id) FROM dbo.predictions) END;
    WHILE @from IS NOT NULL AND @batches < @p_max_batches
    BEGIN
        SET @upto = (
            SELECT MAX(s.id) FROM (SELECT TOP (@p_batch_rows) id FROM dbo.predictions WHERE id >= @from ORDER BY id) AS s
        );
        SET @going = (
            SELECT COUNT(*) FROM dbo.predictions
            WHERE id >= @from AND id <= @upto AND predicted_at < @p_predictions_before
        );
        DELETE p
        FROM dbo.predictions AS p
        WHERE p.id >= @from AND p.id <= @upto AND p.predicted_at < @p_predictions_before
            AND NOT EXISTS (SELECT 1 FROM dbo.ml_events AS e WHERE e.prediction_id = p.id);
        SELECT @rows = @@ROWCOUNT;
        SELECT @predictions = @predictions + @rows, @batches = @batches + SIGN(@rows);
        SET @from = CASE WHEN @going > 0
            THEN (SELECT MIN(id) FROM dbo.predictions WHERE id > @upto) END;
    END;

    SET @rows = CASE WHEN @p_windows_before IS NOT NULL THEN 1 ELSE 0 END;
    WHILE @rows > 0 AND @batches < @p_max_batches
    BEGIN
        DELETE TOP (@p_batch_rows) FROM dbo.sensor_windows WHERE window_start < @p_windows_before;
        SELECT @rows = @@ROWCOUNT;
        SELECT @windows = @windows + @rows, @batches = @batches + SIGN(@rows);
    END;

    SET @from = CASE WHEN @p_readings_before IS NOT NULL THEN (SELECT MIN(id) FROM dbo.sensor_readings) END;
    WHILE @from IS NOT NULL AND @batches < @p_max_batches
    BEGIN
        SET @upto = (
            SELECT MAX(s.id) FROM (SELECT TOP (@p_batch_rows) id FROM dbo.sensor_readings WHERE id >= @from ORDER BY id) AS s
        );
        DELETE FROM dbo.sensor_readings
        WHERE id >= @from AND id <= @upto AND [timestamp] < @p_readings_before;
        SELECT @rows = @@ROWCOUNT;
        SELECT @readings = @readings + @rows, @batches = @batches + SIGN(@rows);
        SET @from = CASE WHEN @rows > 0
            THEN (SELECT MIN(id) FROM dbo.sensor_readings WHERE id > @upto) END;
    END;

    SET @from = CASE WHEN @p_audit_before IS NOT NULL THEN (SELECT MIN(id) FROM dbo.registry_audit) END;
    WHILE @from IS NOT NULL AND @batches < @p_max_batches
    BEGIN
        SET @upto = (
            SELECT MAX(s.id) FROM (SELECT TOP (@p_batch_rows) id FROM dbo.registry_audit WHERE id >= @from ORDER BY id) AS s
        );
        SET @going = (
            SELECT COUNT(*) FROM dbo.registry_audit
            WHERE id >= @from AND id <= @upto AND at < @p_audit_before
        );
        DELETE a
        FROM dbo.registry_audit AS a
        WHERE a.id >= @from AND a.id <= @upto AND a.at < @p_audit_before
            AND EXISTS (
                SELECT 1 FROM dbo.registry_audit AS l
                WHERE l.kind = a.kind AND l.name = a.name
                    AND (l.version > a.version OR l.version = a.version AND l.id > a.id)
            );
        SELECT @rows = @@ROWCOUNT;
        SELECT @audit = @audit + @rows, @batches = @batches + SIGN(@rows);
        SET @from = CASE WHEN @going > 0
            THEN (SELECT MIN(id) FROM dbo.registry_audit WHERE id > @upto) END;
    END;

    SELECT
        @readings AS readings,
        @predictions AS predictions,
        @windows AS windows,
        @events AS events,
        @notifications AS notifications,
        @alerts AS alerts,
        @audit AS audit,
        CAST(CASE WHEN @batches < @p_max_batches THEN 0 ELSE 1 END AS BIT) AS unfinished;
END;
GO
