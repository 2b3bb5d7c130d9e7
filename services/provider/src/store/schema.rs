//! The form of the state file: how it is made, brought up to date and checked.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior, params};

use super::StoreError;

/// One step each from form N to N+1; a step that was released is never changed.
const STEPS: [&str; 1] = ["
    -- A function, live or in the trash. Names can come again; ids cannot.
    CREATE TABLE functions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,              -- NAME or NAME.NS
        trash TEXT UNIQUE,               -- NAME-TIME once it was removed
        removed TEXT,                    -- RFC 3339
        record TEXT NOT NULL,            -- JSON, FunctionRecord
        CHECK ((trash IS NULL) = (removed IS NULL))
    ) STRICT;
    CREATE UNIQUE INDEX live_name ON functions (name) WHERE trash IS NULL;

    CREATE TABLE revisions (
        function INTEGER NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        \"commit\" TEXT NOT NULL,
        image TEXT NOT NULL,
        digest TEXT NOT NULL,
        message TEXT NOT NULL,
        time TEXT NOT NULL,              -- RFC 3339
        PRIMARY KEY (function, number)
    ) STRICT, WITHOUT ROWID;

    -- The last numbers given out under a name. Never deleted: a number means one thing for ever.
    CREATE TABLE numbers (
        name TEXT PRIMARY KEY,
        version INTEGER NOT NULL DEFAULT 0,
        revision INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE counters (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
"];

/// Sets the connection up, checks the file and brings it to the newest form.
pub(super) fn set_up(db: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let damaged = |report: String| StoreError::Damaged { path: path.display().to_string(), report };
    let broken = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            damaged(error.to_string())
        }
        Some(rusqlite::ErrorCode::DatabaseBusy) => {
            StoreError::InUse { path: path.display().to_string() }
        }
        _ => StoreError::sqlite("setting up the state file")(error),
    };
    // The file has one owner: a second provider on it would be the end of both.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(broken)?;
    db.pragma_update(None, "journal_mode", "WAL").map_err(broken)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(broken)?;
    db.pragma_update(None, "foreign_keys", true).map_err(broken)?;
    let report: String =
        db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(broken)?;
    if report != "ok" {
        return Err(damaged(report));
    }
    let found: i64 =
        db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(broken)?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let done = usize::try_from(found).ok().filter(|done| *done <= STEPS.len());
    let Some(done) = done else {
        return Err(StoreError::Newer { path: path.display().to_string(), found, known });
    };
    for (step, form) in STEPS.iter().zip(1i64..).skip(done) {
        let tx = db.transaction_with_behavior(TransactionBehavior::Exclusive).map_err(broken)?;
        tx.execute_batch(step).map_err(broken)?;
        tx.pragma_update(None, "user_version", form).map_err(broken)?;
        tx.commit().map_err(broken)?;
    }
    let broken_links: i64 = db
        .query_row("SELECT count(*) FROM pragma_foreign_key_check", params![], |row| row.get(0))
        .map_err(broken)?;
    if broken_links > 0 {
        return Err(damaged(format!("{broken_links} rows belong to nothing")));
    }
    Ok(())
}
