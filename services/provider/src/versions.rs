//! Versions of a function's source: `STATE/versions/NAME/ID`, what replicas really run.
//!
//! A version is made from the folder at a save, and nothing ever writes to it again. Files that did
//! not change are hard links to those of the version before, so all that a save costs is one look
//! at every file of the folder and a copy of those that changed. Even the links are made beforehand
//! where there was time ([`Versions::prepare`]): the folder `.next` is a copy of the newest version,
//! and becomes the next one by a rename.
//!
//! Whether a file changed is told by its status against the one at the time of the last copy, as
//! git does; and by its bytes where the status cannot tell (another inode with equal bytes, a
//! file touched within the clock's tick, a manifest lost with the process). So "the same" means
//! the same bytes, and a save that changed nothing makes no version.
mod apply;
mod error;
mod plan;
mod scan;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::FunctionName;
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, renameat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{fsync, syncfs};

pub use error::VersionError;
pub use scan::Limits;

use crate::folder::Folder;
use crate::folder::dir::{Kind, children, open_plain, remove_tree};
use crate::sys::AsOwner;
use plan::Manifest;

/// The version that is being made; no number, so never taken for a version.
const NEXT: &str = ".next";
/// What is being removed begins so.
const OLD: &str = ".old-";
/// Beyond so many files and folders, one sync of the whole file system is cheaper than one each.
const MAX_FSYNCS: usize = 32;

/// The versions of one function. All calls are synchronous; they exclude each other, but
/// [`Versions::sync`] and [`Versions::prune`] wait for the disk without holding up a save.
#[derive(Debug)]
pub struct Versions {
    path: PathBuf,
    root: OwnedFd,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The newest version and what is in it; none before the first.
    newest: Option<(u64, Manifest)>,
    /// Whether `.next` is a true copy of it.
    prepared: bool,
}

/// What became of a save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The folder holds what this version holds; none was made.
    Same(u64),
    /// There is a new version.
    Made(Made),
}

/// A new version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Its number, the name of its folder.
    pub id: u64,
    /// Files, links and folders that are new or differ from the version before.
    pub changed: usize,
    /// Names that the version before had and this one has not.
    pub removed: usize,
    /// Files that are shared with the version before.
    pub linked: usize,
    /// Bytes that were copied.
    pub bytes: u64,
    /// Pipes, sockets and devices that were left out; the first few.
    pub skipped: Vec<String>,
}

impl Versions {
    /// Opens the folder of a function's versions, makes it if it is missing, and removes all in it
    /// but the versions of `keep` and `newest`: what a crash left half made, and what was
    /// never acknowledged.
    ///
    /// # Errors
    /// `Missing` when `newest` is not there, or why the folder cannot be read.
    pub fn open(
        state: &Path,
        name: &FunctionName,
        newest: Option<u64>,
        keep: &BTreeSet<u64>,
        limits: Limits,
    ) -> Result<Self, VersionError> {
        let _owner = enter()?;
        let above = state.join("versions");
        let path = above.join(name.to_string());
        let fails = |errno: Errno| VersionError::io("opening", path.display(), errno.into());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let parent = nix::fcntl::open(&above, flags, Mode::empty()).map_err(fails)?;
        match mkdirat(&parent, name.to_string().as_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) => fsync(&parent).map_err(fails)?,
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(fails(errno)),
        }
        let root = open_plain(&parent, name.to_string().as_str(), flags).map_err(fails)?;
        let versions = Self { path, root, limits, state: Mutex::default() };
        let mut keep = keep.clone();
        keep.extend(newest);
        versions.remove_all_but(&keep)?;
        if let Some(id) = newest {
            let dir = versions.dir(id)?;
            let found = scan::scan(&dir, &Limits::NONE)?;
            versions.lock().newest = Some((id, Manifest::unsure(found)));
        }
        Ok(versions)
    }

    /// The newest version.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.lock().newest.as_ref().map(|(id, _)| *id)
    }

    /// Makes the version `id` of what the folder holds now, unless that is what the newest version
    /// holds. `id` is a number that was never used before.
    ///
    /// What lands in the folder meanwhile is in this version or in the next one: the event of its
    /// save comes after it, and leads to a new call.
    ///
    /// # Errors
    /// `TooMany`, `TooLarge`, `TooDeep` when the folder is over a limit, or why a file cannot be
    /// read or written. The versions that are there stay as they are.
    pub fn make(&self, folder: &Folder, id: u64) -> Result<Outcome, VersionError> {
        let _owner = enter()?;
        if folder.is_gone() {
            return Err(VersionError::Gone { name: folder.name().clone() });
        }
        let mut state = self.lock();
        let began = scan::Began::now();
        let found = scan::scan(folder.root(), &self.limits)?;
        if !state.prepared {
            self.copy_newest(&mut state)?;
        }
        let next = self.sub_folder(NEXT)?;
        // Until it is known what was done to it, it is no copy of anything.
        state.prepared = false;
        let before = state.newest.as_ref().map(|(_, manifest)| manifest);
        let done = apply::apply(folder.root(), &next, before, found, &began, id, &self.limits)?;
        if let (Some((newest, manifest)), true) = (&mut state.newest, done.is_same()) {
            *manifest = done.manifest;
            let newest = *newest;
            state.prepared = true;
            return Ok(Outcome::Same(newest));
        }
        let name = id.to_string();
        renameat2(&self.root, NEXT, &self.root, name.as_str(), RenameFlags::RENAME_NOREPLACE)
            .map_err(|errno| self.fails("naming version", &name, errno))?;
        let made = Made { id, ..done.made };
        state.newest = Some((id, done.manifest));
        Ok(Outcome::Made(made))
    }

    /// Links the files of the newest version into the next one, so that the next save need not.
    /// To be called when there is time: after a version is live, and at the provider's start.
    ///
    /// # Errors
    /// Why it cannot be done; the next save tries it again.
    pub fn prepare(&self) -> Result<(), VersionError> {
        let _owner = enter()?;
        let mut state = self.lock();
        if state.prepared { Ok(()) } else { self.copy_newest(&mut state) }
    }

    /// Waits until a version is on the disk: the files that were copied for it and not synced
    /// since, and its folders, one by one. A sync of the whole file system would wait for whatever
    /// else is written there (an image, a build), so it is the choice only where that is many
    /// files, or for a version that is not the newest any more.
    ///
    /// # Errors
    /// `Missing` when there is no such version, or why it cannot be synced.
    pub fn sync(&self, id: u64) -> Result<(), VersionError> {
        let _owner = enter()?;
        let dir = self.dir(id)?;
        let paths = match &self.lock().newest {
            Some((newest, manifest)) if *newest == id => Some(manifest.unsynced()),
            _ => None,
        };
        match paths {
            Some(paths) if paths.len() <= MAX_FSYNCS => {
                for path in &paths {
                    let flags = OFlag::O_RDONLY;
                    open_plain(&dir, path.as_c_str(), flags)
                        .and_then(fsync)
                        .map_err(|errno| self.fails("syncing", path.to_string_lossy(), errno))?;
                }
                fsync(&dir).and_then(|()| fsync(&self.root))
            }
            _ => syncfs(&dir),
        }
        .map_err(|errno| self.fails("syncing version", id, errno))?;
        if let Some((_, manifest)) = &mut self.lock().newest {
            manifest.synced(id);
        }
        Ok(())
    }

    /// Removes all versions but those of `keep` and the newest. Returns how many are gone.
    ///
    /// # Errors
    /// Why one cannot be removed; those before it are gone.
    pub fn prune(&self, keep: &BTreeSet<u64>) -> Result<usize, VersionError> {
        let _owner = enter()?;
        let mut gone = Vec::new();
        {
            let state = self.lock();
            let newest = state.newest.as_ref().map(|(id, _)| *id);
            for (name, kind) in self.entries()? {
                let Some(id) = number(&name) else { continue };
                if kind != Kind::Dir || keep.contains(&id) || newest == Some(id) {
                    continue;
                }
                let old = format!("{OLD}{id}");
                nix::fcntl::renameat(&self.root, &*name, &self.root, old.as_str())
                    .map_err(|errno| self.fails("removing version", id, errno))?;
                gone.push(old);
            }
        }
        for old in &gone {
            let name = CString::new(old.as_str()).expect("digits hold no NUL");
            remove_tree(&self.root, &name)
                .map_err(|errno| self.fails("removing version", old, errno))?;
        }
        Ok(gone.len())
    }

    /// Makes `.next` a copy of the newest version, or empty.
    fn copy_newest(&self, state: &mut State) -> Result<(), VersionError> {
        let next = CString::new(NEXT).expect("it holds no NUL");
        remove_tree(&self.root, &next).map_err(|errno| self.fails("removing", NEXT, errno))?;
        mkdirat(&self.root, NEXT, Mode::from_bits_truncate(0o755))
            .map_err(|errno| self.fails("making", NEXT, errno))?;
        if let Some((id, _)) = state.newest {
            let (from, to) = (self.dir(id)?, self.sub_folder(NEXT)?);
            apply::link_all(&from, &to)?;
        }
        state.prepared = true;
        Ok(())
    }

    /// Removes what is in the folder, but for these versions.
    fn remove_all_but(&self, keep: &BTreeSet<u64>) -> Result<(), VersionError> {
        for (name, _) in self.entries()? {
            if number(&name).is_none_or(|id| !keep.contains(&id)) {
                remove_tree(&self.root, &name)
                    .map_err(|errno| self.fails("removing", name.to_string_lossy(), errno))?;
            }
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<(CString, Kind)>, VersionError> {
        children(&self.root, usize::MAX).map_err(|errno| self.fails("reading", ".", errno))
    }

    fn dir(&self, id: u64) -> Result<OwnedFd, VersionError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        match open_plain(&self.root, id.to_string().as_str(), flags) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Err(VersionError::Missing { id }),
            answer => answer.map_err(|errno| self.fails("opening version", id, errno)),
        }
    }

    fn sub_folder(&self, name: &str) -> Result<OwnedFd, VersionError> {
        open_plain(&self.root, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            .map_err(|errno| self.fails("opening", name, errno))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic may have left `.next` half changed: it is made anew.
        self.state.lock().unwrap_or_else(|poisoned| {
            self.state.clear_poison();
            let mut state = PoisonError::into_inner(poisoned);
            state.prepared = false;
            state
        })
    }

    fn fails(
        &self,
        doing: &'static str,
        what: impl std::fmt::Display,
        errno: Errno,
    ) -> VersionError {
        VersionError::io(doing, format!("{}/{what}", self.path.display()), errno.into())
    }
}

fn enter() -> Result<AsOwner, VersionError> {
    AsOwner::enter().map_err(|error| VersionError::io("becoming", "the owner of files", error))
}

/// The number of a version's folder; none for any other name.
fn number(name: &std::ffi::CStr) -> Option<u64> {
    let text = name.to_str().ok()?;
    let id: u64 = text.parse().ok()?;
    (id.to_string() == text).then_some(id)
}

#[cfg(test)]
mod tests;
