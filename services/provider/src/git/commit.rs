//! Commits of the folder: on the branch, or aside to keep what is not committed.

use std::path::Path;
use std::time::Instant;

use git2::{ErrorCode, Index, IndexAddOption, Oid, Repository, RepositoryState, Signature, Time};
use tracing::warn;

use super::lock::{self, PATIENCE};
use super::{
    Author, Change, ChangeKind, Changes, CommitId, Git, GitError, changes_of, enter, head,
    sync_file, tree_of,
};

/// How often a commit begins again because another git was faster.
const MAX_TRIES: usize = 64;
/// Most files that a commit takes in anew.
const MAX_FILES: usize = 50_000;
/// Most bytes that a commit takes in anew.
const MAX_BYTES: u64 = 1 << 30;
/// Where references lie that keep what would be lost; no push and no branch command touches them.
const KEPT: &str = "refs/inplace/before-rollback";
/// How many of them there are at most; the objects of others are left to `git gc`.
const MOST_KEPT: usize = 20;
/// How many changed paths a message of ours names.
const NAMED: usize = 3;

impl Git {
    /// Commits all that is not ignored, additions, changes and removals, on the branch that HEAD
    /// names. An empty message is replaced by one that says what changed. When it returns the
    /// commit is on the disk.
    ///
    /// None: nothing differs from HEAD.
    ///
    /// # Errors
    /// `Locked`, `InProgress`, `TooLarge`, or why it cannot be written.
    pub fn commit(&self, message: &str, author: &Author) -> Result<Option<CommitId>, GitError> {
        let _owner = enter()?;
        let end = Instant::now() + PATIENCE;
        for _ in 0..MAX_TRIES {
            lock::wait(&self.git_dir, end.saturating_duration_since(Instant::now()))?;
            match self.try_commit(message, author) {
                // Another git was faster, at the index or at the branch: on top of what it left.
                Err(GitError::Locked { .. }) => {}
                Err(GitError::Git { ref source, .. }) if source.code() == ErrorCode::Modified => {}
                answer => return answer,
            }
        }
        Err(GitError::Locked { file: "a reference".to_owned() })
    }

    /// Keeps what differs from HEAD and is not ignored as a commit beside the branch, named
    /// `refs/inplace/before-rollback/NUMBER`, or the next number that is free. Neither the branch nor
    /// the index nor a file changes. The twenty of the highest numbers are kept, and this one.
    ///
    /// None: nothing differs, and no reference was made.
    ///
    /// # Errors
    /// As [`Git::commit`].
    pub fn keep_uncommitted(
        &self,
        number: u64,
        author: &Author,
    ) -> Result<Option<(String, CommitId)>, GitError> {
        let _owner = enter()?;
        lock::wait(&self.git_dir, PATIENCE)?;
        let repository = self.with_folder()?;
        let (mut index, parent) = (take_in(&repository)?, head(&repository)?);
        let writing = GitError::git("keeping what is not committed");
        let tree = index.write_tree().map_err(&writing)?;
        if parent.map(|id| tree_of(&repository, id)).transpose()?.map(|t| t.id()) == Some(tree) {
            return Ok(None);
        }
        let message = format!("not committed before roll-back {number}");
        let commit = write(&repository, None, &message, author, tree, parent)?;
        let mut free = number;
        loop {
            let name = format!("{KEPT}/{free}");
            match repository.reference(&name, commit, false, "kept by a roll-back") {
                Ok(_) => {
                    if let Err(error) = forget_oldest(&repository, &name) {
                        // The next one tries it again.
                        warn!(function = %self.name, "old references are left: {error}");
                    }
                    return Ok(Some((name, CommitId(commit))));
                }
                Err(error) if error.code() == ErrorCode::Exists => free += 1,
                Err(error) => return Err(writing(error)),
            }
        }
    }

    fn try_commit(&self, message: &str, author: &Author) -> Result<Option<CommitId>, GitError> {
        let repository = self.with_folder()?;
        if let Some(what) = in_progress(repository.state()) {
            return Err(GitError::InProgress { what });
        }
        let (mut index, parent) = (take_in(&repository)?, head(&repository)?);
        let committing = GitError::git("committing");
        let tree = index.write_tree().map_err(&committing)?;
        index.write().map_err(&committing)?;
        // A cache that git can make anew, but not if a power cut leaves it torn.
        sync_file(&self.git_dir.join("index"))?;
        let before = parent.map(|id| tree_of(&repository, id)).transpose()?;
        if before.as_ref().map(git2::Tree::id) == Some(tree) {
            return Ok(None);
        }
        let message = match message.trim() {
            "" => {
                let after = repository.find_tree(tree).map_err(&committing)?;
                let diff = repository
                    .diff_tree_to_tree(before.as_ref(), Some(&after), None)
                    .map_err(&committing)?;
                describe(&changes_of(&diff, NAMED))
            }
            given => given.to_owned(),
        };
        write(&repository, Some("HEAD"), &message, author, tree, parent)
            .map(|id| Some(CommitId(id)))
    }
}

/// Removes all references to what was kept but those of the highest numbers, and `new`.
fn forget_oldest(repository: &Repository, new: &str) -> Result<(), git2::Error> {
    let mut all = Vec::new();
    for name in repository.references_glob(&format!("{KEPT}/*"))?.names() {
        let name = name?;
        // One of another form is none of ours.
        if let Some(number) = name.rsplit('/').next().and_then(|it| it.parse::<u64>().ok()) {
            all.push((number, name.to_owned()));
        }
    }
    all.sort_unstable_by(|one, other| other.cmp(one));
    for (_, name) in all.iter().skip(MOST_KEPT).filter(|(_, name)| name != new) {
        repository.find_reference(name)?.delete()?;
    }
    Ok(())
}

/// The index with all of the folder that is not ignored; in memory only.
fn take_in(repository: &Repository) -> Result<Index, GitError> {
    let reading = GitError::git("reading the folder");
    let mut index = repository.index().map_err(&reading)?;
    let folder = repository.workdir().unwrap_or(Path::new("")).to_owned();
    let (mut files, mut bytes) = (0usize, 0u64);
    let mut within = |path: &Path, _: &[u8]| {
        files += 1;
        bytes += folder.join(path).symlink_metadata().map_or(0, |status| status.len());
        if files > MAX_FILES || bytes > MAX_BYTES { -1 } else { 0 }
    };
    let added = index.add_all(["*"], IndexAddOption::DEFAULT, Some(&mut within));
    if bytes > MAX_BYTES {
        return Err(GitError::TooLarge { what: "what is to be committed".into(), limit: "1 GiB" });
    }
    if files > MAX_FILES {
        let limit = "50000 files";
        return Err(GitError::TooLarge { what: "what is to be committed".into(), limit });
    }
    added.map_err(&reading)?;
    Ok(index)
}

fn write(
    repository: &Repository,
    reference: Option<&str>,
    message: &str,
    author: &Author,
    tree: Oid,
    parent: Option<Oid>,
) -> Result<Oid, GitError> {
    let committing = GitError::git("committing");
    let at =
        Time::new(author.time.unix_timestamp(), i32::from(author.time.offset().whole_minutes()));
    let by = Signature::new(&author.name, &author.email, &at).map_err(&committing)?;
    let tree = repository.find_tree(tree).map_err(&committing)?;
    let parent = parent.map(|id| repository.find_commit(id)).transpose().map_err(&committing)?;
    let parents: Vec<_> = parent.iter().collect();
    repository.commit(reference, &by, &by, message, &tree, &parents).map_err(&committing)
}

/// A message for changes that nobody described.
fn describe(changes: &Changes) -> String {
    let words: Vec<_> = changes
        .paths
        .iter()
        .map(|Change { path, kind }| match kind {
            ChangeKind::Added => format!("add {path}"),
            ChangeKind::Removed => format!("remove {path}"),
            ChangeKind::Modified | ChangeKind::Conflicted => format!("change {path}"),
        })
        .collect();
    match (words.is_empty(), changes.more) {
        (true, _) => "no files".to_owned(),
        (false, 0) => words.join(", "),
        (false, more) => format!("{} and {more} more", words.join(", ")),
    }
}

fn in_progress(state: RepositoryState) -> Option<&'static str> {
    use RepositoryState as S;
    match state {
        S::Clean => None,
        S::Merge => Some("merge"),
        S::Revert | S::RevertSequence => Some("revert"),
        S::CherryPick | S::CherryPickSequence => Some("cherry-pick"),
        S::Bisect => Some("bisect"),
        S::Rebase | S::RebaseInteractive | S::RebaseMerge => Some("rebase"),
        S::ApplyMailbox | S::ApplyMailboxOrRebase => Some("git am"),
    }
}
