//! From specs to results: what can run at the same time does, the longest first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use fs_err as fs;

use super::cache::Cache;
use super::deb::{self, Unpacked};
use super::key::Key;
use super::lock::Lock;
use super::spec::{Cargo, Content, File, Package, Step};
use super::tree::{Kind, Node, Tree};
use super::{
    Options, Prepared, all, cargo, golang, layer, lock_path, oci, templates, tools, wheel,
};
use crate::children;
use crate::progress::Progress;

/// Changes with what a layer or a layout is made of.
const RECIPE: u32 = 1;

/// Everything that steps of packages need to have been made.
struct Parts {
    built: BTreeMap<String, PathBuf>,
    unpacked: BTreeMap<String, Unpacked>,
    programs: PathBuf,
}

/// Builds all that `dev` and the tests run.
pub(crate) fn prepare(options: &Options) -> Result<Prepared> {
    let _guard = children::guard()?;
    let progress = Progress::new();
    let cache = Cache::open(&progress)?;
    let packages = all()?;
    let parts = make(&cache, &packages, cargo::PROGRAMS, options, &progress)?;
    let tools = tools::gather(&cache, &packages, &parts.built, &parts.unpacked)?;
    let bases = gather_bases(&cache, &packages, &parts, &progress)?;
    cache.trim()?;
    Ok(Prepared { tools, bases, programs: parts.programs })
}

/// Builds the image of one package and returns its layout and full name.
pub(crate) fn image(name: &str, options: &Options) -> Result<(PathBuf, String)> {
    let _guard = children::guard()?;
    let progress = Progress::new();
    let packages = all()?;
    let package = packages.iter().find(|it| it.name == name).ok_or_else(|| {
        let names: Vec<_> = packages.iter().map(|it| it.name.as_str()).collect();
        anyhow!("no package `{name}` below images/ (there are: {})", names.join(", "))
    })?;
    let cache = Cache::open(&progress)?;
    let programs: Vec<_> = package.programs().collect();
    let parts = make(&cache, std::slice::from_ref(package), &programs, options, &progress)?;
    let layout = layout(&cache, package, &parts, &progress)?;
    let full_name = oci::full_name(&layout)?;
    Ok((layout, full_name))
}

/// Brings the lock up to date with what is asked for and what is to be had; true if it changed.
pub(crate) fn relock(newest: bool) -> Result<bool> {
    let _guard = children::guard()?;
    let progress = Progress::new();
    let cache = Cache::open(&progress)?;
    let before = Lock::load(&lock_path())?;
    let mut lock = before.clone();
    let packages = all()?;
    let named: Vec<_> = packages.iter().map(|it| it.name.clone()).collect();
    lock.packages.retain(|name, _| named.contains(name));
    let apt = deb::Apt::new(&cache.state("apt")?, &lock.suite);
    deb::answer(&apt, &mut lock, &packages.iter().collect::<Vec<_>>(), newest, &progress)?;
    if newest {
        lock.wheels.clear();
    }
    for tool in wheel::TOOLS {
        wheel::tool(&cache, &mut lock, tool, false, &progress)?;
    }
    if lock != before {
        lock.save(&lock_path())?;
    }
    Ok(lock != before)
}

/// The Go builds take longest by far, so that they start first and all else runs beside them.
fn make(
    cache: &Cache,
    packages: &[Package],
    programs: &[&str],
    options: &Options,
    progress: &Progress,
) -> Result<Parts> {
    std::thread::scope(|scope| {
        let mut builds = Vec::new();
        for package in packages {
            for step in &package.steps {
                if let Step::Go(go) = step {
                    builds.push((
                        &package.name,
                        scope.spawn(move || golang::build(cache, package, go, progress)),
                    ));
                }
            }
        }
        let programs = (!programs.is_empty())
            .then(|| scope.spawn(|| cargo::build(programs, options.profile, progress)));
        let unpacked = unpack(cache, packages, options, progress);
        let mut failures = Vec::new();
        let mut built = BTreeMap::new();
        for (name, build) in builds {
            match build.join().unwrap_or_else(|_| Err(anyhow!("the build panicked"))) {
                Ok(dir) => drop(built.insert(name.clone(), dir)),
                Err(error) => failures.push(error.context(format!("building {name}"))),
            }
        }
        let programs =
            programs.map(|it| it.join().unwrap_or_else(|_| Err(anyhow!("the build panicked"))));
        let programs = programs
            .transpose()
            .map_err(|error| failures.push(error.context("building our programs")));
        let unpacked = unpacked.map_err(|error| failures.push(error));
        match (programs, unpacked) {
            (Ok(programs), Ok(unpacked)) if failures.is_empty() => {
                Ok(Parts { built, unpacked, programs: programs.unwrap_or_default() })
            }
            _ => Err(all_of(&failures)),
        }
    })
}

/// One error that tells all that went wrong.
fn all_of(failures: &[anyhow::Error]) -> anyhow::Error {
    let texts: Vec<_> = failures.iter().map(|error| format!("{error:#}")).collect();
    anyhow!("{}", texts.join("\nerror: "))
}

fn unpack(
    cache: &Cache,
    packages: &[Package],
    options: &Options,
    progress: &Progress,
) -> Result<BTreeMap<String, Unpacked>> {
    let before = Lock::load(&lock_path())?;
    let mut lock = before.clone();
    let packages: Vec<_> = packages.iter().collect();
    let apt = deb::Apt::new(&cache.state("apt")?, &lock.suite);
    let unpacked = deb::provide(cache, &apt, &mut lock, &packages, options.locked, progress)?;
    if lock != before {
        lock.save(&lock_path())?;
        progress.note("images/lock.yml was rewritten; commit it");
    }
    Ok(unpacked)
}

/// `BASES`: a layout for each function base, and the templates.
fn gather_bases(
    cache: &Cache,
    packages: &[Package],
    parts: &Parts,
    progress: &Progress,
) -> Result<PathBuf> {
    let mut key = Key::new("bases", RECIPE);
    let mut layouts = Vec::new();
    let mut found = Vec::new();
    for base in packages.iter().filter(|it| it.is_base) {
        let layout = layout(cache, base, parts, progress)?;
        key = key.text(&base.name, &layout.to_string_lossy());
        layouts.push((&base.name, layout));
        found.extend(templates::of(base)?);
    }
    for template in &found {
        key = template.key(key)?;
    }
    cache.entry("bases", "bases", &key.finish(), |dir| {
        for (name, layout) in &layouts {
            link_tree(layout, &dir.join(name))?;
        }
        for template in &found {
            template.write(&dir.join("templates"))?;
        }
        Ok(())
    })
}

/// A folder with the same files under the same names, which are linked, not copied.
fn link_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            link_tree(&from, &to)?;
        } else {
            fs::hard_link(from, to)?;
        }
    }
    Ok(())
}

/// The OCI layout of a package. What comes from outside is one layer and what is ours another
/// above it, so that a change of ours leaves the large layer as it is.
fn layout(cache: &Cache, package: &Package, parts: &Parts, progress: &Progress) -> Result<PathBuf> {
    let epoch = layer::epoch()?;
    let mut layers = Vec::new();
    let mut key = Key::new("layout", RECIPE).text("oci", &serde_json::to_string(&package.oci)?);
    for steps in package.steps.chunk_by(|a, b| is_ours(a) == is_ours(b)) {
        let layer_key = layer_key(package, steps, parts, epoch)?;
        let dir = cache.entry("layers", &package.name, &layer_key, |dir| {
            let step = progress.step(&package.name, "writing a layer");
            layer::write(&tree(package, steps, parts, dir)?, dir, epoch)?;
            fs::remove_dir_all(dir.join("work")).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
            step.done("layer written");
            Ok(())
        })?;
        key = key.text("layer", &layer_key);
        let file =
            fs::read_dir(&dir)?.next().with_context(|| format!("{} is empty", dir.display()))?;
        layers.push(file?.path());
    }
    cache.entry("images", &package.name, &key.finish(), |dir| {
        oci::write(dir, &package.name, &package.oci, &layers).map(drop)
    })
}

fn is_ours(step: &Step) -> bool {
    matches!(step, Step::Cargo(_) | Step::Files(_))
}

fn layer_key(package: &Package, steps: &[Step], parts: &Parts, epoch: u64) -> Result<String> {
    let mut key = Key::new("layer", RECIPE).text("epoch", &epoch.to_string());
    for step in steps {
        key = key.text("step", &serde_json::to_string(step)?);
        key = match step {
            Step::Deb(_) => key.text("unpacked", &parts.unpacked[&package.name].key),
            Step::Go(_) => key.text("built", &parts.built[&package.name].to_string_lossy()),
            Step::Cargo(cargo) => key.file("program", &parts.programs.join(&cargo.package))?,
            Step::Files(files) => files.iter().try_fold(key, |key, file| match &file.content {
                Content::Source(source) => key.file(&file.path, &package.dir.join(source)),
                _ => Ok(key),
            })?,
        };
    }
    Ok(key.finish())
}

/// What lies in the layer of these steps; `dir/work` may be used for files that have to be made.
fn tree(package: &Package, steps: &[Step], parts: &Parts, dir: &Path) -> Result<Tree> {
    let mut tree = Tree::default();
    for step in steps {
        match step {
            Step::Deb(_) => tree.scan(&parts.unpacked[&package.name].root)?,
            Step::Go(go) => {
                for main in &go.packages {
                    let name = golang::program(main);
                    let file = parts.built[&package.name].join(name);
                    tree.insert(&format!("usr/bin/{name}"), Node::root(Kind::File(file), 0o755))?;
                }
            }
            Step::Cargo(Cargo { package, path }) => {
                let work = dir.join("work");
                fs::create_dir_all(&work)?;
                let file = work.join(package);
                cargo::stripped(&parts.programs.join(package), &file)?;
                tree.insert(path, Node::root(Kind::File(file), 0o755))?;
            }
            Step::Files(files) => {
                for file in files {
                    tree.insert(&file.path, node(package, file))?;
                }
            }
        }
    }
    Ok(tree)
}

fn node(package: &Package, file: &File) -> Node {
    let kind = match &file.content {
        Content::Directory => Kind::Directory,
        Content::Source(source) => Kind::File(package.dir.join(source)),
        Content::Text(text) => Kind::Bytes(text.clone().into_bytes()),
        Content::Symlink(target) => Kind::Symlink(target.clone()),
    };
    Node { kind, mode: file.mode, uid: file.uid, gid: file.gid }
}
