-- What people are to do, by kind of sensor ('*': all) and cause, in each language; where there is no row, streamproc has its
-- own words. Users edit it; kind is in lower case. An action that is removed keeps its rows, and is not active any more.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

IF OBJECT_ID(N'dbo.recommended_actions', N'U') IS NULL
CREATE TABLE dbo.recommended_actions (
    kind NVARCHAR(100) COLLATE Latin1_General_100_BIN2 NOT NULL,
    cause NVARCHAR(40) COLLATE Latin1_General_100_BIN2 NOT NULL,
    [language] NVARCHAR(2) COLLATE Latin1_General_100_BIN2 NOT NULL
    CONSTRAINT CK_recommended_actions_language CHECK ([language] IN (N'en', N'es')),
    [text] NVARCHAR(1000) NOT NULL,
    version INT NOT NULL CONSTRAINT DF_recommended_actions_version DEFAULT 1,
    is_active BIT NOT NULL CONSTRAINT DF_recommended_actions_is_active DEFAULT 1,
    updated_at DATETIME2(6) NOT NULL CONSTRAINT DF_recommended_actions_updated_at DEFAULT SYSUTCDATETIME(),
    CONSTRAINT PK_recommended_actions PRIMARY KEY CLUSTERED (kind, cause, [language])
);
GO

-- The audit tells of these as well: its kind is no longer one of two words.
IF OBJECT_ID(N'dbo.CK_registry_audit_kind', N'C') IS NOT NULL
ALTER TABLE dbo.registry_audit DROP CONSTRAINT CK_registry_audit_kind;
GO

GRANT SELECT, INSERT, UPDATE, DELETE ON dbo.recommended_actions TO streamproc_writer;
GRANT SELECT ON dbo.recommended_actions TO streamproc_reader;
GO
