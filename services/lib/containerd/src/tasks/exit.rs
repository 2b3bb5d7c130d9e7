//! The exit of a process, waited for over restarts of containerd.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use containerd_client::services::v1::WaitRequest;
use prost_types::Timestamp;
use tokio::task::JoinHandle;
use tracing::debug;

use crate::client::{Client, RETRY};
use crate::error::{Error, Result};

const OPERATION: &str = "waiting for task of";

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit status; 128 + signal for one that a signal ended.
    pub status: u32,
    /// When, if it ever ran.
    pub at: Option<SystemTime>,
}

/// The exit of a process that runs: a future, so that it can be one branch of a `select!`.
///
/// While containerd is away it goes on waiting. Dropping it ends the waiting, not the process.
#[derive(Debug)]
#[must_use = "a dropped `Exiting` no longer waits"]
pub struct Exiting {
    container: String,
    /// None once it has given its result.
    waiting: Option<JoinHandle<Result<Exit>>>,
}

impl Exit {
    pub(crate) fn new(status: u32, at: Option<Timestamp>) -> Self {
        // Go's zero time is before 1970 and means that it never exited.
        let at = at.filter(|it| it.seconds > 0).and_then(|it| SystemTime::try_from(it).ok());
        Self { status, at }
    }
}

impl Exiting {
    /// Begins to wait, now: containerd keeps the exit of a process until it is deleted, so a fast
    /// one is not missed whichever of this and the start it sees first.
    pub(crate) fn register(client: &Client, container: &str, exec: &str) -> Self {
        let (client, container, exec) = (client.clone(), container.to_owned(), exec.to_owned());
        let name = container.clone();
        let waiting = tokio::spawn(async move { wait(&client, &container, &exec).await });
        Self { container: name, waiting: Some(waiting) }
    }

    /// Waits at most `limit` for the exit; after a [`Error::DeadlineExceeded`] it can be called again.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] after `limit`; [`Error::NotFound`] when the process was deleted
    /// by somebody else.
    pub async fn within(&mut self, limit: Duration) -> Result<Exit> {
        let operand = self.container.clone();
        match tokio::time::timeout(limit, self).await {
            Ok(result) => result,
            Err(_) => Err(Error::DeadlineExceeded { operation: OPERATION, operand, limit }),
        }
    }
}

impl Future for Exiting {
    type Output = Result<Exit>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(waiting) = &mut self.waiting else {
            // As other futures do that have given their result.
            return Poll::Pending;
        };
        let result = std::task::ready!(Pin::new(waiting).poll(context));
        self.waiting = None;
        Poll::Ready(result.unwrap_or_else(|error| {
            Err(Error::invalid(format!("{OPERATION} `{}`", self.container), error.to_string()))
        }))
    }
}

impl Drop for Exiting {
    fn drop(&mut self) {
        if let Some(waiting) = &self.waiting {
            waiting.abort();
        }
    }
}

/// Asks until there is an answer. Without a limit of its own: a function may run for months.
async fn wait(client: &Client, container: &str, exec: &str) -> Result<Exit> {
    let mut pause = RETRY.0;
    loop {
        let request = WaitRequest { container_id: container.to_owned(), exec_id: exec.to_owned() };
        let status = match client.tasks_rpc().wait(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                return Ok(Exit::new(answer.exit_status, answer.exited_at));
            }
            Err(status) => status,
        };
        let error = Error::from_status(OPERATION, container, &status);
        if !error.is_unavailable() {
            return Err(error);
        }
        debug!(container, "containerd is away, waiting on");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}
