//! Puts the source link into a container's own snapshot, before its first process starts.
//!
//! The image is not trusted: its folders may be links to anywhere. So a thread of its own gets a
//! mount namespace, mounts the snapshot there and makes it its root: no path can lead out of it.
//! The mount goes with the thread.

use std::io;
use std::os::unix::fs::{chroot, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use containerd::snapshots::Mount;
use fs_err as fs;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tokio::sync::oneshot;

/// Replaces `path`, absolute within the snapshot that `mounts` describe, by a link to `target`.
/// `folder` is an empty folder to mount on.
pub(super) async fn link(
    mounts: Vec<Mount>,
    folder: PathBuf,
    path: PathBuf,
    target: &'static str,
) -> Result<()> {
    let (done, wait) = oneshot::channel();
    std::thread::Builder::new()
        .name("seed".to_owned())
        .spawn(move || {
            // Nobody waits any more when the start was given up.
            let _ = done.send(enter(&mounts, &folder).and_then(|()| replace(&path, target)));
        })
        .context("starting a thread")?;
    wait.await.context("the thread ended without an answer")?
}

fn enter(mounts: &[Mount], folder: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .context("making mounts private")?;
    let [snapshot] = mounts else { bail!("a snapshot is one mount, this has {}", mounts.len()) };
    let (flags, data) = options(&snapshot.options);
    let (source, kind) = (snapshot.source.as_str(), snapshot.r#type.as_str());
    mount(Some(source), folder, Some(kind), flags, Some(data.as_str()))
        .with_context(|| format!("mounting a snapshot ({kind})"))?;
    chroot(folder).context("entering a snapshot")?;
    std::env::set_current_dir("/").context("entering a snapshot")
}

/// Splits options into the kernel's flags and the file system's own words.
fn options(words: &[String]) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for word in words {
        match word.as_str() {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "bind" => flags |= MsFlags::MS_BIND,
            "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            "rw" => {}
            // For containerd, which maps the lower layers; mount(2) does not know them, and the
            // link has the same owner in any mapping that begins with itself.
            word if word.starts_with("uidmap=") || word.starts_with("gidmap=") => {}
            word => data.push(word),
        }
    }
    (flags, data.join(","))
}

fn replace(path: &Path, target: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let there = match fs::symlink_metadata(path) {
        Ok(status) if status.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    there.with_context(|| format!("removing the image's `{}`", path.display()))?;
    symlink(target, path).with_context(|| format!("linking the image's `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_into_flags_and_data() {
        let words = ["index=off", "uidmap=0:0:65536", "workdir=/w", "ro", "lowerdir=/a:/b"]
            .map(str::to_owned);
        assert_eq!(
            options(&words),
            (MsFlags::MS_RDONLY, "index=off,workdir=/w,lowerdir=/a:/b".to_owned())
        );
        let words = ["rw", "rbind"].map(str::to_owned);
        assert_eq!(options(&words), (MsFlags::MS_BIND | MsFlags::MS_REC, String::new()));
    }

    #[test]
    fn a_folder_a_file_and_nothing_become_a_link() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("home/app/function");
        replace(&path, "/run/a").unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(path.join("deep")).unwrap();
        replace(&path, "/run/b").unwrap();
        replace(&path, "/run/c").unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("/run/c"));
    }
}
