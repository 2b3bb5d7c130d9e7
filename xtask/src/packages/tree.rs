//! A root file system as a sorted list of what lies where: the plan that a layer is written from.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err as fs;

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Folder, file or link.
    pub(crate) kind: Kind,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
}

/// See [`Node::kind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A folder.
    Directory,
    /// A copy of a file of the host.
    File(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A link to that path.
    Symlink(String),
}

impl Node {
    /// Something that belongs to root.
    pub(crate) fn root(kind: Kind, mode: u32) -> Self {
        Self { kind, mode, uid: 0, gid: 0 }
    }
}

/// Paths relative to the root, a folder before what lies in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// Puts something at a path; folders on the way are root's unless they are there already.
    pub(crate) fn insert(&mut self, path: &str, node: Node) -> Result<()> {
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            let folder = self
                .0
                .entry(parent.to_owned())
                .or_insert_with(|| Node::root(Kind::Directory, 0o755));
            if folder.kind != Kind::Directory {
                bail!("cannot put /{path} into an image: /{parent} is no folder");
            }
        }
        self.0.insert(path.to_owned(), node);
        Ok(())
    }

    /// Adds all that lies in a folder of the host; it will belong to root.
    pub(crate) fn scan(&mut self, root: &Path) -> Result<()> {
        let mut work = vec![root.to_owned()];
        while let Some(dir) = work.pop() {
            for entry in fs::read_dir(&dir)? {
                let path = entry?.path();
                let name = path.strip_prefix(root).context("an entry lies in its folder")?;
                let name = name
                    .to_str()
                    .with_context(|| format!("{} is not UTF-8", path.display()))?
                    .to_owned();
                let metadata = fs::symlink_metadata(&path)?;
                let kind = if metadata.is_symlink() {
                    let target = fs::read_link(&path)?;
                    Kind::Symlink(
                        target
                            .into_os_string()
                            .into_string()
                            .ok()
                            .context("a link's target is not UTF-8")?,
                    )
                } else if metadata.is_dir() {
                    work.push(path);
                    Kind::Directory
                } else if metadata.is_file() {
                    Kind::File(path)
                } else {
                    bail!("{} is neither file, folder nor link", path.display());
                };
                self.0.insert(name, Node::root(kind, metadata.permissions().mode() & 0o7777));
            }
        }
        Ok(())
    }

    /// All nodes in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }
}

/// Whether a pattern names `path` or a folder above it; `*` stands for any part of one name.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let mut names = path.split('/');
    pattern.split('/').all(|part| names.next().is_some_and(|name| matches_name(part, name)))
}

fn matches_name(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(start) else { return false };
    (0..=name.len())
        .filter(|at| name.is_char_boundary(*at))
        .any(|at| matches_name(rest, &name[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_paths_and_all_below() {
        for (pattern, path, expected) in [
            ("usr/share/doc", "usr/share/doc", true),
            ("usr/share/doc", "usr/share/doc/python3/copyright", true),
            ("usr/share/doc", "usr/share/docs", false),
            ("usr/lib/python3*/test", "usr/lib/python3.13/test/support.py", true),
            ("usr/lib/python3*/test", "usr/lib/python3.13/unittest", false),
            ("usr/lib/*.a", "usr/lib/libc.a", true),
            ("usr/lib/*.a", "usr/lib/x/libc.a", false),
            ("a/b", "a", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn folders_on_the_way_are_made_and_a_link_is_no_folder() {
        let mut tree = Tree::default();
        tree.insert("home/app/x", Node::root(Kind::Bytes(vec![]), 0o644)).unwrap();
        tree.insert("home/app", Node { uid: 1000, ..Node::root(Kind::Directory, 0o755) }).unwrap();
        let paths: Vec<_> = tree.iter().map(|(path, node)| (path, node.uid)).collect();
        assert_eq!(paths, [("home", 0), ("home/app", 1000), ("home/app/x", 0)]);
        tree.insert("lib", Node::root(Kind::Symlink("usr/lib".to_owned()), 0o777)).unwrap();
        let error = tree.insert("lib/x", Node::root(Kind::Directory, 0o755)).unwrap_err();
        assert_eq!(error.to_string(), "cannot put /lib/x into an image: /lib is no folder");
    }
}
