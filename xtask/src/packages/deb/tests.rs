//! Real apt and dpkg on a small archive of our own: no network and no root.

use std::path::Path;
use std::process::Command;

use fs_err as fs;
use tempfile::TempDir;

use super::*;
use crate::packages::key::sha256;
use crate::packages::spec;

/// An archive of Debian packages in a folder, and a cache beside it.
struct Archive {
    dir: TempDir,
    cache: Cache,
}

impl Archive {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open_at(&dir.path().join("cache"), &Progress::new()).unwrap();
        fs::create_dir(dir.path().join("archive")).unwrap();
        Self { dir, cache }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("archive")
    }

    /// Replaces all versions of a package by one, which holds `/usr/share/NAME` with its version.
    fn publish(&self, name: &str, version: &str, depends: &str) {
        for entry in fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with(&format!("{name}_")) {
                fs::remove_file(path).unwrap();
            }
        }
        let tree = self.dir.path().join("tree");
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        fs::create_dir_all(tree.join("usr/share")).unwrap();
        fs::write(tree.join("usr/share").join(name), version).unwrap();
        fs::write(tree.join("DEBIAN/control"), control(name, version, depends)).unwrap();
        let file = self.path().join(format!("{name}_{version}_amd64.deb"));
        children::output(Command::new("dpkg-deb").arg("--build").arg(&tree).arg(&file)).unwrap();
        fs::remove_dir_all(tree).unwrap();
        fs::write(file.with_extension("control"), control(name, version, depends)).unwrap();
        self.index();
    }

    fn index(&self) {
        let mut index = String::new();
        for entry in fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|it| it == "deb") {
                let bytes = fs::read(&path).unwrap();
                index += &fs::read_to_string(path.with_extension("control")).unwrap();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                index += &format!(
                    "Filename: ./{name}\nSize: {}\nSHA256: {}\n\n",
                    bytes.len(),
                    sha256(&bytes)
                );
            }
        }
        fs::write(self.path().join("Packages"), index).unwrap();
    }

    fn provide(&self, lock: &mut Lock, yml: &str, locked: bool) -> Result<Unpacked> {
        let package = spec::parse(Path::new(""), yml).unwrap();
        let sources = format!("deb [trusted=yes] file:{} ./\n", self.path().display());
        let apt = Apt::with_sources(&self.cache.state("apt").unwrap(), "test", sources);
        let mut all = provide(&self.cache, &apt, lock, &[&package], locked, &Progress::new())?;
        Ok(all.remove("x").unwrap())
    }

    fn downloads(&self) -> usize {
        fs::read_dir(self.cache.state("downloads").unwrap()).unwrap().count()
    }
}

fn control(name: &str, version: &str, depends: &str) -> String {
    let depends = if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") };
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: nobody <n@example.org>\n\
         {depends}Description: a test\n"
    )
}

fn empty_lock() -> Lock {
    Lock {
        suite: "test".to_owned(),
        packages: BTreeMap::new(),
        debs: BTreeMap::new(),
        wheels: BTreeMap::new(),
    }
}

const YML: &str = "image: x\nrootfs:\n  - deb: {packages: [first], exclude: [third]}\n";

fn read(unpacked: &Unpacked, name: &str) -> Option<String> {
    fs::read_to_string(unpacked.root.join("usr/share").join(name)).ok()
}

fn archive() -> Archive {
    let archive = Archive::new();
    archive.publish("first", "1.0", "second, third");
    archive.publish("second", "2.0", "");
    archive.publish("third", "3.0", "");
    archive
}

#[test]
fn dependencies_come_along_and_the_lock_names_them() {
    let archive = archive();
    let mut lock = empty_lock();
    let error = archive.provide(&mut lock, YML, true).unwrap_err().to_string();
    assert_eq!(error, "images/lock.yml does not answer what x ask for now; run `cargo xtask lock`");
    let unpacked = archive.provide(&mut lock, YML, false).unwrap();
    assert_eq!(read(&unpacked, "first").as_deref(), Some("1.0"));
    assert_eq!(read(&unpacked, "second").as_deref(), Some("2.0"));
    assert_eq!(read(&unpacked, "third"), None, "excluded");
    assert_eq!(lock.packages["x"].debs, ["first", "second"]);
    let again = archive.provide(&mut lock.clone(), YML, true).unwrap();
    assert_eq!(again.root, unpacked.root, "nothing is made twice");
}

#[test]
fn a_wrong_checksum_is_named_with_both_sums_and_nothing_is_kept() {
    let archive = archive();
    let mut lock = empty_lock();
    archive.provide(&mut lock, YML, false).unwrap();
    let right = lock.debs["first"].sha256.clone();
    let wrong = "0".repeat(64);
    lock.debs.get_mut("first").unwrap().sha256.clone_from(&wrong);
    let before = archive.downloads();
    let locked = lock.clone();
    let error = archive.provide(&mut lock, YML, false).unwrap_err().to_string();
    for part in ["first 1.0", "first_1.0_amd64.deb", &right, &wrong, "cargo xtask lock --update"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert_eq!(archive.downloads(), before);
    assert_eq!(lock, locked, "a lock is not made to fit");
}

#[test]
fn a_version_that_is_gone_gives_way_to_the_newest_unless_locked() {
    let archive = archive();
    let mut lock = empty_lock();
    archive.provide(&mut lock, YML, false).unwrap();
    fs::remove_dir_all(archive.cache.state("downloads").unwrap()).unwrap();
    fs::remove_dir_all(archive.cache.state("debs").unwrap()).unwrap();
    archive.cache.state("downloads").unwrap();
    archive.publish("first", "1.1", "second, third");
    let error = archive.provide(&mut lock, YML, true).unwrap_err().to_string();
    assert_eq!(
        error,
        "first 1.0 is no longer to be had; run `cargo xtask lock` to take the newest of test"
    );
    let second = lock.debs["second"].clone();
    let unpacked = archive.provide(&mut lock, YML, false).unwrap();
    assert_eq!(read(&unpacked, "first").as_deref(), Some("1.1"));
    assert_eq!(lock.debs["first"].version, "1.1");
    assert_eq!(lock.debs["second"], second, "what is still to be had stays");
}
