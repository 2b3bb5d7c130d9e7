//! Templates and the base images under them, as they lie on the root: `BASES`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use api::{Error, ErrorCode};
use containerd::Client;
use containerd::images::Progress;
use fs_err as fs;
use serde::Deserialize;
use tokio::sync::Mutex;
use tracing::info;

use crate::fault;
use crate::folder::{Bits, Folder};

/// Deepest nesting and largest number of files of a template: more is a mistake of its maker.
const MAX_DEPTH: usize = 16;

/// The folder of bases and templates.
#[derive(Debug)]
pub struct Templates {
    bases: PathBuf,
    /// One import at a time: a second one of the same base would only repeat the work.
    importing: Mutex<()>,
}

/// `template.json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Name of its base, a folder of `BASES`.
    pub base: String,
    /// Where the function's source is in the image.
    pub source: String,
    /// File of the source whose change needs a build, if there is one.
    pub dependencies: Option<String>,
    /// One line for people.
    pub description: String,
}

/// The parts of a layout's `index.json` that name its image.
#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Templates {
    /// Templates below that folder.
    #[must_use]
    pub fn new(bases: PathBuf) -> Self {
        Self { bases, importing: Mutex::new(()) }
    }

    /// Names of all templates, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let folder = self.bases.join("templates");
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.path().join("template.json").is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The template of that name.
    ///
    /// # Errors
    /// `InvalidArgument` with the known ones when there is none.
    pub fn get(&self, name: &str) -> Result<Template, Error> {
        let broken = |error| fault::internal(&format!("reading template `{name}`"), &error);
        let known = self.names().map_err(broken)?;
        if !known.iter().any(|it| it == name) {
            let message = format!("no template is named `{name}`");
            let hint = format!("known templates: {}", known.join(", "));
            return Err(Error::new(ErrorCode::InvalidArgument, message).hint(hint));
        }
        self.read(name).map_err(broken)
    }

    /// Full name of a template's base image.
    ///
    /// # Errors
    /// `Internal` when the base is not there or damaged.
    pub fn image(&self, template: &Template) -> Result<String, Error> {
        self.read_image(&template.base)
            .map_err(|error| fault::internal(&format!("reading base `{}`", template.base), &error))
    }

    /// Makes sure that a template's base is in containerd's store, unpacked.
    ///
    /// # Errors
    /// `Unavailable` when containerd does not answer; `Internal` when the base is damaged.
    pub async fn import(
        &self,
        template: &Template,
        client: &Client,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<String, Error> {
        let name = self.image(template)?;
        let _importing = self.importing.lock().await;
        let done = async {
            match client.image(&name).await {
                Err(error) if error.is_not_found() => {
                    client.import_layout(&self.bases.join(&template.base), progress).await?;
                    info!(image = %name, "base imported");
                }
                other => drop(other?),
            }
            client.unpack_image(&name).await
        };
        match done.await {
            Ok(_) => Ok(name),
            Err(error) => {
                Err(fault::containerd(&format!("importing base `{}`", template.base), error))
            }
        }
    }

    /// Writes the files that a new function begins with, and waits for the disk.
    ///
    /// # Errors
    /// When one cannot be read or written.
    pub fn seed(&self, template: &str, folder: &Folder) -> Result<()> {
        let from = self.bases.join("templates").join(template).join("function");
        copy(&from, "", folder, MAX_DEPTH)?;
        Ok(folder.sync()?)
    }

    fn read(&self, name: &str) -> Result<Template> {
        let path = self.bases.join("templates").join(name).join("template.json");
        let text = fs::read(&path)?;
        serde_json::from_slice(&text).with_context(|| format!("reading `{}`", path.display()))
    }

    fn read_image(&self, base: &str) -> Result<String> {
        let path = self.bases.join(base).join("index.json");
        let text = fs::read(&path)?;
        let index: Index = serde_json::from_slice(&text)
            .with_context(|| format!("reading `{}`", path.display()))?;
        let names = index
            .manifests
            .into_iter()
            .map(|mut entry| entry.annotations.remove("org.opencontainers.image.ref.name"));
        names.flatten().next().with_context(|| format!("`{}` names no image", path.display()))
    }
}

fn copy(from: &Path, below: &str, folder: &Folder, depth: usize) -> Result<()> {
    anyhow::ensure!(depth > 0, "`{}` nests too deep", from.display());
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().with_context(|| format!("{name:?} is not UTF-8"))?;
        let path = format!("{below}{name}");
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &format!("{path}/"), folder, depth - 1)?;
        } else {
            let executable = is_executable(&entry.metadata()?);
            let content = fs::read(entry.path())?;
            folder.put(&path.parse()?, &content, Bits::Executable(executable))?;
        }
    }
    Ok(())
}

fn is_executable(status: &std::fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&status.permissions()) & 0o100 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_found_and_an_unknown_one_is_answered_with_those_that_are_known() {
        let bases = tempfile::tempdir().unwrap();
        for name in ["python3-http", "bash"] {
            let folder = bases.path().join("templates").join(name);
            fs::create_dir_all(&folder).unwrap();
            let json = r#"{"base":"python3","source":"/home/app/function","dependencies":null,"description":"d"}"#;
            fs::write(folder.join("template.json"), json).unwrap();
        }
        fs::create_dir_all(bases.path().join("templates/empty")).unwrap();
        fs::create_dir(bases.path().join("python3")).unwrap();
        let index = r#"{"schemaVersion":2,"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"docker.io/inplace/python3:1"}}]}"#;
        fs::write(bases.path().join("python3/index.json"), index).unwrap();

        let templates = Templates::new(bases.path().into());
        let template = templates.get("python3-http").unwrap();
        assert_eq!(templates.image(&template).unwrap(), "docker.io/inplace/python3:1");
        for unknown in ["python2", "", "..", "empty"] {
            let error = templates.get(unknown).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument);
            assert_eq!(error.hint, "known templates: bash, python3-http");
        }
    }
}
