//! What can go wrong in a folder, and how a caller of the API sees it.

use std::fmt::Display;
use std::io;

use api::{ErrorCode, FunctionName};
use nix::errno::Errno;

use super::path::InvalidPath;
use crate::sys::OWNER;

/// An access to a function's folder that did not work.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The path breaks a rule.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// The folder itself was deleted or moved, maybe while the function is live.
    #[error("the folder of function `{name}` is gone")]
    Gone {
        /// Whose folder.
        name: FunctionName,
    },
    /// The folder was made by somebody else, so its function cannot use it.
    #[error("the folder of function `{name}` belongs to user {uid}, it must be {OWNER}'s")]
    Foreign {
        /// Whose folder it should be.
        name: FunctionName,
        /// Who has it.
        uid: u32,
    },
    /// Nothing has this path.
    #[error("there is no `{path}`")]
    NotFound {
        /// Which one.
        path: String,
    },
    /// Something has this path already.
    #[error("there is a `{path}` already")]
    AlreadyExists {
        /// Which one.
        path: String,
    },
    /// A link on the way leads out of the folder, or in a circle.
    #[error("`{path}` leads out of the folder by a link")]
    Outside {
        /// Which one.
        path: String,
    },
    /// What is there is something else.
    #[error("`{path}` is not {wanted}")]
    WrongKind {
        /// Which one.
        path: String,
        /// What it had to be, with its article.
        wanted: &'static str,
    },
    /// A folder that is to be removed holds something.
    #[error("the folder `{path}` is not empty")]
    NotEmpty {
        /// Which one.
        path: String,
    },
    /// It is not, or no longer, what the caller saw.
    #[error("`{path}` {why}")]
    Conflict {
        /// Which one.
        path: String,
        /// What is different.
        why: &'static str,
    },
    /// A file, a tree or a listing is over its limit.
    #[error("`{path}` is larger than {limit} bytes")]
    TooLarge {
        /// Which one.
        path: String,
        /// The most, in bytes.
        limit: u64,
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

impl FolderError {
    pub(crate) fn io(doing: &'static str, path: impl Display, errno: Errno) -> Self {
        Self::from_io(doing, path, errno.into())
    }

    pub(crate) fn from_io(doing: &'static str, path: impl Display, source: io::Error) -> Self {
        let path = path.to_string();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { doing, path, source },
        }
    }
}

impl From<FolderError> for api::Error {
    fn from(error: FolderError) -> Self {
        use FolderError as E;
        let (code, hint) = match &error {
            E::Path(_) => {
                (ErrorCode::InvalidArgument, "name a file below the function's folder, as `a/b.py`")
            }
            E::Gone { .. } => (
                ErrorCode::FailedPrecondition,
                "the function goes on with its good version; roll back to a revision to get the \
                 folder again, or remove the function",
            ),
            E::Foreign { name, .. } => {
                let hint = format!("as root: chown -R {OWNER}:{OWNER} functions/{name}");
                return Self::new(ErrorCode::FailedPrecondition, error.to_string()).hint(hint);
            }
            E::NotFound { .. } => (ErrorCode::NotFound, ""),
            E::AlreadyExists { .. } => (ErrorCode::AlreadyExists, ""),
            E::Outside { .. } => {
                (ErrorCode::InvalidArgument, "links may lead to files of the same folder only")
            }
            E::WrongKind { .. } => (ErrorCode::InvalidArgument, ""),
            E::NotEmpty { .. } => (ErrorCode::FailedPrecondition, "remove what it holds first"),
            E::Conflict { .. } => (
                ErrorCode::Conflict,
                "look what is there now; `If-Match` takes the `ETag` of what was read",
            ),
            E::TooLarge { .. } => (ErrorCode::TooLarge, ""),
            E::Full { .. } => (ErrorCode::ResourceExhausted, "remove something and try again"),
            E::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                let hint =
                    "files of a function must belong to user 1000, who may read and write them";
                let message = format!("{error}: permission denied");
                return Self::new(ErrorCode::FailedPrecondition, message).hint(hint);
            }
            E::Io { .. } => (ErrorCode::Internal, ""),
        };
        Self::new(code, error.to_string()).hint(hint)
    }
}
