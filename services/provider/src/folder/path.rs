//! A path below a function's folder, checked; and the names that are no source.

use std::fmt;
use std::str::FromStr;

/// Longest path, in bytes; the kernel's own limit.
pub const MAX_PATH: usize = 4096;
/// Longest part of a path, in bytes; the file systems' own limit.
pub const MAX_NAME: usize = 255;

/// Most folders within each other: what lies deeper is in no version, so it is no path here either.
pub const MAX_DEPTH: usize = 64;

/// A path of a file or folder below a function's folder: `/` between parts, no part empty, `.`,
/// `..` or `.git`, nothing that another system would take for one of these.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilePath(String);

impl FilePath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder it lies in, none for what lies in the function's folder itself.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// Its last part.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FilePath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let refuse = |why| Err(InvalidPath { path: shown(text), why });
        if text.is_empty() {
            return refuse("is empty");
        }
        if text.len() > MAX_PATH {
            return refuse("is longer than 4096 bytes");
        }
        if text.contains('\0') {
            return refuse("holds a NUL");
        }
        if text.starts_with('/') {
            return refuse("is absolute");
        }
        if text.matches('/').count() > MAX_DEPTH {
            return refuse("lies in more than 64 folders");
        }
        for part in text.split('/') {
            if part.is_empty() {
                return refuse("has an empty part");
            }
            if part == "." || part == ".." {
                return refuse("has a part `.` or `..`");
            }
            if part.eq_ignore_ascii_case(".git") {
                return refuse("has a part `.git`, which belongs to git");
            }
            if part.len() > MAX_NAME {
                return refuse("has a part longer than 255 bytes");
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<&[u8]> for FilePath {
    type Error = InvalidPath;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidPath> {
        match std::str::from_utf8(bytes) {
            Ok(text) => text.parse(),
            Err(_) => {
                let path = shown(&String::from_utf8_lossy(bytes));
                Err(InvalidPath { path, why: "is not UTF-8" })
            }
        }
    }
}

/// A path that is refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("path `{path}` {why}")]
pub struct InvalidPath {
    path: String,
    why: &'static str,
}

/// Whether a name is what an editor or we put there for a moment: never source, so no reason to
/// make a version and no part of one.
#[must_use]
pub fn is_temporary(name: &[u8]) -> bool {
    let swap = |name: &[u8]| {
        name.len() > 5 && name.starts_with(b".") && name[..name.len() - 1].ends_with(b".sw")
    };
    name == b"4913"
        || name.ends_with(b"~")
        || swap(name)
        || (name.starts_with(TEMPORARY.as_bytes()) && name.ends_with(b".tmp"))
}

/// How the names begin that [`super::Folder`] writes under before a file is whole; they end in `.tmp`.
pub(super) const TEMPORARY: &str = ".inplace-";

/// A path as an error shows it: without control characters, and not a page long.
fn shown(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut short: String = clean.take(200).collect();
    if short.len() < text.len() && text.chars().nth(200).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refused(text: &str, why: &str) {
        let error = text.parse::<FilePath>().unwrap_err().to_string();
        assert!(error.contains(why), "{text:?}: {error}");
    }

    #[test]
    fn what_could_leave_the_folder_or_touch_git_is_refused_by_name() {
        refused("", "is empty");
        refused("/etc/passwd", "is absolute");
        for path in ["..", "a/..", "../a", "a/../b", ".", "./a", "a/./b"] {
            refused(path, "`.` or `..`");
        }
        for path in ["a//b", "a/", "a/b//"] {
            refused(path, "empty part");
        }
        for path in [".git", "a/.git", ".git/config", ".GIT/config", "a/.Git/b"] {
            refused(path, ".git");
        }
        refused("a\0b", "NUL");
        refused(&"a".repeat(256), "longer than 255");
        refused(&"a/".repeat(2100), "longer than 4096");
        let deep = |folders: usize| format!("{}x", "a/".repeat(folders));
        refused(&deep(MAX_DEPTH + 1), "in more than 64 folders");
        assert!(deep(MAX_DEPTH).parse::<FilePath>().is_ok());
        assert!(FilePath::try_from(&b"a\xff"[..]).unwrap_err().to_string().contains("UTF-8"));
    }

    #[test]
    fn a_path_in_an_error_is_short_and_printable() {
        let error = format!("/{}\n\u{1b}[31m", "x".repeat(5000)).parse::<FilePath>().unwrap_err();
        assert!(error.to_string().len() < 300);
        let error = "/a\u{1b}[31m".parse::<FilePath>().unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'));
    }

    #[test]
    fn odd_but_honest_names_are_taken() {
        for path in ["...", ".gitignore", "a.git", "git", "-rf", " ", "ä/☃", "a b/c\nd", "x~"] {
            let parsed: FilePath = path.parse().unwrap();
            assert_eq!(parsed.as_str(), path);
        }
        let path: FilePath = "a/b/c.py".parse().unwrap();
        assert_eq!((path.parent().unwrap().as_str(), path.name()), ("a/b", "c.py"));
        assert_eq!("c.py".parse::<FilePath>().unwrap().parent(), None);
    }

    #[test]
    fn files_of_editors_and_of_ours_in_the_making_are_known() {
        for name in [".handler.py.swp", ".x.swo", "handler.py~", "4913", ".inplace-0a.tmp"] {
            assert!(is_temporary(name.as_bytes()), "{name}");
        }
        for name in ["handler.py", ".swp", "a.swp", ".sw", ".env", "4914", ".inplace-x"] {
            assert!(!is_temporary(name.as_bytes()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_taken_path_stays_below_whatever_it_is_joined_to(text in "[./a-cG-it\\PC]{0,40}") {
            if let Ok(path) = text.parse::<FilePath>() {
                let parts: Vec<_> = std::path::Path::new(path.as_str()).components().collect();
                prop_assert!(parts.iter().all(|p| matches!(p, std::path::Component::Normal(_))));
                prop_assert!(parts.iter().all(|p| !p.as_os_str().eq_ignore_ascii_case(".git")));
                prop_assert_eq!(path.parent().map_or(0, |p| p.as_str().split('/').count()) + 1, parts.len());
            }
        }
    }
}
