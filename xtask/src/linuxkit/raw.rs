//! LinuxKit's yml as it is written: every key of every section, and no other.

use std::collections::BTreeMap;
use std::fmt;

use layout::Supervise;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

use crate::yaml::Placed;

/// One file, or several merged.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Yml {
    pub(super) kernel: Kernel,
    pub(super) init: Vec<Placed<String>>,
    pub(super) onboot: Vec<Placed<Container>>,
    pub(super) onshutdown: Vec<Placed<Container>>,
    pub(super) services: Vec<Placed<Container>>,
    pub(super) files: Vec<Placed<File>>,
    pub(super) volumes: Vec<Placed<Volume>>,
    pub(super) trust: Option<Placed<Trust>>,
}

impl Yml {
    /// Puts a later file over this one, as LinuxKit does: fields of `kernel` replace, lists grow.
    pub(super) fn merge(&mut self, later: Self) {
        let mine = &mut self.kernel;
        for (mine, later) in [
            (&mut mine.image, later.kernel.image),
            (&mut mine.cmdline, later.kernel.cmdline),
            (&mut mine.binary, later.kernel.binary),
            (&mut mine.tar, later.kernel.tar),
            (&mut mine.ucode, later.kernel.ucode),
        ] {
            if later.is_some() {
                *mine = later;
            }
        }
        self.init.extend(later.init);
        self.onboot.extend(later.onboot);
        self.onshutdown.extend(later.onshutdown);
        self.services.extend(later.services);
        self.files.extend(later.files);
        self.volumes.extend(later.volumes);
        self.trust = later.trust.or(self.trust.take());
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Kernel {
    pub(super) image: Option<Placed<String>>,
    pub(super) cmdline: Option<Placed<String>>,
    pub(super) binary: Option<Placed<String>>,
    pub(super) tar: Option<Placed<String>>,
    pub(super) ucode: Option<Placed<String>>,
}

/// Read for its keys alone: LinuxKit itself does nothing with it any more (Q13).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trust {
    #[serde(default, rename = "image")]
    _image: Vec<String>,
    #[serde(default, rename = "org")]
    _org: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) path: Placed<String>,
    #[serde(default)]
    pub(super) directory: bool,
    pub(super) symlink: Option<String>,
    pub(super) contents: Option<String>,
    pub(super) source: Option<Placed<String>>,
    pub(super) metadata: Option<Placed<Metadata>>,
    #[serde(default)]
    pub(super) optional: bool,
    pub(super) mode: Option<Placed<String>>,
    pub(super) uid: Option<Placed<Id>>,
    pub(super) gid: Option<Placed<Id>>,
}

/// In which form a file holds the resolved configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Metadata {
    Yaml,
    Json,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Volume {
    pub(super) name: Placed<String>,
    pub(super) image: Option<Placed<String>>,
    #[serde(default)]
    pub(super) readonly: bool,
    #[serde(default)]
    pub(super) format: Format,
    #[serde(default)]
    pub(super) platforms: Vec<Placed<String>>,
}

/// What of an image a volume holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    #[default]
    Filesystem,
    Oci,
}

/// A number, or the name of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Number(u32),
    Name(String),
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 0 to 4294967295 or the name of a container")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Id, E> {
                let invalid = |_| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self);
                number.try_into().map(Id::Number).map_err(invalid)
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Id, E> {
                Ok(Id::Name(name.to_owned()))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

type Strings = Option<Vec<Placed<String>>>;

/// An entry of `onboot`, `onshutdown` or `services`; also the label `org.mobyproject.config`.
///
/// A key of the yml replaces the whole key of the label, so every key is optional here.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) name: Option<Placed<String>>,
    pub(super) image: Option<Placed<String>>,
    pub(super) capabilities: Strings,
    #[serde(rename = "capabilities.add")]
    pub(super) capabilities_add: Strings,
    pub(super) ambient: Strings,
    pub(super) mounts: Option<Vec<Placed<Mount>>>,
    pub(super) binds: Strings,
    #[serde(rename = "binds.add")]
    pub(super) binds_add: Strings,
    pub(super) tmpfs: Strings,
    pub(super) devices: Option<Vec<Placed<Device>>>,
    pub(super) command: Option<Vec<String>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) cwd: Option<String>,
    pub(super) net: Option<Placed<String>>,
    pub(super) ipc: Option<Placed<String>>,
    pub(super) uts: Option<Placed<String>>,
    pub(super) pid: Option<Placed<String>>,
    pub(super) userns: Option<Placed<String>>,
    pub(super) readonly: Option<bool>,
    pub(super) masked_paths: Option<Vec<String>>,
    pub(super) readonly_paths: Option<Vec<String>>,
    pub(super) uid: Option<Placed<Id>>,
    pub(super) gid: Option<Placed<Id>>,
    pub(super) additional_gids: Option<Vec<Placed<Id>>>,
    pub(super) no_new_privileges: Option<bool>,
    pub(super) hostname: Option<String>,
    pub(super) oom_score_adj: Option<Placed<i64>>,
    pub(super) rootfs_propagation: Option<String>,
    pub(super) cgroups_path: Option<String>,
    pub(super) resources: Option<super::resources::Resources>,
    pub(super) sysctl: Option<BTreeMap<String, String>>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) rlimits: Strings,
    #[serde(rename = "uidMappings")]
    pub(super) uid_mappings: Option<Vec<IdMapping>>,
    #[serde(rename = "gidMappings")]
    pub(super) gid_mappings: Option<Vec<IdMapping>>,
    pub(super) runtime: Option<Runtime>,
    pub(super) supervise: Option<Placed<Supervise>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) r#type: String,
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) options: Vec<String>,
    pub(super) uidmappings: Vec<IdMapping>,
    pub(super) gidmappings: Vec<IdMapping>,
}

/// A range of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdMapping {
    #[serde(rename = "containerID")]
    container_id: u32,
    #[serde(rename = "hostID")]
    host_id: u32,
    size: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Device {
    pub(super) path: String,
    pub(super) r#type: DeviceType,
    pub(super) major: Option<i64>,
    pub(super) minor: Option<i64>,
    pub(super) mode: Option<Placed<String>>,
}

/// What kind of device a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeviceType {
    A,
    B,
    C,
    U,
    P,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Runtime {
    pub(super) cgroups: Vec<String>,
    pub(super) mounts: Vec<Placed<Mount>>,
    pub(super) mkdir: Vec<String>,
    pub(super) interfaces: Vec<Interface>,
    #[serde(rename = "bindNS")]
    pub(super) bind_ns: BindNs,
    pub(super) namespace: Option<Placed<String>>,
}

/// A network interface for a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Interface {
    name: String,
    add: String,
    peer: String,
    create_in_root: bool,
}

/// Where new namespaces are bound to, so that others can enter them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BindNs {
    cgroup: String,
    ipc: String,
    mnt: String,
    net: String,
    pid: String,
    user: String,
    uts: String,
}
