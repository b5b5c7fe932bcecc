-- modelhub.db, version 6: what hubs tell about contents.

INSERT INTO schema_version (version, applied_at) VALUES (6, datetime('now'));

-- Answers of hubs as they came, compressed (zlib), without signed addresses and tokens. Nothing takes a row away: a page
-- that is gone from its hub stays readable here. An answer about several contents is kept once.
CREATE TABLE hub_archive (
    id           INTEGER PRIMARY KEY,
    source       TEXT NOT NULL,
    repo         TEXT NOT NULL,
    received_ns  INTEGER NOT NULL,
    answer       BLOB NOT NULL
) STRICT;
CREATE INDEX hub_archive_by_repo ON hub_archive (source, repo);

-- When a hub was asked about a content, and what it was. What is taken from the answer is in `model_metadata`, under the
-- hub's name. `is_known` stays once it is true; `gone_ns` then says since when the hub no longer knows it. `by_tensors`:
-- asked by the hash of the tensors alone, too.
CREATE TABLE enrichments (
    blob_id     INTEGER NOT NULL REFERENCES blobs (id) ON DELETE CASCADE,
    source      TEXT NOT NULL,
    asked_ns    INTEGER NOT NULL,
    is_known    INTEGER NOT NULL CHECK (is_known IN (0, 1)),
    by_tensors  INTEGER NOT NULL DEFAULT 0 CHECK (by_tensors IN (0, 1)),
    gone_ns     INTEGER,
    repo        TEXT NOT NULL DEFAULT '',
    revision    TEXT NOT NULL DEFAULT '',
    archive_id  INTEGER REFERENCES hub_archive (id),
    PRIMARY KEY (blob_id, source)
) STRICT, WITHOUT ROWID;
