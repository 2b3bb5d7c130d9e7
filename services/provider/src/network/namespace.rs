//! Network namespaces: a file each, so that they outlive whoever made them.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::sync::oneshot;

use super::links::Links;

/// Makes a namespace and binds it to `path`.
pub(super) async fn create(path: &Path) -> Result<()> {
    remove(path)?; // left by a crash
    let path = path.to_owned();
    on_own_thread(move || {
        fs::File::create(&path)?;
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
        let own = "/proc/thread-self/ns/net";
        mount(Some(own), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("binding a network namespace to `{}`", path.display()))
    })
    .await
}

/// Runs `work` with a netlink socket of the namespace at `path`.
pub(super) async fn inside<F>(path: &Path, work: F) -> Result<()>
where
    F: AsyncFnOnce(Links) -> Result<()> + Send + 'static,
{
    let path: PathBuf = path.to_owned();
    on_own_thread(move || {
        let file = fs::File::open(&path)?;
        setns(&file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("entering the network namespace `{}`", path.display()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { work(Links::connect()?).await })
    })
    .await
}

/// Removes a namespace's file; the kernel ends the namespace with its last process.
pub(super) fn remove(path: &Path) -> Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // Not there, or a file that was never bound.
        Ok(()) | Err(nix::Error::ENOENT | nix::Error::EINVAL) => {}
        Err(error) => return Err(error).context(format!("unmounting `{}`", path.display())),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// A thread that changes its namespace must not be used for anything else afterwards.
async fn on_own_thread(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let (done, wait) = oneshot::channel();
    std::thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || {
            // Nobody waits any more when the caller was given up.
            let _ = done.send(work());
        })
        .context("starting a thread")?;
    wait.await.context("the thread ended without an answer")?
}
