-- modelhub.db, version 3: how contents are used.

-- A row for each content that was ever pinned or opened. `read_ns` is when it was opened last, to the hour: what was not
-- opened for the longest time is evicted first.
CREATE TABLE uses (
    blob_id  INTEGER PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE,
    pinned   INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
    read_ns  INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO schema_version (version, applied_at) VALUES (3, datetime('now'));
