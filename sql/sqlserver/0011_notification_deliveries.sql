-- What of `alert_notifications` was told to people, on which channel, and what is still to be.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

-- A row is one notification on one channel, and is there before anything is sent. Rows of one message_id go as one message;
-- thread_id is the message that told of the beginning. follows is the notification that the sensor's present trouble was
-- told by before this one. Who sends a message holds it (claimed_by) until lease_until; nobody else sends it meanwhile. due_at
-- is when it is to be tried next.
IF OBJECT_ID(N'dbo.notification_deliveries', N'U') IS NULL
CREATE TABLE dbo.notification_deliveries (
    id BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT PK_notification_deliveries PRIMARY KEY CLUSTERED,
    notification_id NVARCHAR(64) NOT NULL
    CONSTRAINT FK_notification_deliveries_of REFERENCES dbo.alert_notifications (notification_id) ON DELETE CASCADE,
    channel NVARCHAR(50) NOT NULL,
    status NVARCHAR(20) NOT NULL
    CONSTRAINT CK_notification_deliveries CHECK (status IN (N'pending', N'sent', N'failed', N'skipped')),
    scope NVARCHAR(300) NOT NULL,
    follows NVARCHAR(64) NULL,
    message_id NVARCHAR(64) NULL,
    thread_id NVARCHAR(64) NULL,
    attempts INT NOT NULL CONSTRAINT DF_notification_deliveries_try DEFAULT 0,
    last_error NVARCHAR(500) NULL,
    created_at DATETIME2(6) NOT NULL,
    due_at DATETIME2(6) NOT NULL,
    claimed_by NVARCHAR(64) NULL,
    lease_until DATETIME2(6) NULL,
    sent_at DATETIME2(6) NULL
);
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.notification_deliveries')
        AND name LIKE N'UX[_]notification[_]deliveries%'
)
CREATE UNIQUE NONCLUSTERED INDEX UX_notification_deliveries
ON dbo.notification_deliveries (notification_id, channel);
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.notification_deliveries')
        AND name LIKE N'IX[_]notification[_]deliveries[_]due%'
)
CREATE NONCLUSTERED INDEX IX_notification_deliveries_due ON dbo.notification_deliveries (status, channel, due_at);
GO

IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.notification_deliveries')
        AND name LIKE N'IX[_]notification[_]deliveries[_]of%'
)
CREATE NONCLUSTERED INDEX IX_notification_deliveries_of ON dbo.notification_deliveries (status, channel, message_id);
GO

-- Up to where a channel has looked at `alert_notifications`: all up to after_id have been looked at, and none comes any more.
-- seen_id was the newest at seen_at, and takes its place once no transaction from before can still be open.
IF OBJECT_ID(N'dbo.notification_channels', N'U') IS NULL
CREATE TABLE dbo.notification_channels (
    channel NVARCHAR(50) NOT NULL CONSTRAINT PK_notification_channels PRIMARY KEY CLUSTERED,
    after_id BIGINT NOT NULL,
    seen_id BIGINT NOT NULL,
    seen_at DATETIME2(6) NOT NULL
);
GO

-- When the first channel has told it to people.
IF COL_LENGTH(N'dbo.alert_notifications', N'delivered_at') IS NULL
ALTER TABLE dbo.alert_notifications ADD delivered_at DATETIME2(6) NULL;
GO

-- What was told of a sensor before.
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.alert_notifications')
        AND name LIKE N'IX[_]alert[_]notifications[_]sensor%'
)
CREATE NONCLUSTERED INDEX IX_alert_notifications_sensor ON dbo.alert_notifications (sensor_id, created_at);
GO

GRANT SELECT, INSERT, UPDATE ON dbo.notification_deliveries TO streamproc_writer;
GRANT SELECT, INSERT, UPDATE ON dbo.notification_channels TO streamproc_writer;
GRANT SELECT ON dbo.notification_deliveries TO streamproc_reader;
GRANT SELECT ON dbo.notification_channels TO streamproc_reader;
GO
