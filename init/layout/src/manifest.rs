//! A slot's manifest: one line `sha256:HEX MOUNT-POINT` for each package, in the order of mounting.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

/// The manifest's name in a slot.
pub const FILE: &str = "manifest";
/// Most packages that a slot may have; a file that holds more is no manifest of ours.
pub const MAX_PACKAGES: usize = 256;

/// The sha256 of a package's file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// Takes 64 lower-case hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let is_hex = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
        (hex.len() == 64 && hex.bytes().all(is_hex)).then(|| Self(hex.to_owned()))
    }

    /// Its 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// The package's file in the slot.
    pub fn file(&self) -> String {
        format!("{}.erofs", self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// One package of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Names its file.
    pub digest: Digest,
    /// Where it is mounted; the root itself is `/`.
    pub mount_point: String,
}

/// All packages of a slot, the root first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest(Vec<Entry>);

/// A manifest that cannot be mounted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum InvalidManifest {
    #[error("line {0}: `{1}` is not `sha256:HEX MOUNT-POINT`")]
    Line(usize, String),
    #[error("line {0}: mount point `{1}` is not absolute and plain, like /packages/NAME")]
    MountPoint(usize, String),
    #[error("line {0}: mount point `{1}` is used twice")]
    Twice(usize, String),
    #[error("the first package must be the root, mounted at `/`")]
    NoRoot,
    #[error("{0} packages, at most {MAX_PACKAGES} are allowed")]
    TooMany(usize),
}

impl Manifest {
    /// Checks that the first package is the root and that no place is taken twice.
    pub fn new(entries: Vec<Entry>) -> Result<Self, InvalidManifest> {
        if entries.len() > MAX_PACKAGES {
            return Err(InvalidManifest::TooMany(entries.len()));
        }
        if entries.first().is_none_or(|it| it.mount_point != "/") {
            return Err(InvalidManifest::NoRoot);
        }
        let mut seen = HashSet::new();
        for (line, entry) in (1..).zip(&entries) {
            let place = entry.mount_point.clone();
            if !is_plain(&place) {
                return Err(InvalidManifest::MountPoint(line, place));
            }
            if !seen.insert(&entry.mount_point) {
                return Err(InvalidManifest::Twice(line, place));
            }
        }
        Ok(Self(entries))
    }

    /// The packages in the order of mounting.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| writeln!(f, "{} {}", it.digest, it.mount_point))
    }
}

impl FromStr for Manifest {
    type Err = InvalidManifest;

    fn from_str(text: &str) -> Result<Self, InvalidManifest> {
        let read = |text: &str| {
            let (digest, mount_point) = text.strip_prefix("sha256:")?.split_once(' ')?;
            Some(Entry { digest: Digest::from_hex(digest)?, mount_point: mount_point.to_owned() })
        };
        let entries = (1..).zip(text.lines()).map(|(line, text)| {
            read(text).ok_or_else(|| InvalidManifest::Line(line, text.to_owned()))
        });
        Self::new(entries.collect::<Result<_, _>>()?)
    }
}

/// Whether a path is absolute, without empty parts, `.`, `..` or blanks.
fn is_plain(path: &str) -> bool {
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.bytes().any(|it| it.is_ascii_whitespace() || it == 0)
    };
    path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(digit: &str, place: &str) -> String {
        format!("sha256:{} {place}\n", digit.repeat(64))
    }

    #[test]
    fn a_manifest_reads_back_as_it_was_written() {
        let text = [line("a", "/"), line("0", "/packages/dhcp"), line("0", "/packages/b")].concat();
        let manifest: Manifest = text.parse().unwrap();
        assert_eq!(manifest.to_string(), text);
        assert_eq!(manifest.entries()[1].mount_point, "/packages/dhcp");
        assert_eq!(manifest.entries()[1].digest.file(), format!("{}.erofs", "0".repeat(64)));
    }

    #[test]
    fn a_manifest_that_cannot_be_mounted_says_why() {
        let check = |text: String, expected: &str| {
            let error = text.parse::<Manifest>().expect_err(&text);
            assert_eq!(error.to_string(), expected);
        };
        let root = line("a", "/");
        check(String::new(), "the first package must be the root, mounted at `/`");
        check(line("a", "/x"), "the first package must be the root, mounted at `/`");
        check(format!("{root}abc /x\n"), "line 2: `abc /x` is not `sha256:HEX MOUNT-POINT`");
        check(format!("{root}\n"), "line 2: `` is not `sha256:HEX MOUNT-POINT`");
        check(
            format!("sha256:{} /\n", "A".repeat(64)),
            &format!("line 1: `sha256:{} /` is not `sha256:HEX MOUNT-POINT`", "A".repeat(64)),
        );
        for bad in ["x", "/a/../b", "/a//b", "/a/", "/a b", ""] {
            check(
                format!("{root}{}", line("b", bad)),
                &format!(
                    "line 2: mount point `{bad}` is not absolute and plain, like /packages/NAME"
                ),
            );
        }
        check(
            [root.clone(), line("b", "/x"), line("c", "/x")].concat(),
            "line 3: mount point `/x` is used twice",
        );
        let many = (0..256).map(|it| line("b", &format!("/{it}"))).collect::<String>();
        check(root + &many, "257 packages, at most 256 are allowed");
    }
}
