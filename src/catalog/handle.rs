//! Opening the databases; one writer, many readers; noticing what other processes wrote.
//!
//! Lock order: `writer`, then `readers`. `writer` is held for one transaction, which is what serialises the threads of
//! this process; other processes are held off by SQLite. `readers` is held only to take out or put back a connection.
//! Never ask for `write` inside `write`: the inner one would wait for the outer one until its bound.

use super::cells::Answer;
use super::migrations::{Absent, BUSY_WAIT, Database, open_again, open_and_migrate};
use super::{CatalogError, Reader, Watcher, Writer, rule_rows, seed};
use crate::base::Timestamp;
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Idle connections kept for readers: one per core of a small machine. More readers at once open their own and close
/// it again, so that a read inside a read can never wait for itself.
const READERS_IDLE_MAX: usize = 4;
/// Pages that a reader keeps: what searches of a large collection look into again and again; all of them together stay a
/// small part of the memory of a mount.
const READER_CACHE_KIB: i64 = 8 << 10;
/// Findings of `check` that are reported; a broken database may have millions.
const FINDINGS_MAX: usize = 100;

/// Both databases of one store. Cheap to clone; shared by threads.
#[derive(Clone)]
pub struct Catalog {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    writer: Mutex<Option<Connection>>,
    readers: Mutex<Vec<Connection>>,
}

impl Catalog {
    /// Makes the databases where they are missing and brings older ones up to date. A newer schema is refused.
    pub fn create(root: &Path) -> Result<Self, CatalogError> {
        Self::start(root, Absent::Create)
    }

    /// As `create`, but a missing database is an error.
    pub fn open(root: &Path) -> Result<Self, CatalogError> {
        Self::start(root, Absent::Refuse)
    }

    fn start(root: &Path, absent: Absent) -> Answer<Self> {
        let connection = open_and_migrate(&root.join(Database::Facts.file_name()), Database::Facts, absent)?;
        // Whoever takes away the rules wants the first ones back.
        let mut rules = open_and_migrate(&root.join(Database::Rules.file_name()), Database::Rules, Absent::Create)?;
        rule_rows::bring_up_to_date(&mut rules)?;
        let shared = Shared { root: root.to_owned(), writer: Mutex::new(Some(connection)), readers: Mutex::default() };
        let catalog = Self { shared: Arc::new(shared) };
        if !catalog.read(seed::is_complete)? {
            catalog.write(seed::now(), seed::complete)?;
        }
        // A newer program may know more applications than the one that made the store.
        if !catalog.read(seed::targets_are_current)? {
            catalog.write(seed::now(), seed::update_targets)?;
        }
        Ok(catalog)
    }

    pub(super) fn path(&self, database: Database) -> PathBuf {
        self.shared.root.join(database.file_name())
    }

    /// Everything read inside sees one state of the database.
    pub fn read<T, E: From<CatalogError>>(&self, work: impl FnOnce(&Reader<'_>) -> Result<T, E>) -> Result<T, E> {
        let idle = self.shared.readers.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open_reader()?,
        };
        let answer = {
            let transaction = begin(&connection, TransactionBehavior::Deferred)?;
            work(&Reader::new(&transaction))
        };
        let mut idle = self.shared.readers.lock();
        if idle.len() < READERS_IDLE_MAX && connection.is_autocommit() {
            idle.push(connection);
        }
        answer
    }

    fn open_reader(&self) -> Answer<Connection> {
        let connection = open_again(&self.path(Database::Facts))?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        Ok(connection)
    }

    /// One transaction: all of it happens or nothing. A new revision begins with it; `now` is the time of what changes.
    /// Waits (bounded) for other processes' writes.
    pub fn write<T, E: From<CatalogError>>(
        &self,
        now: Timestamp,
        work: impl FnOnce(&mut Writer<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut slot = self.shared.writer.try_lock_for(BUSY_WAIT).ok_or(CatalogError::Busy)?;
        let connection = match slot.take() {
            Some(connection) => connection,
            None => open_again(&self.path(Database::Facts))?,
        };
        let answer = transact(&connection, now, work);
        // A connection that could not even roll back is not used again.
        if connection.is_autocommit() {
            *slot = Some(connection);
        }
        answer
    }

    pub fn watcher(&self) -> Result<Watcher, CatalogError> {
        Ok(Watcher::new(self.open_reader()?, &self.shared.root))
    }

    /// `PRAGMA quick_check` and foreign keys of both databases; what is wrong, in words.
    pub fn check(&self) -> Result<Vec<String>, CatalogError> {
        let mut findings = Vec::new();
        for database in Database::ALL {
            let connection = open_again(&self.path(database))?;
            check_pages(&connection, database, &mut findings)?;
            check_references(&connection, database, &mut findings)?;
        }
        Ok(findings)
    }
}

fn transact<T, E: From<CatalogError>>(
    connection: &Connection,
    now: Timestamp,
    work: impl FnOnce(&mut Writer<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = begin(connection, TransactionBehavior::Immediate)?;
    let value = work(&mut Writer::new(&transaction, now))?;
    transaction.commit().map_err(CatalogError::from)?;
    Ok(value)
}

fn begin(connection: &Connection, behavior: TransactionBehavior) -> Answer<Transaction<'_>> {
    Ok(Transaction::new_unchecked(connection, behavior)?)
}

fn check_pages(connection: &Connection, database: Database, findings: &mut Vec<String>) -> Answer<()> {
    let mut statement = connection.prepare(&format!("PRAGMA quick_check({FINDINGS_MAX})"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        if text != "ok" {
            findings.push(format!("{}: {text}", database.file_name()));
        }
    }
    Ok(())
}

fn check_references(connection: &Connection, database: Database, findings: &mut Vec<String>) -> Answer<()> {
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if findings.len() >= FINDINGS_MAX {
            break;
        }
        let (table, id, parent): (String, Option<i64>, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let id = id.map_or_else(|| "?".to_owned(), |id| id.to_string());
        findings.push(format!(
            "{}: table {table}, row {id} names a row of {parent} that is not there",
            database.file_name()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, add, at, model_count, name, path, snapshot, store, write};
    use super::*;
    use crate::base::FaultKind;
    use crate::tree::Occupant;
    use std::sync::mpsc;

    #[test]
    fn the_statements_people_use_answer() {
        let Store { catalog, folder } = store();
        write(&catalog, |writer| add(writer, 1));
        let connection = Connection::open(folder.path().join("modelhub.db")).expect("an open database");
        let count = "SELECT primary_type, COUNT(*) FROM models WHERE deleted = 0 GROUP BY primary_type";
        let found: (String, i64) =
            connection.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("one type");
        assert_eq!(found, ("lora".to_owned(), 1));
        let mut statement = connection
            .prepare("SELECT name, display_name, enabled FROM deploy_targets")
            .expect("the columns are there");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("rows");
        let rows: Vec<(String, String, bool)> = rows.map(|row| row.expect("typed columns")).collect();
        assert!(rows.contains(&("comfyui".to_owned(), "ComfyUI".to_owned(), true)), "{rows:?}");
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let Store { catalog, folder: _folder } = store();
        write(&catalog, |writer| add(writer, 1));
        let before = snapshot(&catalog);
        let failed: Result<(), CatalogError> = catalog.write(at(5), |writer| {
            add(writer, 2)?;
            writer.touch_directory(None)?;
            Err(CatalogError::ReadOnly)
        });
        assert!(matches!(failed, Err(CatalogError::ReadOnly)));
        assert_eq!(snapshot(&catalog), before);
    }

    #[test]
    fn a_reader_sees_one_state() {
        let Store { catalog, folder: _folder } = store();
        catalog
            .read(|reader| {
                let before = reader.snapshot()?;
                write(&catalog, |writer| add(writer, 1));
                assert_eq!(reader.snapshot()?, before);
                assert_eq!(model_count(&catalog), 1, "a new reader sees the write");
                Ok::<(), CatalogError>(())
            })
            .expect("a good read");
    }

    #[test]
    fn handles_of_several_processes_share_one_store() {
        let Store { catalog, folder } = store();
        let other = Catalog::open(folder.path()).expect("a second handle");
        let mut watcher = catalog.watcher().expect("a watcher");
        assert!(watcher.changed().expect("first look"));
        assert!(!watcher.changed().expect("second look"));
        write(&other, |writer| add(writer, 1));
        assert!(watcher.changed().expect("look after a write"));
        assert!(!watcher.changed().expect("look again"));
        assert_eq!(model_count(&catalog), 1);
    }

    #[test]
    fn writers_wait_for_each_other() {
        let Store { catalog, folder } = store();
        let other = Catalog::open(folder.path()).expect("a second handle");
        let writers = [catalog.clone(), catalog.clone(), other.clone(), other];
        let threads: Vec<_> = (0..4_u8)
            .zip(writers)
            .map(|(thread, catalog)| {
                std::thread::spawn(move || {
                    for step in 0..10 {
                        write(&catalog, |writer| add(writer, thread * 10 + step));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no thread fails"));
        assert_eq!(model_count(&catalog), 40);
        assert_eq!(catalog.check().expect("a check"), Vec::<String>::new());
    }

    #[test]
    fn a_writer_that_waits_in_vain_is_told_so() {
        let Store { catalog: _catalog, folder } = store();
        let file = folder.path().join("modelhub.db");
        let holder = Connection::open(&file).expect("an open database");
        holder.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
        let waiting = open_again(&file).expect("a second connection");
        waiting.busy_timeout(std::time::Duration::ZERO).expect("no waiting in a test");
        let error = transact(&waiting, at(0), |writer| writer.touch_directory(None)).expect_err("busy");
        assert_eq!(error.fault().kind, FaultKind::Busy);
        holder.execute_batch("ROLLBACK").expect("the lock is given back");
        transact(&waiting, at(0), |writer| writer.touch_directory(None)).expect("free again");
    }

    #[test]
    fn a_store_may_be_made_by_several_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (send, receive) = mpsc::channel();
        for _ in 0..4 {
            let (root, send) = (folder.path().to_owned(), send.clone());
            std::thread::spawn(move || send.send(Catalog::create(&root).map(drop)));
        }
        drop(send);
        let made: Vec<_> = receive.iter().collect();
        assert!(made.len() == 4 && made.iter().all(Result::is_ok), "{made:?}");
        let catalog = Catalog::open(folder.path()).expect("an open store");
        assert!(catalog.check().expect("a check").is_empty());
    }

    #[test]
    fn a_full_disk_changes_nothing() {
        let Store { catalog, folder } = store();
        let before = snapshot(&catalog);
        let connection = open_again(&folder.path().join("modelhub.db")).expect("a connection");
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).expect("a number");
        for extra in 0..12 {
            let limit = format!("PRAGMA max_page_count = {}", pages + extra);
            connection.query_row(&limit, [], |_| Ok(())).expect("a smaller disk");
            let failed = transact(&connection, at(9), |writer| {
                (0..60).try_for_each(|number| {
                    let (_, model) = add(writer, number)?;
                    let home = path("comfyui/loras");
                    writer.give_name(&home, Occupant::Model(model), &name(&format!("{number}.pt")), None, false)
                })
            });
            assert_eq!(failed.expect_err("the disk is full").fault().kind, FaultKind::NoSpace, "{extra} pages");
            assert!(connection.is_autocommit(), "rolled back");
            assert_eq!(snapshot(&catalog), before, "{extra} pages");
        }
        assert!(catalog.check().expect("a check").is_empty());
    }

    #[test]
    fn a_panic_inside_a_write_leaves_nothing_behind() {
        let Store { catalog, folder: _folder } = store();
        let broken = catalog.clone();
        let thread = std::thread::spawn(move || {
            broken.write(at(1), |writer| -> Result<(), CatalogError> {
                add(writer, 1)?;
                panic!("on purpose");
            })
        });
        assert!(thread.join().is_err());
        assert_eq!(model_count(&catalog), 0);
        write(&catalog, |writer| add(writer, 1));
    }
}
