//! The locks of a `git` that works in the same directory: waited for by events.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use inotify::{Inotify, WatchMask};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Git, GitError, enter};
use crate::folder::FolderError;

/// How long a call waits for a `git` that works in the folder.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What says that a `git` is changing the folder, the index or the branch.
const LOCKS: [&str; 2] = ["index.lock", "HEAD.lock"];

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
    inotify.watches().add(git_dir, gone).map_err(fails)?;
    let end = Instant::now() + limit;
    // Looked at after the watch began: what ends in between is an event already.
    while let Some(file) = held(git_dir) {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(GitError::Locked { file: file.to_owned() }),
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

/// Refuses a git directory that holds a pipe, a socket, a device or a link where git has files and
/// folders: opening one of these could wait for ever, or leave the directory.
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
        if !kind.is_file() && !kind.is_dir() {
            return special(&entry.file_name());
        }
    }
    Ok(())
}

fn held(git_dir: &Path) -> Option<&'static str> {
    LOCKS.into_iter().find(|lock| git_dir.join(lock).symlink_metadata().is_ok())
}
