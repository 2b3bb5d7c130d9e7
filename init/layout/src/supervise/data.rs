//! Folders of the data partition that a container gets: `buildkit:/var/lib/buildkit:rw,rshared`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One folder; it is made with the container's owner where it is not there yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Data {
    folder: String,
    at: String,
    /// Whether the container may not write.
    is_read_only: bool,
    propagation: Propagation,
}

/// Whether mounts made on one side appear on the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Neither way.
    #[default]
    Private,
    /// From the machine into the container.
    Slave,
    /// Both ways.
    Shared,
}

impl Propagation {
    /// Its mount option.
    pub fn option(self) -> &'static str {
        match self {
            Self::Private => "rprivate",
            Self::Slave => "rslave",
            Self::Shared => "rshared",
        }
    }
}

/// A text that is no folder of the data partition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum InvalidData {
    #[error("`{0}` is not `FOLDER:/PATH[:OPTIONS]`, like buildkit:/var/lib/buildkit:rw,rshared")]
    Form(String),
    #[error(
        "folder `{0}` is not relative to the data partition and plain, like buildkit or system/dhcp"
    )]
    Folder(String),
    #[error("path `{0}` in the container is not absolute and plain, like /var/lib/buildkit")]
    At(String),
    #[error(
        "option `{0}` is not known or contradicts another (known: rw, ro, rprivate, rslave, rshared)"
    )]
    Option(String),
}

impl Data {
    /// Where it lies, relative to the data partition.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// Where the container sees it.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// Options of the bind mount.
    pub fn options(&self) -> [&'static str; 3] {
        ["rbind", if self.is_read_only { "ro" } else { "rw" }, self.propagation.option()]
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, access, propagation] = self.options();
        write!(f, "{}:{}:{access},{propagation}", self.folder, self.at)
    }
}

impl TryFrom<String> for Data {
    type Error = InvalidData;

    fn try_from(text: String) -> Result<Self, InvalidData> {
        let mut parts = text.splitn(3, ':');
        let (Some(folder), Some(at)) = (parts.next(), parts.next()) else {
            return Err(InvalidData::Form(text));
        };
        if !is_plain(folder) {
            return Err(InvalidData::Folder(folder.to_owned()));
        }
        if !at.strip_prefix('/').is_some_and(is_plain) {
            return Err(InvalidData::At(at.to_owned()));
        }
        let (mut access, mut propagation) = (None, None);
        for option in parts.next().into_iter().flat_map(|it| it.split(',')) {
            let before = match option {
                "rw" => access.replace(false).is_some(),
                "ro" => access.replace(true).is_some(),
                "rprivate" => propagation.replace(Propagation::Private).is_some(),
                "rslave" => propagation.replace(Propagation::Slave).is_some(),
                "rshared" => propagation.replace(Propagation::Shared).is_some(),
                _ => true,
            };
            if before {
                return Err(InvalidData::Option(option.to_owned()));
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            at: at.to_owned(),
            is_read_only: access.unwrap_or_default(),
            propagation: propagation.unwrap_or_default(),
        })
    }
}

impl From<Data> for String {
    fn from(data: Data) -> Self {
        data.to_string()
    }
}

/// Whether a relative path stays where it is put.
fn is_plain(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_reads_back_with_its_options_spelled_out() {
        for (text, shown) in [
            ("buildkit:/var/lib/buildkit:rw,rshared", "buildkit:/var/lib/buildkit:rw,rshared"),
            ("system/dhcp:/lib", "system/dhcp:/lib:rw,rprivate"),
            ("a:/b:ro", "a:/b:ro,rprivate"),
            ("a:/b:rslave", "a:/b:rw,rslave"),
        ] {
            let data = Data::try_from(text.to_owned()).unwrap();
            assert_eq!(data.to_string(), shown);
            assert_eq!(Data::try_from(shown.to_owned()), Ok(data));
        }
    }

    #[test]
    fn a_folder_cannot_leave_the_data_partition() {
        for (text, part) in [
            ("buildkit", "`buildkit` is not `FOLDER:/PATH"),
            ("../x:/y", "folder `../x` is not"),
            ("/x:/y", "folder `/x` is not"),
            (":/y", "folder `` is not"),
            ("x:y", "path `y` in the container"),
            ("x:/", "path `/` in the container"),
            ("x:/a/../b", "path `/a/../b` in the container"),
            ("x:/y:exec", "option `exec` is not known"),
            ("x:/y:rw,ro", "option `ro` is not known or contradicts"),
            ("x:/y:", "option `` is not known"),
        ] {
            let error = Data::try_from(text.to_owned()).unwrap_err().to_string();
            assert!(error.starts_with(part), "{error}");
        }
    }
}
