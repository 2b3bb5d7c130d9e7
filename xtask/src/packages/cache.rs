//! The content-addressed cache outside the tree.
//!
//! `downloads/SHA256` holds what came from outside, `KIND/NAME-KEY/` what was made of it. Entries
//! appear whole, by a rename, and never change; a file lock keeps two `xtask` apart.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use fs_err as fs;
use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use crate::progress::Progress;

/// Entries of one kind and name that are kept however old they are.
const KEPT: usize = 3;
/// Entries used within this time are kept however many there are.
const FRESH: Duration = Duration::from_hours(14 * 24);

/// The open cache; whoever holds it is alone in it.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    _lock: Flock<std::fs::File>,
}

impl Cache {
    /// `$INPLACE_CACHE`, else `$XDG_CACHE_HOME/inplace`, else `~/.cache/inplace`.
    pub(crate) fn folder() -> Result<PathBuf> {
        let var =
            |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        let dir = var("INPLACE_CACHE")
            .or_else(|| Some(var("XDG_CACHE_HOME")?.join("inplace")))
            .or_else(|| Some(var("HOME")?.join(".cache/inplace")))
            .context("no folder for the cache: set INPLACE_CACHE, XDG_CACHE_HOME or HOME")?;
        std::path::absolute(&dir).with_context(|| format!("finding {}", dir.display()))
    }

    /// Opens the cache; waits for another `xtask` that uses it, and says so.
    pub(crate) fn open(progress: &Progress) -> Result<Self> {
        Self::open_at(&Self::folder()?, progress)
    }

    /// Opens a cache that lies elsewhere.
    pub(crate) fn open_at(root: &Path, progress: &Progress) -> Result<Self> {
        fs::create_dir_all(root)?;
        let path = root.join("lock");
        let file =
            std::fs::File::create(&path).with_context(|| format!("opening {}", path.display()))?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((file, _)) => {
                progress.note(&format!(
                    "waiting for another `cargo xtask` that holds {}",
                    path.display()
                ));
                Flock::lock(file, FlockArg::LockExclusive)
                    .map_err(|(_, errno)| errno)
                    .with_context(|| format!("locking {}", path.display()))?
            }
        };
        // What an interrupted run left half made.
        remove_if_there(&root.join("tmp"))?;
        fs::create_dir_all(root.join("tmp"))?;
        fs::create_dir_all(root.join("downloads"))?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// The folder of a tool that keeps its own state, made if it is not there.
    pub(crate) fn state(&self, name: &str) -> Result<PathBuf> {
        let dir = self.root.join(name);
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// An empty folder on the cache's file system, removed when dropped.
    pub(crate) fn temp(&self) -> Result<TempDir> {
        tempfile::tempdir_in(self.root.join("tmp"))
            .context("making a temporary folder in the cache")
    }

    /// Where an entry lies, whether it is there or not.
    pub(crate) fn path(&self, kind: &str, name: &str, key: &str) -> PathBuf {
        self.root.join(kind).join(format!("{name}-{key}"))
    }

    /// The entry if it is there; it counts as used.
    pub(crate) fn get(&self, kind: &str, name: &str, key: &str) -> Option<PathBuf> {
        let path = self.path(kind, name, key);
        path.is_dir().then(|| {
            touch(&path);
            path
        })
    }

    /// The entry; made by `make` in the empty folder it is given, if it is not there yet.
    pub(crate) fn entry(
        &self,
        kind: &str,
        name: &str,
        key: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        if let Some(path) = self.get(kind, name, key) {
            return Ok(path);
        }
        let temp = self.temp()?;
        let new = temp.path().join("new");
        fs::create_dir(&new)?;
        make(&new)?;
        let path = self.path(kind, name, key);
        fs::create_dir_all(path.parent().expect("an entry has a parent"))?;
        fs::rename(&new, &path)?;
        touch(&path);
        Ok(path)
    }

    /// A download by its checksum, if it is there.
    pub(crate) fn download(&self, sha256: &str) -> Option<PathBuf> {
        let path = self.root.join("downloads").join(sha256);
        path.is_file().then(|| {
            touch(&path);
            path
        })
    }

    /// Moves a file, whose checksum was compared, from a folder of [`temp`](Self::temp) to the downloads.
    pub(crate) fn keep(&self, file: &Path, sha256: &str) -> Result<PathBuf> {
        let path = self.root.join("downloads").join(sha256);
        fs::rename(file, &path)?;
        Ok(path)
    }

    /// Removes what nobody used for long, so that the cache stays small.
    pub(crate) fn trim(&self) -> Result<()> {
        for kind in fs::read_dir(&self.root)? {
            let kind = kind?;
            match kind.file_name().to_str() {
                Some("tmp" | "lock" | "apt" | "cargo") => {}
                Some("downloads") => trim_dir(&kind.path(), |_| String::new(), 0)?,
                _ if kind.path().is_dir() => trim_dir(&kind.path(), entry_name, KEPT)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// `NAME` of an entry `NAME-KEY`.
fn entry_name(file: &str) -> String {
    file.rsplit_once('-').map_or(file, |(name, _)| name).to_owned()
}

/// Keeps what is fresh and, of each name, the `kept` that were used last.
fn trim_dir(dir: &Path, name: impl Fn(&str) -> String, kept: usize) -> Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        entries.push((entry.metadata()?.modified()?, entry.path()));
    }
    entries.sort_by(|a, b| b.cmp(a));
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for (used, path) in entries {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let rank = seen.entry(name(&file)).or_default();
        *rank += 1;
        let age = SystemTime::now().duration_since(used).unwrap_or_default();
        if *rank > kept && age > FRESH {
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

fn touch(path: &Path) {
    // Only the order of removal depends on it: a cache that cannot be written still serves.
    if let Ok(file) = std::fs::File::open(path) {
        file.set_modified(SystemTime::now()).ok();
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open_at(dir.path(), &Progress::new()).unwrap();
        (dir, cache)
    }

    #[test]
    fn an_entry_is_made_once_and_a_failed_one_leaves_nothing() {
        let (_dir, cache) = cache();
        let failed = cache.entry("kind", "name", "k1", |dir| {
            fs::write(dir.join("half"), "")?;
            anyhow::bail!("no")
        });
        assert!(failed.is_err());
        assert_eq!(cache.get("kind", "name", "k1"), None);
        let made =
            cache.entry("kind", "name", "k1", |dir| Ok(fs::write(dir.join("file"), "1")?)).unwrap();
        assert!(!made.join("half").exists());
        let again = cache.entry("kind", "name", "k1", |_| panic!("it is there already")).unwrap();
        assert_eq!(fs::read_to_string(again.join("file")).unwrap(), "1");
    }

    #[test]
    fn trimming_keeps_what_is_fresh_and_the_newest_of_each_name() {
        let (_dir, cache) = cache();
        let aged = |name: &str, key: &str, days: u64| {
            let path = cache.entry("kind", name, key, |_| Ok(())).unwrap();
            let time = SystemTime::now() - Duration::from_hours(days * 24);
            std::fs::File::open(path).unwrap().set_modified(time).unwrap();
        };
        for (key, days) in [("k1", 50), ("k2", 40), ("k3", 30), ("k4", 20), ("k5", 1)] {
            aged("name", key, days);
        }
        aged("other-name", "k1", 90);
        cache.trim().unwrap();
        let there: Vec<_> = ["k1", "k2", "k3", "k4", "k5"]
            .into_iter()
            .filter(|key| cache.path("kind", "name", key).exists())
            .collect();
        assert_eq!(there, ["k3", "k4", "k5"]);
        assert!(cache.path("kind", "other-name", "k1").exists(), "one of another name");
    }
}
