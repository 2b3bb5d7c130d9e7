//! Tests of the listing and reading of commits, on real repositories.

use git2::{Repository, Signature, TreeBuilder};

use super::*;

const FILE: i32 = 0o100_644;

struct Fixture {
    dir: tempfile::TempDir,
    repository: Repository,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(dir.path()).unwrap();
        Self { dir, repository }
    }

    fn blob(&self, content: &[u8]) -> Oid {
        self.repository.blob(content).unwrap()
    }

    fn tree(&self, fill: impl FnOnce(&mut TreeBuilder<'_>)) -> Oid {
        let mut builder = self.repository.treebuilder(None).unwrap();
        fill(&mut builder);
        builder.write().unwrap()
    }

    fn open(&self, tree: Oid) -> Result<Tree, Error> {
        let tree = self.repository.find_tree(tree).unwrap();
        let who = Signature::new("n", "e@x", &git2::Time::new(1_700_000_000, 120)).unwrap();
        let commit = self.repository.commit(None, &who, &who, "m", &tree, &[]).unwrap();
        Tree::open(&Source { git_dir: self.dir.path().into(), commit: commit.to_string() })
    }
}

fn refusal(result: Result<Tree, Error>) -> String {
    result.err().unwrap().to_string()
}

#[test]
fn entries_come_in_buildkits_order_with_go_modes() {
    let fixture = Fixture::new();
    let blob = fixture.blob(b"content");
    let target = fixture.blob(b"a/x");
    let inner = fixture.tree(|it| drop(it.insert("x", blob, FILE).unwrap()));
    let top = fixture.tree(|it| {
        it.insert("a", inner, 0o040_000).unwrap();
        it.insert("a.txt", blob, FILE).unwrap();
        it.insert("run", blob, 0o100_755).unwrap();
        it.insert("z", target, 0o120_000).unwrap();
    });
    let tree = fixture.open(top).unwrap();
    assert_eq!(tree.time(), 1_700_000_000);
    let stats: Vec<Stat> = tree.entries().iter().map(Entry::stat).collect();
    let brief: Vec<_> =
        stats.iter().map(|it| (it.path.as_str(), it.mode, it.size, it.linkname.as_str())).collect();
    let expected = [
        ("a", 1 << 31 | 0o755, 0, ""),
        ("a/x", 0o644, 7, ""),
        ("a.txt", 0o644, 7, ""),
        ("run", 0o755, 7, ""),
        ("z", 1 << 27 | 0o777, 3, "a/x"),
    ];
    assert_eq!(brief, expected);
    assert!(stats.iter().all(|it| it.uid == 0 && it.gid == 0));
}

#[test]
fn times_follow_the_content_and_lie_in_the_zip_range() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.blob(b"one"), fixture.blob(b"two"));
    assert_ne!(mtime(one), mtime(two));
    let zip_range = 315_532_800_000_000_000..1_600_000_000_000_000_000;
    assert!([one, two].into_iter().all(|it| zip_range.contains(&mtime(it))));
}

#[test]
fn blobs_come_in_pieces_loose_or_packed() {
    let fixture = Fixture::new();
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let blob = fixture.blob(&content);
    let empty = fixture.blob(b"");
    let top = fixture.tree(|it| {
        it.insert("big", blob, FILE).unwrap();
        it.insert("empty", empty, FILE).unwrap();
    });
    let tree = fixture.open(top).unwrap();
    let check = || {
        let blobs = tree.blobs().unwrap();
        for (entry, expected) in tree.entries().iter().zip([content.as_slice(), b""]) {
            let mut read = Vec::new();
            let piece = |data: Vec<u8>| {
                assert!(data.len() <= PIECE);
                read.extend_from_slice(&data);
                true
            };
            blobs.read(entry, piece).unwrap();
            assert_eq!(read, expected);
        }
        let mut pieces = 0;
        blobs
            .read(&tree.entries()[0], |_| {
                pieces += 1;
                false
            })
            .unwrap();
        assert_eq!(pieces, 1);
    };
    check();
    pack_all(&fixture.repository);
    check();
}

/// What `git gc` does: all objects in one pack, no loose ones.
fn pack_all(repository: &Repository) {
    let objects = repository.path().join("objects");
    let mut builder = repository.packbuilder().unwrap();
    let mut ids = Vec::new();
    repository
        .odb()
        .unwrap()
        .foreach(|id| {
            ids.push(*id);
            true
        })
        .unwrap();
    for id in ids {
        builder.insert_object(id, None).unwrap();
    }
    builder.write(&objects.join("pack"), 0o644).unwrap();
    for folder in fs_err::read_dir(objects).unwrap() {
        let folder = folder.unwrap();
        if folder.file_name().len() == 2 {
            fs_err::remove_dir_all(folder.path()).unwrap();
        }
    }
}

#[test]
fn what_cannot_be_sent_is_refused_by_name() {
    let fixture = Fixture::new();
    let blob = fixture.blob(b"x");
    let other = Oid::from_str(&"1".repeat(40)).unwrap();
    let module = fixture.tree(|it| drop(it.insert("lib", other, 0o160_000).unwrap()));
    let module = fixture.tree(|it| drop(it.insert("sub", module, 0o040_000).unwrap()));
    assert!(refusal(fixture.open(module)).starts_with("sub/lib is a submodule"));
    let raw = fixture.tree(|it| drop(it.insert(&b"\xff"[..], blob, FILE).unwrap()));
    assert!(refusal(fixture.open(raw)).ends_with("is not UTF-8"));
    let mut deep = fixture.tree(|_| {});
    for _ in 0..=MAX_DEPTH {
        deep = fixture.tree(|it| drop(it.insert("d", deep, 0o040_000).unwrap()));
    }
    assert!(refusal(fixture.open(deep)).contains("nested deeper"));
    // 2^20 files in 21 objects.
    let mut bomb = fixture.tree(|it| {
        it.insert("a", blob, FILE).unwrap();
        it.insert("b", blob, FILE).unwrap();
    });
    for _ in 0..19 {
        bomb = fixture.tree(|it| {
            it.insert("a", bomb, 0o040_000).unwrap();
            it.insert("b", bomb, 0o040_000).unwrap();
        });
    }
    assert!(refusal(fixture.open(bomb)).contains("more than 200000 files"));
}

#[test]
fn a_commit_that_is_not_there_is_refused_by_name() {
    let fixture = Fixture::new();
    let git_dir = fixture.dir.path().to_owned();
    for commit in ["abc".to_owned(), "2".repeat(40), "g".repeat(40)] {
        let error =
            refusal(Tree::open(&Source { git_dir: git_dir.clone(), commit: commit.clone() }));
        assert!(error.contains(&commit), "{error}");
    }
}
