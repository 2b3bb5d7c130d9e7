//! What dpkg's scripts would have done: they do not run, since nothing is installed, only unpacked.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use fs_err as fs;

use super::spec::{Deb, Finish};
use super::tree::matches;
use crate::children;

/// Finishes and prunes an unpacked tree.
pub(crate) fn apply(deb: &Deb, root: &Path) -> Result<()> {
    for finish in &deb.finish {
        match finish {
            Finish::Busybox => busybox(root)?,
            Finish::Certificates => certificates(root)?,
            Finish::PythonBytecode => {}
        }
    }
    prune(&deb.prune, root)?;
    if deb.finish.contains(&Finish::PythonBytecode) {
        python_bytecode(root)?;
    }
    Ok(())
}

fn busybox(root: &Path) -> Result<()> {
    let bin = root.join("usr/bin");
    let list = children::output(Command::new(bin.join("busybox")).arg("--list"))?;
    for name in list.lines().filter(|name| !name.is_empty()) {
        let there = ["usr/bin", "usr/sbin"]
            .iter()
            .any(|dir| root.join(dir).join(name).symlink_metadata().is_ok());
        if !there {
            symlink("busybox", bin.join(name))
                .with_context(|| format!("linking {name} to busybox"))?;
        }
    }
    Ok(())
}

fn certificates(root: &Path) -> Result<()> {
    let mut all = Vec::new();
    for file in sorted(&root.join("usr/share/ca-certificates/mozilla"))? {
        all.extend(fs::read(file)?);
    }
    fs::create_dir_all(root.join("etc/ssl/certs"))?;
    fs::write(root.join("etc/ssl/certs/ca-certificates.crt"), all)?;
    // Where OpenSSL, and with it Python, looks when nobody says anything else.
    fs::create_dir_all(root.join("usr/lib/ssl"))?;
    let link = root.join("usr/lib/ssl/cert.pem");
    symlink("/etc/ssl/certs/ca-certificates.crt", &link)
        .with_context(|| format!("linking {}", link.display()))
}

/// Compiles all modules with checks off: the image never changes under them, and a checked one
/// would cost a `stat` for each import.
fn python_bytecode(root: &Path) -> Result<()> {
    let lib = root.join("usr/lib");
    let versions = sorted(&lib)?;
    let is_version = |path: &&PathBuf| {
        path.file_name().is_some_and(|it| it.to_string_lossy().starts_with("python3."))
    };
    let library = versions.iter().find(is_version).context("the tree holds no Python")?;
    let python = root.join("usr/bin").join(library.file_name().context("a folder has a name")?);
    let mut command = run_inside(root, &python);
    command.args(["-S", "-m", "compileall", "-qq", "-f", "--invalidation-mode", "unchecked-hash"]);
    command.arg("-s").arg(root).args(["-p", "/"]);
    command.arg(library).arg(lib.join("python3/dist-packages"));
    command
        .env("PYTHONHOME", root.join("usr"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONHASHSEED", "0");
    children::output(&mut command).map(drop)
}

/// A program of an unpacked tree, run by that tree's own loader: it needs a newer libc than a host may have.
fn run_inside(root: &Path, program: &Path) -> Command {
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(&libraries).arg(program);
    command
}

fn prune(patterns: &[String], root: &Path) -> Result<()> {
    let mut work = vec![root.to_owned()];
    while let Some(dir) = work.pop() {
        for path in sorted(&dir)? {
            let relative =
                path.strip_prefix(root).context("an entry lies in its folder")?.to_string_lossy();
            let is_dir = path.symlink_metadata()?.is_dir();
            if patterns.iter().any(|pattern| matches(pattern, &relative)) {
                if is_dir { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
            } else if is_dir {
                work.push(path);
            }
        }
    }
    Ok(())
}

fn sorted(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pruning_takes_folders_files_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for file in [
            "usr/share/doc/a/b",
            "usr/lib/python3.13/test/x.py",
            "usr/lib/python3.13/os.py",
            "usr/lib/x.a",
        ] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        symlink("nowhere", root.join("usr/share/man")).unwrap();
        let patterns = ["usr/share/doc", "usr/share/man", "usr/lib/python3*/test", "usr/lib/*.a"]
            .map(str::to_owned);
        prune(&patterns, root).unwrap();
        let left = |path: &str| root.join(path).symlink_metadata().is_ok();
        assert!(left("usr/lib/python3.13/os.py") && left("usr/share"));
        for gone in ["usr/share/doc", "usr/share/man", "usr/lib/python3.13/test", "usr/lib/x.a"] {
            assert!(!left(gone), "{gone}");
        }
    }

    #[test]
    fn certificates_become_one_file_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("usr/share/ca-certificates/mozilla");
        fs::create_dir_all(&from).unwrap();
        for name in ["b.crt", "a.crt"] {
            fs::write(from.join(name), format!("{name}\n")).unwrap();
        }
        certificates(dir.path()).unwrap();
        let all = fs::read_to_string(dir.path().join("etc/ssl/certs/ca-certificates.crt")).unwrap();
        assert_eq!(all, "a.crt\nb.crt\n");
    }
}
