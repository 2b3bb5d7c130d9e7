//! News from a function's folder and its git directory, by inotify.
//!
//! The first event counts: [`Watcher::next`] returns as soon as there is one, with all that came
//! until then. What follows of the same burst is in the next answer; no timer holds anything back.
//! A file that is being written is not news, one that was closed is.
mod meaning;
mod tree;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use inotify::{EventMask, Inotify};
use nix::libc;
use tokio::io::unix::AsyncFd;

use crate::folder::Folder;
use crate::git::Git;
use meaning::{Meaning, Place};
use tree::Tree;

/// Most folders of one function that are watched.
pub const MAX_WATCHES: usize = 8192;
/// Most entries of one folder that are read to find folders in it.
const MAX_ENTRIES: usize = 200_000;
/// Most changed paths that an event names.
const MAX_PATHS: usize = 32;
/// Most reads of the kernel's queue before what is known is told: an endless writer is no excuse.
const MAX_READS: usize = 64;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something in the folder changed.
    Changed(Changed),
    /// A branch or HEAD moved, by whichever git: compare [`Git::head`] with what is known.
    Branch,
    /// The folder was deleted or moved. Nothing more comes; a folder that has the name later is
    /// another one.
    Gone,
}

/// What changed in the folder. A hint for logs and for a first look; the truth is on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Paths below the folder, the first few; bytes that are no UTF-8 are replaced.
    pub paths: BTreeSet<String>,
    /// Whether there were more than are named, or nobody knows which: events were lost.
    pub more: bool,
}

/// Watches one function. Made and used within a tokio runtime.
#[derive(Debug)]
pub struct Watcher {
    inotify: AsyncFd<Inotify>,
    tree: Tree,
    pending: Pending,
}

/// What was read and not told yet.
#[derive(Debug, Default)]
struct Pending {
    changed: Option<Changed>,
    branch: bool,
    gone: bool,
}

impl Watcher {
    /// Begins to watch: what changes after it returned is told. It reads all folders of the
    /// function, so it takes a moment where there are many.
    ///
    /// # Errors
    /// When the kernel has no instance or watch left for the folder itself, or it is gone.
    pub fn new(folder: &Folder, git: &Git) -> io::Result<Self> {
        let inotify = Inotify::init().map_err(|error| match error.raw_os_error() {
            Some(libc::EMFILE) => {
                io::Error::other("no inotify instance is left: raise fs.inotify.max_user_instances")
            }
            _ => error,
        })?;
        let tree = Tree::new(inotify.watches(), folder, git)?;
        let inotify = crate::sys::readable(inotify)?;
        Ok(Self { inotify, tree, pending: Pending::default() })
    }

    /// Waits for news. Nothing is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// When inotify fails, which it does not while the process is sound.
    pub async fn next(&mut self) -> io::Result<Event> {
        loop {
            for _ in 0..MAX_READS {
                if !self.read()? {
                    break;
                }
            }
            if let Some(event) = self.pending.take() {
                return Ok(event);
            }
            self.inotify.readable_mut().await?.clear_ready();
            // Cleared before the queue is read: what arrives from here on wakes us again.
        }
    }

    /// Takes in one buffer of events; false when there was none.
    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let events = match self.inotify.get_mut().read_events(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            answer => answer?,
        };
        for event in events {
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                self.tree.rescan()?;
                self.pending.lost();
                self.pending.gone |= self.tree.is_gone();
                continue;
            }
            if event.mask.contains(EventMask::IGNORED) {
                self.tree.forget(&event.wd);
                continue;
            }
            let Some(place) = self.tree.place(&event.wd) else { continue };
            let name = event.name.map(OsStr::as_bytes);
            let meaning = meaning::of(place, event.mask, name);
            self.take_in(meaning, &place.clone(), name.unwrap_or_default())?;
        }
        Ok(true)
    }

    fn take_in(&mut self, meaning: Meaning, place: &Place, name: &[u8]) -> io::Result<()> {
        match meaning {
            Meaning::Nothing => {}
            Meaning::Changed => self.pending.changed(&place.join(name)),
            Meaning::Created => {
                if self.tree.is_complete_at_birth(place, name) {
                    self.pending.changed(&place.join(name));
                }
            }
            Meaning::NewFolder => {
                // What it holds already has no events of its own, but it counts: git's refs too.
                self.tree.add(place, name)?;
                self.pending.news(place, name);
            }
            Meaning::LostFolder => {
                self.tree.remove(place, name);
                self.pending.news(place, name);
            }
            Meaning::Branch => self.pending.branch = true,
            Meaning::Gone => self.pending.gone = true,
        }
        Ok(())
    }
}

impl Pending {
    fn take(&mut self) -> Option<Event> {
        if self.gone {
            return Some(Event::Gone);
        }
        if let Some(changed) = self.changed.take() {
            return Some(Event::Changed(changed));
        }
        std::mem::take(&mut self.branch).then_some(Event::Branch)
    }

    fn changed(&mut self, path: &[u8]) {
        let changed = self.changed.get_or_insert_default();
        let path = String::from_utf8_lossy(path).into_owned();
        if changed.paths.len() < MAX_PATHS {
            changed.paths.insert(path);
        } else if !changed.paths.contains(&path) {
            changed.more = true;
        }
    }

    fn news(&mut self, place: &Place, name: &[u8]) {
        match place {
            Place::Folder(_) => self.changed(&place.join(name)),
            Place::Refs(_) => self.branch = true,
            Place::Functions(_) | Place::GitDir => {}
        }
    }

    fn lost(&mut self) {
        self.changed.get_or_insert_default().more = true;
        self.branch = true;
    }
}

#[cfg(test)]
mod tests;
