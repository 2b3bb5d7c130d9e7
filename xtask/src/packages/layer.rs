//! A tree as a tar stream that is the same bytes whenever and wherever it is written.

use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;
use sha2::{Digest as _, Sha256};

use super::key::hex;
use super::tree::{Kind, Tree};

/// Time of every file in an image, in seconds since 1970: `SOURCE_DATE_EPOCH`, else the start of
/// 1980, the oldest time that zip archives made from an image can hold.
pub(crate) fn epoch() -> Result<u64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH={text} is not a number of seconds")),
        Err(_) => Ok(315_532_800),
    }
}

/// Writes the layer into the folder, named by its SHA-256.
///
/// It is not compressed: a layer is read from the disk it was written to, so that gzip would
/// save nothing and cost most of the time of its import.
pub(crate) fn write(tree: &Tree, dir: &Path, epoch: u64) -> Result<()> {
    let path = dir.join("layer.tar");
    let mut out = Hashing {
        inner: BufWriter::with_capacity(1 << 20, fs::File::create(&path)?),
        hash: Sha256::new(),
    };
    stream(tree, &mut out, epoch)?;
    out.flush()?;
    fs::rename(&path, dir.join(hex(&out.hash.finalize())))?;
    Ok(())
}

fn stream(tree: &Tree, out: impl Write, epoch: u64) -> Result<()> {
    let mut tar = tar::Builder::new(out);
    for (path, node) in tree.iter() {
        let mut header = tar::Header::new_gnu();
        header.set_mode(node.mode);
        header.set_uid(node.uid.into());
        header.set_gid(node.gid.into());
        header.set_mtime(epoch);
        header.set_size(0);
        let put = |header: &mut tar::Header, tar: &mut tar::Builder<_>, content: &mut dyn Read| {
            tar.append_data(header, path, content)
        };
        match &node.kind {
            Kind::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                put(&mut header, &mut tar, &mut std::io::empty())?;
            }
            Kind::Symlink(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, path, target)?;
            }
            Kind::Bytes(bytes) => {
                header.set_size(bytes.len() as u64);
                put(&mut header, &mut tar, &mut bytes.as_slice())?;
            }
            Kind::File(source) => {
                let file = fs::File::open(source)?;
                let size = file.metadata()?.len();
                header.set_size(size);
                put(&mut header, &mut tar, &mut file.take(size))
                    .with_context(|| format!("writing {} into a layer", source.display()))?;
            }
        }
    }
    tar.into_inner().context("ending a layer")?.flush().context("writing a layer")
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::packages::key::sha256;
    use crate::packages::tree::Node;

    /// The same files, made in the given order and at other times.
    fn tree_of(order: &[&str]) -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        for name in order {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, *name).unwrap();
            fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        }
        let mut tree = Tree::default();
        tree.scan(dir.path()).unwrap();
        (dir, tree)
    }

    #[test]
    fn the_same_tree_is_the_same_bytes_whatever_the_order_and_time() {
        let long = format!("deep/{}/file", "x".repeat(180));
        let (_one, first) = tree_of(&["b/2", "a", &long, "b/1"]);
        let (_two, second) = tree_of(&["b/1", &long, "b/2", "a"]);
        let bytes = |tree: &Tree| {
            let mut out = Vec::new();
            stream(tree, &mut out, 7).unwrap();
            out
        };
        assert_eq!(sha256(&bytes(&first)), sha256(&bytes(&second)));
        let mut archive = tar::Archive::new(bytes(&first).leak() as &[u8]);
        let read: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                assert_eq!((header.mtime().unwrap(), header.uid().unwrap()), (7, 0));
                entry.path().unwrap().to_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(read, ["a", "b", "b/1", "b/2", "deep", long.rsplit_once('/').unwrap().0, &long]);
    }

    #[test]
    fn a_layer_is_named_by_the_digest_of_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::default();
        tree.insert("a/b", Node::root(Kind::Bytes(b"text".to_vec()), 0o644)).unwrap();
        tree.insert("a/link", Node::root(Kind::Symlink("b".to_owned()), 0o777)).unwrap();
        write(&tree, dir.path(), 7).unwrap();
        let files: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().path()).collect();
        assert_eq!(files.len(), 1);
        let name = files[0].file_name().unwrap().to_str().unwrap();
        assert_eq!(sha256(&fs::read(&files[0]).unwrap()), name);
    }
}
