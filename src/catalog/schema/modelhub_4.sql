-- modelhub.db, version 4: what loading a file may do, and what people decided.

INSERT INTO schema_version (version, applied_at) VALUES (4, datetime('now'));

-- A word of `safe`, `suspicious`, `unsafe`; empty where no header was read. `trusted` is a person's.
ALTER TABLE blobs ADD COLUMN safety TEXT CHECK (safety IN ('safe', 'suspicious', 'unsafe'));
ALTER TABLE blobs ADD COLUMN trusted INTEGER NOT NULL DEFAULT 0 CHECK (trusted IN (0, 1));
-- The list of imports that every content was judged with; another list judges them again.
ALTER TABLE catalog_state ADD COLUMN danger_version INTEGER NOT NULL DEFAULT 0;

-- Decisions of a person: `primary_type` and `base` follow them, and no verdict changes them.
ALTER TABLE models ADD COLUMN manual_type TEXT;
ALTER TABLE models ADD COLUMN manual_base TEXT;
-- The name that told most about it, with `folders`, when that is not its own: a content has many names.
ALTER TABLE models ADD COLUMN judged_name TEXT;
-- `tags` holds what is shown: the automatic ones, with those a person added and without those a person took away.
CREATE TABLE automatic_tags (
    model_id  INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    tag       TEXT NOT NULL,
    PRIMARY KEY (model_id, tag)
) STRICT, WITHOUT ROWID;
INSERT INTO automatic_tags (model_id, tag) SELECT model_id, tag FROM tags;
CREATE TABLE tag_decisions (
    model_id   INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    tag        TEXT NOT NULL,
    is_wanted  INTEGER NOT NULL CHECK (is_wanted IN (0, 1)),
    PRIMARY KEY (model_id, tag)
) STRICT, WITHOUT ROWID;
