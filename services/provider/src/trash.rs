//! Removed functions: folder, git directory and volume lie in `STATE/trash/NAME-TIME`, for days.
//!
//! The store knows first, then the files move: whatever was interrupted is finished at the next
//! start, in the same order.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::function::Trashed;
use api::{Error, ErrorCode, FunctionName};
use fs_err as fs;
use time::OffsetDateTime;
use time::macros::format_description;
use tracing::{info, warn};

use crate::fault;
use crate::store::{FunctionRecord, Store, TrashRecord};

/// Where the parts of a function are, below `STATE`, and what they are called in the trash.
fn parts(name: &FunctionName) -> [(PathBuf, &'static str); 3] {
    let name = name.to_string();
    [
        (Path::new("functions").join(&name), "source"),
        (Path::new("git").join(format!("{name}.git")), "git"),
        (Path::new("volumes").join(&name), "volume"),
    ]
}

/// Moves a function to the trash; its versions can be made again and are removed. Returns the id.
///
/// # Errors
/// When the store or the disk refuses. What is left is moved at the next start.
pub fn put(store: &Store, state: &Path, name: &FunctionName) -> Result<String, Error> {
    let now = OffsetDateTime::now_utc();
    let time = now
        .format(format_description!(
            "[year][month][day]T[hour][minute][second].[subsecond digits:3]Z"
        ))
        .map_err(|error| fault::internal("naming a trash folder", &error.into()))?;
    let id = format!("{name}-{time}");
    store.remove(name, &id, now)?;
    move_in(state, name, &id).map_err(|error| moving(name, error))?;
    Ok(id)
}

/// Takes a function back; it is live in the store again, without a version.
///
/// # Errors
/// `NotFound`; `AlreadyExists` when its name is taken.
pub fn take(store: &Store, state: &Path, id: &str) -> Result<FunctionRecord, Error> {
    let record = store.restore(id)?;
    let name = record.name.clone();
    move_out(state, &name, id).map_err(|error| moving(&name, error))?;
    store.update::<Error>(&name, |record| {
        (record.good, record.newest) = (None, None);
        Ok(())
    })
}

/// What lies in the trash, newest first.
///
/// # Errors
/// When it cannot be read.
pub fn list(store: &Store) -> Result<Vec<Trashed>, Error> {
    let shown = |TrashRecord { id, removed, record }: TrashRecord| Trashed {
        id,
        name: record.name,
        removed: crate::clock::rfc3339(removed),
    };
    Ok(store.trash()?.into_iter().map(shown).collect())
}

/// Finishes what a crash interrupted, and removes what is older than `keep`.
///
/// # Errors
/// When the store cannot be read. What cannot be moved or removed is logged.
pub fn tidy(store: &Store, state: &Path, keep: Duration) -> Result<(), Error> {
    let live = store.functions()?;
    for TrashRecord { id, removed, record } in store.trash()? {
        let name = &record.name;
        let mut done = Ok(());
        if !live.iter().any(|it| it.name == *name) {
            done = move_in(state, name, &id);
        }
        if OffsetDateTime::now_utc() - removed > keep {
            info!(function = %name, trash = id, "removed for good");
            done = done.and_then(|()| remove(&state.join("trash").join(&id)));
            if done.is_ok() {
                store.purge(&id)?;
            }
        }
        if let Err(error) = done {
            warn!(trash = id, "the trash is not tidy: {error}");
        }
    }
    for record in live {
        // Taken back, but interrupted in between.
        for id in interrupted(state, &record.name).unwrap_or_default() {
            if !store.trash()?.iter().any(|it| it.id == id) {
                move_out(state, &record.name, &id).map_err(|error| moving(&record.name, error))?;
            }
        }
    }
    Ok(())
}

/// Folders of a function in the trash.
fn interrupted(state: &Path, name: &FunctionName) -> io::Result<Vec<String>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(state.join("trash"))? {
        if let Ok(id) = entry?.file_name().into_string()
            && id
                .strip_prefix(&format!("{name}-"))
                .is_some_and(|it| it.len() == 20 && !it.contains('-'))
        {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn move_in(state: &Path, name: &FunctionName, id: &str) -> io::Result<()> {
    let folder = state.join("trash").join(id);
    fs::create_dir_all(&folder)?;
    for (from, to) in parts(name) {
        rename(&state.join(from), &folder.join(to))?;
    }
    remove(&state.join("versions").join(name.to_string()))?;
    sync(&[&folder, &state.join("trash"), &state.join("functions"), &state.join("git")])
}

fn move_out(state: &Path, name: &FunctionName, id: &str) -> io::Result<()> {
    let folder = state.join("trash").join(id);
    for (to, from) in parts(name) {
        rename(&folder.join(from), &state.join(to))?;
    }
    sync(&[&state.join("functions"), &state.join("git"), &state.join("volumes")])?;
    match fs::remove_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Moves what is there to where nothing is yet.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    if to.symlink_metadata().is_ok() {
        return Ok(());
    }
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn sync(folders: &[&Path]) -> io::Result<()> {
    folders.iter().try_for_each(|it| fs::File::open(*it)?.sync_all())
}

fn moving(name: &FunctionName, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::StorageFull {
        return Error::new(ErrorCode::ResourceExhausted, "there is no space left for the trash");
    }
    fault::internal(&format!("moving function `{name}` to or from the trash"), &error.into())
}

#[cfg(test)]
mod tests;
