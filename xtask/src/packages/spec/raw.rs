//! The yml file as it is written, and the checks that make a [`Package`] of it.

use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::{Cargo, Content, Deb, File, Finish, Go, Oci, Package, Step};
use crate::yaml::{Mistake, from_yaml};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPackage {
    image: Spanned<String>,
    #[serde(default)]
    oci: RawOci,
    rootfs: Vec<Spanned<RawStep>>,
    #[serde(default)]
    tools: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOci {
    #[serde(default)]
    user: String,
    #[serde(default)]
    workdir: String,
    #[serde(default)]
    env: Vec<Spanned<String>>,
    #[serde(default)]
    cmd: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawStep {
    Deb(RawDeb),
    Go(RawGo),
    Cargo(RawCargo),
    Files(Vec<RawFile>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDeb {
    packages: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    prune: Vec<Spanned<String>>,
    #[serde(default)]
    finish: Vec<Finish>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGo {
    packages: Vec<String>,
    #[serde(default)]
    tools: Vec<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCargo {
    package: String,
    path: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    path: Spanned<String>,
    #[serde(default)]
    directory: bool,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    contents: Option<String>,
    #[serde(default)]
    symlink: Option<String>,
    #[serde(default)]
    mode: Option<Spanned<String>>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

/// Makes a package of the text of a `build.yml`; `file` is how mistakes name it.
pub(super) fn parse(file: &str, text: &str) -> Result<Package, Mistake> {
    let raw: RawPackage = from_yaml(file, text)?;
    let check = Check { file };
    let name = raw.image.value.clone();
    if name.is_empty()
        || !name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
    {
        return check.fail(&raw.image, format!("image name `{name}` may have a-z, 0-9 and - only"));
    }
    let mut steps = Vec::new();
    for step in raw.rootfs {
        let place = step.referenced;
        let step = check.step(step.value)?;
        if matches!(step, Step::Deb(_)) && steps.iter().any(|it| matches!(it, Step::Deb(_))) {
            return check.fail_at(
                place,
                "a second `deb`: name all Debian packages in one, they share dependencies"
                    .to_owned(),
            );
        }
        steps.push(step);
    }
    for variable in &raw.oci.env {
        if !variable.value.contains('=') {
            return check.fail(variable, format!("`{}` is not NAME=VALUE", variable.value));
        }
    }
    let oci = Oci {
        user: raw.oci.user,
        workdir: raw.oci.workdir,
        env: raw.oci.env.into_iter().map(|it| it.value).collect(),
        cmd: raw.oci.cmd,
    };
    let tools = raw.tools.iter().map(|path| check.path(path)).collect::<Result<_, _>>()?;
    Ok(Package { name, dir: PathBuf::new(), is_base: false, steps, oci, tools })
}

struct Check<'a> {
    file: &'a str,
}

impl Check<'_> {
    fn fail<T>(&self, at: &Spanned<String>, message: String) -> Result<T, Mistake> {
        self.fail_at(at.referenced, message)
    }

    fn fail_at<T>(&self, at: Location, message: String) -> Result<T, Mistake> {
        Err(Mistake { file: self.file.to_owned(), place: Some((at.line(), at.column())), message })
    }

    fn step(&self, raw: RawStep) -> Result<Step, Mistake> {
        Ok(match raw {
            RawStep::Deb(raw) => {
                let prune =
                    raw.prune.iter().map(|path| self.path(path)).collect::<Result<_, _>>()?;
                Step::Deb(Deb {
                    packages: raw.packages,
                    exclude: raw.exclude,
                    prune,
                    finish: raw.finish,
                })
            }
            RawStep::Go(raw) => Step::Go(Go {
                packages: raw.packages,
                tools: raw.tools,
                version: raw.version,
                tags: raw.tags,
            }),
            RawStep::Cargo(raw) => {
                Step::Cargo(Cargo { path: self.path(&raw.path)?, package: raw.package })
            }
            RawStep::Files(files) => Step::Files(
                files.into_iter().map(|raw| self.one_file(raw)).collect::<Result<_, _>>()?,
            ),
        })
    }

    fn one_file(&self, raw: RawFile) -> Result<File, Mistake> {
        let mut contents = Vec::new();
        contents.extend(raw.directory.then_some(Content::Directory));
        contents.extend(raw.source.map(Content::Source));
        contents.extend(raw.contents.map(Content::Text));
        contents.extend(raw.symlink.map(Content::Symlink));
        let (Some(content), true) = (contents.pop(), contents.is_empty()) else {
            let message =
                "a file has exactly one of directory, source, contents, symlink".to_owned();
            return self.fail(&raw.path, message);
        };
        let mode = match (&raw.mode, &content) {
            (Some(mode), _) => match u32::from_str_radix(&mode.value, 8) {
                Ok(bits) if bits <= 0o7777 => bits,
                _ => {
                    return self.fail(
                        mode,
                        format!("mode `{}` is not an octal number like \"0644\"", mode.value),
                    );
                }
            },
            (None, Content::Directory) => 0o755,
            (None, Content::Symlink(_)) => 0o777,
            (None, _) => 0o644,
        };
        Ok(File { path: self.path(&raw.path)?, content, mode, uid: raw.uid, gid: raw.gid })
    }

    /// An absolute path as one relative to the root.
    fn path(&self, raw: &Spanned<String>) -> Result<String, Mistake> {
        match raw.value.strip_prefix('/') {
            Some(path) if path.split('/').all(|part| !matches!(part, "" | "." | "..")) => {
                Ok(path.to_owned())
            }
            _ => self.fail(
                raw,
                format!("path `{}` is not absolute and plain, like /usr/bin/name", raw.value),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_mistake(text: &str, expected: &str) {
        let mistake = parse("build.yml", text).expect_err("a mistake");
        assert_eq!(mistake.to_string(), expected);
    }

    #[test]
    fn a_mistake_names_its_place_and_the_way_out() {
        check_mistake(
            "image: x\nrootfs:\n  - deb:\n      pakages: [crun]\n",
            "build.yml:4:7: unknown key `pakages`; did you mean `packages`? (known: packages, exclude, prune, finish)",
        );
        check_mistake(
            "image: x\nrootfs:\n  - dep: {packages: [crun]}\n",
            "build.yml:3:5: unknown word `dep`; did you mean `deb`? (known: deb, go, cargo, files)",
        );
        check_mistake("image: x\nrootfs:\n", "build.yml:2:7: expected sequence start");
        check_mistake("rootfs: []\n", "build.yml:1:1: key `image` is missing");
        check_mistake(
            "image: Big Name\nrootfs: []\n",
            "build.yml:1:8: image name `Big Name` may have a-z, 0-9 and - only",
        );
        check_mistake(
            "image: x\nrootfs:\n  - files:\n      - {path: ../etc/passwd, contents: x}\n",
            "build.yml:4:16: path `../etc/passwd` is not absolute and plain, like /usr/bin/name",
        );
        check_mistake(
            "image: x\nrootfs:\n  - files:\n      - {path: /a, contents: x, symlink: y}\n",
            "build.yml:4:16: a file has exactly one of directory, source, contents, symlink",
        );
        check_mistake(
            "image: x\nrootfs:\n  - files:\n      - {path: /a, contents: x, mode: \"999\"}\n",
            "build.yml:4:39: mode `999` is not an octal number like \"0644\"",
        );
        check_mistake(
            "image: x\nrootfs:\n  - deb: {packages: [a]}\n  - deb: {packages: [b]}\n",
            "build.yml:4:5: a second `deb`: name all Debian packages in one, they share dependencies",
        );
        check_mistake(
            "image: x\noci:\n  env: [PATH]\nrootfs: []\n",
            "build.yml:3:9: `PATH` is not NAME=VALUE",
        );
        check_mistake(
            "image: x\nrootfs:\n  - deb: {packages: [a], finish: [pyton-bytecode]}\n",
            "build.yml:3:35: unknown word `pyton-bytecode`; did you mean `python-bytecode`? (known: busybox, certificates, python-bytecode)",
        );
    }

    #[test]
    fn files_read_as_linuxkit_writes_them() {
        let text = "image: x\nrootfs:\n  - files:\n      - {path: /proc, directory: true}\n      - {path: /a/b, source: b.py, mode: \"0755\", uid: 1000}\n";
        let package = parse("build.yml", text).unwrap();
        let file = |path: &str, content, mode, uid| File {
            path: path.to_owned(),
            content,
            mode,
            uid,
            gid: 0,
        };
        let expected = Step::Files(vec![
            file("proc", Content::Directory, 0o755, 0),
            file("a/b", Content::Source("b.py".to_owned()), 0o755, 1000),
        ]);
        assert_eq!(package.steps, [expected]);
    }
}
