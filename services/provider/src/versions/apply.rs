//! Turning a copy of the newest version into the next one.

use std::ffi::CStr;
use std::fs::{File, FileTimes};
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::plan::{Item, Manifest, Step, plan};
use super::scan::{Began, Entry, Found, Node, Stamp};
use super::{Limits, Made, VersionError};
use crate::folder::dir::{Kind, children, open_child, open_plain, stat};

/// What was done.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) manifest: Manifest,
    pub(super) made: Made,
}

impl Done {
    /// Whether the version is what the one before was.
    pub(super) fn is_same(&self) -> bool {
        self.made.changed == 0 && self.made.removed == 0
    }
}

/// Makes `next`, a copy of what `before` describes, hold what was found in `folder`.
pub(super) fn apply(
    folder: &OwnedFd,
    next: &OwnedFd,
    before: Option<&Manifest>,
    found: Found,
    began: &Began,
    id: u64,
    limits: &Limits,
) -> Result<Done, VersionError> {
    let before = before.map_or(&[][..], |manifest| &manifest.items);
    let plan = plan(before, found.entries);
    let mut work = Work { folder, next, left: limits.bytes, made: Made::default() };
    work.made.skipped = found.skipped;
    // Backwards: what a folder holds goes before it.
    for &at in plan.gone.iter().rev() {
        work.remove(&before[at].entry)?;
    }
    let mut manifest = Manifest { items: Vec::with_capacity(plan.steps.len()) };
    for step in plan.steps {
        match step {
            Step::Keep(at) => {
                let item = &before[at];
                work.made.linked += usize::from(matches!(item.entry.node, Node::File(_)));
                manifest.items.push(item.clone());
            }
            Step::Compare(at, entry) => {
                if work.equal(&entry.path)? {
                    work.made.linked += 1;
                    manifest.items.push(Item::new(entry, began, before[at].unsynced));
                } else {
                    work.remove(&before[at].entry)?;
                    manifest.items.extend(work.replace(entry, began, id)?);
                }
            }
            Step::Replace(entry) => manifest.items.extend(work.replace(entry, began, id)?),
            Step::Make(entry) => manifest.items.extend(work.make(entry, began, id)?),
        }
    }
    Ok(Done { manifest, made: work.made })
}

/// Links all below one folder into another, which is empty.
pub(super) fn link_all(from: &OwnedFd, to: &OwnedFd) -> Result<(), VersionError> {
    for (name, kind) in children(from, usize::MAX).map_err(|errno| fails("reading", c".", errno))? {
        if kind == Kind::Dir {
            mkdirat(to, &*name, Mode::from_bits_truncate(0o755))
                .map_err(|errno| fails("making", &name, errno))?;
            let below = open_child(from, &name).map_err(|errno| fails("opening", &name, errno))?;
            let child = open_child(to, &name).map_err(|errno| fails("opening", &name, errno))?;
            link_all(&below, &child)?;
        } else {
            match linkat(from, &*name, to, &*name, AtFlags::empty()) {
                // As many names as a file can have: a new file it is.
                Err(Errno::EMLINK) => copy_again(from, to, &name)?,
                answer => answer.map_err(|errno| fails("linking", &name, errno))?,
            }
        }
    }
    Ok(())
}

struct Work<'a> {
    folder: &'a OwnedFd,
    next: &'a OwnedFd,
    /// Bytes that may still be copied.
    left: u64,
    made: Made,
}

impl Work<'_> {
    fn remove(&mut self, entry: &Entry) -> Result<(), VersionError> {
        let flag = match entry.node {
            Node::Dir => UnlinkatFlags::RemoveDir,
            Node::File(_) | Node::Link(_) => UnlinkatFlags::NoRemoveDir,
        };
        self.made.removed += 1;
        unlinkat(self.next, &*entry.path, flag)
            .map_err(|errno| fails("removing", &entry.path, errno))
    }

    /// Makes one entry in the place of one that was removed: that did not go, it changed.
    fn replace(
        &mut self,
        entry: Entry,
        began: &Began,
        id: u64,
    ) -> Result<Option<Item>, VersionError> {
        let item = self.make(entry, began, id)?;
        self.made.removed -= usize::from(item.is_some());
        Ok(item)
    }

    /// Makes one entry; none if it is not in the folder any more.
    fn make(&mut self, entry: Entry, began: &Began, id: u64) -> Result<Option<Item>, VersionError> {
        let path = &entry.path;
        let missing = match &entry.node {
            Node::Dir => mkdirat(self.next, &**path, Mode::from_bits_truncate(0o755))
                .map_err(|errno| fails("making", path, errno))
                .map(|()| false)?,
            Node::Link(target) => symlinkat(&**target, self.next, &**path)
                .map_err(|errno| fails("linking", path, errno))
                .map(|()| false)?,
            Node::File(stamp) => !self.copy(path, stamp)?,
        };
        if missing {
            return Ok(None);
        }
        self.made.changed += 1;
        let unsynced = if matches!(entry.node, Node::File(_)) { id } else { 0 };
        Ok(Some(Item::new(entry, began, unsynced)))
    }

    /// Whether a file of the folder has the bytes that the version has.
    fn equal(&self, path: &CStr) -> Result<bool, VersionError> {
        let Some(mut now) = self.source(path)? else { return Ok(false) };
        let mut before = open_plain(self.next, path, OFlag::O_RDONLY)
            .map(File::from)
            .map_err(|errno| fails("reading", path, errno))?;
        same_bytes(&mut now, &mut before)
            .map_err(|source| VersionError::io("reading", shown(path), source))
    }

    /// Copies a file of the folder; false if it is not there any more.
    fn copy(&mut self, path: &CStr, stamp: &Stamp) -> Result<bool, VersionError> {
        let Some(from) = self.source(path)? else { return Ok(false) };
        let to = create(self.next, path)?;
        let copied = fill(from, &to, self.left, stamp.mode)
            .map_err(|source| VersionError::io("copying", shown(path), source))?;
        // More than was there at the scan: somebody is writing a lot right now.
        self.left = self.left.checked_sub(copied).filter(|left| *left > 0).ok_or_else(|| {
            VersionError::TooLarge { limit: self.made.bytes + copied, path: shown(path) }
        })?;
        self.made.bytes += copied;
        Ok(true)
    }

    /// Opens a file of the folder, none if there is no file of that name any more.
    fn source(&self, path: &CStr) -> Result<Option<File>, VersionError> {
        let fd = match open_plain(self.folder, path, OFlag::O_RDONLY) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO) => return Ok(None),
            answer => answer.map_err(|errno| fails("reading", path, errno))?,
        };
        let status = fstat(&fd).map_err(|errno| fails("reading", path, errno))?;
        Ok((Kind::of(&status) == Kind::File).then(|| File::from(fd)))
    }
}

/// Copies a file of a version to a new file, not linked.
fn copy_again(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<(), VersionError> {
    let status = stat(from, name).map_err(|errno| fails("reading", name, errno))?;
    let source = open_plain(from, name, OFlag::O_RDONLY)
        .map(File::from)
        .map_err(|errno| fails("reading", name, errno))?;
    fill(source, &create(to, name)?, u64::MAX, Stamp::of(&status).mode)
        .map(drop)
        .map_err(|source| VersionError::io("copying", shown(name), source))
}

fn create(dir: &OwnedFd, path: &CStr) -> Result<File, VersionError> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    openat(dir, path, flags, Mode::from_bits_truncate(0o600))
        .map(File::from)
        .map_err(|errno| fails("writing", path, errno))
}

/// Copies the bytes (within the kernel, and by reference where the file system can), the mode and
/// the time of the last change, which interpreters compare with that of what they compiled.
fn fill(from: File, mut to: &File, limit: u64, mode: u32) -> io::Result<u64> {
    let modified = from.metadata()?.modified()?;
    let copied = io::copy(&mut from.take(limit), &mut to)?;
    fchmod(to, Mode::from_bits_truncate(mode))?;
    to.set_times(FileTimes::new().set_modified(modified))?;
    Ok(copied)
}

fn same_bytes(a: &mut impl Read, b: &mut impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let read = read_full(a, &mut left)?;
        if read != read_full(b, &mut right)? || left[..read] != right[..read] {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}

fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn fails(doing: &'static str, path: &CStr, errno: Errno) -> VersionError {
    VersionError::io(doing, shown(path), errno.into())
}

fn shown(path: &CStr) -> String {
    path.to_string_lossy().chars().take(200).collect()
}
