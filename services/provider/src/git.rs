//! A function's git directory, by libgit2: no hook, no filter, no program of a user ever runs.
//!
//! The folder `STATE/functions/NAME` holds a `.git` file that names `STATE/git/NAME.git`, so that
//! plain `git` works there too. We never read that file: both places are ours to know. Every call
//! opens the repository anew, as the owner of its files, because anybody may have changed it.
mod commit;
mod error;
mod lock;
mod restore;
mod set_up;
mod tree;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use api::FunctionName;
use git2::{Diff, DiffDelta, DiffOptions, ErrorCode, Oid, Repository};
use time::OffsetDateTime;

pub use error::GitError;
use tree::CommitTree;

use crate::folder::FolderError;
use crate::sys::AsOwner;

/// The branch of a new function.
pub const BRANCH: &str = "main";
/// Most bytes of a commit's message that are read: who pushes can make it as long as a disk.
const MAX_MESSAGE: usize = 64 << 10;

/// A function's git directory. All calls are synchronous; those that write wait for a `git` that
/// works at this moment, up to ten seconds.
#[derive(Clone, Debug)]
pub struct Git {
    name: FunctionName,
    git_dir: PathBuf,
    folder: PathBuf,
}

/// Names a commit: 40 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitId(Oid);

/// Who made a commit, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// Name, for example `Inplace`.
    pub name: String,
    /// Address, for example `owner@inplace.invalid`.
    pub email: String,
    /// When; its offset is kept.
    pub time: OffsetDateTime,
}

/// How a file of the folder differs from a commit's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The commit has no such file.
    Added,
    /// Other content, mode or kind.
    Modified,
    /// The folder has no such file.
    Removed,
    /// A merge left it open.
    Conflicted,
}

/// One path that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Below the folder; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// How.
    pub kind: ChangeKind,
}

/// What differs between a commit and the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In order of their paths.
    pub paths: Vec<Change>,
    /// How many there are beyond those listed.
    pub more: usize,
}

impl Git {
    /// The commit that HEAD names, none before the first one.
    ///
    /// # Errors
    /// [`GitError`] when the git directory cannot be read.
    pub fn head(&self) -> Result<Option<CommitId>, GitError> {
        let _owner = enter()?;
        Ok(head(&self.repository()?)?.map(CommitId))
    }

    /// The message of a commit; of one that is longer than 64 KiB, its beginning.
    ///
    /// # Errors
    /// `UnknownCommit` when there is no such commit, else that it cannot be read.
    pub fn message(&self, commit: CommitId) -> Result<String, GitError> {
        let _owner = enter()?;
        let repository = self.repository()?;
        let found = repository.find_commit(commit.0).map_err(|error| match error.code() {
            ErrorCode::NotFound => GitError::UnknownCommit { commit: commit.to_string() },
            _ => GitError::git("reading a commit")(error),
        })?;
        let message = found.message_bytes();
        Ok(String::from_utf8_lossy(&message[..message.len().min(MAX_MESSAGE)]).into_owned())
    }

    /// Whether the folder differs from a commit (none: from HEAD). Ignored files do not count.
    ///
    /// # Errors
    /// As [`Git::changes`].
    pub fn dirty(&self, against: Option<CommitId>) -> Result<bool, GitError> {
        Ok(!self.changes(against, 1)?.paths.is_empty())
    }

    /// What differs between a commit (none: HEAD) and the folder, staged or not; at most `limit`
    /// paths by name, the others by number.
    ///
    /// # Errors
    /// `UnknownCommit` when there is no such commit, else that it cannot be read.
    pub fn changes(&self, against: Option<CommitId>, limit: usize) -> Result<Changes, GitError> {
        let _owner = enter()?;
        let repository = self.with_folder()?;
        let commit = against.map_or_else(|| head(&repository), |id| Ok(Some(id.0)))?;
        let tree = commit.map(|id| tree_of(&repository, id)).transpose()?;
        let mut options = DiffOptions::new();
        options.include_untracked(true).recurse_untracked_dirs(true).include_typechange(true);
        let diff = repository
            .diff_tree_to_workdir_with_index(tree.as_ref(), Some(&mut options))
            .map_err(GitError::git("comparing the folder"))?;
        Ok(changes_of(&diff, limit))
    }

    /// Opens the repository without a folder, so that it can be read when that is gone.
    fn repository(&self) -> Result<Repository, GitError> {
        lock::refuse_special(&self.git_dir)?;
        let flags = git2::RepositoryOpenFlags::BARE
            | git2::RepositoryOpenFlags::NO_SEARCH
            | git2::RepositoryOpenFlags::NO_DOTGIT;
        let opening = GitError::git("opening the git directory");
        Repository::open_ext(&self.git_dir, flags, std::iter::empty::<&Path>()).map_err(|error| {
            match error.code() {
                ErrorCode::NotFound => GitError::Gone { name: self.name.clone() },
                _ => opening(error),
            }
        })
    }

    /// Opens the repository with the folder that we know, whatever its configuration says.
    fn with_folder(&self) -> Result<Repository, GitError> {
        let repository = self.repository()?;
        if !self.folder.symlink_metadata().is_ok_and(|status| status.is_dir()) {
            return Err(FolderError::Gone { name: self.name.clone() }.into());
        }
        repository.set_workdir(&self.folder, false).map_err(GitError::git("opening the folder"))?;
        Ok(repository)
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitId({})", self.0)
    }
}

impl FromStr for CommitId {
    type Err = GitError;

    fn from_str(text: &str) -> Result<Self, GitError> {
        match Oid::from_str(text) {
            Ok(id) if text.len() == 40 => Ok(Self(id)),
            _ => Err(GitError::UnknownCommit { commit: text.chars().take(60).collect() }),
        }
    }
}

/// Becomes the owner of the files, with libgit2 set up.
fn enter() -> Result<AsOwner, GitError> {
    crate::sys::set_up_libgit2().map_err(|why| GitError::SetUp { why })?;
    Ok(crate::folder::enter()?)
}

fn head(repository: &Repository) -> Result<Option<Oid>, GitError> {
    match repository.refname_to_id("HEAD") {
        Ok(id) => Ok(Some(id)),
        Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => {
            Ok(None)
        }
        Err(error) => Err(GitError::git("reading HEAD")(error)),
    }
}

fn tree_of(repository: &Repository, commit: Oid) -> Result<git2::Tree<'_>, GitError> {
    repository.find_commit(commit).and_then(|commit| commit.tree()).map_err(|error| {
        match error.code() {
            ErrorCode::NotFound => GitError::UnknownCommit { commit: commit.to_string() },
            _ => GitError::git("reading a commit")(error),
        }
    })
}

fn changes_of(diff: &Diff<'_>, limit: usize) -> Changes {
    let mut changes = Changes::default();
    for delta in diff.deltas() {
        let Some(kind) = kind_of(&delta) else { continue };
        if changes.paths.len() == limit {
            changes.more += 1;
        } else {
            changes.paths.push(Change { path: path_of(&delta), kind });
        }
    }
    changes
}

fn kind_of(delta: &DiffDelta<'_>) -> Option<ChangeKind> {
    use git2::Delta;
    match delta.status() {
        Delta::Added | Delta::Untracked | Delta::Copied => Some(ChangeKind::Added),
        Delta::Deleted => Some(ChangeKind::Removed),
        Delta::Conflicted => Some(ChangeKind::Conflicted),
        Delta::Modified | Delta::Renamed | Delta::Typechange | Delta::Unreadable => {
            Some(ChangeKind::Modified)
        }
        Delta::Unmodified | Delta::Ignored => None,
    }
}

fn path_of(delta: &DiffDelta<'_>) -> String {
    let bytes = delta.new_file().path_bytes().or_else(|| delta.old_file().path_bytes());
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// Waits until a file and the name it has are on the disk.
fn sync_file(path: &Path) -> Result<(), GitError> {
    let fails = |source| FolderError::from_io("syncing", path.display(), source);
    File::open(path).and_then(|file| file.sync_all()).map_err(fails)?;
    if let Some(parent) = path.parent() {
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(fails)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
