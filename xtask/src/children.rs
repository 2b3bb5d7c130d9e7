//! Child processes: each in a process group of its own, so that one signal to us ends all of them.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// How much of a failed command's output an error quotes.
const TAIL_LINES: usize = 40;
/// How long children may take to end after a signal before they are killed.
const GRACE: Duration = Duration::from_secs(10);

static RUNNING: Mutex<Running> =
    Mutex::new(Running { groups: BTreeSet::new(), interrupted: false });
static ENDED: Condvar = Condvar::new();
static GUARDED: Mutex<bool> = Mutex::new(false);

struct Running {
    groups: BTreeSet<i32>,
    interrupted: bool,
}

/// Runs a command to its end and returns what it wrote to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let bytes = output_bytes(command)?;
    String::from_utf8(bytes).with_context(|| format!("output of {} is not UTF-8", name(command)))
}

/// Like [`output`], for output that is not text.
pub(crate) fn output_bytes(command: &mut Command) -> Result<Vec<u8>> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command)?;
    let mut stdout = child.stdout.take().context("standard output is piped")?;
    let stderr = child.stderr.take().context("standard error is piped")?;
    let (read, tail) = std::thread::scope(|scope| {
        let tail = scope.spawn(move || tail_of(stderr, &mut |_| {}));
        let mut bytes = Vec::new();
        let read = stdout.read_to_end(&mut bytes).map(|_| bytes);
        (read, tail.join().unwrap_or_default())
    });
    check(command, wait(child)?, &tail)?;
    read.with_context(|| format!("reading the output of {}", name(command)))
}

/// Runs a command to its end; `each` sees every line that it writes to standard error.
pub(crate) fn lines(command: &mut Command, mut each: impl FnMut(&str)) -> Result<()> {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = spawn(command)?;
    let stderr = child.stderr.take().context("standard error is piped")?;
    let tail = tail_of(stderr, &mut each);
    check(command, wait(child)?, &tail)
}

/// Runs a command to its end; whether it ended well, and all that it wrote, in order.
pub(crate) fn transcript(command: &mut Command) -> Result<(bool, String)> {
    let (mut reader, writer) = std::io::pipe().context("making a pipe")?;
    command.stdout(writer.try_clone().context("making a pipe")?).stderr(writer);
    let child = spawn(command)?;
    // The command holds the pipe's other end, too; ours must go, or reading never ends.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut bytes = Vec::new();
    let read = reader.read_to_end(&mut bytes);
    let status = wait(child)?;
    read.with_context(|| format!("reading the output of {}", name(command)))?;
    Ok((status.success(), String::from_utf8_lossy(&bytes).into_owned()))
}

/// Runs a command to its end with our own standard output and error.
pub(crate) fn inherit(command: &mut Command) -> Result<ExitStatus> {
    wait(spawn(command)?)
}

/// While it lives, an interrupt or a request to end stops every child, waits for them and ends us.
///
/// Made on the main thread before others start, since threads inherit the blocked signals. A
/// second one while the first lives does nothing.
pub(crate) fn guard() -> Result<Guard> {
    let mut guarded = lock(&GUARDED);
    if *guarded {
        return Ok(Guard { inner: None });
    }
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    let before = signals
        .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
        .context("blocking signals")?;
    let signals =
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).context("opening a signalfd")?;
    let stop = std::sync::Arc::new(
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC).context("opening an eventfd")?,
    );
    let watched = std::sync::Arc::clone(&stop);
    let thread = std::thread::spawn(move || watch(&signals, &watched));
    *guarded = true;
    Ok(Guard { inner: Some(Inner { before, stop, thread }) })
}

/// See [`guard`].
#[derive(Debug)]
pub(crate) struct Guard {
    inner: Option<Inner>,
}

#[derive(Debug)]
struct Inner {
    before: SigSet,
    stop: std::sync::Arc<EventFd>,
    thread: std::thread::JoinHandle<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        if inner.stop.write(1).is_ok() {
            inner.thread.join().ok();
        }
        inner.before.thread_set_mask().ok();
        *lock(&GUARDED) = false;
    }
}

fn watch(signals: &SignalFd, stop: &EventFd) {
    use std::os::fd::AsFd as _;
    loop {
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) if fds[1].any() == Some(true) => return,
            Ok(_) => {}
        }
        if matches!(signals.read_signal(), Ok(Some(_))) {
            end_all();
        }
    }
}

#[expect(clippy::exit, reason = "the process was told to end and its children are gone")]
fn end_all() {
    eprintln!("interrupted; ending what runs");
    let mut running = lock(&RUNNING);
    running.interrupted = true;
    signal_groups(&running, Signal::SIGTERM);
    let (running, waited) = ENDED
        .wait_timeout_while(running, GRACE, |running| !running.groups.is_empty())
        .unwrap_or_else(PoisonError::into_inner);
    if waited.timed_out() {
        signal_groups(&running, Signal::SIGKILL);
    }
    std::process::exit(130);
}

fn signal_groups(running: &Running, signal: Signal) {
    for group in &running.groups {
        killpg(Pid::from_raw(*group), signal).ok();
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    let mut running = lock(&RUNNING);
    if running.interrupted {
        bail!("interrupted before {} was started", name(command));
    }
    crate::sys::unblock_signals(command);
    let child = command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {}", name(command)))?;
    running.groups.insert(child.id().cast_signed());
    Ok(child)
}

/// Waits in two steps, so that a group is forgotten before its number can be given away again.
fn wait(mut child: Child) -> Result<ExitStatus> {
    let pid = child.id().cast_signed();
    let exited = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(Pid::from_raw(pid)), exited) == Err(nix::errno::Errno::EINTR) {}
    lock(&RUNNING).groups.remove(&pid);
    ENDED.notify_all();
    child.wait().context("waiting for a child process")
}

fn tail_of(stderr: impl std::io::Read, each: &mut dyn FnMut(&str)) -> Vec<String> {
    let mut tail = std::collections::VecDeque::new();
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        each(&line);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line);
    }
    tail.into()
}

fn check(command: &Command, status: ExitStatus, tail: &[String]) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    };
    let quote = tail.iter().fold(String::new(), |text, line| text + "\n  " + line);
    bail!("{} ended with {how}{quote}", name(command))
}

/// The command as a person would type it, cut where it gets long.
fn name(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        if text.len() > 160 {
            return text + " ...";
        }
        text = text + " " + &arg.to_string_lossy();
    }
    text
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_child_hears_signals_and_reads_nothing_whatever_the_guard_blocks() {
        let _guard = guard().unwrap();
        let status = output(&mut shell("grep -E 'SigBlk' /proc/self/status; cat")).unwrap();
        assert_eq!(status, "SigBlk:\t0000000000000000\n");
        let (ok, text) =
            transcript(&mut shell("echo out; echo err >&2; kill -TERM $$; echo never")).unwrap();
        assert_eq!((ok, text.as_str()), (false, "out\nerr\n"));
    }

    #[test]
    fn a_failure_names_the_command_and_quotes_the_end_of_what_it_said() {
        let mut seen = 0;
        let error =
            lines(&mut shell("seq 100 >&2; exit 3"), |_| seen += 1).unwrap_err().to_string();
        assert_eq!(seen, 100);
        assert!(
            error.starts_with("sh -c seq 100 >&2; exit 3 ended with exit code 3\n  61\n"),
            "{error}"
        );
        assert!(error.ends_with("\n  100"), "{error}");
        let error = format!("{:#}", output(&mut Command::new("no-such-program")).unwrap_err());
        assert_eq!(error, "starting no-such-program: No such file or directory (os error 2)");
    }
}
