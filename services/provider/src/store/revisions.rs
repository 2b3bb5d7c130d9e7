//! Revisions of functions.

use std::collections::BTreeSet;

use api::FunctionName;
use api::revision::Revision;
use rusqlite::{Connection, OptionalExtension, Row, params};
use time::OffsetDateTime;

use super::{Store, StoreError, id_of, number, sql};
use crate::retention::Retention;

/// A revision before it has its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRevision {
    /// The git commit (40 hex digits).
    pub commit: String,
    /// Full name of the image in containerd's store.
    pub image: String,
    /// Digest of the image's manifest (`sha256:...`).
    pub digest: String,
    /// The commit's message.
    pub message: String,
    /// When it was made (RFC 3339, UTC).
    pub time: String,
}

impl Store {
    /// Adds a revision with the next number, and makes it the function's current one with its
    /// image, in one step.
    ///
    /// # Errors
    /// `NotFound` when no live function has the name.
    pub fn add_revision(
        &self,
        name: &FunctionName,
        new: NewRevision,
    ) -> Result<Revision, StoreError> {
        const DOING: &str = "adding a revision";
        self.write(DOING, |tx| {
            let id = id_of(tx, name)?;
            let given: u64 = tx
                .query_row(
                    "INSERT INTO numbers (name, revision) VALUES (?1, 1)
                     ON CONFLICT (name) DO UPDATE SET revision = revision + 1 RETURNING revision",
                    params![name.to_string()],
                    |row| number(row, 0),
                )
                .map_err(StoreError::sqlite(DOING))?;
            tx.execute(
                "INSERT INTO revisions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![id, sql(given)?, new.commit, new.image, new.digest, new.message, new.time],
            )
            .map_err(StoreError::sqlite(DOING))?;
            tx.execute(
                "UPDATE functions SET record = json_set(record, '$.revision', ?2, '$.image', ?3)
                 WHERE id = ?1",
                params![id, sql(given)?, new.image],
            )
            .map_err(StoreError::sqlite(DOING))?;
            let NewRevision { commit, image, digest, message, time } = new;
            Ok(Revision { number: given, commit, image, digest, message, time })
        })
    }

    /// The revisions of a live function, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn revisions(&self, name: &FunctionName) -> Result<Vec<Revision>, StoreError> {
        self.read("reading revisions", |db| newest_first(db, name))
    }

    /// Forgets the revisions of a live function that `keep` does not keep, but neither its current
    /// one nor `used`, in one step. Returns their numbers, newest first.
    ///
    /// # Errors
    /// `NotFound` when no live function has the name.
    pub fn prune_revisions(
        &self,
        name: &FunctionName,
        keep: &Retention,
        used: Option<u64>,
        now: OffsetDateTime,
    ) -> Result<Vec<u64>, StoreError> {
        const DOING: &str = "forgetting revisions";
        let fails = StoreError::sqlite(DOING);
        self.write(DOING, |tx| {
            let id = id_of(tx, name)?;
            let current = tx
                .query_row(
                    "SELECT json_extract(record, '$.revision') FROM functions WHERE id = ?1",
                    params![id],
                    |row| number(row, 0),
                )
                .map_err(&fails)?;
            let used: Vec<u64> = used.into_iter().chain([current]).collect();
            let gone = keep.going(&newest_first(tx, name).map_err(&fails)?, &used, now);
            for &it in &gone {
                tx.execute(
                    "DELETE FROM revisions WHERE function = ?1 AND number = ?2",
                    params![id, sql(it)?],
                )
                .map_err(&fails)?;
            }
            Ok(gone)
        })
    }

    /// Full names of all images that functions need, live or in the trash: those of their
    /// revisions, those that they start from, and their bases.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn images(&self) -> Result<BTreeSet<String>, StoreError> {
        self.read("reading images in use", |db| {
            db.prepare(
                "SELECT image FROM revisions
                 UNION SELECT json_extract(record, '$.image') FROM functions
                 UNION SELECT json_extract(record, '$.base_image') FROM functions",
            )?
            .query_map([], |row| row.get(0))?
            .collect()
        })
    }

    /// One revision of a live function.
    ///
    /// # Errors
    /// `NotFound`, or `NotKept` when there was one of that number.
    pub fn revision(&self, name: &FunctionName, wanted: u64) -> Result<Revision, StoreError> {
        let what = || format!("revision {wanted} of function `{name}`");
        let Ok(at) = sql(wanted) else { return Err(StoreError::NotFound { what: what() }) };
        let found = self.read("reading a revision", |db| {
            db.query_row(
                &format!("{SELECT} AND number = ?2"),
                params![name.to_string(), at],
                revision,
            )
            .optional()
        })?;
        if let Some(found) = found {
            return Ok(found);
        }
        let was = self.read("reading a revision", |db| {
            db.query_row(
                "SELECT revision >= ?2 AND ?2 > 0 FROM numbers WHERE name = ?1",
                params![name.to_string(), at],
                |row| row.get(0),
            )
            .optional()
        })?;
        Err(match was {
            Some(true) => StoreError::NotKept { what: what() },
            _ => StoreError::NotFound { what: what() },
        })
    }
}

const SELECT: &str = "SELECT number, \"commit\", image, digest, message, time FROM revisions
    JOIN functions ON functions.id = revisions.function WHERE name = ?1 AND trash IS NULL";

fn newest_first(db: &Connection, name: &FunctionName) -> rusqlite::Result<Vec<Revision>> {
    db.prepare(&format!("{SELECT} ORDER BY number DESC"))?
        .query_map(params![name.to_string()], revision)?
        .collect()
}

fn revision(row: &Row<'_>) -> rusqlite::Result<Revision> {
    Ok(Revision {
        number: number(row, 0)?,
        commit: row.get(1)?,
        image: row.get(2)?,
        digest: row.get(3)?,
        message: row.get(4)?,
        time: row.get(5)?,
    })
}
