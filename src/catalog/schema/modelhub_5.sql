-- modelhub.db, version 5: what hubs answered to the queries below `search/`.

INSERT INTO schema_version (version, applied_at) VALUES (5, datetime('now'));

-- `hits` is JSON: name, reference and, once it was looked into, files of each repository.
CREATE TABLE hub_answers (
    search_id    INTEGER NOT NULL REFERENCES searches (id) ON DELETE CASCADE,
    source       TEXT NOT NULL,
    query        TEXT NOT NULL,
    answered_ns  INTEGER NOT NULL,
    hits         TEXT NOT NULL,
    PRIMARY KEY (search_id, source)
) STRICT, WITHOUT ROWID;
