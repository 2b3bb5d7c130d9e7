//! A process of mode `http`: its port, its output, and how it says that it is ready.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures::{FutureExt as _, StreamExt as _};
use tokio::net::unix::pipe;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, LinesCodec};

use crate::config::{Config, Upstream as Address};
use crate::logs::{Logs, Stream, Tail, pump};
use crate::process::{Exit, Group, Processes, Started};
use crate::proxy::Upstream;

/// How often a server that says nothing is tried. There is no event for another process's
/// listening; ours, which do say it, are not tried.
const TRY_EVERY: Duration = Duration::from_millis(20);
/// How long the output of an ended process may take to be read: whatever it has left behind is
/// killed, unless it has left the process group.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// Longest line on the notify pipe.
const LONGEST_WORD: usize = 64;

/// What the process is to run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Code<'a> {
    /// What its command line says, on the address of `upstream_url`: any OpenFaaS image.
    Fixed(&'a Address),
    /// The code in this folder, on a fresh port; paths get this prefix.
    Folder(&'a Path, &'a Address),
    /// None yet: it loads all but the user's code, then waits for a folder on its stdin.
    Later(&'a Address),
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Its number, also that of its process group.
    pub(crate) pid: i32,
    /// Its server.
    pub(crate) upstream: Arc<Upstream>,
    stdin: Option<ChildStdin>,
    tail: Arc<Mutex<Tail>>,
    /// Keeps the port from everybody else: bound, not listening, so that the process may listen
    /// on it (both say SO_REUSEADDR) and no other program is given it.
    _port: Option<TcpSocket>,
}

/// The end of a worker.
#[derive(Debug)]
pub(crate) struct Ending {
    exit: oneshot::Receiver<Exit>,
    pumps: Vec<JoinHandle<()>>,
}

/// What a worker says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Runtime and framework are loaded.
    Loaded,
    /// It listens with the user's code loaded.
    Ready,
    /// It listens, and has never said anything: it does not know our protocol.
    Listens,
}

/// Hears what a worker says.
#[derive(Debug)]
pub(crate) struct Ear {
    words: FramedRead<pipe::Receiver, LinesCodec>,
    address: SocketAddr,
    open: bool,
    spoke: bool,
}

impl Worker {
    /// Starts a process.
    pub(crate) fn start(
        config: &Config,
        processes: &Processes,
        logs: &Logs,
        code: Code<'_>,
    ) -> anyhow::Result<(Self, Ending, Ear)> {
        let (heard, says) = std::io::pipe().context("making the notify pipe")?;
        let says = OwnedFd::from(says);
        let mut command = Command::new(&config.process[0]);
        command.args(&config.process[1..]).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        for unset in ["INPLACE_SPARE", "INPLACE_NOTIFY_FD"] {
            command.env_remove(unset);
        }
        let (address, port) = match code {
            Code::Fixed(address) => (address.clone(), None),
            Code::Folder(_, address) | Code::Later(address) => {
                let port = reserve_port().context("reserving a port")?;
                let local = port.local_addr().context("reading the reserved port")?;
                command.env("PORT", local.port().to_string());
                command.env("INPLACE_NOTIFY_FD", says.as_raw_fd().to_string());
                (Address { address: local, prefix: address.prefix.clone() }, Some(port))
            }
        };
        match code {
            Code::Fixed(_) => {}
            Code::Folder(folder, _) => {
                command.current_dir(folder).env("INPLACE_SOURCE", folder);
            }
            Code::Later(_) => {
                command.env_remove("INPLACE_SOURCE").env("INPLACE_SPARE", "1");
                command.stdin(Stdio::piped());
            }
        }
        let Started { pid, mut child, exit } = processes
            .spawn(&mut command, port.is_some().then_some(&says), Group::Ends)
            .with_context(|| format!("starting `{}`", config.process.join(" ")))?;

        let tail = Arc::new(Mutex::new(Tail::default()));
        let outputs = [
            (Stream::Stdout, child.stdout.take().map(OwnedFd::from)),
            (Stream::Stderr, child.stderr.take().map(OwnedFd::from)),
        ];
        let mut pumps = Vec::new();
        for (stream, output) in outputs {
            let output = output.expect("both were asked for as pipes");
            let output = pipe::Receiver::from_owned_fd(output).context("reading its output")?;
            let tail = Some(Arc::clone(&tail));
            pumps.push(tokio::spawn(pump(logs.clone(), stream, output, config.output, tail)));
        }
        let words =
            pipe::Receiver::from_owned_fd(heard.into()).context("reading its notify pipe")?;
        let ear = Ear {
            words: FramedRead::new(words, LinesCodec::new_with_max_length(LONGEST_WORD)),
            address: address.address,
            open: true,
            spoke: false,
        };
        let upstream = Upstream::new(address.address, &address.prefix);
        let worker = Self { pid, upstream, stdin: child.stdin.take(), tail, _port: port };
        Ok((worker, Ending { exit, pumps }, ear))
    }

    /// Tells a spare process its folder.
    pub(crate) fn feed(&mut self, folder: &Path) -> anyhow::Result<()> {
        let mut stdin = self.stdin.take().context("the process was given its folder already")?;
        // Short, and the pipe is empty: this cannot wait.
        writeln!(stdin, "{}", folder.display()).context("telling the process its folder")
    }

    /// The last lines that it printed.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).lines()
    }
}

impl Ending {
    /// Waits for the end of the process, and until its last output was read.
    pub(crate) async fn wait(self) -> Exit {
        // The reaper outlives all workers.
        let exit = self.exit.await.unwrap_or(Exit::Status(-1));
        let read = futures::future::join_all(self.pumps);
        let _ = tokio::time::timeout(LAST_OUTPUT, read).await;
        exit
    }
}

impl Ear {
    /// Waits for the next thing that the process says; none when nothing more can come.
    pub(crate) async fn next(&mut self) -> Option<Said> {
        loop {
            if !self.open && self.spoke {
                return None;
            }
            let silent = !self.spoke;
            tokio::select! {
                biased;
                word = self.words.next(), if self.open => {
                    if let Some(said) = self.hear(word) {
                        return Some(said);
                    }
                }
                () = tokio::time::sleep(TRY_EVERY), if silent => {
                    if TcpStream::connect(self.address).await.is_ok() {
                        // It may have spoken while it was tried.
                        match self.words.next().now_or_never() {
                            Some(word) if self.open => {
                                if let Some(said) = self.hear(word) {
                                    return Some(said);
                                }
                            }
                            _ => return Some(Said::Listens),
                        }
                    }
                }
            }
        }
    }

    fn hear<E>(&mut self, word: Option<Result<String, E>>) -> Option<Said> {
        let said = match word {
            Some(Ok(word)) if word == "loaded" => Said::Loaded,
            Some(Ok(word)) if word == "ready" => Said::Ready,
            Some(Ok(_)) => return None,
            Some(Err(_)) | None => {
                self.open = false;
                return None;
            }
        };
        self.spoke = true;
        Some(said)
    }
}

/// Binds a free port of the loopback.
fn reserve_port() -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    Ok(socket)
}
