-- classification.db, version 2: which rows are the user's.
--
-- Rows with edited = 0 are the program's and follow its versions; every row you add or change becomes edited = 1 by
-- itself, stays as you wrote it, and takes part in classification beside the built-in rules. A shipped row that you
-- delete does not come back. `modelfs doctor` names rows that cannot be used; `modelfs classify --diff` shows what they do.

INSERT INTO schema_version (version, applied_at) VALUES (2, datetime('now'));

ALTER TABLE sub_type_rules ADD COLUMN shipped_id INTEGER;
ALTER TABLE sub_type_rules ADD COLUMN edited INTEGER NOT NULL DEFAULT 1 CHECK (edited IN (0, 1));
ALTER TABLE size_rules ADD COLUMN shipped_id INTEGER;
ALTER TABLE size_rules ADD COLUMN edited INTEGER NOT NULL DEFAULT 1 CHECK (edited IN (0, 1));
-- `pattern` is a part of a tensor's name, or a condition of the built-in notation: `*.lora_down.weight [*,768] @F16`.
ALTER TABLE architecture_patterns ADD COLUMN base TEXT;
ALTER TABLE architecture_patterns ADD COLUMN shipped_id INTEGER;
ALTER TABLE architecture_patterns ADD COLUMN edited INTEGER NOT NULL DEFAULT 1 CHECK (edited IN (0, 1));

-- Whole rules in the notation of the built-in ones: the lines of a `[[rule]]`, without that line and without a name.
CREATE TABLE custom_rules (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL UNIQUE,
    notation  TEXT NOT NULL,
    enabled   INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1))
) STRICT;

-- Shipped rows that the user deleted.
CREATE TABLE removed_rules (
    table_name  TEXT NOT NULL,
    shipped_id  INTEGER NOT NULL,
    PRIMARY KEY (table_name, shipped_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE rules_state (
    id               INTEGER PRIMARY KEY CHECK (id = 1),
    shipped_version  INTEGER NOT NULL
) STRICT;
INSERT INTO rules_state (id, shipped_version) VALUES (1, 0);
