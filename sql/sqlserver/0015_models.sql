-- The version was part of the name of streamproc's model, so that no version ended the one before. Rows of other programs,
-- which are for one sensor each, stay as they are.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

UPDATE dbo.ml_models
SET
    model_name = N'river-online',
    version = SUBSTRING(model_name, LEN(N'river-online-') + 1, 50)
WHERE model_name LIKE N'river-online-%' AND version = N'1' AND sensor_id IS NULL;
GO

-- The highest version is the active one; the others' predictions stay.
UPDATE dbo.ml_models
SET is_active = CASE
    WHEN
        COALESCE(TRY_CAST(version AS INT), 0)
        = (
            SELECT MAX(COALESCE(TRY_CAST(m.version AS INT), 0)) FROM dbo.ml_models AS m
            WHERE m.model_name = N'river-online' AND m.sensor_id IS NULL
        ) THEN 1
    ELSE 0
END
WHERE model_name = N'river-online' AND sensor_id IS NULL;
GO

-- A new version ends the one before.
GRANT UPDATE ON dbo.ml_models TO streamproc_writer;
GO
