//! Folders by descriptor: every step is one name below an open folder, so no link is ever followed
//! that could be swapped in between.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use nix::NixPath;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// What a name in a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    File,
    Dir,
    Link,
    /// A socket, a pipe or a device.
    Special,
}

impl Kind {
    pub(crate) fn of(stat: &FileStat) -> Self {
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFDIR => Self::Dir,
            SFlag::S_IFLNK => Self::Link,
            _ => Self::Special,
        }
    }
}

/// Opens a path below `root` and nowhere else: `..` and links are followed only within it, and
/// nothing waits for the other end of a pipe.
pub(crate) fn open_beneath<P: ?Sized + NixPath>(
    root: impl AsFd,
    path: &P,
    flags: OFlag,
) -> nix::Result<OwnedFd> {
    open_with(root, path, flags, ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

/// As [`open_beneath`], and follows no link at all.
pub(crate) fn open_plain<P: ?Sized + NixPath>(
    root: impl AsFd,
    path: &P,
    flags: OFlag,
) -> nix::Result<OwnedFd> {
    open_with(root, path, flags, ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS)
}

fn open_with<P: ?Sized + NixPath>(
    root: impl AsFd,
    path: &P,
    flags: OFlag,
    resolve: ResolveFlag,
) -> nix::Result<OwnedFd> {
    let flags = flags | OFlag::O_CLOEXEC;
    // `O_PATH` opens nothing that could wait, and takes no such flag.
    let flags = match flags.contains(OFlag::O_PATH) {
        true => flags,
        false => flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY,
    };
    let how = OpenHow::new().flags(flags).resolve(resolve);
    // A rename somewhere while `..` was followed makes the kernel unsure: it says EAGAIN.
    for _ in 0..16 {
        match openat2(root.as_fd(), path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            answer => return answer,
        }
    }
    Err(Errno::EBUSY)
}

/// Opens the folder `name` in `parent`, which is no link.
pub(crate) fn open_child(parent: impl AsFd, name: &CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// The status of `name` itself, be it a link or not.
pub(crate) fn stat(parent: impl AsFd, name: &CStr) -> nix::Result<FileStat> {
    fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// Names and kinds of what lies in a folder, unordered. More than `limit` of them are an error
/// `E2BIG`, so that nobody takes a part for the whole.
pub(crate) fn children(dir: impl AsFd, limit: usize) -> nix::Result<Vec<(CString, Kind)>> {
    match some_children(dir, limit)? {
        (found, true) => Ok(found),
        (_, false) => Err(Errno::E2BIG),
    }
}

/// As [`children`], but the first `limit` names that the file system gives, and whether that is all.
pub(crate) fn some_children(
    dir: impl AsFd,
    limit: usize,
) -> nix::Result<(Vec<(CString, Kind)>, bool)> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut dir = Dir::openat(dir, ".", flags, Mode::empty())?;
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    let mut complete = true;
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if found.len() + unknown.len() == limit {
            complete = false;
            break;
        }
        match entry.file_type() {
            Some(Type::File) => found.push((name.to_owned(), Kind::File)),
            Some(Type::Directory) => found.push((name.to_owned(), Kind::Dir)),
            Some(Type::Symlink) => found.push((name.to_owned(), Kind::Link)),
            Some(_) => found.push((name.to_owned(), Kind::Special)),
            None => unknown.push(name.to_owned()),
        }
    }
    for name in unknown {
        match stat(&dir, &name) {
            Ok(status) => found.push((name, Kind::of(&status))),
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((found, complete))
}

/// Removes `name` and all below it, without following a link. What is not there is removed already.
pub(crate) fn remove_tree(parent: impl AsFd, name: &CStr) -> nix::Result<()> {
    match unlinkat(parent.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => {}
        Err(Errno::ENOENT) => return Ok(()),
        answer => return answer,
    }
    let dir = open_child(parent.as_fd(), name)?;
    for (child, kind) in children(&dir, usize::MAX)? {
        if kind == Kind::Dir {
            remove_tree(&dir, &child)?;
        } else {
            match unlinkat(&dir, &*child, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }
    unlinkat(parent, name, UnlinkatFlags::RemoveDir)
}
