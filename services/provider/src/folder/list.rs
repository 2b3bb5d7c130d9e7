//! What lies in a folder.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use api::function::{FileEntry, FileKind};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::dir::{Kind, open_beneath, open_child, some_children, stat};
use super::path::{FilePath, MAX_DEPTH, is_temporary};
use super::{Folder, FolderError, enter};

/// Names of a folder that are read beyond what is asked for, since some are not shown.
const MARGIN: usize = 64;

/// The entries of a folder and of all folders below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// In order of their paths; a folder comes before what it holds.
    pub entries: Vec<FileEntry>,
    /// False when there are more than were asked for, or folders that could not be read.
    pub complete: bool,
}

impl Folder {
    /// Lists at most `limit` entries below a folder (none: the whole function), without git's
    /// files, temporary files, pipes, sockets and devices. No link is followed below `below`. A name that is
    /// not UTF-8 is left out, as no path could name it.
    ///
    /// # Errors
    /// `NotFound`, `Outside`, `WrongKind` and `Gone` of [`FolderError`].
    pub fn list(&self, below: Option<&FilePath>, limit: usize) -> Result<Listing, FolderError> {
        let _owner = enter()?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let start = match below {
            Some(path) => open_beneath(self.root(), path.as_str(), flags),
            None => open_beneath(self.root(), ".", flags),
        };
        let start = start.map_err(|errno| match (below, errno) {
            (Some(path), Errno::ENOTDIR) => {
                FolderError::WrongKind { path: path.to_string(), wanted: "a folder" }
            }
            (Some(path), errno) => self.error("listing", path, errno),
            (None, errno) => FolderError::io("listing the folder of", self.name(), errno),
        })?;
        if below.is_none() && self.is_gone() {
            return Err(FolderError::Gone { name: self.name().clone() });
        }
        let mut listing = Listing { entries: Vec::new(), complete: true };
        let prefix = below.map_or_else(String::new, |path| format!("{path}/"));
        listing.add(&start, &prefix, limit, MAX_DEPTH + 1);
        Ok(listing)
    }
}

impl Listing {
    fn add(&mut self, dir: &OwnedFd, prefix: &str, limit: usize, depth: usize) {
        let room = (limit - self.entries.len()).saturating_add(MARGIN);
        let (mut found, all) = match some_children(dir, room) {
            Ok(found) if depth > 0 => found,
            _ => (Vec::new(), false),
        };
        self.complete &= all;
        found.sort_unstable();
        for (name, kind) in found {
            let Some((text, kind)) = shown(&name, kind) else { continue };
            if self.entries.len() == limit {
                self.complete = false;
                return;
            }
            // What vanished since it was read is not there, and that is no error.
            let Ok(status) = stat(dir, &name) else { continue };
            let size = if kind == FileKind::File {
                u64::try_from(status.st_size).unwrap_or_default()
            } else {
                0
            };
            let path = format!("{prefix}{text}");
            let below = format!("{path}/");
            self.entries.push(FileEntry { path, kind, size });
            if kind == FileKind::Dir {
                match open_child(dir, &name) {
                    Ok(child) => self.add(&child, &below, limit, depth - 1),
                    Err(Errno::ENOENT) => {}
                    Err(_) => self.complete = false,
                }
            }
        }
    }
}

/// The name and kind of an entry as the API has them, none for what it does not show.
fn shown(name: &CStr, kind: Kind) -> Option<(&str, FileKind)> {
    let text = name.to_str().ok()?;
    if text.eq_ignore_ascii_case(".git") || is_temporary(text.as_bytes()) {
        return None;
    }
    match kind {
        Kind::File => Some((text, FileKind::File)),
        Kind::Dir => Some((text, FileKind::Dir)),
        Kind::Link => Some((text, FileKind::Link)),
        Kind::Special => None,
    }
}
