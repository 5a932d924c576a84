-- What people are to do, by kind of sensor ('*': all) and cause, in each language; where there is no row, streamproc has its
-- own words. Users edit it; kind is in lower case. An action that is removed keeps its rows, and is not active any more.
CREATE TABLE IF NOT EXISTS recommended_actions (
    kind TEXT NOT NULL,
    cause TEXT NOT NULL,
    language TEXT NOT NULL CHECK (language IN ('en', 'es')),
    text TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    is_active INTEGER NOT NULL DEFAULT 1,
    updated_at TEXT,
    PRIMARY KEY (kind, cause, language)
);

-- The audit tells of these as well: its kind is no longer one of two words. SQLite has no other way to change a check.
ALTER TABLE registry_audit RENAME TO registry_audit_of_two;

CREATE TABLE registry_audit (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind <> ''),
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    before TEXT,
    after TEXT
);

INSERT INTO registry_audit (id, at, actor, action, kind, name, version, before, after)
SELECT id, at, actor, action, kind, name, version, before, after FROM registry_audit_of_two;

DROP TABLE registry_audit_of_two;

CREATE INDEX registry_audit_of ON registry_audit (kind, name, version);
