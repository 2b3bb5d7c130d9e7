//! The control socket of a watchdog, seen from outside.
//!
//! The function's own code runs beside the watchdog and owns the socket's folder. So nothing that
//! comes back is taken on trust: the socket is reached without following a link, every line has a
//! greatest length and every wait a limit, and an answer counts only if it is about what was asked.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::switch::{MAX_LINE, Reply, Request, Times};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::wait_file::Changes;

const NAME: &str = "control.sock";
/// Longest wait for an answer that needs no work of the function.
const QUICK: Duration = Duration::from_secs(5);
/// Longest reason that is passed on, in bytes.
const MAX_REASON: usize = 300;
/// What the watchdog may need on top of the time that it gives a process.
const MARGIN: Duration = Duration::from_secs(2);

/// The folder of one replica's control socket.
#[derive(Clone, Debug)]
pub struct Control {
    folder: PathBuf,
}

/// What became of a request to switch.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The version answers.
    Switched(Times),
    /// It did not become ready: the reason in one line, and its last output.
    Refused(String, Vec<String>),
    /// A later request took over.
    Superseded,
}

/// Why the watchdog gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket cannot be reached.
    #[error("reaching the watchdog")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("talking to the watchdog")]
    Talk(#[source] io::Error),
    /// It answered something else than what was asked.
    #[error("the watchdog answered nonsense: {0}")]
    Nonsense(String),
    /// It did not answer in time.
    #[error("the watchdog did not answer within {0:?}")]
    Late(Duration),
}

impl Control {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Waits until the watchdog takes connections.
    ///
    /// # Errors
    /// [`ControlError::Late`] after `limit`.
    pub async fn wait(&self, limit: Duration) -> Result<(), ControlError> {
        let waiting = async {
            let mut changes = Changes::of(&self.folder).map_err(ControlError::Connect)?;
            while let Err(error) = self.connect().await {
                if error.kind() == io::ErrorKind::ConnectionRefused {
                    // The file is there a moment before somebody listens; no event tells of that.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                } else {
                    changes.next().await.map_err(ControlError::Connect)?;
                }
            }
            Ok(())
        };
        timeout(limit, waiting).await.unwrap_or(Err(ControlError::Late(limit)))
    }

    /// Asks for a switch. `ready` is how long the new process may take.
    ///
    /// # Errors
    /// When there is no usable answer.
    pub async fn switch(
        &self,
        version: u64,
        ready: Duration,
        spare: Duration,
    ) -> Result<Outcome, ControlError> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Switch { version, ready_ms: ms(ready), spare_ms: ms(spare) };
        match self.ask(&request, ready + MARGIN).await? {
            Reply::Switched { version: it, times } if it == version => Ok(Outcome::Switched(times)),
            Reply::Refused { version: it, reason, lines } if it == version => {
                Ok(Outcome::Refused(shorten(reason), last(lines)))
            }
            Reply::Superseded { version: it } if it == version => Ok(Outcome::Superseded),
            other => Err(nonsense(&request, &other)),
        }
    }

    /// The version that answers calls, none before the first one is ready.
    ///
    /// # Errors
    /// When there is no usable answer.
    pub async fn version(&self) -> Result<Option<u64>, ControlError> {
        match self.ask(&Request::Status, QUICK).await? {
            Reply::Status { version, .. } => Ok(version),
            other => Err(nonsense(&Request::Status, &other)),
        }
    }

    /// Gives up the spare process.
    ///
    /// # Errors
    /// When there is no usable answer.
    pub async fn drop_spare(&self) -> Result<(), ControlError> {
        match self.ask(&Request::DropSpare, QUICK).await? {
            Reply::Dropped => Ok(()),
            other => Err(nonsense(&Request::DropSpare, &other)),
        }
    }

    /// One request and its answer, on a connection of their own: a later request must not wait
    /// behind an earlier one that it is to supersede.
    async fn ask(&self, request: &Request, limit: Duration) -> Result<Reply, ControlError> {
        let talk = async {
            let stream = self.connect().await.map_err(ControlError::Connect)?;
            exchange(stream, request).await
        };
        timeout(limit, talk).await.unwrap_or(Err(ControlError::Late(limit)))
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        let socket = socket(&self.folder)?;
        // The path names the file that was opened and looked at, whatever has its name by now.
        UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
    }
}

/// The socket's file, opened without following a link.
fn socket(folder: &Path) -> io::Result<File> {
    let path_only = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = open(folder, path_only | OFlag::O_DIRECTORY, Mode::empty())?;
    let socket = openat(&folder, NAME, path_only, Mode::empty())?;
    let kind = SFlag::from_bits_truncate(fstat(&socket)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFSOCK {
        return Err(io::Error::other(format!("`{NAME}` is not a socket")));
    }
    Ok(socket.into())
}

async fn exchange(stream: UnixStream, request: &Request) -> Result<Reply, ControlError> {
    let mut line = serde_json::to_vec(request).expect("a request is plain data");
    line.push(b'\n');
    let mut stream = BufReader::new(stream);
    stream.write_all(&line).await.map_err(ControlError::Talk)?;
    line.clear();
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    stream.take(limit).read_until(b'\n', &mut line).await.map_err(ControlError::Talk)?;
    if line.pop() != Some(b'\n') {
        return Err(ControlError::Nonsense(format!("{} bytes without an end of line", line.len())));
    }
    serde_json::from_slice(&line).map_err(|error| ControlError::Nonsense(error.to_string()))
}

fn nonsense(request: &Request, reply: &Reply) -> ControlError {
    ControlError::Nonsense(shorten(format!("{reply:?} to {request:?}")))
}

fn shorten(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_REASON));
    text
}

/// The last lines, which say most of what went wrong.
fn last(mut lines: Vec<String>) -> Vec<String> {
    lines.drain(..lines.len().saturating_sub(super::ERROR_LINES));
    lines
}

#[cfg(test)]
mod tests;
