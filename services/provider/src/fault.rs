//! Faults of ours and of what we stand on: the cause goes to the log, the caller gets the operation.

use api::{Error, ErrorCode};
use tracing::{debug, error};

/// The error for a caller; the chain of causes is logged.
#[must_use]
pub fn internal(doing: &str, cause: &anyhow::Error) -> Error {
    error!("{doing} failed: {cause:#}");
    Error::new(ErrorCode::Internal, format!("{doing} failed"))
        .hint("the provider's log has the cause")
}

/// The error for a caller when containerd did not do something.
#[must_use]
pub fn containerd(doing: &str, cause: containerd::Error) -> Error {
    if cause.is_unavailable() {
        debug!("{doing}: {cause:#}");
        return Error::new(ErrorCode::Unavailable, format!("{doing}: containerd does not answer"))
            .hint("it is started again by itself; try again in a moment");
    }
    internal(doing, &cause.into())
}

/// Runs something that waits for the disk where it holds nobody up.
///
/// # Errors
/// What `work` says; `Internal` when it panicked.
pub async fn blocking<T, E>(
    doing: &str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Error>
where
    T: Send + 'static,
    E: Into<Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(internal(doing, &error.into())),
    }
}
