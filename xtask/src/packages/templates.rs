//! Function templates: `template.yml` and the seed folder beside it become `BASES/templates/NAME/`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::key::Key;
use super::spec::Package;
use super::tree::{Kind, Tree};

/// What the provider has to know of a template; `template.yml` and `template.json` are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    /// Name of the base image.
    base: String,
    /// Folder in the image that holds the function's source.
    source: String,
    /// File of the source folder whose change needs a build, if there is one.
    #[serde(default)]
    dependencies: Option<String>,
    /// One line for people.
    description: String,
}

/// A template of the tree, checked.
#[derive(Debug)]
pub(crate) struct Found {
    name: String,
    template: Template,
    function: PathBuf,
}

/// The templates beside the base's yml file.
pub(crate) fn of(base: &Package) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(&base.dir)? {
        let dir = entry?.path();
        let path = dir.join("template.yml");
        if !path.is_file() {
            continue;
        }
        let name = dir
            .file_name()
            .and_then(|it| it.to_str())
            .context("a template's name is UTF-8")?
            .to_owned();
        let template: Template = crate::yaml::read(&path)?;
        let shown = crate::workspace::shown(&path);
        if template.base != base.name {
            bail!("{shown}: base `{}` is not the base beside it, `{}`", template.base, base.name);
        }
        if !template.source.starts_with('/') {
            bail!("{shown}: source `{}` is not absolute", template.source);
        }
        let function = dir.join("function");
        if !function.is_dir() {
            bail!(
                "{shown}: the folder `function` that a new function starts with is missing beside it"
            );
        }
        found.push(Found { name, template, function });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

impl Found {
    /// Adds all that [`write`](Self::write) depends on.
    pub(crate) fn key(&self, key: Key) -> Result<Key> {
        let mut key =
            key.text("template", &self.name).text("json", &serde_json::to_string(&self.template)?);
        for (path, file) in self.files()? {
            key = key.file(&path, &file)?;
        }
        Ok(key)
    }

    /// Writes the template into `BASES/templates`.
    pub(crate) fn write(&self, templates: &Path) -> Result<()> {
        let dir = templates.join(&self.name);
        fs::create_dir_all(dir.join("function"))?;
        fs::write(dir.join("template.json"), serde_json::to_vec_pretty(&self.template)?)?;
        for (path, file) in self.files()? {
            let to = dir.join("function").join(path);
            fs::create_dir_all(to.parent().context("a file has a folder")?)?;
            fs::copy(file, to)?;
        }
        Ok(())
    }

    fn files(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut tree = Tree::default();
        tree.scan(&self.function)?;
        let mut files = Vec::new();
        for (path, node) in tree.iter() {
            // What a run of the template in the tree leaves behind is no part of it.
            let is_cache = path.split('/').any(|name| name == "__pycache__");
            if let (Kind::File(file), false) = (&node.kind, is_cache) {
                files.push((path.to_owned(), file.clone()));
            }
        }
        Ok(files)
    }
}
