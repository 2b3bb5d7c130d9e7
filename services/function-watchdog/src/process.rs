//! Children: start, signal, reap.
//!
//! As PID 1 of a container we must also reap processes that we never started. Two parties that
//! wait (a library for its children, `waitpid(-1)` for the orphans) would steal each other's exit
//! statuses, so here is exactly one: a task that, at each SIGCHLD, looks at what has ended
//! *without* reaping it, settles what must be settled while the number still belongs to it, then
//! reaps it and tells whoever asked. No child is started or waited for anywhere else in the
//! program; `std`'s `Child` is taken apart for its pipes and never waited on.
//!
//! * A child that ends at once is not missed: it is entered in the table before this (only)
//!   thread runs anything else.
//! * A signal never hits a stranger: numbers leave the table before the kernel may use them again.
//! * A child inherits no descriptor that is not meant for it: everything is close-on-exec, and the
//!   one exception is made and undone around the start, with no other start in between.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};

/// How a process ended, in Go's words, which are what OpenFaaS's users know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By a signal.
    Signal(Signal),
}

impl Exit {
    /// Whether it ended well.
    pub(crate) fn success(self) -> bool {
        self == Self::Status(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "exit status {code}"),
            Self::Signal(Signal::SIGKILL) => f.write_str("signal: killed"),
            Self::Signal(Signal::SIGTERM) => f.write_str("signal: terminated"),
            Self::Signal(Signal::SIGSEGV) => f.write_str("signal: segmentation fault"),
            Self::Signal(Signal::SIGABRT) => f.write_str("signal: aborted"),
            Self::Signal(other) => write!(f, "signal: {other}"),
        }
    }
}

/// What becomes of a child's process group when the child itself has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// It is killed: nothing of a worker outlives it.
    Ends,
    /// It stays: a call may leave something running, as on any OpenFaaS.
    Stays,
}

/// The table of children; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Processes {
    table: Arc<Mutex<HashMap<i32, Entry>>>,
    empty: Arc<Notify>,
    ending: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Entry {
    exit: oneshot::Sender<Exit>,
    group: Group,
}

/// A child that was started.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its number, also that of its process group.
    pub(crate) pid: i32,
    /// Its pipes.
    pub(crate) child: Child,
    /// Tells how it ended.
    pub(crate) exit: oneshot::Receiver<Exit>,
}

impl Processes {
    /// Starts the task that reaps; call it before the first child is started.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut ended = signal(SignalKind::child()).context("listening for ended children")?;
        let this = Self { table: Arc::default(), empty: Arc::default(), ending: Arc::default() };
        let reaper = this.clone();
        tokio::spawn(async move {
            loop {
                reaper.reap();
                if ended.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(this)
    }

    /// Starts a child in a process group of its own. `inherit` keeps its number in the child.
    pub(crate) fn spawn(
        &self,
        command: &mut Command,
        inherit: Option<&OwnedFd>,
        group: Group,
    ) -> std::io::Result<Started> {
        if self.ending.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("the watchdog is about to end"));
        }
        if let Some(fd) = inherit {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        let child = command.process_group(0).spawn();
        if let Some(fd) = inherit {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        let child = child?;
        let pid = i32::try_from(child.id()).expect("a pid of Linux fits into pid_t");
        let (sender, exit) = oneshot::channel();
        self.lock().insert(pid, Entry { exit: sender, group });
        Ok(Started { pid, child, exit })
    }

    /// Sends a signal to a child's process group, if the child has not ended.
    pub(crate) fn signal(&self, pid: i32, signal: Signal) {
        if self.lock().contains_key(&pid) {
            // It can only fail when nobody is left to be told.
            let _ = killpg(Pid::from_raw(pid), signal);
        }
    }

    /// Ends all children: asks, waits, kills. Returns how many had to be killed. From here on none
    /// can be started: the live switch would replace a worker that we end.
    pub(crate) async fn end_all(&self, grace: Duration) -> usize {
        self.ending.store(true, Ordering::Relaxed);
        self.signal_all(Signal::SIGTERM);
        if tokio::time::timeout(grace, self.all_gone()).await.is_ok() {
            return 0;
        }
        let killed = self.signal_all(Signal::SIGKILL);
        // SIGKILL can be late (a process in a system call that cannot be broken), not refused.
        let _ = tokio::time::timeout(grace, self.all_gone()).await;
        killed
    }

    fn signal_all(&self, signal: Signal) -> usize {
        let pids: Vec<i32> = self.lock().keys().copied().collect();
        for pid in &pids {
            self.signal(*pid, signal);
        }
        pids.len()
    }

    async fn all_gone(&self) {
        loop {
            let changed = self.empty.notified();
            if self.lock().is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// Reaps all that has ended. The signal comes once for many, so this looks until none is left.
    fn reap(&self) {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        loop {
            let (pid, exit) = match waitid(Id::All, look) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Status(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal)),
                Err(Errno::EINTR) => continue,
                // Nothing has ended, or there is no child at all.
                Ok(_) | Err(_) => break,
            };
            let entry = self.lock().remove(&pid.as_raw());
            if entry.as_ref().is_some_and(|entry| entry.group == Group::Ends) {
                let _ = killpg(pid, Signal::SIGKILL);
            }
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            if let Some(entry) = entry {
                // Nobody may be waiting any more.
                let _ = entry.exit.send(exit);
            }
        }
        if self.lock().is_empty() {
            self.empty.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
