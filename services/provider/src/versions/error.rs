//! What can go wrong with versions, and how a caller of the API sees it.

use std::fmt::Display;
use std::io;

use api::{ErrorCode, FunctionName};

/// A version that could not be made, synced or removed.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The folder was deleted or moved.
    #[error("the folder of function `{name}` is gone")]
    Gone {
        /// Whose.
        name: FunctionName,
    },
    /// The folder holds too many files, folders and links.
    #[error("the folder holds more than {limit} files and folders")]
    TooMany {
        /// The most.
        limit: usize,
    },
    /// The folder's files are too large together.
    #[error("the folder holds more than {limit} bytes; `{path}` is where it gets too much")]
    TooLarge {
        /// The most, in bytes.
        limit: u64,
        /// The file that is beyond.
        path: String,
    },
    /// Folders in folders in folders.
    #[error("`{path}` lies too deep in the folder")]
    TooDeep {
        /// Where.
        path: String,
    },
    /// There is no such version.
    #[error("version {id} is not there")]
    Missing {
        /// Which one.
        id: u64,
    },
    /// The disk or a quota is full.
    #[error("there is no space left for `{path}`")]
    Full {
        /// What was written.
        path: String,
    },
    /// The kernel says no.
    #[error("{doing} `{path}`")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
}

impl VersionError {
    pub(super) fn io(doing: &'static str, path: impl Display, source: io::Error) -> Self {
        let path = path.to_string();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { doing, path, source },
        }
    }
}

impl From<VersionError> for api::Error {
    fn from(error: VersionError) -> Self {
        use VersionError as E;
        let (code, hint) = match &error {
            E::Gone { .. } => (
                ErrorCode::FailedPrecondition,
                "the function goes on with its good version; roll back to a revision to get the \
                 folder again, or remove the function",
            ),
            E::TooMany { .. } | E::TooLarge { .. } | E::TooDeep { .. } => (
                ErrorCode::TooLarge,
                "keep data in `/data` and dependencies in the image, not in the folder",
            ),
            E::Missing { .. } => (ErrorCode::NotFound, ""),
            E::Full { .. } => (ErrorCode::ResourceExhausted, "remove something and try again"),
            E::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                let hint = "files of a function must be readable by user 1000";
                let message = format!("{error}: permission denied");
                return Self::new(ErrorCode::FailedPrecondition, message).hint(hint);
            }
            E::Io { .. } => (ErrorCode::Internal, ""),
        };
        Self::new(code, error.to_string()).hint(hint)
    }
}
