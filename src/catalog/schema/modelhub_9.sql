-- modelhub.db, version 9: rows that turned out to be the content of another row.

-- Whoever still holds the old number, a mount or an answer of a hub, is led to the content by it. Never a chain: what
-- became a row that is merged itself is led on with it.
CREATE TABLE merged_blobs (
    from_id   INTEGER PRIMARY KEY,
    into_id   INTEGER NOT NULL REFERENCES blobs (id) ON DELETE CASCADE,
    revision  INTEGER NOT NULL
) STRICT;
CREATE INDEX merged_blobs_by_revision ON merged_blobs (revision);
CREATE INDEX merged_blobs_by_target ON merged_blobs (into_id);

INSERT INTO schema_version (version, applied_at) VALUES (9, datetime('now'));
