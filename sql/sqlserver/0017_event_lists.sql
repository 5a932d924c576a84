-- Events in the order of their time, and old trials away without a look at every row for every row.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

-- What people look through newest first: the events of all sensors. With what they are asked for beside it, for other programs
-- have theirs in between.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.ml_events') AND name LIKE N'IX[_]ml[_]events[_]time%'
)
CREATE NONCLUSTERED INDEX IX_ml_events_time ON dbo.ml_events (created_at)
INCLUDE (event_type, status, severity, sensor_id);
GO

IF OBJECT_ID(N'dbo.streamproc_delete_old_trials', N'P') IS NULL
EXEC (N'CREATE PROCEDURE dbo.streamproc_delete_old_trials AS RETURN 0');
GO

-- As in 0014, but which trials are over is asked once: asked row by row, of a trial that goes on each row would be held against
-- all that are as old.
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

    DECLARE @over TABLE (
        trial NVARCHAR(200) NOT NULL,
        trial_version INT NOT NULL,
        begun_at DATETIME2(6) NOT NULL,
        PRIMARY KEY (trial, trial_version, begun_at)
    );
    INSERT INTO @over (trial, trial_version, begun_at)
    SELECT t.trial, t.trial_version, t.begun_at
    FROM dbo.trial_events AS t
    GROUP BY t.trial, t.trial_version, t.begun_at
    HAVING MAX(t.created_at) < @p_before;

    WHILE @rows > 0 AND @batches < @p_max_batches
    BEGIN
        DELETE TOP (@p_batch_rows) t
        FROM dbo.trial_events AS t
        JOIN @over AS o ON o.trial = t.trial AND o.trial_version = t.trial_version AND o.begun_at = t.begun_at;
        SELECT @rows = @@ROWCOUNT;
        SELECT @deleted = @deleted + @rows, @batches = @batches + SIGN(@rows);
    END;

    SELECT @deleted AS trial_events, CAST(CASE WHEN @batches < @p_max_batches THEN 0 ELSE 1 END AS BIT) AS unfinished;
END;
GO
