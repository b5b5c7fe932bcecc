-- modelhub.db, version 8: directories that a person put a model in.

-- Beside those that follow from what the model is. Its name there is in `placements`.
CREATE TABLE model_homes (
    model_id      INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    directory_id  INTEGER NOT NULL REFERENCES directories (id),
    PRIMARY KEY (model_id, directory_id)
) STRICT, WITHOUT ROWID;

INSERT INTO schema_version (version, applied_at) VALUES (8, datetime('now'));
