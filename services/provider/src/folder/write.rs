//! Writes into a folder: a file is there whole, on the disk, or as it was before.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::PoisonError;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, linkat, symlinkat, unlinkat};
use sha2::{Digest, Sha256};

use super::dir::{Kind, open_beneath, open_plain, stat};
use super::etag::{Etag, Precondition};
use super::path::{FilePath, TEMPORARY};
use super::{Folder, FolderError, enter};

/// What a write left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Of the new content.
    pub etag: Etag,
    /// Whether there was no file before.
    pub created: bool,
}

/// Who may run a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    /// As the file that it replaces, else nobody.
    Kept,
    /// Everybody, or nobody.
    Executable(bool),
}

impl Folder {
    /// Writes a file of at most `limit` bytes, and the folders on its way if they are missing. A
    /// reader sees the old file or the new one; the mode is kept. When it returns the file is on
    /// the disk.
    ///
    /// # Errors
    /// `Conflict` when the precondition does not hold, `TooLarge`, `Outside`, `WrongKind` (a
    /// folder or a link is there), `Full` and `Gone` of [`FolderError`]; then nothing changed.
    pub fn write(
        &self,
        path: &FilePath,
        body: &mut dyn Read,
        limit: u64,
        condition: &Precondition,
    ) -> Result<Written, FolderError> {
        let _owner = enter()?;
        let parent = self.parent_of(path, true)?;
        // The body may take its time, so it comes before the lock.
        let (file, etag) = self.receive(&parent, path, body, limit)?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.check(&parent, path, limit, condition)?;
        self.finish(&parent, path, &file, before.as_ref(), Bits::Kept, true)?;
        Ok(Written { etag, created: before.is_none() })
    }

    /// Removes a file, a link or an empty folder. When it returns this is on the disk.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, `NotEmpty`, `Outside` and `Gone` of [`FolderError`].
    pub fn remove(&self, path: &FilePath, condition: &Precondition) -> Result<(), FolderError> {
        let _owner = enter()?;
        let fails = |errno| self.error("removing", path, errno);
        let parent = self.parent_of(path, false)?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let name = c_name(path);
        let status = stat(&parent, &name).map_err(fails)?;
        let flag = if Kind::of(&status) == Kind::Dir {
            UnlinkatFlags::RemoveDir
        } else {
            if condition.needs_content() {
                self.check(&parent, path, u64::MAX - 1, condition)?;
            }
            UnlinkatFlags::NoRemoveDir
        };
        unlinkat(&parent, &*name, flag).map_err(fails)?;
        fsync(&parent).map_err(fails)
    }

    /// Writes a file without waiting for the disk: for many at once, with one sync at the end.
    pub(crate) fn put(
        &self,
        path: &FilePath,
        mut content: &[u8],
        bits: Bits,
    ) -> Result<(), FolderError> {
        let _owner = enter()?;
        let parent = self.parent_of(path, true)?;
        let (file, _) = self.receive(&parent, path, &mut content, u64::MAX - 1)?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.there(&parent, path)?;
        self.finish(&parent, path, &file, before.as_ref(), bits, false)
    }

    /// Puts a link in the place of whatever file or link has that path.
    pub(crate) fn put_link(&self, path: &FilePath, target: &[u8]) -> Result<(), FolderError> {
        let _owner = enter()?;
        let fails = |errno| self.error("writing", path, errno);
        let parent = self.parent_of(path, true)?;
        let target = CString::new(target).map_err(|_| fails(Errno::EINVAL))?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let temporary = temporary_name(path)?;
        symlinkat(&*target, &parent, &*temporary).map_err(fails)?;
        replace(&parent, &temporary, &c_name(path)).map_err(fails)
    }

    /// Removes a file or link and the folders on its way that are empty then, without waiting for
    /// the disk. What is not there, or is a folder by now, is left as it is.
    pub(crate) fn prune(&self, path: &FilePath) -> Result<(), FolderError> {
        let _owner = enter()?;
        let mut parent = match self.parent_of(path, false) {
            Ok(parent) => parent,
            Err(FolderError::NotFound { .. } | FolderError::WrongKind { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        match unlinkat(&parent, &*c_name(path), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::EISDIR) => {}
            Err(errno) => return Err(self.error("removing", path, errno)),
        }
        let mut above = path.parent();
        while let Some(dir) = above {
            parent = match self.parent_of(&dir, false) {
                Ok(parent) => parent,
                Err(_) => break,
            };
            if unlinkat(&parent, &*c_name(&dir), UnlinkatFlags::RemoveDir).is_err() {
                break;
            }
            above = dir.parent();
        }
        Ok(())
    }

    /// Waits until all that was written to the folder's file system is on the disk.
    pub(crate) fn sync(&self) -> Result<(), FolderError> {
        nix::unistd::syncfs(self.root())
            .map_err(|errno| FolderError::io("syncing the folder of", self.name(), errno))
    }

    /// Opens the folder that a path lies in.
    fn parent_of(&self, path: &FilePath, make: bool) -> Result<OwnedFd, FolderError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let Some(parent) = path.parent() else {
            if self.is_gone() {
                return Err(FolderError::Gone { name: self.name().clone() });
            }
            return open_plain(self.root(), ".", flags)
                .map_err(|errno| self.error("opening", path, errno));
        };
        match open_beneath(self.root(), parent.as_str(), flags) {
            Err(Errno::ENOENT) if make && !self.is_gone() => self.make_dir(&parent),
            answer => answer.map_err(|errno| self.error("opening", path, errno)),
        }
    }

    /// Makes a folder and those on its way, on the disk, and opens it.
    fn make_dir(&self, path: &FilePath) -> Result<OwnedFd, FolderError> {
        let fails = |errno| self.error("making", path, errno);
        let above = self.parent_of(path, true)?;
        let name = c_name(path);
        match mkdirat(&above, &*name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => fsync(&above).map_err(fails)?,
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(fails(errno)),
        }
        open_beneath(self.root(), path.as_str(), OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(
            |errno| match errno {
                Errno::ENOTDIR => {
                    FolderError::WrongKind { path: path.to_string(), wanted: "a folder" }
                }
                errno => fails(errno),
            },
        )
    }

    /// Reads the body into a file that has no name yet: whatever happens, nothing is left of it.
    fn receive(
        &self,
        parent: &OwnedFd,
        path: &FilePath,
        body: &mut dyn Read,
        limit: u64,
    ) -> Result<(File, Etag), FolderError> {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let fd = openat(parent, ".", flags, Mode::from_bits_truncate(0o644))
            .map_err(|errno| self.error("writing", path, errno))?;
        let io = |source| FolderError::from_io("writing", path, source);
        let mut file = File::from(fd);
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut size = 0u64;
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(FolderError::from_io("receiving the body of", path, source));
                }
            };
            size += read as u64;
            if size > limit {
                return Err(FolderError::TooLarge { path: path.to_string(), limit });
            }
            hash.update(&buffer[..read]);
            file.write_all(&buffer[..read]).map_err(io)?;
        }
        Ok((file, Etag::from_hash(hash)))
    }

    /// What has the path now, none if nothing has; an error if that cannot be written over.
    fn there(&self, parent: &OwnedFd, path: &FilePath) -> Result<Option<FileStat>, FolderError> {
        match stat(parent, &c_name(path)) {
            Ok(status) if Kind::of(&status) == Kind::Dir => {
                Err(FolderError::WrongKind { path: path.to_string(), wanted: "a file" })
            }
            Ok(status) => Ok(Some(status)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.error("writing", path, errno)),
        }
    }

    /// As [`Folder::there`], and only if the precondition holds.
    fn check(
        &self,
        parent: &OwnedFd,
        path: &FilePath,
        limit: u64,
        condition: &Precondition,
    ) -> Result<Option<FileStat>, FolderError> {
        let before = self.there(parent, path)?;
        let conflict = |there: bool| {
            let why = condition.why_not(there);
            Err(FolderError::Conflict { path: path.to_string(), why })
        };
        let Some(status) = before else {
            return if condition.holds(None) { Ok(None) } else { conflict(false) };
        };
        if Kind::of(&status) != Kind::File {
            let wanted = "a plain file: write to what the link names";
            return Err(FolderError::WrongKind { path: path.to_string(), wanted });
        }
        let holds = if condition.needs_content() {
            let fd = open_plain(parent, &*c_name(path), OFlag::O_RDONLY)
                .map_err(|errno| self.error("reading", path, errno))?;
            match self.content(fd, path, limit) {
                Ok(content) => condition.holds(Some(&content.etag)),
                // Larger than any file that a caller could have read: not what it saw.
                Err(FolderError::TooLarge { .. }) => false,
                Err(error) => return Err(error),
            }
        } else {
            // Which tag it has does not matter to the condition, only that it has one.
            *condition != Precondition::Absent
        };
        if holds { Ok(Some(status)) } else { conflict(true) }
    }

    /// Gives the received file its mode and its name.
    fn finish(
        &self,
        parent: &OwnedFd,
        path: &FilePath,
        file: &File,
        before: Option<&FileStat>,
        bits: Bits,
        durable: bool,
    ) -> Result<(), FolderError> {
        let fails = |errno| self.error("writing", path, errno);
        let kept = before.filter(|status| Kind::of(status) == Kind::File);
        let mode = match (bits, kept) {
            (Bits::Kept, Some(status)) => status.st_mode & 0o777,
            (Bits::Kept, None) | (Bits::Executable(false), _) => 0o644,
            (Bits::Executable(true), _) => 0o755,
        };
        fchmod(file, Mode::from_bits_truncate(mode)).map_err(fails)?;
        if durable {
            fsync(file).map_err(fails)?;
        }
        let temporary = temporary_name(path)?;
        // The one magic link that is wanted: our own descriptor, whose file has no other name.
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(AT_FDCWD, unnamed.as_str(), parent, &*temporary, AtFlags::AT_SYMLINK_FOLLOW)
            .map_err(fails)?;
        replace(parent, &temporary, &c_name(path)).map_err(fails)?;
        if durable { fsync(parent).map_err(fails) } else { Ok(()) }
    }
}

/// Moves a temporary name over the real one, or takes it away again.
fn replace(parent: &OwnedFd, temporary: &CString, name: &CString) -> nix::Result<()> {
    renameat(parent, &**temporary, parent, &**name).inspect_err(|_| {
        // The first error is the one that matters.
        let _ = unlinkat(parent, &**temporary, UnlinkatFlags::NoRemoveDir);
    })
}

fn temporary_name(path: &FilePath) -> Result<CString, FolderError> {
    let random = getrandom::u64().map_err(|error| {
        FolderError::from_io("naming", path, io::Error::other(error.to_string()))
    })?;
    Ok(CString::new(format!("{TEMPORARY}{random:016x}.tmp")).expect("hex digits hold no NUL"))
}

fn c_name(path: &FilePath) -> CString {
    CString::new(path.name()).expect("a checked path holds no NUL")
}
