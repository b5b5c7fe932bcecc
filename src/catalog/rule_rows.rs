//! The rules a user may edit: `classification.db` kept in step with the program, and the user's rows of it.
//!
//! Invariants: a row that a user added, changed or deleted stays so through every version; all others are what this
//! program ships. Not here: what a row means to a file (`classify`).

use super::cells::{Answer, Cells};
use super::migrations::{Database, open_again};
use super::{Catalog, CatalogError, Reader};
use crate::classify::{UserRule, UserRuleKind};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// Counts up with every change of the shipped rows.
const SHIPPED_VERSION: i64 = 1;
/// The shipped rows, as the first version of the database wrote them.
const SHIPPED: &str = include_str!("schema/classification_1.sql");

/// Tables with shipped rows, and the columns that are their content.
const TABLES: &[(&str, &[&str])] = &[
    ("sub_type_rules", &["primary_type", "sub_type", "pattern", "weight"]),
    ("size_rules", &["primary_type", "base", "min_size", "max_size", "weight"]),
    ("architecture_patterns", &["architecture", "pattern", "primary_type", "weight"]),
];

type Row = (i64, Vec<Value>);

/// Part of the migration to version 2: rows that are as they were shipped are the program's, all others the user's.
pub(super) fn adopt(connection: &Connection) -> Answer<()> {
    let shipped = shipped_rows(SHIPPED)?;
    for ((table, columns), shipped) in TABLES.iter().zip(&shipped) {
        let there = rows_of(connection, table, columns)?;
        for row in &there {
            if shipped.contains(row) {
                connection
                    .execute(&format!("UPDATE {table} SET shipped_id = id, edited = 0 WHERE id = ?1"), [row.0])?;
            } else if shipped.iter().any(|(id, _)| *id == row.0) {
                // Changed before there was a mark for it.
                connection.execute(&format!("UPDATE {table} SET shipped_id = id WHERE id = ?1"), [row.0])?;
            }
        }
        for (id, _) in shipped.iter().filter(|(id, _)| !there.iter().any(|(known, _)| known == id)) {
            connection
                .execute("INSERT INTO removed_rules (table_name, shipped_id) VALUES (?1, ?2)", params![table, id])?;
        }
        let content = columns.join(", ");
        connection.execute_batch(&format!(
            "CREATE TRIGGER {table}_edited AFTER UPDATE OF {content} ON {table} WHEN NEW.edited = 0 BEGIN \
               UPDATE {table} SET edited = 1 WHERE id = NEW.id; END; \
             CREATE TRIGGER {table}_removed AFTER DELETE ON {table} WHEN OLD.shipped_id IS NOT NULL BEGIN \
               INSERT OR IGNORE INTO removed_rules (table_name, shipped_id) VALUES ('{table}', OLD.shipped_id); END;"
        ))?;
    }
    Ok(())
}

/// Brings the rows that are the program's up to its version.
pub(super) fn bring_up_to_date(connection: &mut Connection) -> Answer<()> {
    let version: i64 = connection.query_row("SELECT shipped_version FROM rules_state", [], |row| row.get(0))?;
    if version == SHIPPED_VERSION {
        return Ok(());
    }
    let shipped = shipped_rows(SHIPPED)?;
    replace(connection, &shipped, SHIPPED_VERSION)
}

fn replace(connection: &mut Connection, shipped: &[Vec<Row>], version: i64) -> Answer<()> {
    let transaction = connection.transaction()?;
    for ((table, columns), shipped) in TABLES.iter().zip(shipped) {
        for (id, values) in shipped {
            write_shipped(&transaction, table, columns, *id, values)?;
        }
        let known: Vec<String> = shipped.iter().map(|(id, _)| id.to_string()).collect();
        let gone = format!("edited = 0 AND shipped_id NOT IN ({})", known.join(","));
        transaction.execute(&format!("DELETE FROM {table} WHERE {gone}"), [])?;
        transaction.execute(
            &format!(
                "DELETE FROM removed_rules WHERE table_name = '{table}' AND shipped_id NOT IN ({})",
                known.join(",")
            ),
            [],
        )?;
    }
    transaction.execute("UPDATE rules_state SET shipped_version = ?1", [version])?;
    Ok(transaction.commit()?)
}

fn write_shipped(connection: &Connection, table: &str, columns: &[&str], id: i64, values: &[Value]) -> Answer<()> {
    let removed = "SELECT 1 FROM removed_rules WHERE table_name = ?1 AND shipped_id = ?2";
    if connection.prepare_cached(removed)?.exists(params![table, id])? {
        return Ok(());
    }
    let known = format!("SELECT edited FROM {table} WHERE shipped_id = ?1");
    let edited: Option<bool> = connection.query_row(&known, [id], |row| row.get(0)).optional()?;
    let all = || values.iter().cloned().chain([Value::Integer(id)]);
    match edited {
        Some(true) => {}
        Some(false) => {
            let set: Vec<String> =
                columns.iter().enumerate().map(|(at, name)| format!("{name} = ?{}", at + 1)).collect();
            let which = columns.len() + 1;
            let sql = format!("UPDATE {table} SET {} WHERE shipped_id = ?{which}", set.join(", "));
            connection.execute(&sql, params_from_iter(all()))?;
            connection.execute(&format!("UPDATE {table} SET edited = 0 WHERE shipped_id = ?1"), [id])?;
        }
        None => {
            let marks: Vec<String> = (1..=columns.len() + 1).map(|at| format!("?{at}")).collect();
            // A user may have written the very same row before.
            let sql = format!(
                "INSERT OR IGNORE INTO {table} ({}, shipped_id, edited) VALUES ({}, 0)",
                columns.join(", "),
                marks.join(", ")
            );
            connection.execute(&sql, params_from_iter(all()))?;
        }
    }
    Ok(())
}

/// The rows of each table that a schema text inserts.
fn shipped_rows(sql: &str) -> Answer<Vec<Vec<Row>>> {
    let memory = Connection::open_in_memory()?;
    memory.execute_batch(sql)?;
    TABLES.iter().map(|(table, columns)| rows_of(&memory, table, columns)).collect()
}

fn rows_of(connection: &Connection, table: &str, columns: &[&str]) -> Answer<Vec<Row>> {
    let mut statement = connection.prepare(&format!("SELECT id, {} FROM {table} ORDER BY id", columns.join(", ")))?;
    let rows = statement.query_map([], |row| {
        let values = (1..=columns.len()).map(|at| row.get(at)).collect::<Result<Vec<Value>, _>>()?;
        Ok((row.get(0)?, values))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Which state of the rules was seen: size and time of the database and of its log. Any write changes one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RulesStamp([Option<(u64, SystemTime)>; 2]);

impl Catalog {
    /// `None` where the file system keeps no times: then nothing is known about changes.
    pub fn rules_stamp(&self) -> Option<RulesStamp> {
        let database = self.path(Database::Rules);
        let mut log = database.clone().into_os_string();
        log.push("-wal");
        let of = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        };
        let stamps = [of(&database), of(Path::new(&log))];
        stamps[0].map(|_| RulesStamp(stamps))
    }

    /// Rules that a user added or changed, in the order of their rows.
    pub fn user_rules(&self) -> Result<Vec<UserRule>, CatalogError> {
        let connection = open_again(&self.path(Database::Rules))?;
        let reader = Reader::new(&connection);
        let mut found = Vec::new();
        let sub_types =
            "SELECT id, primary_type, sub_type, pattern, weight FROM sub_type_rules WHERE edited = 1 ORDER BY id";
        found.extend(reader.all(sub_types, [], "sub_type_rules", |cells| {
            rule("sub_type_rules", cells, |cells| {
                Ok(UserRuleKind::SubType {
                    model_type: cells.text(1)?.to_owned(),
                    sub_type: cells.text(2)?.to_owned(),
                    words: cells.text(3)?.to_owned(),
                    weight: cells.real(4)? as f32,
                })
            })
        })?);
        let sizes =
            "SELECT id, primary_type, base, min_size, max_size, weight FROM size_rules WHERE edited = 1 ORDER BY id";
        found.extend(reader.all(sizes, [], "size_rules", |cells| {
            rule("size_rules", cells, |cells| {
                Ok(UserRuleKind::Size {
                    model_type: cells.text(1)?.to_owned(),
                    base: cells.optional_string(2)?,
                    bytes: [cells.number(3)?, cells.number(4)?],
                    weight: cells.real(5)? as f32,
                })
            })
        })?);
        let patterns =
            "SELECT id, primary_type, pattern, base, weight FROM architecture_patterns WHERE edited = 1 ORDER BY id";
        found.extend(reader.all(patterns, [], "architecture_patterns", |cells| {
            rule("architecture_patterns", cells, |cells| {
                Ok(UserRuleKind::Tensors {
                    model_type: cells.text(1)?.to_owned(),
                    pattern: cells.text(2)?.to_owned(),
                    base: cells.optional_string(3)?,
                    weight: cells.real(4)? as f32,
                })
            })
        })?);
        let custom = "SELECT name, notation FROM custom_rules WHERE enabled = 1 ORDER BY id";
        found.extend(reader.all(custom, [], "custom_rules", |cells| {
            let place = format!("custom_rules `{}`", cells.text(0)?);
            Ok(UserRule { place, says: UserRuleKind::Notation(cells.text(1)?.to_owned()) })
        })?);
        Ok(found)
    }
}

fn rule(table: &str, cells: Cells<'_>, read: impl FnOnce(Cells<'_>) -> Answer<UserRuleKind>) -> Answer<UserRule> {
    Ok(UserRule { place: format!("{table} row {}", cells.integer(0)?), says: read(cells)? })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, store};
    use super::*;

    fn open(folder: &std::path::Path) -> Connection {
        Connection::open(folder.join("classification.db")).expect("open")
    }

    #[test]
    fn only_rows_of_the_user_take_part() {
        let Store { catalog, folder } = store();
        assert_eq!(catalog.user_rules().expect("readable"), []);
        let edits = "UPDATE size_rules SET max_size = max_size + 1 WHERE id = 1;
            INSERT INTO architecture_patterns (architecture, pattern, primary_type, base, weight)
                VALUES ('mine', 'my_block.', 'upscaler', NULL, 0.9);
            INSERT INTO custom_rules (name, notation) VALUES ('x', 'method = \"name\"');
            DELETE FROM sub_type_rules WHERE id = 2;";
        open(folder.path()).execute_batch(edits).expect("edited");
        let places: Vec<String> = catalog.user_rules().expect("readable").into_iter().map(|rule| rule.place).collect();
        assert_eq!(places.len(), 3, "{places:?}");
        assert_eq!(places[0], "size_rules row 1");
        assert!(places[1].starts_with("architecture_patterns row") && places[2] == "custom_rules `x`", "{places:?}");
    }

    #[test]
    fn shipped_rows_are_replaced_where_nobody_edited_them() {
        let Store { catalog, folder } = store();
        drop(catalog);
        let mut connection = open(folder.path());
        connection
            .execute_batch(
                "UPDATE sub_type_rules SET weight = 0.11 WHERE id = 1; DELETE FROM sub_type_rules WHERE id = 2;
                 INSERT INTO sub_type_rules (primary_type, sub_type, pattern, weight) VALUES ('lora', 'x', 'mine', 0.2);",
            )
            .expect("edited");
        let mut shipped = shipped_rows(SHIPPED).expect("rows");
        for (_, values) in &mut shipped[0] {
            values[3] = Value::Real(0.33);
        }
        // One is no longer shipped.
        let last = shipped[0].pop().expect("rows").0;
        replace(&mut connection, &shipped, 2).expect("replaced");
        let weights = |which: &str| -> Vec<f64> {
            let mut statement = connection
                .prepare(&format!("SELECT weight FROM sub_type_rules WHERE {which} ORDER BY id"))
                .expect("sql");
            let rows = statement.query_map([], |row| row.get(0)).expect("rows");
            rows.map(|row| row.expect("a number")).collect()
        };
        assert_eq!(weights("id = 1"), [0.11], "edited: stays");
        assert_eq!(weights("id = 2").len() + weights(&format!("id = {last}")).len(), 0, "deleted, no longer shipped");
        assert_eq!(weights("pattern = 'mine'"), [0.2]);
        let others = weights("edited = 0");
        assert!(others.len() > 5 && others.iter().all(|weight| *weight == 0.33), "{others:?}");
    }

    #[test]
    fn rows_that_were_edited_before_there_was_a_mark_are_the_users() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let old = open(folder.path());
        old.execute_batch(SHIPPED).expect("the first schema");
        old.execute_batch(
            "UPDATE size_rules SET weight = 0.05 WHERE id = 3; DELETE FROM size_rules WHERE id = 4; PRAGMA user_version = 1;",
        )
        .expect("edited");
        drop(old);
        let catalog = Catalog::create(folder.path()).expect("brought up to date");
        let found = catalog.user_rules().expect("readable");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].place, "size_rules row 3");
        let gone: i64 = open(folder.path())
            .query_row("SELECT COUNT(*) FROM size_rules WHERE id = 4", [], |row| row.get(0))
            .expect("sql");
        assert_eq!(gone, 0);
    }
}
