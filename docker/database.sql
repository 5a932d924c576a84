-- Run as sa by sqlcmd, which puts the environment's DB_NAME, DB_USER and DB_PASSWORD in. It can be run again: what is there
-- stays, but for the login's password, which becomes that of the environment.
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
USE [$(DB_NAME)];
GO
IF DATABASE_PRINCIPAL_ID(N'$(DB_USER)') IS NULL
    CREATE USER [$(DB_USER)] FOR LOGIN [$(DB_USER)];
GO
-- The role gets its rights from the migrations, which come next and make it only where it is not there. It may not change the schema.
IF DATABASE_PRINCIPAL_ID(N'streamproc_writer') IS NULL
    CREATE ROLE streamproc_writer;
ALTER ROLE streamproc_writer ADD MEMBER [$(DB_USER)];
GO
