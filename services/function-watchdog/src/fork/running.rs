//! One call's process: fed from the request's body, ended when the call is.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::StreamExt as _;
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use hyper::{Method, Request, Uri};
use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::logs::Logs;
use crate::process::{Exit, Processes};

/// What happened to the request's body; the error says why it did not arrive whole.
type Fed = Result<(), String>;

/// The process of a call. Dropped before it has ended, its whole group is killed: the caller is
/// gone, or its time is over.
#[derive(Debug)]
pub(crate) struct Running {
    processes: Processes,
    logs: Logs,
    pid: i32,
    exit: oneshot::Receiver<Exit>,
    ended: Option<Exit>,
    feed: Option<JoinHandle<Fed>>,
    fed: Fed,
    written: usize,
    /// What the log says of the call, and since when it runs.
    pub(crate) note: Option<(Note, Instant)>,
}

/// What the log says of a request.
#[derive(Debug)]
pub(crate) struct Note {
    method: Method,
    target: Uri,
}

impl Note {
    pub(crate) fn of(request: &Request<Incoming>) -> Self {
        Self { method: request.method().clone(), target: request.uri().clone() }
    }
}

impl Running {
    pub(crate) fn new(
        processes: Processes,
        logs: Logs,
        exit: oneshot::Receiver<Exit>,
        pid: i32,
    ) -> Self {
        Self {
            processes,
            logs,
            pid,
            exit,
            ended: None,
            feed: None,
            fed: Ok(()),
            written: 0,
            note: None,
        }
    }

    /// Pipes the body to the process's stdin. When it does not arrive whole the process is killed
    /// before it could take the part for the whole.
    pub(crate) fn feed(&mut self, body: Incoming, mut stdin: pipe::Sender, until: Option<Instant>) {
        let (processes, pid) = (self.processes.clone(), self.pid);
        self.feed = Some(tokio::spawn(async move {
            let copied = copy(body, &mut stdin, until).await;
            if copied.is_err() {
                processes.signal(pid, Signal::SIGKILL);
            }
            copied
        }));
    }

    /// Counts bytes of the answer for the log.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// Waits until the process has ended and the body was read.
    pub(crate) async fn end(&mut self) -> (Exit, Fed) {
        std::future::poll_fn(|cx| self.poll_both(cx)).await
    }

    /// The same for a body that polls; logs the call when it is over.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = ready!(self.poll_both(cx));
        self.log();
        Poll::Ready(())
    }

    /// Logs the call, once.
    pub(crate) fn log(&mut self) {
        if let Some((Note { method, target }, started)) = self.note.take() {
            let (size, took) = (self.written, started.elapsed().as_secs_f64());
            self.logs
                .say(format_args!("{method} {target} - 200 - ContentLength: {size}B ({took:.4}s)"));
        }
    }

    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<(Exit, Fed)> {
        let exit = match self.ended {
            Some(exit) => exit,
            None => {
                // The reaper outlives all calls.
                let exit = ready!(Pin::new(&mut self.exit).poll(cx)).unwrap_or(Exit::Status(-1));
                *self.ended.insert(exit)
            }
        };
        if let Some(feed) = &mut self.feed {
            let fed = ready!(Pin::new(feed).poll(cx));
            self.fed = fed.unwrap_or_else(|error| Err(error.to_string()));
            self.feed = None;
        }
        Poll::Ready((exit, self.fed.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(feed) = &self.feed {
            feed.abort();
        }
        if self.ended.is_none() {
            self.processes.signal(self.pid, Signal::SIGKILL);
        }
    }
}

/// Copies the body to the process. A process that reads no further is no error; the rest of the
/// body is still taken, or the caller could not read the answer while it sends.
async fn copy(body: Incoming, stdin: &mut pipe::Sender, until: Option<Instant>) -> Fed {
    let mut body = BodyDataStream::new(body);
    let mut open = true;
    let copied = async {
        while let Some(data) = body.next().await {
            let data = data.map_err(|error| format!("reading the request's body: {error}"))?;
            open = open && stdin.write_all(&data).await.is_ok();
        }
        Ok(())
    };
    match until {
        None => copied.await,
        Some(at) => tokio::time::timeout_at(at, copied)
            .await
            .unwrap_or_else(|_| Err("reading the request's body: read_timeout is over".to_owned())),
    }
}
