-- modelhub.db, version 1. A released migration is never edited: later changes are new files beside this one.
--
-- Times are nanoseconds since 1970 in columns that end in _ns; the text times of `models` are for people. Keys are
-- AUTOINCREMENT because inode numbers are made of them: a number that was used once never means something else.

PRAGMA application_id = 0x6D66736D; -- 'mfsm': tells this database from any other SQLite file

CREATE TABLE catalog_state (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    revision       INTEGER NOT NULL,
    root_mtime_ns  INTEGER NOT NULL,
    root_revision  INTEGER NOT NULL
) STRICT;

-- For people; the program itself goes by PRAGMA user_version. Each migration adds its row.
CREATE TABLE schema_version (
    version     INTEGER PRIMARY KEY,
    applied_at  TEXT NOT NULL
) STRICT;
INSERT INTO schema_version (version, applied_at) VALUES (1, datetime('now'));

-- One content each, whether its bytes are here or not.
CREATE TABLE blobs (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    sha256    BLOB UNIQUE CHECK (length(sha256) = 32),
    size      INTEGER NOT NULL CHECK (size >= 0),
    state     TEXT NOT NULL CHECK (state IN ('remote', 'partial', 'resident')),
    mtime_ns  INTEGER NOT NULL,
    name      TEXT NOT NULL,
    blake3    BLOB CHECK (length(blake3) = 32),
    crc32     BLOB CHECK (length(crc32) = 4),
    autov1    TEXT,
    autov3    TEXT,
    etag      TEXT,
    error     TEXT,
    revision  INTEGER NOT NULL
) STRICT;
CREATE INDEX blobs_by_revision ON blobs (revision);
CREATE INDEX blobs_by_blake3 ON blobs (blake3) WHERE blake3 IS NOT NULL;
CREATE INDEX blobs_by_crc32 ON blobs (crc32) WHERE crc32 IS NOT NULL;
CREATE INDEX blobs_by_autov1 ON blobs (autov1) WHERE autov1 IS NOT NULL;
CREATE INDEX blobs_by_autov3 ON blobs (autov3) WHERE autov3 IS NOT NULL;

-- What is kept of a file's first bytes, so that nothing needs the file again to judge it anew.
CREATE TABLE headers (
    blob_id  INTEGER PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE,
    record   BLOB NOT NULL
) STRICT;

-- Contents that lie outside the store (`import --mode link`). Paths are bytes: they need not be UTF-8.
CREATE TABLE links (
    blob_id   INTEGER PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE,
    path      BLOB NOT NULL,
    size      INTEGER NOT NULL,
    mtime_ns  INTEGER NOT NULL,
    inode     INTEGER NOT NULL,
    device    INTEGER NOT NULL
) STRICT;

-- Where a content is known from. A local path may have held several contents one after the other.
CREATE TABLE origins (
    id        INTEGER PRIMARY KEY,
    blob_id   INTEGER NOT NULL REFERENCES blobs (id) ON DELETE CASCADE,
    source    TEXT NOT NULL,
    repo      TEXT NOT NULL,
    revision  TEXT NOT NULL,
    path      TEXT NOT NULL,
    UNIQUE (source, repo, revision, path, blob_id)
) STRICT;
CREATE INDEX origins_by_blob ON origins (blob_id);

-- Paths that were imported, so that an unchanged file is not read again.
CREATE TABLE imports (
    path         BLOB PRIMARY KEY,
    size         INTEGER NOT NULL,
    mtime_ns     INTEGER NOT NULL,
    inode        INTEGER NOT NULL,
    device       INTEGER NOT NULL,
    blob_id      INTEGER NOT NULL REFERENCES blobs (id) ON DELETE CASCADE,
    saved_bytes  INTEGER NOT NULL CHECK (saved_bytes >= 0)
) STRICT, WITHOUT ROWID;
CREATE INDEX imports_by_blob ON imports (blob_id);

-- One model per content. The first block of columns is ModelHub's, the second ours.
CREATE TABLE models (
    id                     INTEGER PRIMARY KEY AUTOINCREMENT,
    file_hash              TEXT UNIQUE,
    filename               TEXT NOT NULL,
    file_size              INTEGER NOT NULL,
    file_extension         TEXT NOT NULL,
    primary_type           TEXT NOT NULL,
    sub_type               TEXT,
    triggers               TEXT NOT NULL DEFAULT '[]',
    confidence             REAL NOT NULL DEFAULT 0,
    classification_method  TEXT NOT NULL DEFAULT 'none',
    tensor_count           INTEGER,
    architecture           TEXT,
    precision              TEXT,
    quantization           TEXT,
    filename_score         REAL NOT NULL DEFAULT 0,
    size_score             REAL NOT NULL DEFAULT 0,
    metadata_score         REAL NOT NULL DEFAULT 0,
    tensor_score           REAL NOT NULL DEFAULT 0,
    reclassify             INTEGER NOT NULL DEFAULT 0,
    deleted                INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
    debug_info             TEXT,
    classified_at          TEXT,
    created_at             TEXT NOT NULL,
    updated_at             TEXT NOT NULL,

    blob_id                INTEGER NOT NULL UNIQUE REFERENCES blobs (id),
    base                   TEXT,
    format                 TEXT NOT NULL,
    folders                TEXT NOT NULL DEFAULT '[]',
    sources                TEXT NOT NULL,
    creator                TEXT,
    license                TEXT,
    added_ns               INTEGER NOT NULL,
    revision               INTEGER NOT NULL
) STRICT;
CREATE INDEX models_by_revision ON models (revision);
CREATE INDEX models_by_filename ON models (filename);
CREATE INDEX models_by_stem ON models (substr(filename, 1, length(filename) - length(file_extension)));
CREATE INDEX models_by_type ON models (primary_type) WHERE deleted = 0;

CREATE TABLE model_metadata (
    id             INTEGER PRIMARY KEY,
    model_id       INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    metadata_type  TEXT NOT NULL,
    key            TEXT NOT NULL,
    value          TEXT,
    UNIQUE (model_id, metadata_type, key)
) STRICT;

CREATE TABLE tags (
    model_id  INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    tag       TEXT NOT NULL,
    PRIMARY KEY (model_id, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_tag ON tags (tag);

-- Why a model was judged as it is, one JSON line each.
CREATE TABLE evidence (
    model_id  INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    line      TEXT NOT NULL,
    PRIMARY KEY (model_id, position)
) STRICT, WITHOUT ROWID;

-- Models and bundles that are no longer shown, for followers that knew them. kind: 0 model, 1 bundle.
CREATE TABLE gone (
    kind      INTEGER NOT NULL CHECK (kind IN (0, 1)),
    id        INTEGER NOT NULL,
    revision  INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX gone_by_revision ON gone (revision);

-- Folders of files that belong together, and registered repositories.
CREATE TABLE bundles (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    name            TEXT NOT NULL,
    in_views        INTEGER NOT NULL CHECK (in_views IN (0, 1)),
    primary_type    TEXT NOT NULL,
    base            TEXT,
    sources         TEXT NOT NULL,
    hub_source      TEXT,
    repo            TEXT,
    directory_name  TEXT,
    commit_id       TEXT,
    mtime_ns        INTEGER NOT NULL,
    deleted         INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
    revision        INTEGER NOT NULL,
    CHECK ((hub_source IS NULL) = (repo IS NULL) AND (repo IS NULL) = (directory_name IS NULL))
) STRICT;
CREATE INDEX bundles_by_revision ON bundles (revision);
CREATE UNIQUE INDEX bundles_by_commit ON bundles (hub_source, repo, commit_id);

CREATE TABLE bundle_files (
    bundle_id  INTEGER NOT NULL REFERENCES bundles (id) ON DELETE CASCADE,
    path       TEXT NOT NULL,
    blob_id    INTEGER NOT NULL REFERENCES blobs (id),
    PRIMARY KEY (bundle_id, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX bundle_files_by_blob ON bundle_files (blob_id);

-- Directories whose number and time are kept; the root's time is in catalog_state.
CREATE TABLE directories (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    path       TEXT NOT NULL UNIQUE,
    mtime_ns   INTEGER NOT NULL,
    bundle_id  INTEGER REFERENCES bundles (id),
    revision   INTEGER NOT NULL
) STRICT;
CREATE INDEX directories_by_revision ON directories (revision);
CREATE INDEX directories_by_bundle ON directories (bundle_id) WHERE bundle_id IS NOT NULL;

-- Every name ever given. occupant_kind: 0 model, 1 bundle. There is about one row per model and directory that shows
-- it, so kinds and flags are 0 and 1, which take no bytes, and only what is asked for is indexed.
CREATE TABLE placements (
    directory_id   INTEGER NOT NULL REFERENCES directories (id),
    name           TEXT NOT NULL,
    stem           TEXT,
    occupant_kind  INTEGER NOT NULL CHECK (occupant_kind IN (0, 1)),
    occupant_id    INTEGER NOT NULL,
    is_default     INTEGER NOT NULL CHECK (is_default IN (0, 1)),
    revision       INTEGER NOT NULL,
    PRIMARY KEY (directory_id, name)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX placements_by_occupant ON placements (occupant_kind, occupant_id, directory_id);
CREATE INDEX placements_by_stem ON placements (directory_id, stem) WHERE stem IS NOT NULL;
CREATE INDEX placements_marked ON placements (revision) WHERE is_default = 0;

-- The applications; base_path is the directory in the mount. Rows with builtin = 1 follow the program's own list.
CREATE TABLE deploy_targets (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT NOT NULL UNIQUE,
    display_name  TEXT NOT NULL,
    base_path     TEXT NOT NULL,
    enabled       INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    position      INTEGER NOT NULL,
    builtin       INTEGER NOT NULL CHECK (builtin IN (0, 1)),
    revision      INTEGER NOT NULL
) STRICT;
CREATE INDEX deploy_targets_by_revision ON deploy_targets (revision);

-- One row per folder, in search order; without a model_type the folder only has to exist. Lists are JSON arrays.
CREATE TABLE deploy_mappings (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    target_id          INTEGER NOT NULL REFERENCES deploy_targets (id) ON DELETE CASCADE,
    model_type         TEXT,
    folder_path        TEXT NOT NULL,
    position           INTEGER NOT NULL,
    suffixes           TEXT NOT NULL DEFAULT '[]',
    excluded_suffixes  TEXT NOT NULL DEFAULT '[]',
    directories        INTEGER NOT NULL DEFAULT 0 CHECK (directories IN (0, 1)),
    bases              TEXT NOT NULL DEFAULT '[]',
    matching           TEXT NOT NULL DEFAULT 'relative' CHECK (matching IN ('relative', 'stem')),
    UNIQUE (target_id, position)
) STRICT;

CREATE TABLE deploy_links (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    model_id     INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    target_id    INTEGER NOT NULL REFERENCES deploy_targets (id) ON DELETE CASCADE,
    source_path  TEXT NOT NULL,
    deploy_path  TEXT NOT NULL UNIQUE,
    is_deployed  INTEGER NOT NULL DEFAULT 1 CHECK (is_deployed IN (0, 1)),
    deployed_at  TEXT NOT NULL
) STRICT;
CREATE INDEX deploy_links_by_model ON deploy_links (model_id);

-- Queries made with mkdir; they outlive a mount.
CREATE TABLE searches (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    path      TEXT NOT NULL UNIQUE,
    made_ns   INTEGER NOT NULL
) STRICT;

-- Full text; the row number is the model's id. Contentless: the words are in the tables above. Trigrams find parts of
-- words, as file names need it. Kept by the writer, which knows when a model is complete.
CREATE VIRTUAL TABLE model_text USING fts5 (
    name, tags, triggers, description, creator,
    content = '', contentless_delete = 1, tokenize = 'trigram'
);
