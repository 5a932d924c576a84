-- The runs of scheduled jobs (`streamproc jobs`), and a role for them.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

-- started_by is 'schedule' or 'command'; schedule is what it went by, due_at the time that the run is for, attempt its number
-- for that time. outcome is 'running' while claimed_by holds the job, until lease_until, which it moves on while it lives;
-- 'enrolled' is no run, but since when a schedule counts. counts is JSON.
IF OBJECT_ID(N'dbo.job_runs', N'U') IS NULL
CREATE TABLE dbo.job_runs (
    id BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT PK_job_runs PRIMARY KEY CLUSTERED,
    name NVARCHAR(100) NOT NULL,
    started_by NVARCHAR(20) NOT NULL
    CONSTRAINT CK_job_runs_started_by CHECK (started_by IN (N'schedule', N'command')),
    schedule NVARCHAR(300) NOT NULL,
    due_at DATETIME2(6) NOT NULL,
    attempt INT NOT NULL,
    outcome NVARCHAR(20) NOT NULL
    CONSTRAINT CK_job_runs_outcome CHECK (outcome IN (N'enrolled', N'running', N'done', N'failed', N'stopped', N'lost')),
    claimed_by NVARCHAR(64) NULL,
    lease_until DATETIME2(6) NULL,
    began_at DATETIME2(6) NOT NULL,
    ended_at DATETIME2(6) NULL,
    counts NVARCHAR(MAX) NOT NULL CONSTRAINT DF_job_runs_counts DEFAULT N'{}',
    last_error NVARCHAR(500) NULL
);
GO

-- Whatever goes wrong, a job is held by one.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.job_runs') AND name LIKE N'UX[_]job[_]runs%'
)
CREATE UNIQUE NONCLUSTERED INDEX UX_job_runs ON dbo.job_runs (name)
WHERE outcome = N'running';
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.job_runs') AND name LIKE N'IX[_]job[_]runs%'
)
CREATE NONCLUSTERED INDEX IX_job_runs ON dbo.job_runs (name, started_by, id);
GO

-- A role of its own: what was stored is deleted by nobody else, and nothing else is changed by it.
IF DATABASE_PRINCIPAL_ID(N'streamproc_jobs') IS NULL CREATE ROLE streamproc_jobs;
GO

GRANT SELECT, INSERT, UPDATE, DELETE ON dbo.job_runs TO streamproc_jobs;
GRANT EXECUTE ON dbo.streamproc_delete_old TO streamproc_jobs;
GRANT EXECUTE ON dbo.streamproc_delete_old_trials TO streamproc_jobs;
GRANT SELECT ON dbo.job_runs TO streamproc_writer;
GRANT SELECT ON dbo.job_runs TO streamproc_reader;
IF OBJECT_ID(N'dbo.schema_migrations', N'U') IS NOT NULL
GRANT SELECT ON dbo.schema_migrations TO streamproc_jobs;
GO
