//! The files of a commit.

use std::fmt;

use git2::{ObjectType, Oid, Repository, TreeWalkMode, TreeWalkResult};

use super::{CommitId, Git, GitError, enter, tree_of};
use crate::folder::FilePath;

/// Most entries of a commit that are listed.
const MAX_ENTRIES: usize = 100_000;

/// The files of a commit, and the door to what they hold.
pub(super) struct CommitTree {
    repository: Repository,
    entries: Vec<TreeEntry>,
}

/// One file or link of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TreeEntry {
    /// Checked: it can be written below a folder.
    pub(super) path: FilePath,
    /// What it is.
    pub(super) kind: TreeKind,
    id: Oid,
}

/// What an entry of a commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TreeKind {
    /// A file that nobody runs.
    File,
    /// A file with the executable bit.
    Executable,
    /// A symbolic link; its content is the target.
    Link,
}

impl Git {
    /// The files and links of a commit, folder by folder in git's order. Submodules are left out:
    /// git has no content of them.
    ///
    /// # Errors
    /// `UnknownCommit`; `Path` when the commit holds a path that must not be written; `TooLarge`.
    pub(super) fn tree_of(&self, commit: CommitId) -> Result<CommitTree, GitError> {
        let _owner = enter()?;
        let repository = self.repository()?;
        let entries = entries_of(&repository, commit.0)?;
        Ok(CommitTree { repository, entries })
    }
}

impl CommitTree {
    /// All entries.
    #[must_use]
    pub(super) fn entries(&self) -> &[TreeEntry] {
        &self.entries
    }

    /// What an entry holds.
    ///
    /// # Errors
    /// When the object is not there, or damaged.
    pub(super) fn read(&self, entry: &TreeEntry) -> Result<Vec<u8>, GitError> {
        let _owner = enter()?;
        let blob = self.repository.find_blob(entry.id).map_err(GitError::git("reading a file"))?;
        Ok(blob.content().to_owned())
    }
}

impl fmt::Debug for CommitTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitTree").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

fn entries_of(repository: &Repository, commit: Oid) -> Result<Vec<TreeEntry>, GitError> {
    let reading = GitError::git("reading a commit's tree");
    let tree = tree_of(repository, commit)?;
    let mut entries = Vec::new();
    let mut failure = None;
    let walked = tree.walk(TreeWalkMode::PreOrder, |root, entry| {
        match one(root, entry, entries.len()) {
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) => {}
            Err(error) => {
                failure = Some(error);
                return TreeWalkResult::Abort;
            }
        }
        TreeWalkResult::Ok
    });
    match (failure, walked) {
        (Some(error), _) => Err(error),
        (None, walked) => walked.map(|()| entries).map_err(reading),
    }
}

fn one(
    root: &str,
    entry: &git2::TreeEntry<'_>,
    so_far: usize,
) -> Result<Option<TreeEntry>, GitError> {
    // Folders are checked too, so that no walk goes on below a `.git`.
    let path = FilePath::try_from([root.as_bytes(), entry.name_bytes()].concat().as_slice())?;
    let kind = match (entry.kind(), entry.filemode()) {
        (Some(ObjectType::Blob), 0o100_755) => TreeKind::Executable,
        (Some(ObjectType::Blob), 0o120_000) => TreeKind::Link,
        (Some(ObjectType::Blob), _) => TreeKind::File,
        _ => return Ok(None),
    };
    if so_far == MAX_ENTRIES {
        let limit = "100000 files";
        return Err(GitError::TooLarge { what: "the commit's tree".into(), limit });
    }
    Ok(Some(TreeEntry { path, kind, id: entry.id() }))
}
