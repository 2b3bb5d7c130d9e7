//! Functions, live and in the trash.

use std::collections::BTreeMap;

use api::FunctionName;
use api::openfaas::FunctionDeployment;
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Store, StoreError, id_of, number};

/// All that the provider has to know of a function to bring it back as it was.
///
/// Kept as one JSON document, so a field that a later release adds needs a `serde(default)` and
/// no step of the file's form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionRecord {
    /// Its name and namespace.
    pub name: FunctionName,
    /// The template it was made from, none for one that was deployed from an image.
    pub template: Option<String>,
    /// The image that every commit is built upon: full name in containerd's store.
    pub base_image: String,
    /// The image that replicas start from.
    pub image: String,
    /// Where the source is in the image, for example `/home/app/function`.
    pub source: String,
    /// Environment as asked for when it was created.
    pub env: BTreeMap<String, String>,
    /// Labels as deployed.
    pub labels: BTreeMap<String, String>,
    /// The deployment as OpenFaaS's API got it, echoed back; none when ours made the function.
    pub deployment: Option<FunctionDeployment>,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// The version that every start uses, none before the first one was ready.
    pub good: Option<u64>,
    /// The newest version, be it good or not.
    pub newest: Option<u64>,
    /// The revision that was committed or rolled back to last; 0 before the first commit.
    pub revision: u64,
    /// How many replicas are wanted.
    pub replicas: u64,
    /// What went wrong last, if it still matters.
    pub last_error: Option<api::Error>,
}

/// A function in the trash.
#[derive(Clone, Debug, PartialEq)]
pub struct TrashRecord {
    /// `NAME-TIME`, the name of its folder in the trash.
    pub id: String,
    /// When it was removed.
    pub removed: OffsetDateTime,
    /// What it was.
    pub record: FunctionRecord,
}

impl Store {
    /// Adds a function.
    ///
    /// # Errors
    /// `AlreadyExists` when a live one has the name.
    pub fn insert(&self, record: &FunctionRecord) -> Result<(), StoreError> {
        self.write("adding a function", |tx| {
            if id_of(tx, &record.name).is_ok() {
                return Err(StoreError::AlreadyExists {
                    what: format!("function `{}`", record.name),
                });
            }
            tx.execute(
                "INSERT INTO functions (name, record) VALUES (?1, ?2)",
                params![record.name.to_string(), to_json(record)?],
            )
            .map(drop)
            .map_err(StoreError::sqlite("adding a function"))
        })
    }

    /// Changes a function in one step: `change` sees it as it is, and what it leaves is kept
    /// unless it fails.
    ///
    /// # Errors
    /// `NotFound`, or what `change` says.
    pub fn update<E: From<StoreError>>(
        &self,
        name: &FunctionName,
        change: impl FnOnce(&mut FunctionRecord) -> Result<(), E>,
    ) -> Result<FunctionRecord, E> {
        let mut refused = None;
        let answer = self.write("changing a function", |tx| {
            let id = id_of(tx, name)?;
            let text: String = tx
                .query_row("SELECT record FROM functions WHERE id = ?1", params![id], |r| r.get(0))
                .map_err(StoreError::sqlite("reading a function"))?;
            let mut record = from_json(&text, name)?;
            if let Err(error) = change(&mut record) {
                refused = Some(error);
                return Ok(record);
            }
            // The name is the key: it is not changed by accident.
            record.name = name.clone();
            tx.execute(
                "UPDATE functions SET record = ?2 WHERE id = ?1",
                params![id, to_json(&record)?],
            )
            .map_err(StoreError::sqlite("changing a function"))?;
            Ok(record)
        });
        match refused {
            Some(error) => Err(error),
            None => answer.map_err(E::from),
        }
    }

    /// One live function, none if there is none.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub fn function(&self, name: &FunctionName) -> Result<Option<FunctionRecord>, StoreError> {
        let text: Option<String> = self.read("reading a function", |db| {
            db.query_row(
                "SELECT record FROM functions WHERE name = ?1 AND trash IS NULL",
                params![name.to_string()],
                |row| row.get(0),
            )
            .optional()
        })?;
        text.map(|text| from_json(&text, name)).transpose()
    }

    /// All live functions, by name.
    ///
    /// # Errors
    /// [`StoreError`] when one cannot be read.
    pub fn functions(&self) -> Result<Vec<FunctionRecord>, StoreError> {
        let rows: Vec<(String, String)> = self.read("reading all functions", |db| {
            db.prepare("SELECT name, record FROM functions WHERE trash IS NULL ORDER BY name")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })?;
        rows.into_iter().map(|(name, text)| from_json(&text, &name)).collect()
    }

    /// A number for a version of a function: higher than any that the name ever had.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be written.
    pub fn next_version(&self, name: &FunctionName) -> Result<u64, StoreError> {
        self.write("numbering a version", |tx| {
            tx.query_row(
                "INSERT INTO numbers (name, version) VALUES (?1, 1)
                 ON CONFLICT (name) DO UPDATE SET version = version + 1 RETURNING version",
                params![name.to_string()],
                |row| number(row, 0),
            )
            .map_err(StoreError::sqlite("numbering a version"))
        })
    }

    /// Puts a live function, with its revisions, into the trash under an identifier.
    ///
    /// # Errors
    /// `NotFound`, or `AlreadyExists` when the trash has that identifier.
    pub fn remove(
        &self,
        name: &FunctionName,
        trash: &str,
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.write("removing a function", |tx| {
            let id = id_of(tx, name)?;
            let fails = |error: rusqlite::Error| match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::ConstraintViolation) => {
                    StoreError::AlreadyExists { what: format!("`{trash}` in the trash") }
                }
                _ => StoreError::sqlite("removing a function")(error),
            };
            tx.execute(
                "UPDATE functions SET trash = ?2, removed = ?3 WHERE id = ?1",
                params![id, trash, rfc3339(at)],
            )
            .map(drop)
            .map_err(fails)
        })
    }

    /// Takes a function, with its revisions, back from the trash.
    ///
    /// # Errors
    /// `NotFound`, or `AlreadyExists` when a live function has its name.
    pub fn restore(&self, trash: &str) -> Result<FunctionRecord, StoreError> {
        self.write("restoring a function", |tx| {
            let missing = || StoreError::NotFound { what: format!("`{trash}` in the trash") };
            let (name, text): (String, String) = tx
                .query_row(
                    "SELECT name, record FROM functions WHERE trash = ?1",
                    params![trash],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()
                .map_err(StoreError::sqlite("reading the trash"))?
                .ok_or_else(missing)?;
            let record = from_json(&text, &name)?;
            if id_of(tx, &record.name).is_ok() {
                return Err(StoreError::AlreadyExists { what: format!("function `{name}`") });
            }
            tx.execute(
                "UPDATE functions SET trash = NULL, removed = NULL WHERE trash = ?1",
                params![trash],
            )
            .map_err(StoreError::sqlite("restoring a function"))?;
            Ok(record)
        })
    }

    /// What lies in the trash, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when one cannot be read.
    pub fn trash(&self) -> Result<Vec<TrashRecord>, StoreError> {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let rows: Vec<(String, String, String)> = self.read("reading the trash", |db| {
            db.prepare(
                "SELECT trash, removed, record FROM functions WHERE trash IS NOT NULL
                 ORDER BY removed DESC, id DESC",
            )?
            .query_map([], read)?
            .collect()
        })?;
        rows.into_iter()
            .map(|(id, removed, text)| {
                let record = from_json(&text, &id)?;
                let removed = OffsetDateTime::parse(&removed, &Rfc3339).unwrap_or(record.created);
                Ok(TrashRecord { id, removed, record })
            })
            .collect()
    }

    /// Forgets what lies in the trash under an identifier, with its revisions. Its numbers are
    /// not given out again.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn purge(&self, trash: &str) -> Result<(), StoreError> {
        self.write("emptying the trash", |tx| {
            let gone = tx
                .execute("DELETE FROM functions WHERE trash = ?1", params![trash])
                .map_err(StoreError::sqlite("emptying the trash"))?;
            if gone == 0 {
                return Err(StoreError::NotFound { what: format!("`{trash}` in the trash") });
            }
            Ok(())
        })
    }
}

fn to_json(record: &FunctionRecord) -> Result<String, StoreError> {
    serde_json::to_string(record)
        .map_err(|source| StoreError::Row { what: format!("function `{}`", record.name), source })
}

fn from_json(text: &str, name: impl std::fmt::Display) -> Result<FunctionRecord, StoreError> {
    serde_json::from_str(text)
        .map_err(|source| StoreError::Row { what: format!("function `{name}`"), source })
}

/// A time as text that sorts by time: always UTC, always the same length.
fn rfc3339(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC).truncate_to_second();
    at.format(&Rfc3339).unwrap_or_default()
}
