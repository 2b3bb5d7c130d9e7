//! Making a function's git directory, and the file in the folder that names it.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use api::FunctionName;
use git2::{Repository, RepositoryInitOptions};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, fsync, syncfs, unlinkat};
use tracing::warn;

use super::{BRANCH, Git, GitError, enter};
use crate::folder::dir::open_plain;
use crate::folder::{Folder, FolderError};

/// What is no source, besides what the folder's own `.gitignore` says.
const EXCLUDE: &str = "\
# Files that editors and Inplace put there for a moment.
.*.sw?
*~
4913
.inplace-*.tmp
";

impl Git {
    /// Makes the git directory `STATE/git/NAME.git` of a folder, without a commit.
    ///
    /// # Errors
    /// `AlreadyExists`, or why it cannot be made.
    pub fn init(state: &Path, folder: &Folder) -> Result<Self, GitError> {
        let _owner = enter()?;
        let git = Self::at(state, folder.name());
        if git.git_dir.symlink_metadata().is_ok() {
            return Err(GitError::AlreadyExists { name: git.name });
        }
        let mut options = RepositoryInitOptions::new();
        options
            .bare(true)
            .no_reinit(true)
            .mkdir(true)
            .external_template(false)
            .initial_head(BRANCH);
        let fails = GitError::git("making the git directory");
        let repository = Repository::init_opts(&git.git_dir, &options).map_err(&fails)?;
        let mut config = repository.config().map_err(&fails)?;
        for (key, value) in [
            // Relative, so that it is right under whatever path the state is mounted.
            ("core.worktree", format!("../../functions/{}", folder.name())),
            // For the plain git of a user; ours syncs all it writes anyway.
            ("core.fsync", "all".to_owned()),
        ] {
            config.set_str(key, &value).map_err(&fails)?;
        }
        config.set_bool("core.bare", false).map_err(&fails)?;
        config.set_bool("core.logAllRefUpdates", true).map_err(&fails)?;
        let exclude = git.git_dir.join("info/exclude");
        let io = |source| FolderError::from_io("writing", exclude.display(), source);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&exclude)
            .and_then(|mut file| file.write_all(EXCLUDE.as_bytes()))
            .map_err(io)?;
        git.name_in(folder)?;
        // Many small files, once in a function's life: one sync of the file system is the least.
        let dir = std::fs::File::open(&git.git_dir).map_err(io)?;
        syncfs(&dir).map_err(|errno| FolderError::io("syncing", git.git_dir.display(), errno))?;
        Ok(git)
    }

    /// Opens the git directory of a folder, and puts the folder's `.git` file right if somebody
    /// removed or changed it.
    ///
    /// # Errors
    /// `Gone` when there is none, or why it cannot be opened.
    pub fn open(state: &Path, folder: &Folder) -> Result<Self, GitError> {
        let _owner = enter()?;
        let git = Self::at(state, folder.name());
        git.repository()?;
        git.name_in(folder)?;
        Ok(git)
    }

    fn at(state: &Path, name: &FunctionName) -> Self {
        Self {
            name: name.clone(),
            git_dir: state.join("git").join(format!("{name}.git")),
            folder: state.join("functions").join(name.to_string()),
        }
    }

    /// Path of the git directory, for tools that need one.
    #[must_use]
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// Writes the `.git` file, whole or not at all, unless it is right.
    fn name_in(&self, folder: &Folder) -> Result<(), GitError> {
        let fails = |errno| FolderError::io("writing", "the folder's .git file", errno);
        let io = |error: std::io::Error| {
            FolderError::from_io("writing", "the folder's .git file", error)
        };
        let wanted = format!("gitdir: ../../git/{}.git\n", self.name);
        match open_plain(folder.root(), ".git", OFlag::O_RDONLY) {
            Ok(fd) => {
                let file = std::fs::File::from(fd);
                if file.metadata().is_ok_and(|status| status.is_dir()) {
                    warn!(function = %self.name, "the folder holds a git directory of its own");
                    return Ok(());
                }
                let mut text = String::new();
                let read = file.take(4096).read_to_string(&mut text);
                if read.is_ok() && text == wanted {
                    return Ok(());
                }
            }
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => {}
            Err(errno) => return Err(fails(errno).into()),
        }
        let temporary = ".inplace-git.tmp";
        match unlinkat(folder.root(), temporary, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(fails(errno).into()),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let fd: OwnedFd = openat(folder.root(), temporary, flags, Mode::from_bits_truncate(0o644))
            .map_err(fails)?;
        let mut file = std::fs::File::from(fd);
        file.write_all(wanted.as_bytes()).map_err(io)?;
        file.sync_all().map_err(io)?;
        renameat(folder.root(), temporary, folder.root(), ".git").map_err(fails)?;
        fsync(folder.root()).map_err(fails)?;
        Ok(())
    }
}
