//! `images/lock.yml`: version and checksum of all that comes from outside, and the suite it is of.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::spec::Deb;

/// The lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    /// Debian's suite.
    pub(crate) suite: String,
    /// By package of ours: what was asked for, and all Debian packages that answer it.
    #[serde(default)]
    pub(crate) packages: BTreeMap<String, Closure>,
    /// By Debian package.
    #[serde(default)]
    pub(crate) debs: BTreeMap<String, Pin>,
    /// By Python package: build tools that are published as wheels.
    #[serde(default)]
    pub(crate) wheels: BTreeMap<String, Pin>,
}

/// A question to Debian and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Closure {
    /// `packages` of the yml file.
    pub(crate) asked: Vec<String>,
    /// `exclude` of the yml file.
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    /// Names of the Debian packages, sorted.
    pub(crate) debs: Vec<String>,
}

impl Closure {
    /// Whether it answers what a yml file asks now.
    pub(crate) fn answers(&self, deb: &Deb) -> bool {
        self.asked == deb.packages && self.exclude == deb.exclude
    }
}

/// What exactly is taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    /// Version, as its registry writes it.
    pub(crate) version: String,
    /// Checksum of the file.
    pub(crate) sha256: String,
}

impl Lock {
    /// Reads the lock.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let lock: Self = crate::yaml::read(path)?;
        for (name, pin) in lock.debs.iter().chain(&lock.wheels) {
            if pin.sha256.len() != 64
                || !pin.sha256.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
            {
                bail!(
                    "{}: the sha256 of {name} is not 64 hexadecimal digits: {}",
                    crate::workspace::shown(path),
                    pin.sha256
                );
            }
        }
        Ok(lock)
    }

    /// Writes the lock whole, or not at all.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let new = path.with_extension("yml.new");
        fs::write(&new, self.to_yaml())?;
        Ok(fs::rename(&new, path)?)
    }

    /// Forgets Debian packages that no package of ours needs any more.
    pub(crate) fn tidy(&mut self) {
        let used: std::collections::BTreeSet<_> =
            self.packages.values().flat_map(|it| &it.debs).collect();
        self.debs.retain(|name, _| used.contains(name));
    }

    /// The pins of a closure, by name; the lock lists each of them.
    pub(crate) fn pins<'a>(&'a self, closure: &'a Closure) -> Result<Vec<(&'a str, &'a Pin)>> {
        let mut pins = Vec::new();
        for name in &closure.debs {
            match self.debs.get(name) {
                Some(pin) => pins.push((name.as_str(), pin)),
                None => bail!(
                    "images/lock.yml names {name} but not its version; run `cargo xtask lock --update`"
                ),
            }
        }
        Ok(pins)
    }

    fn to_yaml(&self) -> String {
        let mut text = String::from(
            "# Written by `cargo xtask lock`: version and checksum of all that comes from outside.\n",
        );
        text += "# Go modules have theirs in pkg/*/go.sum, crates in Cargo.lock.\n";
        let list = |items: &[String]| format!("[{}]", items.join(", "));
        let pins = |text: &mut String, title: &str, pins: &BTreeMap<String, Pin>| {
            if !pins.is_empty() {
                *text += title;
            }
            for (name, pin) in pins {
                writeln!(
                    text,
                    "  {name}: {{version: \"{}\", sha256: {}}}",
                    pin.version, pin.sha256
                )
                .ok();
            }
        };
        writeln!(text, "suite: {}", self.suite).ok();
        if !self.packages.is_empty() {
            text += "packages:\n";
        }
        for (name, closure) in &self.packages {
            writeln!(text, "  {name}:").ok();
            writeln!(text, "    asked: {}", list(&closure.asked)).ok();
            writeln!(text, "    exclude: {}", list(&closure.exclude)).ok();
            writeln!(text, "    debs: {}", list(&closure.debs)).ok();
        }
        pins(&mut text, "debs:\n", &self.debs);
        pins(&mut text, "wheels:\n", &self.wheels);
        text
    }
}

/// What to say, and do, when a file is not the one that the lock names.
pub(crate) fn wrong_checksum(
    kind: &str,
    name: &str,
    pin: &Pin,
    file: &str,
    found: &str,
) -> anyhow::Error {
    anyhow::anyhow!(
        "wrong checksum: {file}, the {kind} of {name} {}, has sha256\n  {found}, but images/lock.yml names\n  {}\n\
         nothing of it was kept; if the change is known and wanted, run `cargo xtask lock --update`",
        pin.version,
        pin.sha256
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        let pin = |version: &str, digit: &str| Pin {
            version: version.to_owned(),
            sha256: digit.repeat(64),
        };
        let closure = Closure {
            asked: vec!["crun".to_owned()],
            exclude: vec!["gcc-14-base".to_owned()],
            debs: vec!["crun".to_owned(), "libc6".to_owned()],
        };
        Lock {
            suite: "trixie".to_owned(),
            packages: [("crun".to_owned(), closure)].into(),
            debs: [
                ("crun".to_owned(), pin("1.21-1", "a")),
                ("libc6".to_owned(), pin("1:2.41-12+deb13u5", "1")),
            ]
            .into(),
            wheels: [("some-tool".to_owned(), pin("0.20", "c"))].into(),
        }
    }

    #[test]
    fn a_written_lock_reads_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock.yml");
        let empty = Lock {
            packages: BTreeMap::new(),
            debs: BTreeMap::new(),
            wheels: BTreeMap::new(),
            ..lock()
        };
        for lock in [lock(), empty] {
            lock.save(&path).unwrap();
            assert_eq!(Lock::load(&path).unwrap(), lock);
        }
    }

    #[test]
    fn a_damaged_lock_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock.yml");
        let check = |text: &str, expected: &str| {
            fs::write(&path, text).unwrap();
            let error = Lock::load(&path).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
        };
        check(
            "suite: trixie\ndebs:\n  crun: {version: \"1\", sha256: abc}\n",
            "lock.yml: the sha256 of crun is not 64 hexadecimal digits: abc",
        );
        check(
            "suite: trixie\ndeps: {}\n",
            "lock.yml:2:1: unknown key `deps`; did you mean `debs`? (known: suite, packages, debs, wheels)",
        );
    }

    #[test]
    fn tidying_forgets_what_nobody_needs() {
        let mut lock = lock();
        lock.packages.get_mut("crun").unwrap().debs.retain(|it| it != "libc6");
        lock.tidy();
        assert_eq!(lock.debs.keys().collect::<Vec<_>>(), ["crun"]);
    }
}
