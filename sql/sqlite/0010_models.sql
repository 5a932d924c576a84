-- What a model is. metadata is JSON; created_at is since when it writes predictions, is_active whether no later version does.
ALTER TABLE ml_models ADD COLUMN model_type TEXT NOT NULL DEFAULT 'streaming';
ALTER TABLE ml_models ADD COLUMN metadata TEXT;

-- The version was part of streamproc's name, so that no version ended the one before.
UPDATE ml_models
SET name = 'river-online', version = substr(name, length('river-online-') + 1)
WHERE name LIKE 'river-online-%' AND version = '1';

UPDATE ml_models
SET is_active = CAST(version AS INTEGER)
    = (SELECT max(CAST(m.version AS INTEGER)) FROM ml_models AS m WHERE m.name = 'river-online')
WHERE name = 'river-online';
