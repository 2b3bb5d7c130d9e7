//! The checked configuration of an image.

use std::collections::BTreeMap;
use std::path::PathBuf;

use layout::{Bundle, Supervise};
use serde::Serialize;

use super::raw::{BindNs, DeviceType, Format, IdMapping, Interface, Metadata};
use super::resources::Resources;

/// What is known of a package of this tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Package {
    /// Its name; `inplace/NAME` in a yml means it.
    pub(crate) name: String,
    /// Its folder; `@pkg:DIR` means it too.
    pub(crate) dir: PathBuf,
    /// What its image runs.
    pub(crate) config: ImageConfig,
}

/// What of an image's own configuration concerns a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageConfig {
    /// Entry point and command.
    pub(crate) command: Vec<String>,
    /// Environment.
    pub(crate) env: Vec<String>,
    /// Working directory; may be empty.
    pub(crate) cwd: String,
    /// `USER[:GROUP]`; may be empty. LinuxKit does not look at it.
    pub(crate) user: String,
}

/// An image by its full name, and its configuration where that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// With registry and path, as `docker.io/library/alpine`.
    pub(crate) name: String,
    /// `None`: in no cache, so nobody knows.
    pub(crate) config: Option<ImageConfig>,
}

/// All that an image consists of.
#[derive(Debug, Default)]
pub(crate) struct Spec {
    pub(super) kernel: Option<Kernel>,
    pub(super) init: Vec<Image>,
    /// In the order `onboot`, `onshutdown`, `services`.
    pub(super) containers: Vec<Container>,
    pub(super) files: Vec<File>,
    pub(super) volumes: Vec<Volume>,
}

/// The kernel; `None` for its tar: no modules, for its microcode: none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Kernel {
    pub(super) image: String,
    pub(super) cmdline: String,
    pub(super) binary: String,
    pub(super) tar: Option<String>,
    pub(super) ucode: Option<String>,
}

/// One entry of `files`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct File {
    /// Relative to the root.
    pub(super) path: String,
    #[serde(flatten)]
    pub(super) content: Content,
    /// Missing is no mistake.
    pub(super) optional: bool,
    /// Octal, as `0644`.
    pub(super) mode: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Content {
    Directory(bool),
    Symlink(String),
    Contents(String),
    Source(String),
    Metadata(Metadata),
}

/// One entry of `volumes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Volume {
    pub(super) name: String,
    pub(super) image: Option<String>,
    pub(super) dir: String,
    pub(super) readonly: bool,
    pub(super) format: Format,
    pub(super) platforms: Vec<String>,
}

/// One container, all defaults of the yml applied; those of the image are in [`Image::config`].
#[derive(Debug)]
pub(crate) struct Container {
    pub(super) bundle: Bundle,
    pub(super) image: Image,
    pub(super) command: Option<Vec<String>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) cwd: Option<String>,
    pub(super) user: User,
    pub(super) capabilities: Vec<String>,
    pub(super) ambient: Vec<String>,
    pub(super) rlimits: Vec<Rlimit>,
    pub(super) no_new_privileges: bool,
    pub(super) oom_score_adj: Option<i64>,
    pub(super) readonly: bool,
    pub(super) hostname: Option<String>,
    /// Beside the default ones, and instead of those at the same destination.
    pub(super) mounts: Vec<Mount>,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) devices: Vec<Device>,
    pub(super) resources: Resources,
    pub(super) sysctl: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) uid_mappings: Vec<IdMapping>,
    pub(super) gid_mappings: Vec<IdMapping>,
    pub(super) cgroups_path: Option<String>,
    pub(super) rootfs_propagation: Option<String>,
    pub(super) masked_paths: Vec<String>,
    pub(super) readonly_paths: Vec<String>,
    pub(super) runtime: Runtime,
    pub(super) supervise: Option<Supervise>,
}

/// Who a container runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) additional_gids: Vec<u32>,
}

/// One limit of setrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Rlimit {
    pub(super) r#type: String,
    pub(super) soft: u64,
    pub(super) hard: u64,
}

/// A mount, in the OCI runtime's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mount {
    pub(super) destination: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) r#type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) source: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) options: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) uid_mappings: Vec<IdMapping>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) gid_mappings: Vec<IdMapping>,
}

/// A namespace of its own, or the one at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Namespace {
    pub(super) r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    pub(super) path: String,
    pub(super) r#type: DeviceType,
    pub(super) major: i64,
    pub(super) minor: i64,
    pub(super) file_mode: u32,
}

/// What is done around a container: `runtime.json`, which has all keys.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Runtime {
    pub(super) cgroups: Vec<String>,
    pub(super) mounts: Vec<Mount>,
    pub(super) mkdir: Vec<String>,
    pub(super) interfaces: Vec<Interface>,
    #[serde(rename = "bindNS")]
    pub(super) bind_ns: BindNs,
    pub(super) namespace: String,
}
