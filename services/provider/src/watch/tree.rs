//! Which folders are watched, and under which names.

use std::collections::{HashMap, VecDeque};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use inotify::{WatchDescriptor, WatchMask, Watches};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use tracing::warn;

use super::MAX_WATCHES;
use super::meaning::{self, Place};
use crate::folder::dir::{Kind, children, open_plain, stat};
use crate::folder::{Folder, is_temporary};
use crate::git::Git;
use crate::sys::AsOwner;

/// The watched folders.
pub(super) struct Tree {
    watches: Watches,
    folder: PathBuf,
    root: OwnedFd,
    git: OwnedFd,
    places: HashMap<WatchDescriptor, Place>,
    unwatched: usize,
}

impl Tree {
    /// Watches everything of a function.
    pub(super) fn new(watches: Watches, folder: &Folder, git: &Git) -> io::Result<Self> {
        let _owner = AsOwner::enter()?;
        let mut tree = Self {
            watches,
            folder: folder.path().to_owned(),
            root: folder.root().try_clone()?,
            git: open(git.git_dir())?,
            places: HashMap::new(),
            unwatched: 0,
        };
        let functions = folder.path().parent().unwrap_or(Path::new("/"));
        let name = folder.name().to_string().into_bytes();
        tree.watch(&open(functions)?, Place::Functions(name))?;
        tree.rescan()?;
        if tree.is_gone() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the folder is gone"));
        }
        Ok(tree)
    }

    /// Watches all folders that are not watched yet.
    pub(super) fn rescan(&mut self) -> io::Result<()> {
        let _owner = AsOwner::enter()?;
        self.unwatched = 0;
        let git = self.git.try_clone()?;
        self.watch(&git, Place::GitDir)?;
        self.watch_below(Place::Refs(b"refs/heads".to_vec()));
        let root = self.root.try_clone()?;
        self.watch(&root, Place::Folder(Vec::new()))?;
        self.watch_below(Place::Folder(Vec::new()));
        if self.unwatched > 0 {
            // They are too many, or cannot be read: a change there is seen with the next elsewhere.
            let (folder, number) = (self.folder.display(), self.unwatched);
            warn!(%folder, number, "some folders are not watched");
        }
        Ok(())
    }

    /// Watches a new folder and all below it.
    pub(super) fn add(&mut self, place: &Place, name: &[u8]) -> io::Result<()> {
        let _owner = AsOwner::enter()?;
        match place {
            Place::Folder(_) => self.watch_below(Place::Folder(place.join(name))),
            Place::Refs(_) => self.watch_below(Place::Refs(place.join(name))),
            Place::Functions(_) | Place::GitDir => {}
        }
        Ok(())
    }

    /// Forgets a folder that is gone and all below it: elsewhere it would go by wrong names.
    pub(super) fn remove(&mut self, place: &Place, name: &[u8]) {
        let lost = place.join(name);
        let within = |path: &[u8]| {
            path == lost || (path.starts_with(&lost) && path.get(lost.len()) == Some(&b'/'))
        };
        let wds: Vec<_> =
            self.places
                .iter()
                .filter(|(_, other)| match (place, other) {
                    (Place::Folder(_), Place::Folder(path))
                    | (Place::Refs(_), Place::Refs(path)) => within(path),
                    _ => false,
                })
                .map(|(wd, _)| wd.clone())
                .collect();
        for wd in wds {
            self.places.remove(&wd);
            // A folder that was deleted took its watch along.
            let _ = self.watches.remove(wd);
        }
    }

    /// Forgets a watch that the kernel ended.
    pub(super) fn forget(&mut self, wd: &WatchDescriptor) {
        self.places.remove(wd);
    }

    pub(super) fn place(&self, wd: &WatchDescriptor) -> Option<&Place> {
        self.places.get(wd)
    }

    /// Whether the folder is not where it was.
    pub(super) fn is_gone(&self) -> bool {
        let Ok(_owner) = AsOwner::enter() else { return true };
        match (nix::sys::stat::fstat(&self.root), nix::sys::stat::lstat(&self.folder)) {
            (Ok(open), Ok(there)) => (open.st_dev, open.st_ino) != (there.st_dev, there.st_ino),
            _ => true,
        }
    }

    /// Whether a new name stands for something that nobody will write and close: a link, or a
    /// second name of a file. A new file is told when it is closed.
    pub(super) fn is_complete_at_birth(&self, place: &Place, name: &[u8]) -> bool {
        let (Place::Folder(path), Ok(_owner)) = (place, AsOwner::enter()) else { return false };
        let dir = dir_path(path);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let (Ok(dir), Ok(name)) = (open_plain(&self.root, &*dir, flags), CString::new(name)) else {
            return false;
        };
        match stat(&dir, &name) {
            Ok(status) => match Kind::of(&status) {
                Kind::Link => true,
                Kind::File => status.st_nlink > 1,
                Kind::Dir | Kind::Special => false,
            },
            Err(_) => false,
        }
    }

    /// Watches a folder and all below it, the upper ones first, so that a limit cuts off the depths.
    /// Each is watched before it is read: what is made in between is seen twice, not never.
    fn watch_below(&mut self, start: Place) {
        let mut queue = VecDeque::from([start]);
        while let Some(place) = queue.pop_front() {
            let (base, path) = match &place {
                Place::Folder(path) => (&self.root, dir_path(path)),
                Place::Refs(path) => (&self.git, dir_path(path)),
                Place::Functions(_) | Place::GitDir => continue,
            };
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let dir = match open_plain(base, &*path, flags) {
                Ok(dir) => dir,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
                Err(_) => {
                    self.unwatched += 1;
                    continue;
                }
            };
            if self.places.len() >= MAX_WATCHES || self.watch(&dir, place.clone()).is_err() {
                self.unwatched += 1;
                continue;
            }
            let Ok(below) = children(&dir, super::MAX_ENTRIES) else {
                self.unwatched += 1;
                continue;
            };
            for (name, kind) in below {
                let name = name.to_bytes();
                if kind != Kind::Dir || name == b".git" || is_temporary(name) {
                    continue;
                }
                queue.push_back(match &place {
                    Place::Refs(_) => Place::Refs(place.join(name)),
                    _ => Place::Folder(place.join(name)),
                });
            }
        }
    }

    /// Watches an open folder: it, and not what has its path by now.
    fn watch(&mut self, dir: &OwnedFd, place: Place) -> io::Result<()> {
        let path = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        let mask = match place {
            Place::Functions(_) => WatchMask::DELETE | WatchMask::MOVED_FROM | WatchMask::ONLYDIR,
            _ => meaning::mask(),
        };
        let wd = self.watches.add(path, mask)?;
        self.places.insert(wd, place);
        Ok(())
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree")
            .field("folder", &self.folder)
            .field("watches", &self.places.len())
            .finish_non_exhaustive()
    }
}

/// A folder's path for the kernel, which has no empty one. A name from it holds no NUL.
fn dir_path(path: &[u8]) -> CString {
    let path = if path.is_empty() { b"." } else { path };
    CString::new(path).unwrap_or_default()
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(path, flags, Mode::empty())?)
}
