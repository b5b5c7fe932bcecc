-- modelhub.db, version 2: search.
--
-- One full-text table answers words, parts of words and keys. Its tokens are made by the writer (`catalog::text`): runs
-- of one, two and three letters as hex digits, and one token for each value of a key. Contentless: the words are in the
-- other tables. The row number is the model's id; models in the trash have no row.

DROP TABLE model_text;
CREATE VIRTUAL TABLE model_index USING fts5 (
    name, words, facets,
    content = '', contentless_delete = 1, tokenize = 'ascii'
);

CREATE INDEX models_in_order ON models (filename COLLATE NOCASE) WHERE deleted = 0;
CREATE INDEX models_by_size ON models (file_size) WHERE deleted = 0;
CREATE INDEX models_by_added ON models (added_ns) WHERE deleted = 0;

-- What a query's directory asks; its name may be another after a rename.
ALTER TABLE searches ADD COLUMN query TEXT NOT NULL DEFAULT '';

INSERT INTO schema_version (version, applied_at) VALUES (2, datetime('now'));
