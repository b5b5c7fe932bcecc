-- modelhub.db, version 10: contents that are known no more.

-- Only searches had found them. A mount that knows one still learns from here that it is gone; the newest are enough.
CREATE TABLE forgotten_blobs (
    blob_id   INTEGER PRIMARY KEY,
    revision  INTEGER NOT NULL
) STRICT;
CREATE INDEX forgotten_blobs_by_revision ON forgotten_blobs (revision);

INSERT INTO schema_version (version, applied_at) VALUES (10, datetime('now'));
