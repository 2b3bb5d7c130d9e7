//! What needs `unsafe`: the identity of one thread, libgit2's global switches, one descriptor.
#![expect(
    unsafe_code,
    reason = "per-thread groups, libgit2's options and AsyncFd have no safe wrapper"
)]

use std::io;
use std::marker::PhantomData;
use std::sync::OnceLock;

use git2::ConfigLevel;
use inotify::Inotify;
use nix::libc;
use nix::unistd::{Gid, Uid, getgroups, setfsgid, setfsuid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The user and group that every function's files belong to outside of containers.
pub const OWNER: u32 = 1000;

/// While it lives, this thread touches files as [`OWNER`] with no further group and none of root's
/// rights over files, so that a link planted in a folder leads nowhere that its owner could not go.
///
/// It does nothing when the process is not root, or when the thread is the owner already.
/// It belongs to its thread: it is not `Send`, so it cannot be held over an `await`.
#[derive(Debug)]
pub struct AsOwner {
    before: Option<Identity>,
    thread: PhantomData<*const ()>,
}

#[derive(Debug)]
struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<libc::gid_t>,
}

impl AsOwner {
    /// Takes the owner's identity.
    ///
    /// # Errors
    /// When the kernel does not let this process change its identity.
    pub fn enter() -> io::Result<Self> {
        let (uid, gid) = file_identity();
        if !Uid::effective().is_root() || uid.as_raw() == OWNER {
            return Ok(Self { before: None, thread: PhantomData });
        }
        let groups = getgroups()?.into_iter().map(Gid::as_raw).collect();
        // From here on a failure drops `guard`, which goes back.
        let guard = Self { before: Some(Identity { uid, gid, groups }), thread: PhantomData };
        set_thread_groups(&[])?;
        setfsgid(Gid::from_raw(OWNER));
        setfsuid(Uid::from_raw(OWNER));
        if file_identity() != (Uid::from_raw(OWNER), Gid::from_raw(OWNER)) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("cannot act as user {OWNER}: CAP_SETUID and CAP_SETGID are needed"),
            ));
        }
        Ok(guard)
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        let Some(before) = &self.before else { return };
        setfsuid(before.uid);
        setfsgid(before.gid);
        // If this fails the thread has fewer rights than before, never more.
        if let Err(error) = set_thread_groups(&before.groups) {
            tracing::error!(%error, "a thread could not take its groups back");
        }
    }
}

/// Tells libgit2, once per process, to read no configuration but a repository's own, to sync what
/// it writes whatever that configuration says, and not to compare a repository's owner with the
/// process's: it is opened as its owner, see [`AsOwner`].
///
/// # Errors
/// When libgit2 refuses, which ends every use of git.
pub fn set_up_libgit2() -> Result<(), &'static str> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        for level in
            [ConfigLevel::ProgramData, ConfigLevel::System, ConfigLevel::XDG, ConfigLevel::Global]
        {
            // SAFETY: no other thread is in libgit2: every use of it in this crate begins here,
            // and `get_or_init` lets the others wait.
            unsafe { git2::opts::set_search_path(level, "") }
                .map_err(|error| error.message().to_owned())?;
        }
        // SAFETY: as above.
        unsafe { git2::opts::set_verify_owner_validation(false) }
            .map_err(|error| error.message().to_owned())?;
        // SAFETY: as above; this option takes one int.
        let answer = unsafe {
            libgit2_sys::git_libgit2_opts(
                libgit2_sys::GIT_OPT_ENABLE_FSYNC_GITDIR as libc::c_int,
                1 as libc::c_int,
            )
        };
        if answer == 0 { Ok(()) } else { Err("it cannot sync what it writes".to_owned()) }
    });
    done.as_ref().copied().map_err(String::as_str)
}

/// Lets a tokio runtime say when an inotify instance has events.
///
/// # Errors
/// When the runtime cannot take one more descriptor.
pub(crate) fn readable(inotify: Inotify) -> io::Result<AsyncFd<Inotify>> {
    // SAFETY: the descriptor is the instance's own, which the `AsyncFd` owns from here on and
    // never exchanges: it stays open and the same as long as that lives.
    unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }.map_err(io::Error::from)
}

/// The user and group by which the kernel judges this thread's access to files.
fn file_identity() -> (Uid, Gid) {
    // An identifier that cannot be is refused, and the answer is always what was before.
    (setfsuid(Uid::from_raw(u32::MAX)), setfsgid(Gid::from_raw(u32::MAX)))
}

/// Sets the supplementary groups of this thread alone; libc's `setgroups` changes all threads.
fn set_thread_groups(groups: &[libc::gid_t]) -> io::Result<()> {
    // SAFETY: pointer and length are those of a live slice, and the kernel only reads it.
    let answer = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_the_owner_while_the_guard_lives_and_itself_again_afterwards() {
        let before = (file_identity(), getgroups().unwrap());
        {
            let _outer = AsOwner::enter().unwrap();
            {
                let _inner = AsOwner::enter().unwrap();
            }
            if Uid::effective().is_root() {
                assert_eq!(file_identity(), (Uid::from_raw(OWNER), Gid::from_raw(OWNER)));
                assert_eq!(getgroups().unwrap(), []);
                let elsewhere = std::thread::spawn(file_identity).join().unwrap();
                assert_eq!(elsewhere.0, Uid::from_raw(OWNER), "a new thread inherits its maker's");
            }
        }
        assert_eq!((file_identity(), getgroups().unwrap()), before);
    }

    #[test]
    fn other_threads_keep_their_identity() {
        let (entered, wait) = std::sync::mpsc::channel();
        let (done, until) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            let _owner = AsOwner::enter().unwrap();
            entered.send(()).unwrap();
            until.recv().unwrap_err();
        });
        wait.recv().unwrap();
        assert_eq!(file_identity().0, Uid::effective());
        drop(done);
        other.join().unwrap();
    }
}
