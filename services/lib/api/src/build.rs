//! Commits and the builds that they start.

use serde::{Deserialize, Serialize};

use crate::revision::Revision;
use crate::{Error, FunctionName};

/// Body of `POST /v1/functions/{name}/commit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitRequest {
    /// The git commit's message; empty means one made from what changed.
    #[serde(default)]
    pub message: String,
}

/// Answer 202 of a commit without `?wait=true`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildStarted {
    /// Names the build in `GET /v1/builds/{id}`.
    pub build: String,
    /// The function that is built.
    pub function: FunctionName,
    /// The git commit (40 hex digits).
    pub commit: String,
}

/// One line of a build's stream (NDJSON, or the data of a server-sent event).
///
/// A stream always ends with one `done` or `failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BuildEvent {
    /// The build has begun.
    Started(BuildStarted),
    /// A step begins, ends, or was found in the cache.
    Step {
        /// What the step does.
        name: String,
        /// How far it is.
        status: StepStatus,
        /// How long it took, in milliseconds, once it has ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ms: Option<u64>,
    },
    /// How far a transfer within a step is.
    Progress {
        /// The step it belongs to.
        name: String,
        /// What moves (for example `extracting`).
        what: String,
        /// Bytes or items so far.
        current: u64,
        /// Of how many; 0 when unknown.
        total: u64,
    },
    /// One line that a step printed.
    Log {
        /// The step it belongs to.
        name: String,
        /// The line, without its end.
        line: String,
    },
    /// The image is in the store, and this is its revision.
    Done(Revision),
    /// Nothing was changed but the git commit; the error holds the build's last lines.
    Failed(Error),
}

/// How far a step of a build is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// It runs.
    Running,
    /// It ran and ended well.
    Done,
    /// Its result was there already.
    Cached,
    /// It ended badly.
    Failed,
}
