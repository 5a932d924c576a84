-- How people are told of sensors: policies, silences, how alarms are handled, trials. One row each; body is a JSON object of
-- what the entry has beside its name and version. A document that is removed leaves no row; is_active = 0 switches one off.
CREATE TABLE IF NOT EXISTS registry_documents (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL DEFAULT '{}',
    version INTEGER NOT NULL DEFAULT 1,
    is_active INTEGER NOT NULL DEFAULT 1,
    updated_at TEXT,
    PRIMARY KEY (kind, name)
);
