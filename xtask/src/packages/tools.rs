//! The programs of packages that tests and `dev` run on the host: `TOOLS/bin`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use fs_err as fs;

use super::cache::Cache;
use super::deb::Unpacked;
use super::golang;
use super::key::Key;
use super::spec::{Package, Step};
use crate::children;

/// Changes with what is made of the same inputs.
const RECIPE: u32 = 1;

/// Gathers the tools of all packages in one folder and returns it.
pub(crate) fn gather(
    cache: &Cache,
    packages: &[Package],
    built: &BTreeMap<String, PathBuf>,
    unpacked: &BTreeMap<String, Unpacked>,
) -> Result<PathBuf> {
    // Patched programs name their libraries by absolute path: another place is another result.
    let mut key =
        Key::new("tools", RECIPE).text("cache", &cache.path("", "", "").to_string_lossy());
    let mut programs = Vec::new();
    for package in packages {
        for step in &package.steps {
            if let Step::Go(go) = step {
                let dir = built
                    .get(&package.name)
                    .with_context(|| format!("{} was not built", package.name))?;
                key = key.text("go", &dir.to_string_lossy());
                programs.extend(golang::programs(go).map(|name| (dir.join(name), None)));
            }
        }
        for path in &package.tools {
            let tree = unpacked
                .get(&package.name)
                .with_context(|| format!("{} was not unpacked", package.name))?;
            key = key.text("deb", &tree.key).text("tool", path);
            programs.push((tree.root.join(path), Some(tree.root.as_path())));
        }
    }
    cache.entry("tools", "tools", &key.finish(), |dir| {
        let bin = dir.join("bin");
        fs::create_dir(&bin)?;
        for (program, libraries) in &programs {
            let to = bin.join(program.file_name().context("a program has a name")?);
            match libraries {
                Some(root) => patched(program, root, &to)?,
                None => fs::hard_link(program, &to)?,
            }
        }
        Ok(())
    })
}

/// A copy of a program that uses the loader and the libraries of the tree that it came with, since
/// the host's may be older. Its libraries get them by `DT_RPATH`, which unlike `DT_RUNPATH` also
/// counts for what they need themselves.
fn patched(program: &Path, root: &Path, to: &Path) -> Result<()> {
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let loader = libraries.join("ld-linux-x86-64.so.2");
    if !loader.exists() {
        bail!("{} is not there: the package's debs hold no libc", loader.display());
    }
    fs::copy(program, to)?;
    fs::set_permissions(to, std::fs::Permissions::from_mode(0o755))?;
    let mut patch = Command::new("patchelf");
    patch
        .arg("--set-interpreter")
        .arg(loader)
        .arg("--force-rpath")
        .arg("--set-rpath")
        .arg(libraries)
        .arg(to);
    children::output(&mut patch).map(drop)
}
