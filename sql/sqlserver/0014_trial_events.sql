-- What trials would have told, for `streamproc trial report`; people hear of none of it.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

-- A sensor's begin in a trial is a row of the cause 'begun'. payload is JSON: value, lineage.
IF OBJECT_ID(N'dbo.trial_events', N'U') IS NULL
CREATE TABLE dbo.trial_events (
    id BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT PK_trial_events PRIMARY KEY CLUSTERED,
    event_id NVARCHAR(64) NOT NULL,
    trial NVARCHAR(200) NOT NULL,
    trial_version INT NOT NULL,
    begun_at DATETIME2(6) NOT NULL,
    sensor_id BIGINT NOT NULL CONSTRAINT FK_trial_events_sensor REFERENCES dbo.sensors (id),
    severity NVARCHAR(20) NOT NULL
    CONSTRAINT CK_trial_events CHECK (severity IN (N'NORMAL', N'WARN', N'CRITICAL')),
    previous_severity NVARCHAR(20) NOT NULL,
    cause NVARCHAR(50) NOT NULL,
    message NVARCHAR(MAX) NOT NULL,
    created_at DATETIME2(6) NOT NULL,
    payload NVARCHAR(MAX) NULL
);
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.trial_events') AND name LIKE N'UX[_]trial[_]events%'
)
CREATE UNIQUE NONCLUSTERED INDEX UX_trial_events ON dbo.trial_events (event_id);
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.trial_events') AND name LIKE N'IX[_]trial[_]events%'
)
CREATE NONCLUSTERED INDEX IX_trial_events ON dbo.trial_events (trial, trial_version, begun_at);
GO

IF OBJECT_ID(N'dbo.streamproc_delete_old_trials', N'P') IS NULL
EXEC (N'CREATE PROCEDURE dbo.streamproc_delete_old_trials AS RETURN 0');
GO

-- EXEC dbo.streamproc_delete_old_trials @p_before = '2025-06-01'; deletes the rows of trials that have written none since then.
-- It is bounded as streamproc_delete_old is: call again while `unfinished` is 1.
ALTER PROCEDURE dbo.streamproc_delete_old_trials
    @p_before DATETIME2(6),
    @p_batch_rows INT = 4000,
    @p_max_batches INT = 1000
AS
BEGIN
    SET NOCOUNT ON;
    SET DEADLOCK_PRIORITY LOW;
    IF @@TRANCOUNT > 0 THROW 50012, N'call streamproc_delete_old_trials outside of a transaction: it would keep every lock', 1;
    IF @p_batch_rows IS NULL OR @p_batch_rows NOT BETWEEN 1 AND 4000 SET @p_batch_rows = 4000;
    IF @p_max_batches IS NULL OR @p_max_batches < 1 SET @p_max_batches = 1000;
    DECLARE @deleted BIGINT = 0, @batches INT = 0, @rows INT = 1;

    WHILE @rows > 0 AND @batches < @p_max_batches
    BEGIN
        DELETE TOP (@p_batch_rows) t
        FROM dbo.trial_events AS t
        WHERE NOT EXISTS (
            SELECT 1 FROM dbo.trial_events AS l
            WHERE l.trial = t.trial AND l.trial_version = t.trial_version AND l.begun_at = t.begun_at
                AND l.created_at >= @p_before
        );
        SELECT @rows = @@ROWCOUNT;
        SELECT @deleted = @deleted + @rows, @batches = @batches + SIGN(@rows);
    END;

    SELECT @deleted AS trial_events, CAST(CASE WHEN @batches < @p_max_batches THEN 0 ELSE 1 END AS BIT) AS unfinished;
END;
GO

GRANT SELECT, INSERT ON dbo.trial_events TO streamproc_writer;
GRANT SELECT ON dbo.trial_events TO streamproc_reader;
GO
