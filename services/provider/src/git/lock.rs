//! The locks of a `git` that works in the same directory: waited for by events.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use inotify::{Inotify, WatchMask};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Git, GitError, enter};
use crate::folder::{FilePath, FolderError, MAX_PATH};

/// How long a call waits for a `git` that works in the folder.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What says that a `git` is changing the folder, the index or a reference; and the branch's own.
const LOCKS: [&str; 3] = ["index.lock", "HEAD.lock", "packed-refs.lock"];

impl Git {
    /// Whether a `git` changes the folder or the branch at this moment: what the folder holds then
    /// is half of what it will be.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        enter().is_ok_and(|_owner| held(&self.git_dir).is_some())
    }

    /// Waits until no `git` changes the folder any more.
    ///
    /// # Errors
    /// [`GitError::Locked`] when one still does after `limit`.
    pub fn wait_unlocked(&self, limit: Duration) -> Result<(), GitError> {
        let _owner = enter()?;
        wait(&self.git_dir, limit)
    }
}

/// As [`Git::wait_unlocked`], for who is the owner already.
pub(super) fn wait(git_dir: &Path, limit: Duration) -> Result<(), GitError> {
    if held(git_dir).is_none() {
        return Ok(());
    }
    let fails = |source| FolderError::from_io("watching", git_dir.display(), source);
    let mut inotify = Inotify::init().map_err(fails)?;
    let gone = WatchMask::MOVED_FROM | WatchMask::DELETE | WatchMask::ONLYDIR;
    for lock in locks(git_dir) {
        match inotify.watches().add(lock.parent().unwrap_or(git_dir), gone) {
            // Without its folder there is no lock.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            answer => drop(answer.map_err(fails)?),
        }
    }
    let end = Instant::now() + limit;
    // Looked at after the watch began: what ends in between is an event already.
    while let Some(file) = held(git_dir) {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(GitError::Locked { file }),
            Ok(_) => match inotify.read_events(&mut [0; 4096]) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(fails(error).into());
                }
                _ => {}
            },
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(fails(errno.into()).into()),
        }
    }
    Ok(())
}

/// Refuses a git directory that holds a pipe, a device or a link where git has files and folders:
/// opening one of these could wait for ever, or leave the directory. (A socket cannot be opened, and
/// some gits have one.)
pub(super) fn refuse_special(git_dir: &Path) -> Result<(), GitError> {
    let special = |name: &std::ffi::OsStr| {
        Err(GitError::Special { file: name.to_string_lossy().into_owned() })
    };
    let fails = |error: io::Error| FolderError::from_io("reading", git_dir.display(), error);
    let entries = match git_dir.read_dir() {
        Ok(entries) => entries,
        // That it is not there is said better by who opens it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fails(error).into()),
    };
    if git_dir.symlink_metadata().map_err(fails)?.is_symlink() {
        return special(git_dir.file_name().unwrap_or_default());
    }
    for entry in entries {
        let entry = entry.map_err(fails)?;
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(fails(error).into()),
        };
        if !kind.is_file() && !kind.is_dir() && !kind.is_socket() {
            return special(&entry.file_name());
        }
    }
    Ok(())
}

/// The first lock that is held, below the git directory.
fn held(git_dir: &Path) -> Option<String> {
    let held = locks(git_dir).into_iter().find(|lock| lock.symlink_metadata().is_ok())?;
    Some(held.strip_prefix(git_dir).unwrap_or(&held).to_string_lossy().into_owned())
}

fn locks(git_dir: &Path) -> Vec<PathBuf> {
    let mut locks: Vec<_> = LOCKS.iter().map(|lock| git_dir.join(lock)).collect();
    locks.extend(branch(git_dir).map(|branch| git_dir.join(format!("{branch}.lock"))));
    locks
}

/// The branch that HEAD names, if it names one that could be.
fn branch(git_dir: &Path) -> Option<FilePath> {
    let path = git_dir.join("HEAD");
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_PATH as u64).read_to_string(&mut text).ok()?;
    let branch: FilePath = text.strip_prefix("ref: ")?.trim().parse().ok()?;
    branch.as_str().starts_with("refs/").then_some(branch)
}
