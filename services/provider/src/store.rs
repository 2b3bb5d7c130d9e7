//! What the provider knows of its functions, over power cuts: one SQLite file.
//!
//! A write that returned is on the disk (WAL, `synchronous=FULL`); one that failed changed nothing.
//! One connection behind a mutex: every call is one short transaction, so callers wait for each
//! other less long than for the disk, and there is never a second writer to be busy for.
mod error;
mod functions;
mod revisions;
mod schema;

use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

pub use error::StoreError;
pub use functions::{FunctionRecord, TrashRecord};
pub use revisions::NewRevision;

/// How long the start waits for another process that has the file open.
const BUSY: Duration = Duration::from_secs(1);

/// The open state file. Calls are synchronous and wait for the disk.
#[derive(Debug)]
pub struct Store {
    db: Mutex<Connection>,
}

impl Store {
    /// Opens the file, makes it if it is missing, brings an older one to today's form, and checks
    /// that it is whole.
    ///
    /// # Errors
    /// `Damaged` or `Newer`, with the way out; or why it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let opening = StoreError::sqlite("opening the state file");
        let mut db = Connection::open(path).map_err(&opening)?;
        // A provider that was just killed may not be gone yet.
        db.busy_timeout(BUSY).map_err(&opening)?;
        schema::set_up(&mut db, path)?;
        // SQLite syncs the file; its name in the folder is ours to sync, once.
        if let Some(parent) = path.parent() {
            File::open(parent)
                .and_then(|dir| dir.sync_all())
                .map_err(|source| StoreError::Io { path: parent.display().to_string(), source })?;
        }
        Ok(Self { db: Mutex::new(db) })
    }

    /// A block of `count` epochs of the route table that nobody had before: its first one. The
    /// provider takes a block at its start and counts within it without the disk.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be written.
    pub fn reserve_epochs(&self, count: u64) -> Result<u64, StoreError> {
        self.count_up("epoch", count)
    }

    /// A number for a replica's identifier that no other ever had.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be written.
    pub fn next_replica(&self) -> Result<u64, StoreError> {
        self.count_up("replica", 1)
    }

    fn count_up(&self, name: &str, by: u64) -> Result<u64, StoreError> {
        self.write("counting up", |tx| {
            tx.query_row(
                "INSERT INTO counters (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = value + excluded.value
                 RETURNING value - ?2 + 1",
                params![name, sql(by)?],
                |row| number(row, 0),
            )
            .map_err(StoreError::sqlite("counting up"))
        })
    }

    /// Runs one transaction: all of it is on the disk, or nothing of it happened.
    fn write<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let fails = StoreError::sqlite(doing);
        // A transaction that a panic left is rolled back by its drop, so the connection is sound.
        let mut db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&fails)?;
        let answer = work(&tx)?;
        tx.commit().map_err(&fails)?;
        Ok(answer)
    }

    fn read<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        work(&db).map_err(StoreError::sqlite(doing))
    }
}

/// The number of a live function's row.
fn id_of(tx: &Connection, name: &api::FunctionName) -> Result<i64, StoreError> {
    tx.query_row(
        "SELECT id FROM functions WHERE name = ?1 AND trash IS NULL",
        params![name.to_string()],
        |row| row.get(0),
    )
    .optional()
    .map_err(StoreError::sqlite("reading a function"))?
    .ok_or_else(|| StoreError::NotFound { what: format!("function `{name}`") })
}

/// A number as SQLite keeps it.
fn sql(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Number { number })
}

/// A number that is never negative, from a row.
fn number(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

#[cfg(test)]
mod tests;
