//! `build.yml` and `base.yml`: read, checked, and never half right.
//!
//! [`raw`] mirrors the file; [`Package`] cannot be wrong. LinuxKit's key `image` means what it
//! means there; `rootfs`, `oci` and `tools` are ours.

mod raw;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use serde::Serialize;

#[cfg(test)]
use crate::yaml::Mistake;

/// A package, or a function base.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// Name of its image.
    pub(crate) name: String,
    /// Folder of its yml file, which its sources are relative to.
    pub(crate) dir: PathBuf,
    /// Whether it is a base for functions, which `prepare` makes an image of.
    pub(crate) is_base: bool,
    /// What its root file system is made of, from below to above.
    pub(crate) steps: Vec<Step>,
    /// What a container runs by default.
    pub(crate) oci: Oci,
    /// Programs, relative to its root, that tests and `dev` run on the host.
    pub(crate) tools: Vec<String>,
}

impl Package {
    /// Its Debian packages, if it has any.
    pub(crate) fn debs(&self) -> Option<&Deb> {
        self.steps.iter().find_map(|step| match step {
            Step::Deb(deb) => Some(deb),
            _ => None,
        })
    }

    /// The crates of this workspace that it holds programs of.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match step {
            Step::Cargo(cargo) => Some(cargo.package.as_str()),
            _ => None,
        })
    }
}

/// One entry of `rootfs:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Step {
    /// Debian packages with their dependencies.
    Deb(Deb),
    /// Programs of the Go module beside the yml file.
    Go(Go),
    /// A program of this workspace.
    Cargo(Cargo),
    /// Files, folders and links, in LinuxKit's words.
    Files(Vec<File>),
}

/// Debian packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Deb {
    /// What is asked for.
    pub(crate) packages: Vec<String>,
    /// What its dependencies would bring, but is not wanted.
    pub(crate) exclude: Vec<String>,
    /// What is taken out of the unpacked tree: paths, `*` for any part of one name.
    pub(crate) prune: Vec<String>,
    /// What dpkg's scripts, which do not run, would have done.
    pub(crate) finish: Vec<Finish>,
}

/// See [`Deb::finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Finish {
    /// A link for each of busybox's programs that is not there otherwise.
    Busybox,
    /// One file with all certificates of `ca-certificates`.
    Certificates,
    /// Compiled modules of Python's library and of the packages beside it.
    PythonBytecode,
}

/// Programs of a Go module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Go {
    /// Main packages, each becomes `/usr/bin/NAME`.
    pub(crate) packages: Vec<String>,
    /// Main packages that only tests and `dev` need, on the host.
    pub(crate) tools: Vec<String>,
    /// The variable that is told the module's version.
    pub(crate) version: Option<String>,
    /// Build tags.
    pub(crate) tags: Vec<String>,
}

/// A program of this workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cargo {
    /// Its crate.
    pub(crate) package: String,
    /// Its path in the image.
    pub(crate) path: String,
}

/// A file, folder or link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct File {
    /// Its path in the image, relative to the root.
    pub(crate) path: String,
    /// What it is.
    pub(crate) content: Content,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
}

/// See [`File::content`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Content {
    /// A folder.
    Directory,
    /// A copy of a file beside the yml file.
    Source(String),
    /// The text itself.
    Text(String),
    /// A link to that path.
    Symlink(String),
}

/// What a container of the image runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Oci {
    /// `USER[:GROUP]`.
    pub(crate) user: String,
    /// Working directory.
    pub(crate) workdir: String,
    /// `NAME=VALUE`.
    pub(crate) env: Vec<String>,
    /// Command.
    pub(crate) cmd: Vec<String>,
}

/// Reads every `pkg/NAME/build.yml` and `templates/LANGUAGE/base.yml` below `images`.
pub(crate) fn load_all(images: &Path) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for (folder, file, is_base) in [("pkg", "build.yml", false), ("templates", "base.yml", true)] {
        let mut dirs = Vec::new();
        for entry in fs::read_dir(images.join(folder))? {
            dirs.push(entry?.path());
        }
        dirs.sort();
        for path in dirs.iter().map(|dir| dir.join(file)).filter(|path| path.is_file()) {
            let text = fs::read_to_string(&path)?;
            let mut package = raw::parse(&crate::workspace::shown(&path).to_string(), &text)?;
            package.dir = path.parent().context("a file has a folder")?.to_owned();
            package.is_base = is_base;
            packages.push(package);
        }
    }
    Ok(packages)
}

/// Reads the text of one yml file, as if it lay in `dir`.
#[cfg(test)]
pub(crate) fn parse(dir: &Path, text: &str) -> Result<Package, Mistake> {
    Ok(Package { dir: dir.to_owned(), ..raw::parse("build.yml", text)? })
}
