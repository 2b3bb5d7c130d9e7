//! The files of one git commit as a build context: listed once, read on demand.

pub(crate) mod select;

use std::path::{Path, PathBuf};

use bollard_buildkit_proto::fsutil::types::Stat;
use git2::{ObjectType, Odb, Oid, Repository};

use crate::build::Source;
use crate::error::Error;

/// Most entries of a tree; a git tree of a few objects can unfold to more than any disk holds.
const MAX_ENTRIES: usize = 200_000;
/// Deepest nesting of folders.
const MAX_DEPTH: usize = 256;
/// Longest target of a symbolic link, as Linux has it.
const MAX_LINK: usize = 4095;
/// Size of the pieces that a file is read in.
const PIECE: usize = 32 * 1024;

/// A commit's files, in the order that BuildKit wants them: a folder before what is in it,
/// siblings by the bytes of their names. (Git has `a.txt` before the folder `a`.)
#[derive(Debug)]
pub(crate) struct Tree {
    git_dir: PathBuf,
    /// When the commit was made, in seconds since 1970; clamped to what an image can hold.
    time: i64,
    entries: Vec<Entry>,
}

/// A file, folder or link of the tree.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Path from the top, `/` between parts.
    pub(crate) path: String,
    /// What is there.
    pub(crate) kind: Kind,
    id: Oid,
}

/// What an [`Entry`] is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A folder.
    Folder,
    /// A regular file of this many bytes.
    File {
        /// Whether it may be run.
        executable: bool,
        /// In bytes.
        size: u64,
    },
    /// A symbolic link to this target.
    Link(String),
}

impl Tree {
    /// Lists a commit. Blocks on the disk.
    pub(crate) fn open(source: &Source) -> Result<Self, Error> {
        let Source { git_dir, commit } = source;
        let refuse = |error: git2::Error| {
            let reason = error.message();
            Error::refused(format!("reading commit {commit} in {}: {reason}", git_dir.display()))
        };
        if commit.len() != 40 {
            return Err(Error::refused(format!("commit {commit:?} is not 40 hex digits")));
        }
        let repository = open(git_dir).map_err(refuse)?;
        let id = Oid::from_str(commit).map_err(refuse)?;
        let commit = repository.find_commit(id).map_err(refuse)?;
        let mut listing = Listing {
            odb: repository.odb().map_err(refuse)?,
            repository: &repository,
            entries: Vec::new(),
        };
        listing.folder(commit.tree_id(), "", 0)?;
        Ok(Self {
            git_dir: git_dir.clone(),
            // Below 0 has a meaning of its own in BuildKit, beyond 2242 nanoseconds overflow.
            time: commit.time().seconds().clamp(0, 1 << 33),
            entries: listing.entries,
        })
    }

    /// All entries, in order.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Seconds since 1970.
    pub(crate) fn time(&self) -> i64 {
        self.time
    }

    /// Whether there is a regular file at this path.
    pub(crate) fn has_file(&self, path: &str) -> bool {
        self.entries.iter().any(|it| it.path == path && it.is_file())
    }

    /// Opens the commit's objects for reading, for one thread. Blocks on the disk.
    pub(crate) fn blobs(&self) -> Result<Blobs, git2::Error> {
        open(&self.git_dir).map(Blobs)
    }
}

impl Entry {
    /// Whether it is a regular file, the only kind whose content is asked for.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File { .. })
    }

    /// The entry as BuildKit's receiver wants to hear of it: mode in Go's bits, owner 0.
    pub(crate) fn stat(&self) -> Stat {
        let (mode, size, linkname) = match &self.kind {
            Kind::Folder => (1 << 31 | 0o755, 0, ""),
            Kind::File { executable, size } => (if *executable { 0o755 } else { 0o644 }, *size, ""),
            Kind::Link(target) => (1 << 27 | 0o777, target.len() as u64, target.as_str()),
        };
        Stat {
            path: self.path.clone(),
            mode,
            size: i64::try_from(size).unwrap_or(i64::MAX),
            mod_time: mtime(self.id),
            linkname: linkname.to_owned(),
            ..Stat::default()
        }
    }
}

/// A time made of the content, in nanoseconds since 1970: BuildKit takes a file whose path, mode,
/// size and time are as they were at the last sync for unchanged, so the time must change when the
/// content does and only then. It lies between 2001 and 2020: build tools frown at the future, and
/// zip archives cannot hold times before 1980.
fn mtime(id: Oid) -> i64 {
    const YEAR_2001: i64 = 1_000_000_000_000_000_000;
    let mut first = [0; 8];
    first.copy_from_slice(&id.as_bytes()[..8]);
    YEAR_2001 + (i64::from_be_bytes(first) & ((1 << 59) - 1))
}

/// Opens a git directory as it is: no search upwards, no work tree, no check of its owner, which
/// is the function's and not ours.
fn open(git_dir: &Path) -> Result<Repository, git2::Error> {
    Repository::open_bare(git_dir)
}

struct Listing<'a> {
    repository: &'a Repository,
    odb: Odb<'a>,
    entries: Vec<Entry>,
}

impl Listing<'_> {
    fn folder(&mut self, id: Oid, path: &str, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::refused(format!(
                "{path:?} is nested deeper than {MAX_DEPTH} folders"
            )));
        }
        let tree = self.repository.find_tree(id).map_err(|it| unreadable(path, &it))?;
        let mut children: Vec<_> = tree.iter().collect();
        children.sort_by(|one, other| one.name_bytes().cmp(other.name_bytes()));
        for child in children {
            let name = std::str::from_utf8(child.name_bytes()).map_err(|_| {
                let name = String::from_utf8_lossy(child.name_bytes());
                Error::refused(format!("the name of {path}/{name} is not UTF-8"))
            })?;
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            if self.entries.len() == MAX_ENTRIES {
                return Err(Error::refused(format!(
                    "the commit has more than {MAX_ENTRIES} files"
                )));
            }
            let kind = self.kind(&path, &child)?;
            let is_folder = kind == Kind::Folder;
            self.entries.push(Entry { path: path.clone(), kind, id: child.id() });
            if is_folder {
                self.folder(child.id(), &path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn kind(&self, path: &str, entry: &git2::TreeEntry<'_>) -> Result<Kind, Error> {
        match entry.kind() {
            Some(ObjectType::Tree) => return Ok(Kind::Folder),
            Some(ObjectType::Blob) => {}
            _ => {
                return Err(Error::refused(format!(
                    "{path} is a submodule, which a build cannot see; commit its files instead"
                )));
            }
        }
        let (size, _) = self.odb.read_header(entry.id()).map_err(|it| unreadable(path, &it))?;
        if entry.filemode() & 0o170_000 != 0o120_000 {
            let executable = entry.filemode() & 0o111 != 0;
            return Ok(Kind::File { executable, size: size as u64 });
        }
        if size > MAX_LINK {
            return Err(Error::refused(format!("the target of link {path} is too long")));
        }
        let target = self.odb.read(entry.id()).map_err(|it| unreadable(path, &it))?;
        let target = std::str::from_utf8(target.data())
            .map_err(|_| Error::refused(format!("the target of link {path} is not UTF-8")))?;
        Ok(Kind::Link(target.to_owned()))
    }
}

fn unreadable(path: &str, error: &git2::Error) -> Error {
    Error::refused(format!("reading {path:?} from git: {}", error.message()))
}

/// Reads file contents. One blob is in hand at a time.
pub(crate) struct Blobs(Repository);

impl Blobs {
    /// Hands a file's content on in pieces of at most 32 KiB, until the end or until `piece` says
    /// `false`. A loose object, as commits make them, is never in memory as a whole; a packed one
    /// is, since libgit2 offers no other way.
    pub(crate) fn read(
        &self,
        entry: &Entry,
        mut piece: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<(), String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("reading {:?} from git: {error}", entry.path);
        let odb = self.0.odb().map_err(|it| failed(&it.message()))?;
        let Ok((mut loose, _, _)) = odb.reader(entry.id) else {
            let packed = odb.read(entry.id).map_err(|it| failed(&it.message()))?;
            for data in packed.data().chunks(PIECE) {
                if !piece(data.to_vec()) {
                    break;
                }
            }
            return Ok(());
        };
        loop {
            let mut data = vec![0; PIECE];
            let length = std::io::Read::read(&mut loose, &mut data).map_err(|it| failed(&it))?;
            data.truncate(length);
            if data.is_empty() || !piece(data) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
