-- Two roles, with what their programs need and no more; make a user a member of one:
--   ALTER ROLE streamproc_writer ADD MEMBER streamproc;
-- Neither may change the schema: migrations are run by a user that may (db_ddladmin and db_securityadmin, or db_owner).
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

IF DATABASE_PRINCIPAL_ID(N'streamproc_writer') IS NULL CREATE ROLE streamproc_writer;
GO

IF DATABASE_PRINCIPAL_ID(N'streamproc_reader') IS NULL CREATE ROLE streamproc_reader;
GO

-- Sink, registry, jobs and replays. What the trigger writes (alerts, notifications, the newest readings) needs no grant: its
-- owner is theirs. A replay corrects readings and events, but deletes only windows and predictions.
GRANT SELECT, INSERT, UPDATE ON dbo.devices TO streamproc_writer;
GRANT SELECT, INSERT, UPDATE ON dbo.sensors TO streamproc_writer;
GRANT SELECT, INSERT, UPDATE ON dbo.sensor_readings TO streamproc_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON dbo.sensor_windows TO streamproc_writer;
GRANT SELECT, INSERT ON dbo.ml_models TO streamproc_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON dbo.predictions TO streamproc_writer;
GRANT SELECT, INSERT, UPDATE ON dbo.ml_events TO streamproc_writer;
GRANT SELECT, INSERT, UPDATE ON dbo.alert_notifications TO streamproc_writer;
GRANT SELECT, INSERT, UPDATE ON dbo.stream_offsets TO streamproc_writer;
GRANT SELECT ON dbo.sensor_readings_latest TO streamproc_writer;
GRANT SELECT ON dbo.sensor_limits TO streamproc_writer;
GRANT SELECT ON dbo.alert_thresholds TO streamproc_writer;
GRANT EXECUTE ON dbo.sp_insert_reading_and_check_threshold TO streamproc_writer;
GRANT EXECUTE ON dbo.sp_insert_readings_bulk_json_and_check_threshold TO streamproc_writer;
GRANT EXECUTE ON dbo.streamproc_set_latest TO streamproc_writer;
GO

-- Console and reports.
GRANT SELECT ON dbo.devices TO streamproc_reader;
GRANT SELECT ON dbo.sensors TO streamproc_reader;
GRANT SELECT ON dbo.sensor_readings TO streamproc_reader;
GRANT SELECT ON dbo.sensor_readings_latest TO streamproc_reader;
GRANT SELECT ON dbo.sensor_windows TO streamproc_reader;
GRANT SELECT ON dbo.ml_models TO streamproc_reader;
GRANT SELECT ON dbo.predictions TO streamproc_reader;
GRANT SELECT ON dbo.ml_events TO streamproc_reader;
GRANT SELECT ON dbo.alert_notifications TO streamproc_reader;
GRANT SELECT ON dbo.alerts TO streamproc_reader;
GRANT SELECT ON dbo.alert_thresholds TO streamproc_reader;
GRANT SELECT ON dbo.delta_thresholds TO streamproc_reader;
GRANT SELECT ON dbo.sensor_limits TO streamproc_reader;
GRANT SELECT ON dbo.stream_offsets TO streamproc_reader;
GO

-- Whether the schema is up to date is for both to see. The ledger is made before the first script.
IF OBJECT_ID(N'dbo.schema_migrations', N'U') IS NOT NULL
BEGIN
    GRANT SELECT ON dbo.schema_migrations TO streamproc_writer;
    GRANT SELECT ON dbo.schema_migrations TO streamproc_reader;
END;
GO
