//! Debian packages: answered, fetched and unpacked, as the lock has them.

mod apt;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

pub(crate) use apt::Apt;

use super::cache::Cache;
use super::finish;
use super::key::{Key, sha256_file};
use super::lock::{Closure, Lock, Pin, wrong_checksum};
use super::spec::Package;
use crate::children;
use crate::progress::Progress;

/// Changes with what unpacking makes of the same packages.
const RECIPE: u32 = 1;

/// An unpacked tree and the key of all that it depends on.
#[derive(Clone, Debug)]
pub(crate) struct Unpacked {
    /// Its folder.
    pub(crate) root: PathBuf,
    /// Its key.
    pub(crate) key: String,
}

/// Unpacks what `packages` need of Debian, by name of the package; the lock may change and then is
/// for the caller to save, unless `locked` forbids it.
pub(crate) fn provide(
    cache: &Cache,
    apt: &Apt,
    lock: &mut Lock,
    packages: &[&Package],
    locked: bool,
    progress: &Progress,
) -> Result<BTreeMap<String, Unpacked>> {
    let unanswered: Vec<_> = packages
        .iter()
        .copied()
        .filter(|it| {
            it.debs().is_some_and(|deb| {
                !lock.packages.get(&it.name).is_some_and(|have| have.answers(deb))
            })
        })
        .collect();
    if !unanswered.is_empty() {
        if locked {
            let names: Vec<_> = unanswered.iter().map(|it| it.name.as_str()).collect();
            bail!(
                "images/lock.yml does not answer what {} ask for now; run `cargo xtask lock`",
                names.join(", ")
            );
        }
        answer(apt, lock, &unanswered, false, progress)?;
    }
    fetch(cache, apt, lock, packages, locked, progress)?;
    let mut unpacked = BTreeMap::new();
    for package in packages {
        if package.debs().is_some() {
            unpacked.insert(package.name.clone(), unpack(cache, lock, package, progress)?);
        }
    }
    Ok(unpacked)
}

/// Asks Debian what answers each package. A version in the lock stays if it is still to be had,
/// unless `newest` is wanted. Every change is said.
pub(crate) fn answer(
    apt: &Apt,
    lock: &mut Lock,
    packages: &[&Package],
    newest: bool,
    progress: &Progress,
) -> Result<()> {
    apt.update(progress)?;
    for package in packages {
        let Some(deb) = package.debs() else { continue };
        let mut candidates = apt.resolve(&deb.packages)?;
        candidates.retain(|(name, _)| !deb.exclude.contains(name));
        let names: Vec<_> = candidates.iter().map(|(name, _)| name.clone()).collect();
        let available = apt.available(&names)?;
        for (name, version) in &candidates {
            let of_name = available.get(name).map_or(&[][..], Vec::as_slice);
            let old = lock.debs.get(name);
            if !newest && old.is_some_and(|pin| of_name.iter().any(|it| it.version == pin.version))
            {
                continue;
            }
            let pin = of_name.iter().find(|it| it.version == *version).with_context(|| {
                format!("the suite's index has no checksum for {name} {version}")
            })?;
            if old != Some(pin) {
                let before = old.map_or("new".to_owned(), |old| format!("was {}", old.version));
                progress.note(&format!("lock: {name} {version} ({before})"));
                lock.debs.insert(name.clone(), pin.clone());
            }
        }
        let mut debs = names;
        debs.sort();
        let closure = Closure { asked: deb.packages.clone(), exclude: deb.exclude.clone(), debs };
        lock.packages.insert(package.name.clone(), closure);
    }
    lock.tidy();
    Ok(())
}

/// Brings what is neither unpacked nor downloaded yet.
fn fetch(
    cache: &Cache,
    apt: &Apt,
    lock: &mut Lock,
    packages: &[&Package],
    locked: bool,
    progress: &Progress,
) -> Result<()> {
    let mut wanted = missing(cache, lock, packages)?;
    if wanted.is_empty() {
        return Ok(());
    }
    apt.update(progress)?;
    let available = apt.available(&wanted.keys().cloned().collect::<Vec<_>>())?;
    let is_gone = |name: &str, pin: &Pin| {
        !available
            .get(name)
            .is_some_and(|versions| versions.iter().any(|it| it.version == pin.version))
    };
    let gone: BTreeSet<_> =
        wanted.iter().filter(|(name, pin)| is_gone(name, pin)).map(|(name, _)| name).collect();
    if !gone.is_empty() {
        let list: Vec<_> =
            gone.iter().map(|name| format!("{name} {}", wanted[*name].version)).collect();
        if locked {
            bail!(
                "{} is no longer to be had; run `cargo xtask lock` to take the newest of {}",
                list.join(", "),
                lock.suite
            );
        }
        progress.note(&format!(
            "no longer to be had: {}; taking the newest of {}",
            list.join(", "),
            lock.suite
        ));
        let concerned = |it: &&&Package| {
            lock.packages
                .get(&it.name)
                .is_some_and(|have| have.debs.iter().any(|deb| gone.contains(deb)))
        };
        let concerned: Vec<_> = packages.iter().filter(concerned).copied().collect();
        answer(apt, lock, &concerned, false, progress)?;
        wanted = missing(cache, lock, packages)?;
    }
    let step = progress.step("debian", &format!("fetching {} packages", wanted.len()));
    let temp = cache.temp()?;
    let files = apt.download(&wanted, temp.path())?;
    for (name, pin) in &wanted {
        let file =
            files.get(name).with_context(|| format!("apt-get download left no file for {name}"))?;
        let found = sha256_file(file)?;
        if found != pin.sha256 {
            let file = file.file_name().unwrap_or_default().to_string_lossy();
            return Err(wrong_checksum("Debian package", name, pin, &file, &found));
        }
        cache.keep(file, &pin.sha256)?;
    }
    step.done(&format!("{} packages fetched", wanted.len()));
    Ok(())
}

fn missing(cache: &Cache, lock: &Lock, packages: &[&Package]) -> Result<BTreeMap<String, Pin>> {
    let mut missing = BTreeMap::new();
    for package in packages.iter().filter(|it| it.debs().is_some()) {
        if cache.get("debs", &package.name, &key(lock, package)?).is_some() {
            continue;
        }
        for (name, pin) in lock.pins(closure(lock, package)?)? {
            if cache.download(&pin.sha256).is_none() {
                missing.insert(name.to_owned(), pin.clone());
            }
        }
    }
    Ok(missing)
}

fn unpack(cache: &Cache, lock: &Lock, package: &Package, progress: &Progress) -> Result<Unpacked> {
    let deb = package.debs().context("only packages with Debian packages are unpacked")?;
    let key = key(lock, package)?;
    let root = cache.entry("debs", &package.name, &key, |dir| {
        let step = progress.step(&package.name, "unpacking Debian packages");
        for (name, pin) in lock.pins(closure(lock, package)?)? {
            step.say(&format!("unpacking {name}"));
            let file = cache
                .download(&pin.sha256)
                .with_context(|| format!("{name} is not in the cache"))?;
            children::output(Command::new("dpkg-deb").arg("--extract").arg(file).arg(dir))?;
        }
        step.say("finishing");
        finish::apply(deb, dir)?;
        step.done("unpacked");
        Ok(())
    })?;
    Ok(Unpacked { root, key })
}

fn closure<'a>(lock: &'a Lock, package: &Package) -> Result<&'a Closure> {
    lock.packages
        .get(&package.name)
        .with_context(|| format!("images/lock.yml does not have {}", package.name))
}

fn key(lock: &Lock, package: &Package) -> Result<String> {
    let deb = package.debs().context("only packages with Debian packages have this key")?;
    let mut key = Key::new("debs", RECIPE).text("step", &serde_json::to_string(deb)?);
    for (name, pin) in lock.pins(closure(lock, package)?)? {
        key = key.text(name, &pin.sha256);
    }
    Ok(key.finish())
}

#[cfg(test)]
mod tests;
