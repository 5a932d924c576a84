-- Alerts of what comes by the stream, for programs that look into `alerts`. The engine judges those readings, and the trigger
-- passes over them: without this nobody who looks there would see a limit broken.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

-- The change of severity in ml_events that an alert is of; the trigger's have none.
IF COL_LENGTH(N'dbo.alerts', N'event_id') IS NULL ALTER TABLE dbo.alerts ADD event_id NVARCHAR(64) NULL;
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.alerts') AND name LIKE N'IX[_]alerts[_]event%'
)
CREATE NONCLUSTERED INDEX IX_alerts_event ON dbo.alerts (event_id);
GO

IF OBJECT_ID(N'dbo.streamproc_set_alerts', N'P') IS NULL
EXEC (N'CREATE PROCEDURE dbo.streamproc_set_alerts AS RETURN 0');
GO

-- Have the alerts follow these changes of severity, a JSON array of arrays [event_id]. A change that a range has made raises an
-- alert of its severity; the sensor's next change to another severity ends it, and so does that a replay has withdrawn its
-- change. One that has been raised is not raised again; one that the trigger has raised stands for both, and ends as its own.
ALTER PROCEDURE dbo.streamproc_set_alerts
    @p_events_json NVARCHAR(MAX)
AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @now DATETIME2(6) = SYSUTCDATETIME();
    -- DECIMAL(15, 5) in a database of the reference system: the reading itself is refused there.
    DECLARE @most FLOAT(53) = CASE WHEN COL_LENGTH(N'dbo.alerts', N'triggered_value') = 8 THEN 1E308 ELSE 9999999999E0 END;

    UPDATE a
    SET status = N'resolved', resolved_at = COALESCE(next_one.at, @now)
    FROM dbo.alerts AS a
    JOIN dbo.ml_events AS e ON e.event_id = a.event_id
    OUTER APPLY (
        SELECT TOP (1) l.created_at AS at FROM dbo.ml_events AS l
        WHERE l.sensor_id = e.sensor_id AND l.created_at >= e.created_at
            AND l.event_type = N'severity_change' AND l.status <> N'superseded' AND l.severity <> e.severity
            AND (l.created_at > e.created_at OR l.id > e.id)
        ORDER BY l.created_at, l.id
    ) AS next_one
    WHERE a.status IN (N'active', N'acknowledged')
        AND (next_one.at IS NOT NULL OR e.status = N'superseded')
        AND a.sensor_id IN (
            SELECT s.sensor_id FROM dbo.ml_events AS s
            WHERE s.event_id IN (SELECT g.event_id FROM OPENJSON(@p_events_json) WITH (event_id NVARCHAR(64) '$[0]') AS g)
        );

    -- Of a sensor's changes the one that stands is active.
    UPDATE a
    SET event_id = e.event_id
    FROM dbo.alerts AS a
    JOIN dbo.ml_events AS e ON e.sensor_id = a.sensor_id
    WHERE a.status IN (N'active', N'acknowledged') AND a.event_id IS NULL
        AND a.severity = CASE e.severity WHEN N'CRITICAL' THEN N'critical' ELSE N'warning' END
        AND e.event_id IN (SELECT g.event_id FROM OPENJSON(@p_events_json) WITH (event_id NVARCHAR(64) '$[0]') AS g)
        AND e.event_type = N'severity_change' AND e.status = N'active'
        AND e.event_code IN (N'critical_range', N'warning_range');

    -- What is raised and over within a batch is told all the same, as resolved. Of one sensor and severity one stands.
    INSERT INTO dbo.alerts (
        threshold_id, sensor_id, device_id, severity, status, triggered_value, triggered_at, resolved_at, event_id
    )
    SELECT
        (
            SELECT MIN(t.threshold_id) FROM dbo.sensor_limits AS t
            WHERE t.sensor_id = r.sensor_id AND COALESCE(t.severity, N'warning') = r.severity
                AND (
                    t.condition_type = N'greater_than' AND r.value > t.low
                    OR t.condition_type = N'less_than' AND r.value < t.low
                    OR t.condition_type = N'out_of_range' AND (r.value < t.low OR r.value > t.high)
                )
        ),
        r.sensor_id,
        r.device_id,
        r.severity,
        CASE WHEN r.over_at IS NULL THEN N'active' ELSE N'resolved' END,
        r.value,
        r.created_at,
        r.over_at,
        r.event_id
    FROM (
        SELECT
            e.sensor_id,
            e.device_id,
            e.created_at,
            e.event_id,
            CASE e.severity WHEN N'CRITICAL' THEN N'critical' ELSE N'warning' END AS severity,
            next_one.at AS over_at,
            TRY_CAST(JSON_VALUE(e.payload, '$.value') AS FLOAT(53)) AS value,
            ROW_NUMBER() OVER (
                PARTITION BY e.sensor_id, e.severity, CASE WHEN next_one.at IS NULL THEN 1 ELSE 0 END
                ORDER BY e.created_at, e.id
            ) AS place
        FROM dbo.ml_events AS e
        OUTER APPLY (
            SELECT TOP (1) l.created_at AS at FROM dbo.ml_events AS l
            WHERE l.sensor_id = e.sensor_id AND l.created_at >= e.created_at
                AND l.event_type = N'severity_change' AND l.status <> N'superseded' AND l.severity <> e.severity
                AND (l.created_at > e.created_at OR l.id > e.id)
            ORDER BY l.created_at, l.id
        ) AS next_one
        WHERE e.event_id IN (SELECT g.event_id FROM OPENJSON(@p_events_json) WITH (event_id NVARCHAR(64) '$[0]') AS g)
            AND e.event_type = N'severity_change' AND e.status <> N'superseded' AND e.severity <> N'NORMAL'
            AND e.event_code IN (N'critical_range', N'warning_range')
            AND NOT EXISTS (SELECT 1 FROM dbo.alerts AS a WITH (UPDLOCK, HOLDLOCK) WHERE a.event_id = e.event_id)
    ) AS r
    WHERE ABS(r.value) <= @most
        AND (
            r.over_at IS NOT NULL
            OR r.place = 1 AND NOT EXISTS (
                SELECT 1 FROM dbo.alerts AS a WITH (UPDLOCK, HOLDLOCK)
                WHERE a.sensor_id = r.sensor_id AND a.severity = r.severity AND a.status IN (N'active', N'acknowledged')
            )
        );
END;
GO

IF OBJECT_ID(N'dbo.streamproc_set_latest', N'P') IS NULL
EXEC (N'CREATE PROCEDURE dbo.streamproc_set_latest AS RETURN 0');
GO

-- streamproc_set_latest of 0006: it now ends alerts that the trigger has raised as well, as the trigger does. Of a sensor
-- that came by procedures and comes by the stream nobody else would: the engine knows nothing of them.
--
-- The newest reading of each sensor of a batch: a JSON array of arrays [sensor_id, value, "timestamp"], one for a sensor, in
-- UTC. A newer one that is there stays.
ALTER PROCEDURE dbo.streamproc_set_latest
    @p_latest_json NVARCHAR(MAX)
AS
BEGIN
    SET NOCOUNT ON;

    UPDATE a
    SET status = N'resolved', resolved_at = SYSUTCDATETIME()
    FROM dbo.alerts AS a
    JOIN OPENJSON(@p_latest_json) WITH (
        sensor_id BIGINT '$[0]',
        value FLOAT(53) '$[1]',
        at DATETIME2(6) '$[2]'
    ) AS n ON n.sensor_id = a.sensor_id
    WHERE a.status IN (N'active', N'acknowledged') AND a.event_id IS NULL AND a.triggered_at <= n.at
        AND (
            NOT EXISTS (
                SELECT 1 FROM dbo.sensor_limits AS l
                WHERE l.sensor_id = a.sensor_id AND COALESCE(l.severity, N'warning') = a.severity
                    AND (
                        l.condition_type = N'greater_than' AND n.value > l.low
                        OR l.condition_type = N'less_than' AND n.value < l.low
                        OR l.condition_type = N'equal_to' AND n.value = l.low
                        OR l.condition_type = N'out_of_range' AND (n.value < l.low OR n.value > l.high)
                    )
            )
            OR EXISTS (
                SELECT 1 FROM dbo.sensor_limits AS w
                WHERE w.sensor_id = a.sensor_id AND COALESCE(w.severity, N'warning') = N'warning'
                    AND w.condition_type = N'out_of_range'
                    AND (w.low IS NOT NULL OR w.high IS NOT NULL)
                    AND (w.low IS NULL OR n.value >= w.low) AND (w.high IS NULL OR n.value <= w.high)
            )
        );

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

-- What a column holds is for those alone to see who may read it.
GRANT EXECUTE ON dbo.streamproc_set_alerts TO streamproc_writer;
GRANT SELECT ON dbo.alerts TO streamproc_writer;
GO
