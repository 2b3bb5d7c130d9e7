//! What an image will hold: the last step without effects.

use std::collections::BTreeMap;
use std::fmt;

use layout::{Section, Supervise};
use serde::Serialize;
use serde_json::Value;

use super::oci;
use super::spec::{Container, File, Image, Kernel, Runtime, Spec, Volume};

/// The plan of an image, in the form that `plan --json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    kernel: Option<Kernel>,
    init: Vec<String>,
    onboot: Vec<Planned>,
    onshutdown: Vec<Planned>,
    services: Vec<Planned>,
    files: Vec<File>,
    volumes: Vec<Volume>,
    /// Images whose own configuration nobody could read.
    #[serde(skip)]
    unread: Vec<String>,
}

/// One container of a plan.
#[derive(Debug, Serialize)]
pub(crate) struct Planned {
    pub(super) name: String,
    pub(super) image: String,
    /// Its bundle on the root.
    pub(super) dir: String,
    pub(super) config: Value,
    pub(super) runtime: Runtime,
    pub(super) supervise: Option<Supervise>,
}

impl Plan {
    /// Plans a checked configuration.
    pub(super) fn of(spec: Spec) -> Self {
        let mut unread: Vec<String> = spec
            .containers
            .iter()
            .map(|it| &it.image)
            .filter(|it| it.config.is_none())
            .map(|it| it.name.clone())
            .collect();
        unread.sort();
        unread.dedup();
        let name = |it: Image| it.name;
        let mut plan = Self {
            kernel: spec.kernel,
            init: spec.init.into_iter().map(name).collect(),
            onboot: Vec::new(),
            onshutdown: Vec::new(),
            services: Vec::new(),
            files: spec.files,
            volumes: spec.volumes,
            unread,
        };
        // An image is unpacked once, where it is used first.
        let mut roots = BTreeMap::new();
        for container in spec.containers {
            let (section, planned) = planned(container, &mut roots);
            match section {
                Section::Onboot => plan.onboot.push(planned),
                Section::Onshutdown => plan.onshutdown.push(planned),
                Section::Services => plan.services.push(planned),
            }
        }
        plan
    }

    /// Images in no cache: their containers are planned without their labels and commands.
    pub(crate) fn unread(&self) -> &[String] {
        &self.unread
    }
}

fn planned(container: Container, roots: &mut BTreeMap<String, String>) -> (Section, Planned) {
    let dir = container.bundle.dir().display().to_string();
    let part = if container.readonly { "rootfs" } else { "lower" };
    let root = roots.entry(container.image.name.clone());
    let root = root.or_insert_with(|| format!("{dir}/{part}"));
    let planned = Planned {
        name: container.bundle.name().to_string(),
        config: oci::config(&container),
        runtime: oci::runtime(&container, root),
        image: container.image.name,
        dir,
        supervise: container.supervise,
    };
    (container.bundle.section(), planned)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kernel) = &self.kernel {
            writeln!(f, "{:11} {}  {}", "kernel", kernel.image, kernel.cmdline)?;
        }
        for image in &self.init {
            writeln!(f, "{:11} {image}", "init")?;
        }
        for volume in &self.volumes {
            let access = if volume.readonly { "ro" } else { "rw" };
            writeln!(f, "{:11} {:20} {access}  {}", "volume", volume.name, volume.dir)?;
        }
        for (section, list) in
            Section::ALL.into_iter().zip([&self.onboot, &self.onshutdown, &self.services])
        {
            for container in list {
                let args = container.config["process"]["args"].as_array().into_iter().flatten();
                let command: Vec<&str> = args.filter_map(Value::as_str).collect();
                let after = container.supervise.iter().flat_map(|it| it.after.iter());
                let after: Vec<&str> = after.map(String::as_str).collect();
                let after = if after.is_empty() {
                    String::new()
                } else {
                    format!("  after {}", after.join(", "))
                };
                let (name, image) = (&container.name, &container.image);
                writeln!(
                    f,
                    "{:11} {name:20} {image}  {}{after}",
                    section.name(),
                    command.join(" ")
                )?;
            }
        }
        for file in &self.files {
            writeln!(f, "{:11} /{:19} {} {}:{}", "file", file.path, file.mode, file.uid, file.gid)?;
        }
        Ok(())
    }
}
