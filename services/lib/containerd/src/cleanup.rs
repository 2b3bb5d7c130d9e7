//! Removal of a container in whatever state it is: whole, half made, or half removed.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::{Client, RETRY};
use crate::error::{Error, NotFoundExt, Result};
use crate::tasks::SIGKILL;

/// Why something of a container is left; everything that could be removed is.
#[derive(Debug, thiserror::Error)]
#[error("removing container `{container}`: {}", list(.errors))]
pub struct CleanupError {
    /// Identifier of the container.
    pub container: String,
    /// What failed, in the order of the attempts; never empty.
    pub errors: Vec<Error>,
}

impl Client {
    /// Kills and removes a container: its task, its record and its snapshot. What is not there is
    /// fine, so it can be repeated; it goes on after a failure and tells all of them.
    ///
    /// `limit` is how long the killed task may take to end. The snapshot is the one that the
    /// record names, or without a record the one that is named like the container.
    ///
    /// # Errors
    /// [`CleanupError`]: something is left. Worth a repetition.
    pub async fn cleanup(&self, container: &str, limit: Duration) -> Result<(), CleanupError> {
        let mut errors = Vec::new();
        let record = collect(self.container(container).await, &mut errors);
        let snapshot = record.map_or_else(|| container.to_owned(), |it| it.snapshot);
        self.cleanup_task(container, limit, &mut errors).await;
        collect(self.delete_container(container).await, &mut errors);
        if !snapshot.is_empty() {
            collect(self.remove_snapshot(&snapshot).await, &mut errors);
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(CleanupError { container: container.to_owned(), errors })
    }

    /// Kills, waits and deletes. How the first two went matters only when something is left.
    async fn cleanup_task(&self, container: &str, limit: Duration, errors: &mut Vec<Error>) {
        let mut exit = self.watch_task(container);
        let mut before = Vec::new();
        if collect(self.kill_task(container, SIGKILL).await, &mut before).is_some() {
            collect(exit.within(limit).await, &mut before);
        }
        if let Err(error) = self.delete_dead_task(container, limit).await {
            errors.append(&mut before);
            errors.push(error);
        }
    }

    /// Deletes a task; one whose shim has died is being removed by containerd itself, so it is
    /// tried again for as long as `limit`.
    async fn delete_dead_task(&self, container: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        let mut pause = RETRY.0;
        loop {
            match self.delete_task(container).await.found() {
                Err(error) if error.is_unavailable() && Instant::now() + pause < end => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
                result => return result.map(|_| ()),
            }
        }
    }
}

/// The value, or nothing and the error noted; what does not exist is no error.
fn collect<T>(result: Result<T>, errors: &mut Vec<Error>) -> Option<T> {
    result.found().unwrap_or_else(|error| {
        errors.push(error);
        None
    })
}

/// One line for all of them, each with its own causes: a list has no single source.
fn list(errors: &[Error]) -> String {
    let chain = |error: &Error| {
        let source = std::error::Error::source(error);
        source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
    };
    errors.iter().map(chain).collect::<Vec<_>>().join("; ")
}
