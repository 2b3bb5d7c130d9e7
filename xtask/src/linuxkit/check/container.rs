//! One container: the yml's words applied to LinuxKit's defaults.

use layout::{Bundle, ContainerName, Section, bundle};

use super::super::raw::{self, Id};
use super::super::resources::{DeviceRule, Resources};
use super::super::spec::{Container, Device, Image, Mount, Namespace, Runtime, User};
use super::{Check, volume_dir, words};
use crate::yaml::{Place, Placed, missing};

impl Check<'_> {
    /// The container, if nothing about it is so wrong that the rest makes no sense.
    pub(super) fn container(
        &mut self,
        section: Section,
        index: usize,
        raw: Placed<raw::Container>,
    ) -> Option<Container> {
        let (at, mut raw) = (raw.at(), raw.value);
        for (key, is_there) in [("name", raw.name.is_some()), ("image", raw.image.is_some())] {
            if !is_there {
                self.lacks(at, missing(key));
            }
        }
        let name = raw.name.as_ref().and_then(|it| {
            let name = it.value.parse::<ContainerName>().map_err(|error| error.to_string());
            self.take(it.at(), name)
        });
        let image = raw.image.as_ref().and_then(|it| self.image(it));
        self.unheard(section, &raw, image.as_ref());
        let mounts = self.mounts(&raw);
        let (devices, resources) = self.devices(&mut raw);
        let capabilities =
            self.added("capabilities", raw.capabilities.take(), raw.capabilities_add.take());
        let capabilities = self.capabilities(&capabilities);
        let ambient = self.capabilities(&raw.ambient.take().unwrap_or_default());
        let rlimits = raw.rlimits.take().unwrap_or_default();
        let rlimits = rlimits.iter().filter_map(|it| self.take(it.at(), words::rlimit(&it.value)));
        let rlimits = rlimits.collect();
        let namespaces = self.namespaces(&raw);
        let user = self.user(&raw);
        let oom_score_adj = raw.oom_score_adj.as_ref().map(|it| {
            if !(-1000..=1000).contains(&it.value) {
                self.fail(it.at(), format!("oomScoreAdj {} is not from -1000 to 1000", it.value));
            }
            it.value
        });
        let supervise = raw.supervise.map(|it| {
            if let Some(key) = it.value.misplaced(section) {
                self.fail(it.at(), format!("`{key}` means nothing in `{section}`"));
            }
            it.value
        });
        Some(Container {
            bundle: Bundle::new(section, index, name?),
            image: image?,
            command: raw.command,
            env: raw.env,
            cwd: raw.cwd.filter(|it| !it.is_empty()),
            user,
            capabilities,
            ambient,
            rlimits,
            no_new_privileges: raw.no_new_privileges.unwrap_or_default(),
            oom_score_adj,
            readonly: raw.readonly.unwrap_or_default(),
            hostname: raw.hostname,
            mounts,
            namespaces,
            devices,
            resources,
            sysctl: raw.sysctl.unwrap_or_default(),
            annotations: raw.annotations.unwrap_or_default(),
            uid_mappings: raw.uid_mappings.unwrap_or_default(),
            gid_mappings: raw.gid_mappings.unwrap_or_default(),
            cgroups_path: raw.cgroups_path,
            rootfs_propagation: raw.rootfs_propagation,
            masked_paths: raw.masked_paths.unwrap_or_default(),
            readonly_paths: raw.readonly_paths.unwrap_or_default(),
            runtime: raw.runtime.map(runtime).unwrap_or_default(),
            supervise,
        })
    }

    /// Warns of what is accepted for LinuxKit's sake and does not do what it seems to do.
    fn unheard(&mut self, section: Section, raw: &raw::Container, image: Option<&Image>) {
        if let Some(userns) = &raw.userns {
            self.warn(userns.at(), "`userns` is passed on; LinuxKit calls it not yet supported");
        }
        let namespace = raw.runtime.as_ref().and_then(|it| it.namespace.as_ref());
        if let Some(namespace) = namespace.filter(|_| section != Section::Services) {
            let message = "`namespace` is containerd's, which starts services only";
            self.warn(namespace.at(), message);
        }
        let binds = raw.binds.iter().chain(&raw.binds_add).flatten();
        let mut open = binds.filter(|it| it.value.split(':').count() == 2);
        if let Some(bind) = open.next() {
            let message = "a bind without options is rshared: a mount made in the container appears on the machine";
            self.warn(bind.at(), message);
        }
        let user = image.and_then(|it| it.config.as_ref()).map_or("", |it| it.user.as_str());
        if let (Some(raw_image), None, false) = (&raw.image, &raw.uid, user.is_empty()) {
            let message =
                format!("the image's user `{user}` has no effect, as in LinuxKit: set `uid`");
            self.warn(raw_image.at(), message);
        }
    }

    /// A list, or what is added to the image's own; with both the second has no effect.
    fn added(
        &mut self,
        key: &str,
        list: Option<Vec<Placed<String>>>,
        added: Option<Vec<Placed<String>>>,
    ) -> Vec<Placed<String>> {
        if let (Some(_), Some(first)) = (&list, added.as_ref().and_then(|it| it.first())) {
            self.warn(first.at(), format!("`{key}.add` has no effect beside `{key}`"));
        }
        list.or(added).unwrap_or_default()
    }

    fn capabilities(&mut self, raw: &[Placed<String>]) -> Vec<String> {
        let mut list = Vec::new();
        for word in raw {
            let done = words::capability(&word.value, &mut list);
            self.take(word.at(), done);
        }
        list
    }

    /// `tmpfs`, then `binds`, then `mounts`; a later one replaces an earlier at the same place.
    fn mounts(&mut self, raw: &raw::Container) -> Vec<Mount> {
        let mut mounts = Vec::new();
        for text in raw.tmpfs.iter().flatten() {
            mounts.extend(self.take(text.at(), words::tmpfs(&text.value)));
        }
        let binds = self.added("binds", raw.binds.clone(), raw.binds_add.clone());
        for text in &binds {
            let bind = self.take(text.at(), words::bind(&text.value));
            mounts.extend(bind.and_then(|it| self.with_volume(text.at(), it)));
        }
        for mount in raw.mounts.iter().flatten() {
            let at = mount.at();
            let whole = self.take(at, whole(mount.value.clone()));
            mounts.extend(whole.and_then(|it| self.with_volume(at, it)));
        }
        for data in raw.supervise.iter().flat_map(|it| &it.value.data) {
            mounts.push(Mount {
                destination: data.at().to_owned(),
                r#type: "bind".to_owned(),
                source: format!("{}/{}", bundle::DATA, data.folder()),
                options: data.options().map(str::to_owned).to_vec(),
                ..Mount::default()
            });
        }
        mounts
    }

    /// Turns the name of a volume into its path; LinuxKit does so for binds only (Q2).
    fn with_volume(&mut self, at: Place, mut mount: Mount) -> Option<Mount> {
        if mount.r#type != "bind" || mount.source.starts_with('/') {
            return Some(mount);
        }
        let Some(is_read_only) = self.volumes.get(&mount.source).copied() else {
            let known: Vec<&str> = self.volumes.keys().map(String::as_str).collect();
            let message = crate::yaml::unknown("volume", &mount.source, &known);
            self.lacks(at, message);
            return None;
        };
        if is_read_only && !mount.options.iter().any(|it| it == "ro") {
            self.fail(at, format!("volume `{}` is read-only: add the option `ro`", mount.source));
        }
        mount.source = format!("{}/merged", volume_dir(&mount.source));
        Some(mount)
    }

    /// Device nodes, and limits with a rule for each device.
    fn devices(&mut self, raw: &mut raw::Container) -> (Vec<Device>, Resources) {
        let mut resources = raw.resources.take().unwrap_or_default();
        let mut devices = Vec::new();
        for device in raw.devices.take().unwrap_or_default() {
            let device = device.value;
            let mut rule = DeviceRule {
                allow: true,
                r#type: Some(device.r#type),
                // LinuxKit forgets these for `path: all`, and so grants every device (Q10).
                major: device.major,
                minor: device.minor,
                access: Some("rwm".to_owned()),
            };
            if device.path != "all" {
                let mode = device.mode.as_ref();
                let mode = mode
                    .map_or(Ok(0o600), |it| words::mode(&it.value).map_err(|text| (it.at(), text)));
                let Ok(file_mode) = mode.map_err(|(at, text)| self.fail(at, text)) else {
                    continue;
                };
                let (major, minor) = (device.major.unwrap_or(0), device.minor.unwrap_or(0));
                (rule.major, rule.minor) = (Some(major), Some(minor));
                let (path, r#type) = (device.path, device.r#type);
                devices.push(Device { path, r#type, major, minor, file_mode });
            }
            resources.devices.push(rule);
        }
        (devices, resources)
    }

    fn namespaces(&mut self, raw: &raw::Container) -> Vec<Namespace> {
        let mut namespaces = Vec::new();
        for (key, r#type, word, is_new_by_default) in [
            ("net", "network", &raw.net, false),
            ("ipc", "ipc", &raw.ipc, false),
            ("uts", "uts", &raw.uts, false),
            ("pid", "pid", &raw.pid, true),
            ("userns", "user", &raw.userns, false),
        ] {
            let path = match word.as_ref().map_or("", |it| it.value.as_str()) {
                "" if is_new_by_default => None,
                "" | "host" | "root" => continue,
                "new" => None,
                "none" if key == "net" => None,
                path if path.starts_with('/') => Some(path.to_owned()),
                other => {
                    let none = if key == "net" { "none, " } else { "" };
                    let message = format!(
                        "`{key}: {other}` is neither host, root, new, {none}nor an absolute path"
                    );
                    self.fail(word.as_ref().map(Placed::at).unwrap_or_default(), message);
                    continue;
                }
            };
            namespaces.push(Namespace { r#type, path });
        }
        namespaces.push(Namespace { r#type: "mount", path: None });
        namespaces
    }

    fn user(&mut self, raw: &raw::Container) -> User {
        let mut id = |raw: Option<&Placed<Id>>| self.id(raw).unwrap_or_default();
        User {
            uid: id(raw.uid.as_ref()),
            gid: id(raw.gid.as_ref()),
            additional_gids: raw.additional_gids.iter().flatten().map(|it| id(Some(it))).collect(),
        }
    }
}

/// A mount whose missing words are guessed from those that are there.
fn whole(raw: raw::Mount) -> Result<Mount, String> {
    let mut mount = plain(raw);
    if mount.r#type.is_empty() {
        let guess = match (mount.source.as_str(), mount.destination.as_str()) {
            ("mqueue" | "devpts" | "proc" | "sysfs" | "cgroup", _) => mount.source.clone(),
            (_, "/dev") => "tmpfs".to_owned(),
            (_, place) => return Err(format!("the mount at `{place}` has no `type`")),
        };
        mount.r#type = guess;
    }
    if mount.source.is_empty() {
        mount.source.clone_from(&mount.r#type);
    }
    if mount.destination.is_empty() {
        let guess = match mount.r#type.as_str() {
            "proc" => "/proc",
            "devpts" => "/dev/pts",
            "sysfs" => "/sys",
            "cgroup" => "/sys/fs/cgroup",
            "mqueue" => "/dev/mqueue",
            other => return Err(format!("the mount of type `{other}` has no `destination`")),
        };
        guess.clone_into(&mut mount.destination);
    }
    Ok(mount)
}

fn plain(raw: raw::Mount) -> Mount {
    Mount {
        destination: raw.destination,
        r#type: raw.r#type,
        source: raw.source,
        options: raw.options,
        uid_mappings: raw.uidmappings,
        gid_mappings: raw.gidmappings,
    }
}

fn runtime(raw: raw::Runtime) -> Runtime {
    Runtime {
        cgroups: raw.cgroups,
        mounts: raw.mounts.into_iter().map(|it| plain(it.value)).collect(),
        mkdir: raw.mkdir,
        interfaces: raw.interfaces,
        bind_ns: raw.bind_ns,
        namespace: raw.namespace.map(|it| it.value).unwrap_or_default(),
    }
}
