-- Run as sa by sqlcmd, which puts the environment's DB_NAME, DB_USER and DB_PASSWORD in, and both of the
-- gateway's and the jobs' logins. It can be run again: what is there stays, but for the logins' passwords, which become those of
-- the environment.
-- Readers of a new database see what was committed last and wait for no writer.
IF DB_ID(N'$(DB_NAME)') IS NULL
BEGIN
    CREATE DATABASE [$(DB_NAME)];
    ALTER DATABASE [$(DB_NAME)] SET READ_COMMITTED_SNAPSHOT ON;
END;
GO
IF SUSER_ID(N'$(DB_USER)') IS NULL
    CREATE LOGIN [$(DB_USER)] WITH PASSWORD = N'$(DB_PASSWORD)';
ELSE
    ALTER LOGIN [$(DB_USER)] WITH PASSWORD = N'$(DB_PASSWORD)';
GO
IF SUSER_ID(N'$(DB_GATEWAY_USER)') IS NULL
    CREATE LOGIN [$(DB_GATEWAY_USER)] WITH PASSWORD = N'$(DB_GATEWAY_PASSWORD)';
ELSE
    ALTER LOGIN [$(DB_GATEWAY_USER)] WITH PASSWORD = N'$(DB_GATEWAY_PASSWORD)';
GO
IF SUSER_ID(N'$(DB_JOBS_USER)') IS NULL
    CREATE LOGIN [$(DB_JOBS_USER)] WITH PASSWORD = N'$(DB_JOBS_PASSWORD)';
ELSE
    ALTER LOGIN [$(DB_JOBS_USER)] WITH PASSWORD = N'$(DB_JOBS_PASSWORD)';
GO
USE [$(DB_NAME)];
GO
IF DATABASE_PRINCIPAL_ID(N'$(DB_USER)') IS NULL
    CREATE USER [$(DB_USER)] FOR LOGIN [$(DB_USER)];
IF DATABASE_PRINCIPAL_ID(N'$(DB_GATEWAY_USER)') IS NULL
    CREATE USER [$(DB_GATEWAY_USER)] FOR LOGIN [$(DB_GATEWAY_USER)];
IF DATABASE_PRINCIPAL_ID(N'$(DB_JOBS_USER)') IS NULL
    CREATE USER [$(DB_JOBS_USER)] FOR LOGIN [$(DB_JOBS_USER)];
GO
-- The roles get their rights from the migrations, which come next and make them only where they are not there. None may change
-- the schema, the gateway's only reads, and the jobs' deletes what is old and nothing else.
IF DATABASE_PRINCIPAL_ID(N'streamproc_writer') IS NULL
    CREATE ROLE streamproc_writer;
ALTER ROLE streamproc_writer ADD MEMBER [$(DB_USER)];
GO
IF DATABASE_PRINCIPAL_ID(N'streamproc_reader') IS NULL
    CREATE ROLE streamproc_reader;
ALTER ROLE streamproc_reader ADD MEMBER [$(DB_GATEWAY_USER)];
GO
IF DATABASE_PRINCIPAL_ID(N'streamproc_jobs') IS NULL
    CREATE ROLE streamproc_jobs;
ALTER ROLE streamproc_jobs ADD MEMBER [$(DB_JOBS_USER)];
GO
