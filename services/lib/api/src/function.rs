//! What the `/v1` API says of a function.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::FunctionName;

/// Where a function stands. One word that the console shows beside a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// BuildKit works on an image that the function waits for.
    Building,
    /// A first replica starts; no call can be answered yet.
    Starting,
    /// Calls are answered by the newest saved version.
    Ready,
    /// Replicas are frozen and thaw at the next call.
    Frozen,
    /// No replica runs; the next call starts one.
    Zero,
    /// The newest saved version did not start; the good one before it answers.
    Degraded,
    /// Nothing answers; `last_error` says why.
    Failed,
}

/// A function, as `GET /v1/functions` and `GET /v1/functions/{name}` give it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Function {
    /// Its name (`NAME` or `NAME.NS`).
    pub name: FunctionName,
    /// Where it stands.
    pub state: State,
    /// The template it was made from, or none for one that was deployed from an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The image that replicas start from.
    pub image: String,
    /// The revision that was committed or rolled back to last; 0 before the first commit.
    pub revision: u64,
    /// Whether the folder differs from that revision.
    pub dirty: bool,
    /// The version that answers calls, none while nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveVersion>,
    /// Path of its address on the functions' origin, for example `/function/hello`.
    pub url: String,
    /// What went wrong last, if it still matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<crate::Error>,
    /// Labels as deployed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whether limits can be enforced here: `required` on the appliance, `available` on a host
    /// that lacks a cgroup controller or quotas.
    pub limits: String,
    /// When it was created (RFC 3339, UTC).
    pub created: String,
}

/// The version of the source that answers calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveVersion {
    /// Identifier of the version, increasing within a function.
    pub id: u64,
    /// Since when it has been answering (RFC 3339, UTC).
    pub since: String,
    /// From the event of the save to this version answering and being on the disk, in
    /// milliseconds. 0, and left out, while it is not known: the version is not on the disk yet,
    /// or was live before the provider started.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub took_ms: f64,
    /// Where that time went; left out with it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub parts: LiveParts,
}

/// Parts of the way from a save to a live version, in milliseconds. `sync_ms` runs beside the
/// switch, not after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LiveParts {
    /// Making the version: copying what changed, linking the rest.
    pub version_ms: f64,
    /// The watchdog's part, as it measured it.
    pub switch: crate::switch::Times,
    /// Bringing the version to the disk.
    pub sync_ms: f64,
}

/// Body of `POST /v1/functions`: exactly one of `template` and `image`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateFunction {
    /// The new function's name.
    pub name: String,
    /// Template to seed the folder from, for example `python3-http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Image in the local store to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Environment of the function's process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Labels (`inplace.reload`, `inplace.commit`, OpenFaaS's).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Name of a folder in the trash (as `GET /v1/trash` lists it) to take back instead of a
    /// fresh template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<String>,
}

/// One entry of `GET /v1/functions/{name}/files/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path below the function's folder, `/` between parts.
    pub path: String,
    /// `file`, `dir` or `link`.
    pub kind: FileKind,
    /// Size in bytes; 0 for what is no file.
    pub size: u64,
}

/// What a [`FileEntry`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Link,
}

/// One entry of `GET /v1/trash`: a removed function that can be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trashed {
    /// Name of the trash folder: `NAME-TIME`.
    pub id: String,
    /// The function that it was.
    pub name: FunctionName,
    /// When it was removed (RFC 3339, UTC).
    pub removed: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_unknown(milliseconds: &f64) -> bool {
    *milliseconds == 0.0
}

fn is_default(parts: &LiveParts) -> bool {
    *parts == LiveParts::default()
}
