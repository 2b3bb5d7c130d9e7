//! The control socket: lines of JSON in, lines of JSON out, in order, everything within bounds.
//!
//! The function's code may connect too (it runs under our uid). It can do no more here than to
//! its own function: choose among its own versions, or keep the provider waiting, which counts
//! its own time.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::switch::{MAX_LINE, Reply, Request};
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec, LinesCodecError};

use super::{Command, Input};

/// Connections at a time; further ones wait.
const CONNECTIONS: usize = 8;
/// Requests of one connection that wait for their answers; further ones are not read yet.
const WAITING: usize = 32;
/// How long a client may take to read an answer.
const WRITE_TIME: Duration = Duration::from_secs(5);
/// Pause when accepting fails.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens the socket, in place of one that a watchdog before this one has left.
pub(super) fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    match fs_err::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("removing the old control socket");
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(socket).with_context(|| format!("listening on {}", socket.display()))?;
    fs_err::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the socket for ever.
pub(super) async fn serve(listener: UnixListener, inputs: mpsc::Sender<Input>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Never closed.
        let place = Arc::clone(&room).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => {
                let inputs = inputs.clone();
                tokio::spawn(async move {
                    connection(stream, inputs).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Reads requests and writes answers at the same time: a request may be superseded by the next
/// one on the same connection.
async fn connection(stream: UnixStream, inputs: mpsc::Sender<Input>) {
    let (read, write) = stream.into_split();
    let (waiting, mut answers) = mpsc::channel::<oneshot::Receiver<Reply>>(WAITING);
    let ask = async move {
        let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(MAX_LINE));
        while let Some(line) = lines.next().await {
            let (reply, answer) = oneshot::channel();
            if waiting.send(answer).await.is_err() {
                return;
            }
            let request = match line {
                Ok(line) => serde_json::from_str::<Request>(&line).map_err(|e| e.to_string()),
                Err(error) => Err(unreadable(&error)),
            };
            match request {
                Ok(request) => {
                    let command = Input::Command(Command { request, reply });
                    if inputs.send(command).await.is_err() {
                        return;
                    }
                }
                Err(reason) => {
                    let _ = reply.send(Reply::Invalid { reason });
                }
            }
        }
    };
    let tell = async move {
        let mut lines = FramedWrite::new(write, LinesCodec::new());
        while let Some(answer) = answers.recv().await {
            // Not answered: the watchdog stops.
            let Ok(reply) = answer.await else { return };
            let Ok(line) = serde_json::to_string(&reply) else { return };
            let written = tokio::time::timeout(WRITE_TIME, lines.send(line)).await;
            if !matches!(written, Ok(Ok(()))) {
                return;
            }
        }
    };
    // When reading ends (a line that is none ends it too), what was asked is still answered; when
    // writing ends, all is over.
    let mut tell = std::pin::pin!(tell);
    tokio::select! {
        () = &mut tell => return,
        () = ask => {}
    }
    tell.await;
}

fn unreadable(error: &LinesCodecError) -> String {
    match error {
        LinesCodecError::MaxLineLengthExceeded => format!("the line is over {MAX_LINE} bytes"),
        LinesCodecError::Io(error) => format!("reading the line: {error}"),
    }
}
