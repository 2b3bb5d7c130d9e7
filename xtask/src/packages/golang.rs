//! Programs of a Go module, static, built from the wrapper module beside the yml file.
//!
//! `go install pkg@version` refuses modules whose `go.mod` excludes something, as containerd's
//! and BuildKit's do; a module that only requires them builds, and its `go.sum` pins all of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use fs_err as fs;

use super::cache::Cache;
use super::key::Key;
use super::spec::{Go, Package};
use crate::children;
use crate::progress::Progress;

/// Changes with what the build makes of the same inputs.
const RECIPE: u32 = 1;

/// Builds all programs of a step and returns the folder that holds them.
pub(crate) fn build(
    cache: &Cache,
    package: &Package,
    go: &Go,
    progress: &Progress,
) -> Result<PathBuf> {
    let module = fs::read_to_string(package.dir.join("go.mod"))?;
    let compiler = children::output(command(&package.dir).args(["env", "GOVERSION"]))?;
    let key = key(package, go, compiler.trim())?;
    cache.entry("go", &package.name, &key, |dir| {
        let step = progress.step(&package.name, "building with go; minutes at the first time");
        let mut build = command(&package.dir);
        build.args(["build", "-v", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags"]);
        build.arg(link_flags(go, &module)?).arg("-tags").arg(go.tags.join(","));
        build.arg("-o").arg(dir).args(go.packages.iter().chain(&go.tools));
        let mut count = 0;
        children::lines(&mut build, |line| {
            count += 1;
            step.say(&format!("{count} packages compiled, {line}"));
        })?;
        step.done(&format!("{} built", programs(go).collect::<Vec<_>>().join(", ")));
        Ok(())
    })
}

/// The digest of all that the step depends on.
fn key(package: &Package, go: &Go, compiler: &str) -> Result<String> {
    let key = Key::new("go", RECIPE)
        .text("compiler", compiler)
        .text("step", &serde_json::to_string(go)?)
        .file("go.mod", &package.dir.join("go.mod"))?
        .file("go.sum", &package.dir.join("go.sum"))?;
    Ok(key.finish())
}

/// Names of all programs of a step.
pub(crate) fn programs(go: &Go) -> impl Iterator<Item = &str> {
    go.packages.iter().chain(&go.tools).map(|it| program(it))
}

/// The name that go gives to the program of a main package.
pub(crate) fn program(package: &str) -> &str {
    package.rsplit('/').next().unwrap_or(package)
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new("go");
    command.current_dir(dir).env("CGO_ENABLED", "0").env("GOFLAGS", "").env("GOWORK", "off");
    command.env("GOOS", "linux").env("GOARCH", "amd64").env("GOAMD64", "v1");
    command
}

fn link_flags(go: &Go, module: &str) -> Result<String> {
    let mut flags = "-s -w".to_owned();
    if let Some(variable) = &go.version {
        let package = go.packages.first().context("a go step has packages")?;
        let version = required(module, package).with_context(|| {
            format!("go.mod requires no module that {package} is in; run `go get -tool {package}`")
        })?;
        flags += &format!(" -X {variable}={version}");
    }
    Ok(flags)
}

/// The version that `go.mod` requires of the module that a package is in.
fn required<'a>(module: &'a str, package: &str) -> Option<&'a str> {
    module
        .lines()
        .filter_map(|line| {
            let mut words = line.trim_start_matches("require ").split_whitespace();
            Some((words.next()?, words.next()?))
        })
        .filter(|(path, version)| {
            let inside = package
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            inside && version.starts_with('v')
        })
        .max_by_key(|(path, _)| path.len())
        .map(|(_, version)| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "module wrapper\n\ngo 1.26\n\ntool example.org/x/v2/cmd/x\n\nrequire (\n\
        \texample.org/x/api v1.12.0 // indirect\n\texample.org/x/v2 v2.4.2 // indirect\n)\nrequire example.org/y v0.1.0\n";

    #[test]
    fn the_version_is_that_of_the_module_the_package_is_in() {
        for (package, expected) in [
            ("example.org/x/v2/cmd/x", Some("v2.4.2")),
            ("example.org/x/api/cmd/z", Some("v1.12.0")),
            ("example.org/y", Some("v0.1.0")),
            ("example.org/yy", None),
        ] {
            assert_eq!(required(MODULE, package), expected, "{package}");
        }
    }

    #[test]
    fn the_linker_is_told_the_version_or_the_way_out() {
        let go = |package: &str| Go {
            packages: vec![package.to_owned()],
            tools: vec![],
            version: Some("example.org/x/v2/version.Version".to_owned()),
            tags: vec![],
        };
        assert_eq!(
            link_flags(&go("example.org/x/v2/cmd/x"), MODULE).unwrap(),
            "-s -w -X example.org/x/v2/version.Version=v2.4.2"
        );
        let error = link_flags(&go("example.org/z"), MODULE).unwrap_err().to_string();
        assert_eq!(
            error,
            "go.mod requires no module that example.org/z is in; run `go get -tool example.org/z`"
        );
    }
}
