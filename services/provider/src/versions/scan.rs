//! One look at every file of a folder.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::FileStat;
use nix::time::{ClockId, clock_gettime};

use super::VersionError;
use crate::folder::dir::{Kind, children, open_child, stat};
use crate::folder::{MAX_DEPTH, MAX_PATH, is_temporary};

/// What a version may hold. Ignored files count like all others: a version that lacks files without
/// a word would be a riddle to whoever runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most files, folders and links.
    pub entries: usize,
    /// Most bytes in files.
    pub bytes: u64,
    /// Most folders within each other.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 50_000, bytes: 1 << 30, depth: MAX_DEPTH }
    }
}

impl Limits {
    /// For what was within limits when it was made.
    pub(super) const NONE: Self = Self { entries: usize::MAX, bytes: u64::MAX, depth: 128 };
}

/// What was found, in the order of a walk: a folder, then what it holds, by name.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    /// Names that are left out because a version cannot hold them.
    pub(super) skipped: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Below the folder.
    pub(super) path: CString,
    pub(super) node: Node,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    /// With its target.
    Link(CString),
    File(Stamp),
}

/// By which a file's content is taken for unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    /// As the file has it in a version: readable, never writable.
    pub(super) mode: u32,
    pub(super) inode: u64,
    /// Nanoseconds since 1970.
    pub(super) modified: i128,
    /// Nanoseconds since 1970; cannot be set back.
    pub(super) changed: i128,
}

/// When a scan began, by the clock that file systems stamp with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began(i128);

/// Longest tick of the clock that file systems stamp with (jiffies of 100 Hz), doubled.
const TICK: i128 = 20_000_000;
/// How many left out names are told.
const TOLD: usize = 8;

impl Began {
    pub(super) fn now() -> Self {
        // It cannot fail for this clock; if it did, every file would be compared by its bytes.
        clock_gettime(ClockId::CLOCK_REALTIME)
            .map_or(Self(0), |at| Self(nanoseconds(at.tv_sec(), at.tv_nsec())))
    }

    /// Whether a file with this stamp could change once more and keep the stamp.
    pub(super) fn could_repeat(self, stamp: &Stamp) -> bool {
        stamp.changed.max(stamp.modified) + TICK > self.0
    }
}

impl Stamp {
    pub(super) fn of(status: &FileStat) -> Self {
        Self {
            size: u64::try_from(status.st_size).unwrap_or_default(),
            mode: (status.st_mode & 0o555) | 0o400,
            inode: status.st_ino,
            modified: nanoseconds(status.st_mtime, status.st_mtime_nsec),
            changed: nanoseconds(status.st_ctime, status.st_ctime_nsec),
        }
    }
}

/// Looks at all below a folder but `.git` and temporary files. What vanishes meanwhile is not there.
pub(super) fn scan(root: impl AsFd, limits: &Limits) -> Result<Found, VersionError> {
    let mut scan = Scan { limits, found: Found::default(), bytes: 0, path: Vec::new() };
    scan.folder(root, limits.depth)?;
    Ok(scan.found)
}

struct Scan<'a> {
    limits: &'a Limits,
    found: Found,
    bytes: u64,
    /// Of the folder that is being read, with a `/` at its end unless it is the root.
    path: Vec<u8>,
}

impl Scan<'_> {
    fn folder(&mut self, dir: impl AsFd, depth: usize) -> Result<(), VersionError> {
        let left = self.limits.entries - self.found.entries.len();
        // Room for what is left out below.
        let mut names = match children(&dir, left.saturating_add(1000)) {
            Err(Errno::E2BIG) => return Err(VersionError::TooMany { limit: self.limits.entries }),
            answer => answer.map_err(|errno| self.fails(c".", errno))?,
        };
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (name, kind) in names {
            if name.to_bytes() == b".git" || is_temporary(name.to_bytes()) {
                continue;
            }
            self.entry(&dir, &name, kind, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: impl AsFd,
        name: &CStr,
        kind: Kind,
        depth: usize,
    ) -> Result<(), VersionError> {
        let node = match kind {
            Kind::Dir => Node::Dir,
            Kind::Link => match readlinkat(&dir, name) {
                Ok(target) => Node::Link(
                    CString::new(std::os::unix::ffi::OsStringExt::into_vec(target))
                        .map_err(|_| self.fails(name, Errno::EINVAL))?,
                ),
                Err(Errno::ENOENT | Errno::EINVAL) => return Ok(()),
                Err(errno) => return Err(self.fails(name, errno)),
            },
            Kind::File => match stat(&dir, name) {
                Ok(status) if Kind::of(&status) == Kind::File => Node::File(Stamp::of(&status)),
                Ok(_) | Err(Errno::ENOENT) => return Ok(()),
                Err(errno) => return Err(self.fails(name, errno)),
            },
            Kind::Special => {
                if self.found.skipped.len() < TOLD {
                    self.found.skipped.push(self.shown(name));
                }
                return Ok(());
            }
        };
        if self.found.entries.len() == self.limits.entries {
            return Err(VersionError::TooMany { limit: self.limits.entries });
        }
        if self.path.len() + name.to_bytes().len() >= MAX_PATH {
            return Err(VersionError::TooDeep { path: self.shown(name) });
        }
        if let Node::File(stamp) = &node {
            self.bytes = self.bytes.saturating_add(stamp.size);
            if self.bytes > self.limits.bytes {
                let path = self.shown(name);
                return Err(VersionError::TooLarge { limit: self.limits.bytes, path });
            }
        }
        let before = self.path.len();
        self.path.extend_from_slice(name.to_bytes());
        let path = CString::new(self.path.clone()).expect("names from the kernel hold no NUL");
        let is_dir = node == Node::Dir;
        self.found.entries.push(Entry { path, node });
        if is_dir {
            self.below(dir, name, before, depth)?;
        }
        self.path.truncate(before);
        Ok(())
    }

    fn below(
        &mut self,
        dir: impl AsFd,
        name: &CStr,
        before: usize,
        depth: usize,
    ) -> Result<(), VersionError> {
        let Some(depth) = depth.checked_sub(1) else {
            self.path.truncate(before);
            return Err(VersionError::TooDeep { path: self.shown(name) });
        };
        match open_child(&dir, name) {
            Ok(child) => {
                self.path.push(b'/');
                self.folder(&child, depth)
            }
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                self.found.entries.pop();
                Ok(())
            }
            Err(errno) => {
                self.path.truncate(before);
                Err(self.fails(name, errno))
            }
        }
    }

    fn shown(&self, name: &CStr) -> String {
        let path = [self.path.as_slice(), name.to_bytes()].concat();
        String::from_utf8_lossy(&path).chars().take(200).collect()
    }

    fn fails(&self, name: &CStr, errno: Errno) -> VersionError {
        VersionError::io("reading", self.shown(name), errno.into())
    }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}
