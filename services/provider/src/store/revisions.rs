//! Revisions of functions.

use api::FunctionName;
use api::revision::Revision;
use rusqlite::{OptionalExtension, Row, params};

use super::{Store, StoreError, id_of, number, sql};

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
        self.read("reading revisions", |db| {
            db.prepare(&format!("{SELECT} ORDER BY number DESC"))?
                .query_map(params![name.to_string()], revision)?
                .collect()
        })
    }

    /// One revision of a live function.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn revision(&self, name: &FunctionName, number: u64) -> Result<Revision, StoreError> {
        let missing =
            || StoreError::NotFound { what: format!("revision {number} of function `{name}`") };
        let wanted = i64::try_from(number).map_err(|_| missing())?;
        self.read("reading a revision", |db| {
            db.query_row(
                &format!("{SELECT} AND number = ?2"),
                params![name.to_string(), wanted],
                revision,
            )
            .optional()
        })?
        .ok_or_else(missing)
    }
}

const SELECT: &str = "SELECT number, \"commit\", image, digest, message, time FROM revisions
    JOIN functions ON functions.id = revisions.function WHERE name = ?1 AND trash IS NULL";

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
