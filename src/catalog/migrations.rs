//! Opening a database file: its settings, its identity, and bringing its schema up to date.
//!
//! Invariants: a newer schema or another program's file is refused before anything is changed; schema and first rows
//! come in one transaction, so a half-made database is never seen. Not here: what the first rows are (`seed`).

use super::cells::Answer;
use super::{CatalogError, rule_rows, seed};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use rusqlite_migration::{HookError, M, Migrations};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a statement waits for other processes. Longest write of ours: an import batch, well under a second; a
/// checkpoint on a slow disk, a few. More would look like a hang.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(10);
/// Pause between attempts where SQLite does not wait by itself: switching to WAL, and the last closing of one.
const OPEN_PAUSE: Duration = Duration::from_millis(10);
/// Another process may bring the schema up to date at the same moment; whoever loses looks again.
const MIGRATION_ATTEMPTS_MAX: u32 = 3;
/// Statements kept compiled per connection: all of ours, so that none is compiled twice.
const STATEMENTS_MAX: usize = 160;
/// Largest log left after a checkpoint; a large import may grow it meanwhile.
const WAL_BYTES_MAX: i64 = 64 << 20;

/// One of the two files of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Database {
    Facts,
    Rules,
}

impl Database {
    pub const ALL: [Self; 2] = [Self::Facts, Self::Rules];

    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Facts => "modelhub.db",
            Self::Rules => "classification.db",
        }
    }

    const fn application_id(self) -> i64 {
        match self {
            Self::Facts => 0x6D66_736D,
            Self::Rules => 0x6D66_7363,
        }
    }

    /// In order; the number of the last one is the schema's version (`PRAGMA user_version`).
    fn steps(self) -> Vec<M<'static>> {
        match self {
            Self::Facts => vec![
                M::up_with_hook(include_str!("schema/modelhub_1.sql"), |transaction| {
                    seed::seed(transaction).map_err(hook_error)
                }),
                M::up(include_str!("schema/modelhub_2.sql")),
                M::up(include_str!("schema/modelhub_3.sql")),
                M::up(include_str!("schema/modelhub_4.sql")),
                M::up(include_str!("schema/modelhub_5.sql")),
                M::up(include_str!("schema/modelhub_6.sql")),
                M::up(include_str!("schema/modelhub_7.sql")),
                M::up(include_str!("schema/modelhub_8.sql")),
                M::up(include_str!("schema/modelhub_9.sql")),
                M::up(include_str!("schema/modelhub_10.sql")),
            ],
            Self::Rules => vec![
                M::up(include_str!("schema/classification_1.sql")),
                M::up_with_hook(include_str!("schema/classification_2.sql"), |transaction| {
                    rule_rows::adopt(transaction).map_err(hook_error)
                }),
            ],
        }
    }
}

fn hook_error(error: CatalogError) -> HookError {
    match error {
        CatalogError::Sql(error) => HookError::RusqliteError(error),
        other => HookError::Hook(other.to_string()),
    }
}

/// What to do with a database that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Absent {
    Create,
    Refuse,
}

/// Opens the file, checks whose it is and migrates it.
pub(super) fn open_and_migrate(path: &Path, database: Database, absent: Absent) -> Answer<Connection> {
    if absent == Absent::Refuse && !path.exists() {
        return Err(CatalogError::Missing { path: path.to_owned() });
    }
    let deadline = Instant::now() + BUSY_WAIT;
    loop {
        match try_open_and_migrate(path, database) {
            Err(CatalogError::Busy) if Instant::now() < deadline => std::thread::sleep(OPEN_PAUSE),
            other => return other,
        }
    }
}

fn try_open_and_migrate(path: &Path, database: Database) -> Answer<Connection> {
    let mut connection = open_connection(path, OpenFlags::SQLITE_OPEN_CREATE)?;
    let unreadable = |error| named(error, path);
    check_identity(&connection, path, database).map_err(unreadable)?;
    prepare_log(&connection, database).map_err(unreadable)?;
    let mut attempt = 1;
    loop {
        let before = schema_version(&connection)?;
        match migrate(&mut connection, database) {
            Ok(()) => return Ok(connection),
            Err(_) if attempt < MIGRATION_ATTEMPTS_MAX && schema_version(&connection)? != before => attempt += 1,
            Err(error) => return Err(named(error, path)),
        }
    }
}

/// A connection to a database that is known to be ours and current.
pub(super) fn open_again(path: &Path) -> Answer<Connection> {
    open_connection(path, OpenFlags::empty())
}

fn open_connection(path: &Path, extra: OpenFlags) -> Answer<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | extra;
    let settings = |connection: Connection| -> rusqlite::Result<Connection> {
        connection.busy_timeout(BUSY_WAIT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        connection.pragma_update(None, "foreign_keys", true)?;
        // Every commit reaches the disk. NORMAL would only lose the last transactions in a power cut, but `--mode move`
        // and garbage collection take away files on the strength of a row, so the row must be there for good.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(connection)
    };
    let connection =
        Connection::open_with_flags(path, flags).and_then(settings).map_err(|error| named(error.into(), path))?;
    // SQLite quietly opens a file for reading when it may not write it.
    if connection.is_readonly("main")? {
        return Err(CatalogError::CannotOpen { path: path.to_owned(), source: None });
    }
    Ok(connection)
}

/// Errors of opening say which file it was.
fn named(error: CatalogError, path: &Path) -> CatalogError {
    let path = path.to_owned();
    match error {
        CatalogError::ReadOnly => CatalogError::CannotOpen { path, source: None },
        CatalogError::Sql(source) => match source.sqlite_error_code() {
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                CatalogError::CannotOpen { path, source: Some(source) }
            }
            Some(ErrorCode::NotADatabase) => CatalogError::NotACatalog { path },
            _ => CatalogError::Sql(source),
        },
        other => other,
    }
}

fn check_identity(connection: &Connection, path: &Path, database: Database) -> Answer<()> {
    let application_id: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let found = schema_version(connection)?;
    let is_empty = || connection.query_row("SELECT COUNT(*) = 0 FROM sqlite_schema", [], |row| row.get::<_, bool>(0));
    if application_id != database.application_id() && !(application_id == 0 && found == 0 && is_empty()?) {
        return Err(CatalogError::NotACatalog { path: path.to_owned() });
    }
    let supported = i64::try_from(database.steps().len()).expect("a handful of migrations");
    if found > supported {
        return Err(CatalogError::NewerSchema { path: path.to_owned(), found, supported });
    }
    Ok(())
}

/// The facts are read while they are written, hence WAL. The rules are edited by hand, so they stay one file.
fn prepare_log(connection: &Connection, database: Database) -> Answer<()> {
    if database == Database::Rules {
        return Ok(());
    }
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode != "wal" {
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))?;
    }
    Ok(())
}

fn schema_version(connection: &Connection) -> Answer<i64> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn migrate(connection: &mut Connection, database: Database) -> Answer<()> {
    // Takes the write lock first: a lock that is upgraded later fails instead of waiting.
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
    Migrations::new(database.steps()).to_latest(connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => err.into(),
        other => {
            CatalogError::Conflict { what: format!("the schema of {} cannot be made: {other}", database.file_name()) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, add, model_count, read, store, write};
    use super::super::{Catalog, CatalogError};
    use super::*;
    use crate::base::FaultKind;

    #[test]
    fn a_missing_database_is_told_apart_from_a_new_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let fault = Catalog::open(folder.path()).map(drop).expect_err("refused").fault();
        assert_eq!(fault.kind, FaultKind::NotFound);
        assert!(fault.what.contains(".db"), "{}", fault.what);
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0, "nothing was made");
        drop(Catalog::create(folder.path()).expect("made"));
        Catalog::open(folder.path()).expect("there now");
    }

    #[test]
    fn rules_that_were_taken_away_come_back() {
        let Store { catalog, folder } = store();
        drop(catalog);
        std::fs::remove_file(folder.path().join("classification.db")).expect("there");
        Catalog::open(folder.path()).expect("an open store");
        assert!(folder.path().join("classification.db").exists());
    }

    #[test]
    fn opening_again_changes_nothing() {
        let Store { catalog, folder } = store();
        write(&catalog, |writer| add(writer, 1));
        let before = read(&catalog, |reader| reader.snapshot());
        drop(catalog);
        for open in [Catalog::create, Catalog::open] {
            let catalog = open(folder.path()).expect("an open store");
            assert_eq!(read(&catalog, |reader| reader.snapshot()), before);
        }
    }

    #[test]
    fn a_newer_schema_is_refused_by_its_number() {
        let Store { catalog, folder } = store();
        drop(catalog);
        for database in Database::ALL {
            let file = folder.path().join(database.file_name());
            let set = |version: i64| {
                let connection = Connection::open(&file).expect("open");
                connection.pragma_update(None, "user_version", version).expect("set");
            };
            let before = schema_version(&Connection::open(&file).expect("open")).expect("a number");
            set(99);
            let fault = Catalog::create(folder.path()).map(drop).expect_err("refused").fault();
            assert_eq!(fault.kind, FaultKind::Unsupported);
            assert!(fault.what.contains(database.file_name()) && fault.what.contains("99"), "{}", fault.what);
            assert!(fault.remedy.contains("newer modelfs"), "{}", fault.remedy);
            set(before);
        }
        Catalog::open(folder.path()).expect("as before");
    }

    #[test]
    fn what_is_no_catalog_is_refused_and_stays_as_it_was() {
        let text =
            b"This is a text that somebody called modelhub.db, long enough to have a header of a database.".repeat(9);
        let foreign = |file: &Path| {
            Connection::open(file).expect("open").execute_batch("CREATE TABLE notes (text TEXT)").expect("a table");
        };
        for database in Database::ALL {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let file = folder.path().join(database.file_name());
            for make in [&|file: &Path| std::fs::write(file, &text).expect("written"), &foreign as &dyn Fn(&Path)] {
                let _ = std::fs::remove_file(&file);
                make(&file);
                let before = std::fs::read(&file).expect("readable");
                let error = Catalog::create(folder.path()).map(drop).expect_err("refused");
                assert!(matches!(error, CatalogError::NotACatalog { .. }), "{error}");
                assert_eq!(std::fs::read(&file).expect("readable"), before);
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        // A folder where SQLite needs a file of its own is as closed to it as one that cannot be written.
        for (there, named) in [
            ("classification.db", "classification.db"),
            ("modelhub.db", "modelhub.db"),
            ("modelhub.db-wal", "modelhub.db"),
        ] {
            let Store { catalog, folder } = store();
            drop(catalog);
            let file = folder.path().join(there);
            let _ = std::fs::remove_file(&file);
            std::fs::create_dir(&file).expect("a folder in its place");
            for open in [Catalog::create, Catalog::open] {
                let fault = open(folder.path()).map(drop).expect_err(there).fault();
                assert_eq!(fault.kind, FaultKind::ReadOnly, "{there}: {fault}");
                assert!(fault.what.contains(named) && !fault.remedy.is_empty(), "{there}: {fault}");
            }
        }
    }

    #[test]
    fn a_store_without_room_for_the_shared_index_is_only_read() {
        let Store { catalog, folder } = store();
        write(&catalog, |writer| add(writer, 1));
        drop(catalog);
        std::fs::create_dir(folder.path().join("modelhub.db-shm")).expect("a folder in its place");
        let catalog = Catalog::open(folder.path()).expect("readable");
        assert_eq!(model_count(&catalog), 1);
        let error = catalog.write(super::seed::now(), |writer| add(writer, 2)).expect_err("refused");
        assert_eq!(error.fault().kind, FaultKind::ReadOnly, "{error}");
    }

    /// A store as version 1 wrote it, made without any code of ours but its schema.
    #[test]
    fn a_store_of_version_1_opens() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let old = Connection::open(folder.path().join("modelhub.db")).expect("open");
        old.execute_batch(include_str!("schema/modelhub_1.sql")).expect("the schema");
        old.execute_batch(
            "INSERT INTO catalog_state VALUES (1, 3, 50, 0);
             INSERT INTO blobs (id, sha256, size, state, mtime_ns, name, revision)
                VALUES (7, zeroblob(32), 5, 'resident', 40, 'a.pt', 2);
             INSERT INTO models (id, blob_id, filename, file_size, file_extension, primary_type, format, sources,
                added_ns, created_at, updated_at, revision)
                VALUES (9, 7, 'a.pt', 5, '.pt', 'vae', 'torch', 'local', 40, '2024-01-01', '2024-01-01', 3);
             INSERT INTO deploy_targets (name, display_name, base_path, enabled, position, builtin, revision)
                VALUES ('comfyui', 'ComfyUI', 'comfyui', 0, 0, 1, 1), ('vanished', 'Gone', 'vanished', 1, 1, 1, 1),
                    ('mine', 'My own', 'mine', 1, 99, 0, 1);
             PRAGMA user_version = 1;",
        )
        .expect("rows");
        drop(old);
        let catalog = Catalog::create(folder.path()).expect("brought up to date");
        let all = read(&catalog, |reader| reader.snapshot());
        assert_eq!((all.models.len(), all.blobs.len(), model_count(&catalog)), (1, 1, 1));
        let target = |name: &str| all.targets.iter().find(|target| target.name.as_str() == name);
        assert!(!target("comfyui").expect("kept").enabled, "the user's choice stays");
        assert!(target("vanished").is_none() && target("mine").is_some());
        assert!(!target("comfyui").expect("kept").folders.is_empty(), "folders follow the program");
        assert!(all.directories.iter().any(|row| row.path.as_str() == "comfyui/vae"));
        let query = crate::query::Query::parse("a.pt type:vae").expect("a query");
        assert_eq!(read(&catalog, |reader| reader.search(&query, 9)).len(), 1, "what was there is indexed");
    }

    #[test]
    fn the_rules_are_filled_once_and_then_the_users() {
        let Store { catalog, folder } = store();
        drop(catalog);
        let file = folder.path().join("classification.db");
        let connection = Connection::open(&file).expect("open");
        let mut statement = connection.prepare("SELECT name FROM model_types ORDER BY id").expect("the table");
        let words = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
        let words: Vec<String> = words.map(|word| word.expect("text")).collect();
        let expected: Vec<&str> = crate::base::ModelType::ALL.iter().map(|word| word.as_str()).collect();
        assert_eq!(words, expected);
        for table in ["sub_type_rules", "size_rules", "architecture_patterns", "external_apis"] {
            let count = format!("SELECT COUNT(*) FROM {table}");
            let count: i64 = connection.query_row(&count, [], |row| row.get(0)).expect("a table");
            assert!(count >= 3, "{table} has {count} rows");
        }
        connection.execute_batch("UPDATE size_rules SET weight = 0.05; DELETE FROM external_apis").expect("edited");
        Catalog::create(folder.path()).expect("opened again");
        let left: (i64, f64) = connection
            .query_row("SELECT (SELECT COUNT(*) FROM external_apis), max(weight) FROM size_rules", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .expect("a row");
        assert_eq!(left, (0, 0.05));
    }
}
