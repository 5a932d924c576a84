-- How people are told of sensors: policies, silences, how alarms are handled, trials. One row each; body is a JSON object of
-- what the entry has beside its name and version. A document that is removed leaves no row; is_active = 0 switches one off.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

IF OBJECT_ID(N'dbo.registry_documents', N'U') IS NULL
CREATE TABLE dbo.registry_documents (
    kind NVARCHAR(20) COLLATE Latin1_General_100_BIN2 NOT NULL,
    name NVARCHAR(256) COLLATE Latin1_General_100_BIN2 NOT NULL,
    body NVARCHAR(MAX) NOT NULL CONSTRAINT DF_registry_documents_body DEFAULT N'{}',
    version INT NOT NULL CONSTRAINT DF_registry_documents_version DEFAULT 1,
    is_active BIT NOT NULL CONSTRAINT DF_registry_documents_is_active DEFAULT 1,
    updated_at DATETIME2(6) NOT NULL CONSTRAINT DF_registry_documents_updated_at DEFAULT SYSUTCDATETIME(),
    CONSTRAINT PK_registry_documents PRIMARY KEY CLUSTERED (kind, name)
);
GO

GRANT SELECT, INSERT, UPDATE, DELETE ON dbo.registry_documents TO streamproc_writer;
GRANT SELECT ON dbo.registry_documents TO streamproc_reader;
GO
