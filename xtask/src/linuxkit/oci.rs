//! `config.json` and `runtime.json` of a container, with LinuxKit's defaults.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::spec::{Container, Mount, Runtime};

/// The version of the OCI runtime specification that LinuxKit names.
const VERSION: &str = "1.2.1";

/// The container for the OCI runtime.
pub(super) fn config(container: &Container) -> Value {
    let image = container.image.config.clone().unwrap_or_default();
    let cwd = container.cwd.clone().or(Some(image.cwd).filter(|it| !it.is_empty()));
    let mut all = [container.capabilities.as_slice(), &container.ambient].concat();
    all.sort();
    all.dedup();
    let mut mounts: BTreeMap<String, Mount> = BTreeMap::new();
    for mount in defaults(container.readonly).into_iter().chain(container.mounts.clone()) {
        mounts.insert(mount.destination.clone(), mount);
    }
    let mounts: Vec<Mount> = mounts.into_values().collect();
    let config = json!({
        "ociVersion": VERSION,
        "process": {
            "terminal": false,
            "user": container.user,
            "args": container.command.clone().unwrap_or(image.command),
            "env": container.env.clone().unwrap_or(image.env),
            "cwd": cwd.unwrap_or_else(|| "/".to_owned()),
            "capabilities": {
                "bounding": all,
                "effective": container.capabilities,
                "inheritable": all,
                "permitted": all,
                "ambient": container.ambient,
            },
            "rlimits": container.rlimits,
            "noNewPrivileges": container.no_new_privileges,
            "oomScoreAdj": container.oom_score_adj,
        },
        "root": {"path": "rootfs", "readonly": container.readonly},
        "hostname": container.hostname,
        "mounts": mounts,
        "annotations": container.annotations,
        "linux": {
            "uidMappings": container.uid_mappings,
            "gidMappings": container.gid_mappings,
            "sysctl": container.sysctl,
            "resources": container.resources,
            "cgroupsPath": container.cgroups_path,
            "namespaces": container.namespaces,
            "devices": container.devices,
            "rootfsPropagation": container.rootfs_propagation,
            "maskedPaths": container.masked_paths,
            "readonlyPaths": container.readonly_paths,
        },
    });
    without_empty(config)
}

/// What is done around the container; `root` is where its image was unpacked first.
pub(super) fn runtime(container: &Container, root: &str) -> Runtime {
    let dir = container.bundle.dir().display().to_string();
    let mount = |r#type: &str, source: &str, destination: &str, options: &[&str]| Mount {
        destination: format!("{dir}/{destination}"),
        r#type: r#type.to_owned(),
        source: source.to_owned(),
        options: options.iter().map(|it| (*it).to_owned()).collect(),
        ..Mount::default()
    };
    let layers = [
        format!("lowerdir={root}"),
        format!("upperdir={dir}/tmp/upper"),
        format!("workdir={dir}/tmp/work"),
    ];
    let mut mounts = if container.readonly {
        vec![mount("", root, "rootfs", &["bind"])]
    } else {
        vec![
            mount("tmpfs", "tmpfs", "tmp", &[]),
            // Nothing else is to see the layers.
            mount("", "", "tmp", &["remount", "private"]),
            mount("overlay", "overlay", "rootfs", &layers.each_ref().map(String::as_str)),
        ]
    };
    mounts.extend(container.runtime.mounts.clone());
    Runtime { mounts, ..container.runtime.clone() }
}

/// What is mounted in every container. There is no `/dev/shm` and no `/dev/mqueue`.
fn defaults(readonly: bool) -> Vec<Mount> {
    let mount = |destination: &str, r#type: &str, options: &str| {
        let is_kernels = matches!(destination, "/dev" | "/sys");
        let mut options: Vec<String> = options.split(' ').map(str::to_owned).collect();
        options.extend((readonly && is_kernels).then(|| "ro".to_owned()));
        Mount {
            destination: destination.to_owned(),
            r#type: r#type.to_owned(),
            source: r#type.to_owned(),
            options,
            ..Mount::default()
        }
    };
    vec![
        mount("/proc", "proc", "nosuid nodev noexec relatime"),
        mount("/dev", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
        mount("/dev/pts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620"),
        mount("/sys", "sysfs", "nosuid noexec nodev"),
        mount("/sys/fs/cgroup", "cgroup", "nosuid noexec nodev relatime ro"),
    ]
}

/// Leaves out what says nothing, as LinuxKit's files do; `args` and objects that must be there stay.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let says_something = |(key, value): &(String, Value)| match value {
                Value::Null => false,
                Value::Array(items) => key == "args" || !items.is_empty(),
                Value::Object(map) => {
                    key == "capabilities" || key == "resources" || !map.is_empty()
                }
                _ => true,
            };
            let entries = map.into_iter().map(|(key, value)| (key, without_empty(value)));
            Value::Object(entries.filter(says_something).collect())
        }
        other => other,
    }
}
