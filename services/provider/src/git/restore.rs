//! Bringing the folder to a commit's files.

use std::collections::{BTreeMap, BTreeSet};

use git2::DiffOptions;
use nix::errno::Errno;

use super::lock::{self, PATIENCE};
use super::tree::{TreeEntry, TreeKind};
use super::{CommitId, CommitTree, Git, GitError, enter, path_of, sync_file, tree_of};
use crate::folder::dir::{Kind, open_beneath, stat};
use crate::folder::{Bits, FilePath, Folder, Precondition};

/// What has to be done to a folder, in this order.
#[derive(Debug, Default)]
struct Plan {
    /// Tracked now, not in the commit.
    remove: Vec<FilePath>,
    /// Other than in the commit, or not there.
    write: Vec<TreeEntry>,
}

impl Git {
    /// Brings every tracked path to what a commit has: writes what differs, removes what is tracked
    /// now and not in the commit, and sets the index. HEAD stays, so the next commit goes on top.
    /// Untracked files of other names, and ignored ones, stay. When it returns all is on the disk.
    ///
    /// Changes are overwritten: call [`Git::keep_uncommitted`] before. It may be called again
    /// after a failure or a power cut in the middle, and then ends the work.
    ///
    /// # Errors
    /// `UnknownCommit`; `Path` when the commit holds a path that must not be written; `InTheWay`
    /// when something ignored is where a file has to go, and then nothing was changed; `Locked`;
    /// or why a file cannot be written.
    pub fn restore(&self, folder: &Folder, commit: CommitId) -> Result<(), GitError> {
        let _owner = enter()?;
        lock::wait(&self.git_dir, PATIENCE)?;
        let target = self.tree_of(commit)?;
        let repository = self.with_folder()?;
        let restoring = GitError::git("restoring a commit");
        let mut index = repository.index().map_err(&restoring)?;
        let tracked: BTreeSet<Vec<u8>> = index.iter().map(|entry| entry.path).collect();
        // In memory: entries that stay the same keep what the index knows of their files.
        index.read_tree(&tree_of(&repository, commit.0)?).map_err(&restoring)?;
        let mut options = DiffOptions::new();
        options.include_typechange(true).ignore_submodules(true);
        let diff = repository
            .diff_index_to_workdir(Some(&index), Some(&mut options))
            .map_err(&restoring)?;
        let differs = diff.deltas().map(|delta| path_of(&delta)).collect();
        let plan = plan(&tracked, target.entries(), &differs)?;
        plan.check(folder)?;
        plan.carry_out(folder, &target)?;
        index.write().map_err(&restoring)?;
        sync_file(&self.git_dir.join("index"))
    }
}

/// What separates the folder from the commit.
fn plan(
    tracked: &BTreeSet<Vec<u8>>,
    target: &[TreeEntry],
    differs: &BTreeSet<String>,
) -> Result<Plan, GitError> {
    let wanted: BTreeMap<&str, &TreeEntry> =
        target.iter().map(|entry| (entry.path.as_str(), entry)).collect();
    let mut plan = Plan::default();
    for path in tracked {
        let path = FilePath::try_from(path.as_slice())?;
        if !wanted.contains_key(path.as_str()) {
            plan.remove.push(path);
        }
    }
    plan.write = target.iter().filter(|e| differs.contains(e.path.as_str())).cloned().collect();
    Ok(plan)
}

impl Plan {
    /// Finds what would stop the work in its middle, before it begins.
    fn check(&self, folder: &Folder) -> Result<(), GitError> {
        let removed: BTreeSet<&str> = self.remove.iter().map(FilePath::as_str).collect();
        let mut fine = BTreeSet::new();
        for entry in &self.write {
            let mut above = entry.path.parent();
            while let Some(dir) = above {
                if !fine.insert(dir.clone()) {
                    break;
                }
                let other = matches!(kind_at(folder, &dir), Some(kind) if kind != Kind::Dir);
                if other && !removed.contains(dir.as_str()) {
                    return Err(GitError::InTheWay { path: dir.to_string() });
                }
                above = dir.parent();
            }
            if kind_at(folder, &entry.path) == Some(Kind::Dir) {
                let below = folder.list(Some(&entry.path), usize::MAX / 4)?;
                let stays = |path: &str| !removed.contains(path);
                if let Some(file) = below
                    .entries
                    .iter()
                    .find(|e| e.kind != api::function::FileKind::Dir && stays(&e.path))
                {
                    return Err(GitError::InTheWay { path: file.path.clone() });
                }
            }
        }
        Ok(())
    }

    fn carry_out(&self, folder: &Folder, target: &CommitTree) -> Result<(), GitError> {
        for path in &self.remove {
            folder.prune(path)?;
        }
        for entry in &self.write {
            let content = target.read(entry)?;
            if kind_at(folder, &entry.path) == Some(Kind::Dir) {
                folder.remove(&entry.path, &Precondition::None)?;
            }
            match entry.kind {
                TreeKind::Link => folder.put_link(&entry.path, &content)?,
                TreeKind::File => folder.put(&entry.path, &content, Bits::Executable(false))?,
                TreeKind::Executable => {
                    folder.put(&entry.path, &content, Bits::Executable(true))?;
                }
            }
        }
        Ok(folder.sync()?)
    }
}

fn kind_at(folder: &Folder, path: &FilePath) -> Option<Kind> {
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY;
    let parent = match path.parent() {
        Some(parent) => open_beneath(folder.root(), parent.as_str(), flags),
        None => open_beneath(folder.root(), ".", flags),
    };
    let name = std::ffi::CString::new(path.name()).ok()?;
    match parent.and_then(|parent| stat(&parent, &name)) {
        Ok(status) => Some(Kind::of(&status)),
        Err(Errno::ENOENT | Errno::ENOTDIR) | Err(_) => None,
    }
}
