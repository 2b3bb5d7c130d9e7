//! A function's folder: the only way by which the provider reads and writes what a user typed.
//!
//! Whatever lies in the folder was put there by others and may change at any moment. So every
//! access starts at an open descriptor of the folder, resolves below it (`openat2`), and runs as
//! the owner of the files ([`AsOwner`]).
pub(crate) mod dir;
mod error;
mod etag;
mod list;
mod path;
mod write;

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use api::FunctionName;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{Uid, fsync};

pub use error::FolderError;
pub use etag::{Etag, Precondition};
pub use list::Listing;
pub use path::{FilePath, InvalidPath, MAX_DEPTH, MAX_NAME, MAX_PATH, is_temporary};
pub(crate) use write::Bits;
pub use write::Written;

use crate::sys::{AsOwner, OWNER};
use dir::{Kind, open_beneath, open_plain, stat};

/// Sub-folders of the state that belong to the owner of all functions' files.
const OWNED: [&str; 4] = ["functions", "git", "versions", "volumes"];

/// Makes the folders below `state` that functions' files lie in, owned by the owner.
///
/// # Errors
/// When one cannot be made, or is a link or a file.
pub fn prepare_state(state: &Path) -> std::io::Result<()> {
    for name in OWNED {
        let path = state.join(name);
        match fs_err::create_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            answer => answer?,
        }
        if !fs_err::symlink_metadata(&path)?.is_dir() {
            return Err(std::io::Error::other(format!("{} is not a folder", path.display())));
        }
        if Uid::effective().is_root() {
            std::os::unix::fs::chown(&path, Some(OWNER), Some(OWNER))?;
        }
    }
    fs_err::File::open(state)?.sync_all()
}

/// An open function's folder.
///
/// Keep one per function: writes through it exclude each other, which is what makes
/// `If-Match` hold between callers of the API. (Nothing can hold back an editor, which writes in
/// place.) All calls are synchronous.
#[derive(Debug)]
pub struct Folder {
    name: FunctionName,
    path: PathBuf,
    root: OwnedFd,
    writing: Mutex<()>,
}

/// A file that is being read.
#[derive(Debug)]
pub struct Content {
    /// Of the bytes that were there when the file was opened.
    pub etag: Etag,
    /// In bytes.
    pub size: u64,
    /// The file, at its beginning. It may grow while it is read: `size` bytes are what is asked for.
    pub file: File,
}

impl Folder {
    /// Opens the folder `STATE/functions/NAME`.
    ///
    /// # Errors
    /// [`FolderError::Gone`] when there is none, or something else in its place;
    /// [`FolderError::Foreign`] when it belongs to another user than functions' files do.
    pub fn open(state: &Path, name: &FunctionName) -> Result<Self, FolderError> {
        let _owner = enter()?;
        let functions = state.join("functions");
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let parent = nix::fcntl::open(&functions, flags, Mode::empty())
            .map_err(|errno| FolderError::io("opening", functions.display(), errno))?;
        let label = CString::new(name.to_string()).expect("a name holds no NUL");
        if Uid::effective().is_root()
            && let Ok(status) = stat(&parent, &label)
            && (Kind::of(&status), status.st_uid != OWNER) == (Kind::Dir, true)
        {
            return Err(FolderError::Foreign { name: name.clone(), uid: status.st_uid });
        }
        let root = match open_plain(&parent, label.as_c_str(), flags) {
            Ok(root) => root,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                return Err(FolderError::Gone { name: name.clone() });
            }
            Err(errno) => return Err(FolderError::io("opening the folder of", name, errno)),
        };
        let path = functions.join(name.to_string());
        Ok(Self { name: name.clone(), path, root, writing: Mutex::new(()) })
    }

    /// Makes the folder `STATE/functions/NAME`, empty, and opens it.
    ///
    /// # Errors
    /// [`FolderError::AlreadyExists`] when something has that name.
    pub fn create(state: &Path, name: &FunctionName) -> Result<Self, FolderError> {
        let owner = enter()?;
        let functions = state.join("functions");
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let doing = |errno| FolderError::io("making the folder of", name, errno);
        let parent = nix::fcntl::open(&functions, flags, Mode::empty()).map_err(doing)?;
        match mkdirat(&parent, name.to_string().as_str(), Mode::from_bits_truncate(0o755)) {
            Err(Errno::EEXIST) => {
                return Err(FolderError::AlreadyExists { path: name.to_string() });
            }
            answer => answer.map_err(doing)?,
        }
        fsync(&parent).map_err(doing)?;
        drop(owner);
        Self::open(state, name)
    }

    /// Whose folder it is.
    #[must_use]
    pub fn name(&self) -> &FunctionName {
        &self.name
    }

    /// Where it was when it was opened; for messages and for tools that need a path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open folder.
    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Whether it was deleted or moved while it was open.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let Ok(_owner) = enter() else { return true };
        let (Ok(open), Ok(there)) = (fstat(&self.root), nix::sys::stat::lstat(&self.path)) else {
            return true;
        };
        (open.st_dev, open.st_ino) != (there.st_dev, there.st_ino)
    }

    /// Opens a file of at most `limit` bytes to be read. A link is followed within the folder.
    ///
    /// # Errors
    /// `NotFound`, `Outside`, `WrongKind`, `TooLarge` and `Gone` of [`FolderError`].
    pub fn read(&self, path: &FilePath, limit: u64) -> Result<Content, FolderError> {
        let _owner = enter()?;
        let fd = open_beneath(&self.root, path.as_str(), OFlag::O_RDONLY)
            .map_err(|errno| self.error("reading", path, errno))?;
        self.content(fd, path, limit)
    }

    /// Reads what a descriptor of a file in the folder holds.
    fn content(&self, fd: OwnedFd, path: &FilePath, limit: u64) -> Result<Content, FolderError> {
        let io = |source| FolderError::from_io("reading", path, source);
        let status = fstat(&fd).map_err(|errno| self.error("reading", path, errno))?;
        if Kind::of(&status) != Kind::File {
            return Err(FolderError::WrongKind { path: path.to_string(), wanted: "a file" });
        }
        let mut file = File::from(fd);
        let (etag, size) = Etag::of((&mut file).take(limit.saturating_add(1))).map_err(io)?;
        if size > limit {
            return Err(FolderError::TooLarge { path: path.to_string(), limit });
        }
        file.rewind().map_err(io)?;
        Ok(Content { etag, size, file })
    }

    /// Puts an error of the kernel into words, and tells a missing file from a missing folder.
    fn error(&self, doing: &'static str, path: &FilePath, errno: Errno) -> FolderError {
        let path = path.to_string();
        match errno {
            Errno::ENOENT if self.is_gone() => FolderError::Gone { name: self.name.clone() },
            Errno::ENOENT => FolderError::NotFound { path },
            Errno::EXDEV | Errno::ELOOP => FolderError::Outside { path },
            Errno::ENOTDIR => FolderError::WrongKind { path, wanted: "in a folder" },
            Errno::EISDIR => FolderError::WrongKind { path, wanted: "a file" },
            Errno::ENOTEMPTY => FolderError::NotEmpty { path },
            Errno::ENXIO => FolderError::WrongKind { path, wanted: "a file" },
            errno => FolderError::io(doing, path, errno),
        }
    }
}

/// Becomes the owner of the files, for as long as the guard lives.
pub(crate) fn enter() -> Result<AsOwner, FolderError> {
    AsOwner::enter()
        .map_err(|source| FolderError::from_io("becoming", "the owner of files", source))
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
