//! The state folder of one machine: who uses it, and its password.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where state is kept if nothing else is said. Not below root's home: that is closed to the owner
/// of functions' files.
const DEFAULT: &str = "/var/lib/inplace/dev";

/// A state folder that this process has for itself.
#[derive(Debug)]
pub(crate) struct State {
    dir: PathBuf,
    _lock: Flock<std::fs::File>,
}

impl State {
    /// The folder that is meant: the one given, or the default one.
    pub(crate) fn folder(given: Option<&Path>) -> Result<PathBuf> {
        let dir = given.unwrap_or(Path::new(DEFAULT));
        fs_err::create_dir_all(dir)?;
        Ok(fs_err::canonicalize(dir)?)
    }

    /// As [`State::folder`], of a machine that runs: nothing is made.
    ///
    /// # Errors
    /// When there is no such folder.
    pub(crate) fn existing(given: Option<&Path>) -> Result<PathBuf> {
        let dir = given.unwrap_or(Path::new(DEFAULT));
        if !dir.is_dir() {
            bail!("no machine runs on {}: there is no such folder", dir.display());
        }
        Ok(fs_err::canonicalize(dir)?)
    }

    /// Takes the folder.
    ///
    /// # Errors
    /// When another machine uses it (the message names its process), or functions' files in it
    /// could not be reached by their owner.
    pub(crate) fn lock(dir: &Path) -> Result<Self> {
        check_reachable(dir)?;
        let path = dir.join("dev.lock");
        let file = open(&path)?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => bail!(
                "{} is in use by process {}; `cargo xtask stop --state {0}` stops it, --state DIR takes another folder",
                dir.display(),
                owner(dir)?
            ),
            Err((_, errno)) => {
                return Err(errno).with_context(|| format!("locking {}", path.display()));
            }
        };
        lock.set_len(0)?;
        write!(lock, "{}", std::process::id())?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Asks the machine of a folder to stop, and waits until it has.
    ///
    /// # Errors
    /// When none runs, or it does not end within the limit.
    pub(crate) fn stop(dir: &Path, limit: Duration) -> Result<()> {
        let Ok(file) = std::fs::File::open(dir.join("dev.lock")) else {
            bail!("no machine runs on {}", dir.display());
        };
        let file = match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => bail!("no machine runs on {}", dir.display()),
            Err((file, _)) => file,
        };
        let pid = owner(dir)?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)
            .with_context(|| format!("stopping process {pid}"))?;
        // The lock is free when the process is gone, whatever way it went.
        let (sender, gone) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = sender.send(Flock::lock(file, FlockArg::LockShared).is_ok());
        });
        match gone.recv_timeout(limit) {
            Ok(true) => Ok(()),
            _ => bail!(
                "process {pid} has not stopped after {} s; its log is in {}",
                limit.as_secs(),
                dir.join("log").display()
            ),
        }
    }

    /// The folder's path.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that holds the password.
    pub(crate) fn password_file(&self) -> PathBuf {
        self.dir.join("password")
    }

    /// The machine's password: 128 random bits, made at the first start.
    pub(crate) fn password(&self) -> Result<String> {
        let path = self.password_file();
        if !path.exists() {
            let mut bytes = [0; 16];
            fs_err::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let temporary = path.with_extension("new");
            let _ = fs_err::remove_file(&temporary);
            let mut options = fs_err::OpenOptions::new();
            options.write(true).create_new(true);
            options.options_mut().mode(0o600);
            let mut file = options.open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs_err::rename(&temporary, &path)?;
        }
        Ok(fs_err::read_to_string(path)?.trim().to_owned())
    }
}

/// Functions' files belong to user 1000, and the provider touches them as that user only.
fn check_reachable(dir: &Path) -> Result<()> {
    for part in dir.ancestors() {
        let mode = fs_err::metadata(part)?.permissions().mode();
        if mode & 0o001 == 0 {
            bail!(
                "{} cannot be entered by others (mode {:o}), so the owner of functions' files (user 1000) could not reach them; run `chmod o+x {0}`, or take another folder with --state DIR",
                part.display(),
                mode & 0o7777
            );
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<std::fs::File> {
    let file = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    Ok(file.into_parts().0)
}

fn owner(dir: &Path) -> Result<i32> {
    let path = dir.join("dev.lock");
    let text = fs_err::read_to_string(&path)?;
    text.trim().parse().with_context(|| format!("{} names no process", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_machine_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = State::lock(dir.path()).unwrap();
        let error = State::lock(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("in use") && error.contains(&std::process::id().to_string()),
            "{error}"
        );
        drop(first);
        State::lock(dir.path()).unwrap();
    }

    #[test]
    fn the_password_stays_and_is_for_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::lock(dir.path()).unwrap();
        let password = state.password().unwrap();
        assert_eq!(password.len(), 32);
        assert_eq!(state.password().unwrap(), password);
        let mode = fs_err::metadata(state.password_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_folder_that_the_owner_could_not_reach_is_refused_by_name() {
        let closed = tempfile::tempdir().unwrap();
        fs_err::set_permissions(closed.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let dir = closed.path().join("state");
        fs_err::create_dir(&dir).unwrap();
        let error = State::lock(&dir).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} cannot", closed.path().display())), "{error}");
        assert!(error.contains("chmod o+x"), "{error}");
    }

    #[test]
    fn stopping_what_does_not_run_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let stop = || State::stop(dir.path(), Duration::from_secs(1)).unwrap_err().to_string();
        assert!(stop().contains("no machine runs"), "{}", stop());
        assert!(!dir.path().join("dev.lock").exists(), "asking leaves nothing behind");
        drop(State::lock(dir.path()).unwrap());
        assert!(stop().contains("no machine runs"), "{}", stop());
        let missing = dir.path().join("missing");
        let error = State::existing(Some(&missing)).unwrap_err().to_string();
        assert!(error.contains("no machine runs") && !missing.exists(), "{error}");
    }
}
