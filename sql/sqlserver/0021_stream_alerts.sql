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
-- change. One that has been raised is not raised again, and one that the trigger has raised stands for both.
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

-- What a column holds is for those alone to see who may read it.
GRANT EXECUTE ON dbo.streamproc_set_alerts TO streamproc_writer;
GRANT SELECT ON dbo.alerts TO streamproc_writer;
GO
