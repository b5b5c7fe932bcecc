-- modelhub.db, version 7: answers in the order of names and of sizes.
--
-- Each index holds what conditions on a row ask about, so that a walk along it needs no row of the table.

DROP INDEX models_in_order;
CREATE INDEX models_in_order ON models
    (filename COLLATE NOCASE, id, file_size, added_ns, primary_type, base, blob_id) WHERE deleted = 0;
DROP INDEX models_by_size;
CREATE INDEX models_by_size ON models
    (file_size DESC, filename COLLATE NOCASE, id, added_ns, primary_type, base, blob_id) WHERE deleted = 0;
-- Which bases there are, one seek each.
CREATE INDEX models_by_base ON models (base) WHERE deleted = 0;

INSERT INTO schema_version (version, applied_at) VALUES (7, datetime('now'));
