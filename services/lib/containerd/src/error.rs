//! The one error type: what a caller branches on, and what a person needs to know.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What containerd says, with no code of its own, when the connection to a shim broke.
const SHIM_GONE: &str = "ttrpc: closed";

/// Why a call did not do what it should. Each names the operation and what it was about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operand, or something that it refers to (`source` says what), does not exist.
    #[error("{operation} `{operand}`: not found")]
    NotFound {
        /// What was being done.
        operation: &'static str,
        /// To what.
        operand: String,
        /// containerd's own words.
        source: Answer,
    },
    /// The name is taken.
    #[error("{operation} `{operand}`: it exists already")]
    AlreadyExists {
        /// What was being done.
        operation: &'static str,
        /// To what.
        operand: String,
        /// containerd's own words.
        source: Answer,
    },
    /// containerd, or the shim of the task, went away: it may or may not have been done.
    /// [`Client::wait_ready`](crate::Client::wait_ready) waits until containerd is back; a dead
    /// shim's task is removed by containerd itself.
    #[error("{operation} `{operand}`: containerd or its shim does not answer")]
    Unavailable {
        /// What was being done.
        operation: &'static str,
        /// To what.
        operand: String,
        /// What the connection said.
        source: Answer,
    },
    /// containerd answers, but not this call, not in time.
    #[error("{operation} `{operand}`: not done within {limit:?}")]
    DeadlineExceeded {
        /// What was being done.
        operation: &'static str,
        /// To what.
        operand: String,
        /// The limit of this operation.
        limit: Duration,
    },
    /// containerd refused or failed.
    #[error("{operation} `{operand}` failed")]
    Failed {
        /// What was being done.
        operation: &'static str,
        /// To what.
        operand: String,
        /// containerd's own words.
        source: Answer,
    },
    /// Data is not what it must be: a wrong digest, a manifest that cannot be read, an image for
    /// another machine. Nothing was kept of it.
    #[error("{what}: {why}")]
    Invalid {
        /// Which blob, file, image or argument.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file of an image layout could not be read; the message names its path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What containerd, or the connection to it, answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Answer {
    /// The class of the answer.
    pub code: Code,
    /// Its text.
    pub message: String,
}

impl Error {
    /// Whether the operand does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the name is taken.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }

    /// Whether containerd was not there: worth another try once it is back.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub(crate) fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), why: why.into() }
    }

    pub(crate) fn from_status(operation: &'static str, operand: &str, status: &Status) -> Self {
        let operand = operand.to_owned();
        let source = Answer { code: status.code(), message: status.message().to_owned() };
        // A status with a source was made on this side, from a broken connection: whatever code
        // the transport chose for it, containerd did not say it.
        let broken = status.source().is_some();
        if broken || status.code() == Code::Unavailable || status.message().ends_with(SHIM_GONE) {
            return Self::Unavailable { operation, operand, source };
        }
        match status.code() {
            Code::NotFound => Self::NotFound { operation, operand, source },
            Code::AlreadyExists => Self::AlreadyExists { operation, operand, source },
            _ => Self::Failed { operation, operand, source },
        }
    }
}

/// Adds to a [`Result`] what a caller often does with `NotFound`.
pub trait NotFoundExt<T> {
    /// `None` instead of the error when the operand does not exist.
    ///
    /// # Errors
    /// All others.
    fn found(self) -> Result<Option<T>>;
}

impl<T> NotFoundExt<T> for Result<T> {
    fn found(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[track_caller]
    fn check(status: &Status, text: &str) {
        assert_eq!(Error::from_status("getting image", "a/b:c", status).to_string(), text);
    }

    #[test]
    fn a_status_becomes_the_error_that_a_caller_branches_on() {
        check(&Status::not_found("no such image"), "getting image `a/b:c`: not found");
        check(&Status::already_exists("taken"), "getting image `a/b:c`: it exists already");
        check(
            &Status::unavailable("gone"),
            "getting image `a/b:c`: containerd or its shim does not answer",
        );
        check(&Status::internal("broken"), "getting image `a/b:c` failed");
    }

    #[test]
    fn a_status_that_the_connection_made_means_unavailable() {
        let mut status = Status::unknown("h2 protocol error");
        status.set_source(Arc::new(std::io::Error::other("broken pipe")));
        check(&status, "getting image `a/b:c`: containerd or its shim does not answer");
    }
}
