//! Revisions: what a commit leaves, and the way back.

use serde::{Deserialize, Serialize};

/// A committed state of a function: source and image together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Counts up from 1 within a function.
    pub number: u64,
    /// The git commit (40 hex digits).
    pub commit: String,
    /// Full name of the image in containerd's store.
    pub image: String,
    /// Digest of the image's manifest (`sha256:...`).
    pub digest: String,
    /// The commit's message.
    pub message: String,
    /// When it was made (RFC 3339, UTC).
    pub time: String,
}

/// Body of `POST /v1/functions/{name}/rollback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Number of the revision to go back to.
    pub revision: u64,
}

/// Answer of a roll-back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The revision that is live now.
    pub revision: Revision,
    /// Git reference that keeps what was not committed before, if there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}
