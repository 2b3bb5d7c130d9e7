//! What can go wrong with the state file.

use api::ErrorCode;

/// A use of the state file that did not work; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is not what SQLite wrote.
    #[error("the state file {path} is damaged: {report}")]
    Damaged {
        /// Where it is.
        path: String,
        /// What SQLite found, in one line.
        report: String,
    },
    /// A later release made the file.
    #[error("the state file {path} has form {found}, and this release knows up to {known}")]
    Newer {
        /// Where it is.
        path: String,
        /// Its form.
        found: i64,
        /// The newest that we know.
        known: i64,
    },
    /// Another process has it open.
    #[error("the state file {path} is in use by another process")]
    InUse {
        /// Where it is.
        path: String,
    },
    /// Nothing has this name.
    #[error("there is no {what}")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// It made room for newer ones.
    #[error("{what} is not kept any more")]
    NotKept {
        /// What was asked for.
        what: String,
    },
    /// The name is taken.
    #[error("there is a {what} already")]
    AlreadyExists {
        /// What was to be made.
        what: String,
    },
    /// A number beyond what is ever counted to.
    #[error("the number {number} is too large")]
    Number {
        /// Which one.
        number: u64,
    },
    /// A row that this release cannot read.
    #[error("reading {what} from the state file")]
    Row {
        /// Which row.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The folder of the file.
    #[error("syncing {path}")]
    Io {
        /// Which folder.
        path: String,
        /// The kernel's reason.
        #[source]
        source: std::io::Error,
    },
    /// SQLite says no.
    #[error("{doing}")]
    Sqlite {
        /// What was tried.
        doing: &'static str,
        /// Its reason.
        #[source]
        source: rusqlite::Error,
    },
}

impl StoreError {
    pub(super) fn sqlite(doing: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |source| Self::Sqlite { doing, source }
    }
}

impl From<StoreError> for api::Error {
    fn from(error: StoreError) -> Self {
        use StoreError as E;
        let (code, hint) = match &error {
            E::NotFound { .. } => (ErrorCode::NotFound, ""),
            E::NotKept { .. } => (
                ErrorCode::NotFound,
                "its commit is still in git: put its files into the folder with git and commit",
            ),
            E::AlreadyExists { .. } => (ErrorCode::AlreadyExists, ""),
            E::Damaged { .. } => (
                ErrorCode::Internal,
                "put a copy of the file back, or move it away: functions are then known by their \
                 folders only",
            ),
            E::InUse { .. } => (ErrorCode::Internal, "stop the other provider first"),
            E::Newer { .. } => (ErrorCode::Internal, "start the newer release"),
            E::Sqlite { source, .. }
                if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) =>
            {
                (ErrorCode::ResourceExhausted, "free space on the data partition")
            }
            E::Number { .. } | E::Row { .. } | E::Io { .. } | E::Sqlite { .. } => {
                (ErrorCode::Internal, "")
            }
        };
        Self::new(code, error.to_string()).hint(hint)
    }
}
