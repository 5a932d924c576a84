-- The judge of 0019 once more, for limits without a severity, which a database that was there before may have: they are
-- warnings, as those are of which nobody says how grave they are. There it refused each reading that broke one, and its
-- writer's insert with it. So it did with sudden changes where events had no place for when they were resolved.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

IF COL_LENGTH(N'dbo.ml_events', N'resolved_at') IS NULL ALTER TABLE dbo.ml_events ADD resolved_at DATETIME2(6) NULL;
GO

IF OBJECT_ID(N'dbo.trg_sensor_readings_judge', N'TR') IS NOT NULL DROP TRIGGER dbo.trg_sensor_readings_judge;
GO

CREATE TRIGGER dbo.trg_sensor_readings_judge ON dbo.sensor_readings
AFTER INSERT
AS
BEGIN
    -- First of all: who inserts row by row has this run for each.
    IF NOT EXISTS (SELECT 1 FROM inserted WHERE kafka_partition IS NULL) RETURN;
    SET NOCOUNT ON;

    DECLARE @now DATETIME2(6) = SYSUTCDATETIME();

    -- One row for each sensor: its newest reading of this statement. Those of one packet have the same timestamp.
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
            ROW_NUMBER() OVER (
                PARTITION BY i.sensor_id ORDER BY i.[timestamp] DESC, i.device_timestamp DESC, i.id DESC
            ) AS place
        FROM inserted AS i
        WHERE i.kafka_partition IS NULL
    ) AS n
    WHERE n.place = 1;

    -- A sensor with neither a limit nor a standing alert costs one look.
    IF EXISTS (SELECT 1 FROM @newest AS n JOIN dbo.sensor_limits AS l ON l.sensor_id = n.sensor_id)
    OR EXISTS (
        SELECT 1 FROM @newest AS n
        JOIN dbo.alerts AS a ON a.sensor_id = n.sensor_id AND a.status IN (N'active', N'acknowledged')
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
            COALESCE(b.name, N''),
            b.severity,
            ROW_NUMBER() OVER (
                PARTITION BY b.sensor_id, b.severity ORDER BY b.[timestamp] DESC, b.device_timestamp DESC, b.id DESC
            ),
            b.device_id,
            CAST(COALESCE(b.sensor_name, N'') AS NVARCHAR(255)),
            CAST(COALESCE(b.unit, N'') AS NVARCHAR(50))
        FROM (
            SELECT
                i.id,
                i.sensor_id,
                i.value,
                i.[timestamp],
                i.device_timestamp,
                l.threshold_id,
                l.name,
                COALESCE(l.severity, N'warning') AS severity,
                s.device_id,
                s.name AS sensor_name,
                s.unit,
                ROW_NUMBER() OVER (
                    PARTITION BY i.id
                    ORDER BY
                        CASE COALESCE(l.severity, N'warning') WHEN N'critical' THEN 1 WHEN N'warning' THEN 2 ELSE 3 END,
                        l.threshold_id
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
                    WHERE w.sensor_id = i.sensor_id AND COALESCE(w.severity, N'warning') = N'warning'
                        AND w.condition_type = N'out_of_range'
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
            AND NOT EXISTS (
                SELECT 1 FROM @broken AS b WHERE b.reading_id = n.reading_id AND b.severity = a.severity
            );
    END;

    -- Sudden changes, as delta_thresholds bound them: against the reading before in the same statement, or the newest there
    -- was. A change inside the user's WARNING range is none.
    IF EXISTS (
        SELECT 1 FROM @newest AS n JOIN dbo.delta_thresholds AS d ON d.sensor_id = n.sensor_id WHERE d.is_active = 1
    )
    BEGIN
        DECLARE @spikes TABLE (
            sensor_id BIGINT NOT NULL PRIMARY KEY,
            value FLOAT(53) NOT NULL,
            severity NVARCHAR(50) NOT NULL,
            device_id BIGINT NULL,
            title NVARCHAR(255) NOT NULL,
            message NVARCHAR(2000) NOT NULL,
            payload NVARCHAR(400) NOT NULL,
            is_new BIT NOT NULL DEFAULT 0,
            event_id BIGINT NULL
        );
        INSERT INTO @spikes (sensor_id, value, severity, device_id, title, message, payload)
        SELECT
            c.sensor_id,
            c.value,
            c.severity,
            c.device_id,
            LEFT(CONCAT(N'Sudden change of ', c.sensor_name), 255),
            CONCAT(N'The value went from ', c.previous, N' to ', c.value, N' ', c.unit, N' in ', c.seconds, N' s.'),
            CONCAT(N'{"value":', c.value, N',"last_value":', c.previous, N',"dt_seconds":', c.seconds, N'}')
        FROM (
            SELECT
                p.sensor_id,
                p.value,
                p.at,
                p.previous,
                p.seconds,
                COALESCE(d.severity, N'warning') AS severity,
                s.device_id,
                s.name AS sensor_name,
                s.unit,
                ROW_NUMBER() OVER (PARTITION BY p.sensor_id ORDER BY p.at DESC, p.id DESC) AS place
            FROM (
                SELECT
                    o.id,
                    o.sensor_id,
                    o.value,
                    o.at,
                    o.previous,
                    DATEDIFF_BIG(MICROSECOND, o.previous_at, o.at) / 1000000E0 AS seconds
                FROM (
                    SELECT
                        i.id,
                        i.sensor_id,
                        CAST(i.value AS FLOAT(53)) AS value,
                        i.[timestamp] AS at,
                        CAST(
                            COALESCE(
                                LAG(i.value) OVER (PARTITION BY i.sensor_id ORDER BY i.[timestamp], i.id), l.latest_value
                            ) AS FLOAT(53)
                        ) AS previous,
                        COALESCE(
                            LAG(i.[timestamp]) OVER (PARTITION BY i.sensor_id ORDER BY i.[timestamp], i.id),
                            l.latest_timestamp
                        ) AS previous_at
                    FROM inserted AS i
                    LEFT JOIN dbo.sensor_readings_latest AS l ON l.sensor_id = i.sensor_id
                    WHERE i.kafka_partition IS NULL
                ) AS o
            ) AS p
            JOIN dbo.sensors AS s ON s.id = p.sensor_id
            JOIN dbo.delta_thresholds AS d
                ON d.id = (
                    SELECT MIN(f.id) FROM dbo.delta_thresholds AS f WHERE f.sensor_id = p.sensor_id AND f.is_active = 1
                )
            WHERE p.seconds > 0
                AND (
                    ABS(p.value - p.previous) >= d.abs_delta
                    OR ABS(p.value - p.previous) >= d.rel_delta * CASE WHEN p.previous = 0 THEN 1E-6 ELSE ABS(p.previous) END
                    OR ABS(p.value - p.previous) >= d.abs_slope * p.seconds
                    OR ABS(p.value - p.previous)
                    >= d.rel_slope * p.seconds * CASE WHEN p.previous = 0 THEN 1E-6 ELSE ABS(p.previous) END
                )
                AND NOT EXISTS (
                    SELECT 1 FROM dbo.sensor_limits AS w
                    WHERE w.sensor_id = p.sensor_id AND COALESCE(w.severity, N'warning') = N'warning'
                        AND w.condition_type = N'out_of_range'
                        AND (w.low IS NOT NULL OR w.high IS NOT NULL)
                        AND (w.low IS NULL OR p.value >= w.low) AND (w.high IS NULL OR p.value <= w.high)
                )
        ) AS c
        WHERE c.place = 1;

        -- One event stands for a sensor at a time, and tells of the newest change; after half an hour it is another one. The
        -- engine's own (severity_change) have the same code to a server that tells no case, and are left alone.
        UPDATE e
        SET status = N'resolved', resolved_at = @now
        FROM dbo.ml_events AS e
        JOIN @spikes AS k ON k.sensor_id = e.sensor_id
        WHERE e.event_code = N'DELTA_SPIKE'
            AND e.event_type <> N'severity_change' AND e.status = N'active' AND e.created_at < DATEADD(MINUTE, -30, @now);

        UPDATE k
        SET is_new = 1
        FROM @spikes AS k
        WHERE NOT EXISTS (
            SELECT 1 FROM dbo.ml_events AS e WITH (UPDLOCK, HOLDLOCK)
            WHERE e.sensor_id = k.sensor_id AND e.event_code = N'DELTA_SPIKE'
                AND e.event_type <> N'severity_change' AND e.status = N'active'
        );

        UPDATE e
        SET
            event_type = k.severity,
            message = k.message,
            payload = k.payload,
            created_at = @now
        FROM dbo.ml_events AS e
        JOIN @spikes AS k ON k.sensor_id = e.sensor_id
        WHERE k.is_new = 0 AND e.event_code = N'DELTA_SPIKE'
            AND e.event_type <> N'severity_change' AND e.status = N'active';

        INSERT INTO dbo.ml_events (
            device_id, sensor_id, event_type, event_code, title, message, status, created_at, payload
        )
        SELECT
            k.device_id,
            k.sensor_id,
            k.severity,
            N'DELTA_SPIKE',
            k.title,
            k.message,
            N'active',
            @now,
            k.payload
        FROM @spikes AS k
        WHERE k.is_new = 1;

        UPDATE k
        SET event_id = (
            SELECT MAX(e.id) FROM dbo.ml_events AS e
            WHERE e.sensor_id = k.sensor_id AND e.event_code = N'DELTA_SPIKE'
                AND e.event_type <> N'severity_change' AND e.status = N'active'
        )
        FROM @spikes AS k
        WHERE k.is_new = 1;

        INSERT INTO dbo.alert_notifications (
            source, source_event_id, sensor_id, device_id, severity, title, message, is_read, created_at, triggered_value,
            event_type
        )
        SELECT
            N'ml_event',
            k.event_id,
            k.sensor_id,
            k.device_id,
            k.severity,
            k.title,
            k.message,
            0,
            @now,
            k.value,
            N'DELTA_SPIKE'
        FROM @spikes AS k
        WHERE k.is_new = 1;
    END;

    -- The sink does the same for the stream's, once a batch: by streamproc_set_latest.
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
