//! What can go wrong with git, and how a caller of the API sees it.

use api::{ErrorCode, FunctionName};

use crate::folder::{FolderError, InvalidPath};

/// A use of a function's git directory that did not work.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git directory.
    #[error("the git directory of function `{name}` is gone")]
    Gone {
        /// Whose.
        name: FunctionName,
    },
    /// There is one already.
    #[error("there is a git directory of function `{name}` already")]
    AlreadyExists {
        /// Whose.
        name: FunctionName,
    },
    /// Another program works in the git directory and did not end in time, or died in it.
    #[error("another git works in the folder: `{file}` is there")]
    Locked {
        /// The lock, below the git directory.
        file: String,
    },
    /// A merge, a rebase or the like was begun and not ended.
    #[error("a {what} is in progress in the folder")]
    InProgress {
        /// What was begun.
        what: &'static str,
    },
    /// No such commit here.
    #[error("there is no commit `{commit}`")]
    UnknownCommit {
        /// The commit as asked for.
        commit: String,
    },
    /// What is to be committed, or listed, is over a limit.
    #[error("{what} is over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// The limit with its unit.
        limit: &'static str,
    },
    /// Something that git does not know is where a file of the commit has to go.
    #[error("`{path}` is in the way")]
    InTheWay {
        /// What is in the way.
        path: String,
    },
    /// A commit holds a path that must not be written.
    #[error("the commit holds a path that is refused")]
    Path(#[from] InvalidPath),
    /// The git directory holds something that is no plain file where one must be.
    #[error("`{file}` in the git directory is no plain file")]
    Special {
        /// Below the git directory.
        file: String,
    },
    /// The folder itself.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// libgit2 could not be set up.
    #[error("setting up git: {why}")]
    SetUp {
        /// Its words.
        why: &'static str,
    },
    /// libgit2 says no.
    #[error("{doing}")]
    Git {
        /// What was tried.
        doing: &'static str,
        /// Its reason.
        #[source]
        source: git2::Error,
    },
}

impl GitError {
    /// Puts an error of libgit2 beside what was being done.
    pub(super) fn git(doing: &'static str) -> impl Fn(git2::Error) -> Self {
        move |source| match source.code() {
            git2::ErrorCode::Locked => Self::Locked { file: "index.lock".to_owned() },
            _ => Self::Git { doing, source },
        }
    }
}

impl From<GitError> for api::Error {
    fn from(error: GitError) -> Self {
        use GitError as E;
        let (code, hint) = match error {
            E::Folder(error) => return error.into(),
            E::Gone { .. } => {
                (ErrorCode::FailedPrecondition, "restore it, or create the function anew")
            }
            E::AlreadyExists { .. } => (ErrorCode::AlreadyExists, ""),
            E::Locked { .. } => (
                ErrorCode::Unavailable,
                "try again; if no git runs there, remove that file from the git directory",
            ),
            E::InProgress { .. } => {
                (ErrorCode::FailedPrecondition, "end it with git in the folder, or abort it")
            }
            E::UnknownCommit { .. } => (ErrorCode::NotFound, ""),
            E::TooLarge { .. } => {
                (ErrorCode::TooLarge, "name what is no source in the folder's `.gitignore`")
            }
            E::InTheWay { .. } => (
                ErrorCode::FailedPrecondition,
                "move it away: git does not track it, so nothing would bring it back",
            ),
            E::Path(_) => (ErrorCode::InvalidArgument, ""),
            E::Special { .. } => {
                (ErrorCode::FailedPrecondition, "remove it from the git directory")
            }
            // libgit2 hands the kernel's reason on in words only.
            E::Git { ref source, .. }
                if ["No space left", "quota exceeded"]
                    .iter()
                    .any(|words| source.message().contains(words)) =>
            {
                (ErrorCode::ResourceExhausted, "free space on the data partition")
            }
            E::Git { ref source, .. } => {
                // libgit2's words are about the repository's own files, which the caller owns.
                let message = format!("{error}: {}", source.message());
                return Self::new(ErrorCode::FailedPrecondition, message)
                    .hint("see what `git status` and `git fsck` say in the folder");
            }
            E::SetUp { .. } => (ErrorCode::Internal, ""),
        };
        let message = match &error {
            E::Path(source) => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        Self::new(code, message).hint(hint)
    }
}
