//! Where containers lie on the root: bundles in LinuxKit's places, roots as packages.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::name::ContainerName;

/// Folder of all bundles.
pub const CONTAINERS: &str = "/containers";
/// Folder that a container's package is mounted below, by the container's name.
pub const PACKAGES: &str = "/packages";
/// Where the data partition is mounted.
pub const DATA: &str = "/data";
/// In a bundle: the container for the OCI runtime.
pub const CONFIG: &str = "config.json";
/// In a bundle: what LinuxKit does around the container (mounts, interfaces, namespaces).
pub const RUNTIME: &str = "runtime.json";
/// In a bundle: a [`Supervise`](crate::Supervise), where the yml has that key.
pub const SUPERVISE: &str = "supervise.json";

/// Where in the yml a container stands, and so when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// One after the other, before any service.
    Onboot,
    /// One after the other, after all services stopped.
    Onshutdown,
    /// In the order of what they come after, as long as the machine runs.
    Services,
}

impl Section {
    /// All sections, in the order in which LinuxKit numbers containers.
    pub const ALL: [Self; 3] = [Self::Onboot, Self::Onshutdown, Self::Services];

    /// The key of the yml and the folder below [`CONTAINERS`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Onboot => "onboot",
            Self::Onshutdown => "onshutdown",
            Self::Services => "services",
        }
    }

    /// Folder of its bundles.
    pub fn dir(self) -> PathBuf {
        Path::new(CONTAINERS).join(self.name())
    }

    /// Whether its containers run in the order of the yml, and their folders begin with `NNN-`.
    pub fn is_numbered(self) -> bool {
        !matches!(self, Self::Services)
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One container's place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bundle {
    section: Section,
    /// Position in a section whose containers run one after the other; 0 elsewhere.
    index: usize,
    name: ContainerName,
}

/// A folder of a section that is no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{folder}` in {section} is no bundle: expected {}", if section.is_numbered() { "NNN-NAME" } else { "NAME" })]
pub struct InvalidBundle {
    section: Section,
    folder: String,
}

impl Bundle {
    /// The bundle of the container that stands at `index` (from 0) of its section.
    pub fn new(section: Section, index: usize, name: ContainerName) -> Self {
        Self { section, index: if section.is_numbered() { index } else { 0 }, name }
    }

    /// Reads the name of a folder as [`dir`](Self::dir) writes it.
    pub fn from_folder(section: Section, folder: &str) -> Result<Self, InvalidBundle> {
        let invalid = || InvalidBundle { section, folder: folder.to_owned() };
        let (index, name) = if section.is_numbered() {
            let (number, name) = folder.split_once('-').ok_or_else(invalid)?;
            let is_number = number.len() >= 3 && number.bytes().all(|it| it.is_ascii_digit());
            let index = if is_number { number.parse().ok() } else { None };
            (index.ok_or_else(invalid)?, name)
        } else {
            (0, folder)
        };
        Ok(Self { section, index, name: name.parse().map_err(|_| invalid())? })
    }

    /// Its section.
    pub fn section(&self) -> Section {
        self.section
    }

    /// The container's name.
    pub fn name(&self) -> &ContainerName {
        &self.name
    }

    /// Its folder, as `/containers/onboot/000-dhcp` or `/containers/services/containerd`.
    pub fn dir(&self) -> PathBuf {
        let folder = if self.section.is_numbered() {
            format!("{:03}-{}", self.index, self.name)
        } else {
            self.name.to_string()
        };
        self.section.dir().join(folder)
    }
}

/// Where the package with that name is mounted: the root of a container in a slot.
pub fn package(name: &ContainerName) -> PathBuf {
    Path::new(PACKAGES).join(name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ContainerName {
        text.parse().unwrap()
    }

    #[test]
    fn a_bundle_lies_where_linuxkit_has_it_and_reads_back() {
        for (section, index, text, dir) in [
            (Section::Onboot, 0, "dhcp", "/containers/onboot/000-dhcp"),
            (Section::Onboot, 12, "a-b", "/containers/onboot/012-a-b"),
            (Section::Onboot, 1000, "x", "/containers/onboot/1000-x"),
            (Section::Onshutdown, 1, "save", "/containers/onshutdown/001-save"),
            (Section::Services, 7, "containerd", "/containers/services/containerd"),
            (Section::Services, 0, "000-odd", "/containers/services/000-odd"),
        ] {
            let bundle = Bundle::new(section, index, name(text));
            assert_eq!(bundle.dir(), Path::new(dir));
            let folder = bundle.dir().file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(Bundle::from_folder(section, &folder), Ok(bundle));
        }
        assert_eq!(package(&name("dhcp")), Path::new("/packages/dhcp"));
    }

    #[test]
    fn a_folder_that_is_no_bundle_is_named() {
        for (section, folder, text) in [
            (Section::Onboot, "dhcp", "`dhcp` in onboot is no bundle: expected NNN-NAME"),
            (Section::Onboot, "00-dhcp", "`00-dhcp` in onboot is no bundle: expected NNN-NAME"),
            (Section::Onboot, "+01-a", "`+01-a` in onboot is no bundle: expected NNN-NAME"),
            (Section::Services, "..", "`..` in services is no bundle: expected NAME"),
        ] {
            let error = Bundle::from_folder(section, folder).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }
}
