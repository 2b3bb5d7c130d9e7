//! Versions on a real file system, of folders that somebody works in.

use std::os::unix::fs::MetadataExt;

use api::ErrorCode;
use nix::sys::stat::Mode;
use proptest::prelude::*;

use super::*;
use crate::folder::testing::{Editor, State, name};

struct Fixture {
    state: State,
    folder: Folder,
    editor: Editor,
    versions: Versions,
    last: u64,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let state = State::new();
        let folder = state.folder("hello");
        let editor = Editor::of(&folder);
        let versions = open(&state, None, &[], limits).unwrap();
        Self { state, folder, editor, versions, last: 0 }
    }

    fn save(&mut self) -> Result<Outcome, VersionError> {
        self.last += 1;
        self.versions.make(&self.folder, self.last)
    }

    #[track_caller]
    fn made(&mut self) -> Made {
        match self.save().unwrap() {
            Outcome::Made(made) => made,
            Outcome::Same(id) => panic!("nothing differs from {id}"),
        }
    }

    fn at(&self, id: u64, path: &str) -> PathBuf {
        self.state.path().join(format!("versions/hello/{id}/{path}"))
    }

    fn text(&self, id: u64, path: &str) -> String {
        fs_err::read_to_string(self.at(id, path)).unwrap()
    }

    fn inode(&self, id: u64, path: &str) -> u64 {
        fs_err::symlink_metadata(self.at(id, path)).unwrap().ino()
    }

    fn ids(&self) -> Vec<String> {
        let dir = self.state.path().join("versions/hello");
        let mut ids: Vec<_> = fs_err::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        ids.sort();
        ids
    }
}

fn open(
    state: &State,
    newest: Option<u64>,
    keep: &[u64],
    limits: Limits,
) -> Result<Versions, VersionError> {
    Versions::open(state.path(), &name("hello"), newest, &keep.iter().copied().collect(), limits)
}

#[track_caller]
fn counts(made: &Made, changed: usize, removed: usize, linked: usize) {
    assert_eq!((made.changed, made.removed, made.linked), (changed, removed, linked));
}

#[test]
fn a_version_holds_what_the_folder_held_and_shares_what_did_not_change() {
    let mut f = Fixture::new();
    f.editor.save("handler.py", "one");
    f.editor.save("lib/util.py", "util");
    f.editor.save("run.sh", "exit 0");
    f.editor.chmod("run.sh", 0o4755);
    f.editor.save(".env", "ignored files count");
    f.editor.link("lib/util.py", "inner");
    f.editor.link("/etc/passwd", "outer");
    for left_out in [".git", "lib/.git/config", ".handler.py.swp", "handler.py~"] {
        f.editor.save(left_out, "x");
    }
    let first = f.made();
    counts(&first, 7, 0, 0);
    assert_eq!(first.bytes, 3 + 4 + 6 + 19);
    let names: Vec<_> =
        fs_err::read_dir(f.at(1, "")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    assert_eq!(fs_err::read_dir(f.at(1, "lib")).unwrap().count(), 1);
    assert_eq!(fs_err::read_link(f.at(1, "outer")).unwrap(), Path::new("/etc/passwd"));
    let mode = |path| fs_err::symlink_metadata(f.at(1, path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("handler.py"), mode("run.sh"), mode("lib")), (0o444, 0o555, 0o755));
    let time = |path: PathBuf| fs_err::metadata(path).unwrap().modified().unwrap();
    assert_eq!(time(f.at(1, "handler.py")), time(f.editor.at("handler.py")));

    f.editor.save("handler.py", "two");
    let second = f.made();
    counts(&second, 1, 0, 3);
    assert_eq!(second.bytes, 3);
    assert_eq!((&*f.text(1, "handler.py"), &*f.text(2, "handler.py")), ("one", "two"));
    assert_eq!(f.inode(1, "lib/util.py"), f.inode(2, "lib/util.py"));
    assert_ne!(
        f.inode(2, "handler.py"),
        fs_err::metadata(f.editor.at("handler.py")).unwrap().ino()
    );
}

#[test]
fn additions_removals_and_things_that_turn_into_others_are_followed() {
    let mut f = Fixture::new();
    for file in ["a", "dir/x", "dir/y", "goes/deep/z", "turns"] {
        f.editor.save(file, "1");
    }
    f.editor.link("a", "link");
    f.made();
    f.editor.remove("goes/deep/z");
    fs_err::remove_dir_all(f.editor.at("goes")).unwrap();
    f.editor.remove("turns");
    f.editor.save("turns/into/folder", "2");
    f.editor.remove("link");
    f.editor.link("dir", "link");
    fs_err::remove_dir_all(f.editor.at("dir")).unwrap();
    f.editor.save("dir", "now a file");
    f.versions.prepare().unwrap();
    let made = f.made();
    counts(&made, 5, 5, 1);
    assert_eq!((&*f.text(2, "turns/into/folder"), &*f.text(2, "dir")), ("2", "now a file"));
    assert!(!f.at(2, "goes").exists());
    assert_eq!((&*f.text(1, "dir/x"), &*f.text(1, "goes/deep/z")), ("1", "1"));
}

#[test]
fn a_save_that_changes_no_byte_makes_no_version() {
    let mut f = Fixture::new();
    f.editor.save("a", "1");
    f.editor.save("b", "1");
    f.made();
    assert_eq!(f.save().unwrap(), Outcome::Same(1));
    f.editor.save("a", "1");
    assert_eq!(f.save().unwrap(), Outcome::Same(1));
    // Another file of the same bytes, as an atomic save of the same text leaves it.
    f.editor.save("c~", "1");
    fs_err::rename(f.editor.at("c~"), f.editor.at("a")).unwrap();
    assert_eq!(f.save().unwrap(), Outcome::Same(1));
    f.versions.prepare().unwrap();
    assert_eq!(f.save().unwrap(), Outcome::Same(1));
    f.editor.chmod("a", 0o755);
    counts(&f.made(), 1, 0, 1);
}

#[test]
fn a_change_is_seen_though_size_and_time_say_otherwise() {
    let mut f = Fixture::new();
    f.editor.save("a", "one");
    f.editor.save("b", "b");
    f.made();
    let time = fs_err::metadata(f.editor.at("a")).unwrap().modified().unwrap();
    let set_time = |path: &str| {
        let file = fs_err::OpenOptions::new().write(true).open(f.editor.at(path)).unwrap();
        file.file().set_modified(time).unwrap();
    };
    f.editor.save("a", "two");
    set_time("a");
    counts(&f.versions.make(&f.folder, 2).map(only).unwrap(), 1, 0, 1);
    // A move over it keeps size and times of the moved file.
    f.editor.save("new~", "six");
    set_time("new~");
    fs_err::rename(f.editor.at("new~"), f.editor.at("a")).unwrap();
    counts(&f.versions.make(&f.folder, 3).map(only).unwrap(), 1, 0, 1);
    assert_eq!((&*f.text(2, "a"), &*f.text(3, "a")), ("two", "six"));
}

fn only(outcome: Outcome) -> Made {
    match outcome {
        Outcome::Made(made) => made,
        Outcome::Same(id) => panic!("nothing differs from {id}"),
    }
}

#[test]
fn writes_of_the_same_length_one_after_the_other_are_never_missed() {
    let mut f = Fixture::new();
    f.editor.save("other", "1");
    for n in 0..200 {
        f.editor.save("a", &format!("{n:03}"));
        let made = f.made();
        assert_eq!(f.text(made.id, "a"), format!("{n:03}"));
    }
}

#[test]
fn a_new_process_knows_what_the_old_one_made() {
    let mut f = Fixture::new();
    f.editor.save("a", "1");
    f.editor.save("dir/b", "1");
    f.made();
    f.editor.save("a", "2");
    f.made();
    f.versions.prepare().unwrap();
    f.versions.sync(2).unwrap();
    fs_err::create_dir(f.at(9, "")).unwrap();
    f.versions = open(&f.state, Some(2), &[1], Limits::default()).unwrap();
    assert_eq!((f.ids(), f.versions.newest()), (vec!["1".into(), "2".into()], Some(2)));
    assert_eq!(f.save().unwrap(), Outcome::Same(2));
    f.editor.save("dir/b", "2");
    counts(&f.made(), 1, 0, 1);
    assert_eq!(f.inode(2, "a"), f.inode(4, "a"));
    let missing = open(&f.state, Some(77), &[], Limits::default()).unwrap_err();
    assert!(matches!(missing, VersionError::Missing { id: 77 }));
}

#[test]
fn pruning_keeps_what_is_in_use_and_the_newest() {
    let mut f = Fixture::new();
    for n in 0..5 {
        f.editor.save("a", &n.to_string());
        f.editor.save("dir/b", "same");
        f.made();
    }
    assert_eq!(f.versions.prune(&BTreeSet::from([2, 99])).unwrap(), 3);
    assert_eq!(f.ids(), ["2", "5"]);
    assert_eq!((&*f.text(2, "a"), &*f.text(5, "dir/b")), ("1", "same"));
    f.editor.save("a", "new");
    counts(&f.made(), 1, 0, 1);
}

#[test]
fn a_tree_beyond_a_limit_is_refused_by_name_and_the_old_version_stays() {
    let mut f = Fixture::with(Limits { entries: 5, bytes: 100, depth: 3 });
    f.editor.save("a", "1");
    f.made();
    let mut check = |path: &str, content: &str, code: ErrorCode, words: &str| {
        f.editor.save(path, content);
        let error = api::Error::from(f.save().unwrap_err());
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(words), "{error}");
        fs_err::remove_dir_all(f.editor.at("t")).unwrap();
    };
    check("t/big", &"x".repeat(100), ErrorCode::TooLarge, "more than 100 bytes; `t/big`");
    check("t/1/2/3/x", "", ErrorCode::TooLarge, "`t/1/2/3` lies too deep");
    for n in 0..4 {
        f.editor.save(&format!("t/{n}"), "");
    }
    let error = f.save().unwrap_err();
    assert!(matches!(error, VersionError::TooMany { limit: 5 }), "{error:?}");
    fs_err::remove_dir_all(f.editor.at("t")).unwrap();
    assert_eq!(f.save().unwrap(), Outcome::Same(1));
}

#[test]
fn a_hundred_thousand_names_and_a_bomb_of_links_are_refused_early() {
    let mut f = Fixture::new();
    f.editor.save("bomb/0", &"x".repeat(1 << 20));
    {
        let _owner = crate::sys::AsOwner::enter().unwrap();
        for n in 1..2000 {
            fs_err::hard_link(f.editor.at("bomb/0"), f.editor.at(&format!("bomb/{n}"))).unwrap();
        }
    }
    let error = f.save().unwrap_err();
    assert!(matches!(error, VersionError::TooLarge { limit, .. } if limit == 1 << 30), "{error:?}");
    fs_err::remove_dir_all(f.editor.at("bomb")).unwrap();
    f.editor.save("many/0", "");
    {
        let _owner = crate::sys::AsOwner::enter().unwrap();
        for n in 1..100_000 {
            // Links are cheaper to make than files; an inode takes 65,000 of them on ext4.
            let target = f.editor.at(&format!("many/{}", n / 50_000 * 50_000));
            let link = f.editor.at(&format!("many/{n}"));
            if n % 50_000 == 0 {
                fs_err::write(link, "").unwrap();
            } else {
                fs_err::hard_link(target, link).unwrap();
            }
        }
    }
    let error = f.save().unwrap_err();
    assert!(matches!(error, VersionError::TooMany { limit: 50_000 }), "{error:?}");
    assert_eq!(f.ids(), Vec::<String>::new());
}

#[test]
fn pipes_and_sockets_are_left_out_and_named() {
    let mut f = Fixture::new();
    f.editor.save("a", "1");
    {
        let _owner = crate::sys::AsOwner::enter().unwrap();
        nix::unistd::mkfifo(&f.editor.at("pipe"), Mode::from_bits_truncate(0o644)).unwrap();
        std::os::unix::net::UnixListener::bind(f.editor.at("socket")).unwrap();
    }
    let made = f.made();
    assert_eq!((made.changed, made.skipped), (1, vec!["pipe".to_owned(), "socket".to_owned()]));
}

#[test]
fn names_that_are_no_text_and_deep_trees_are_copied_as_they_are() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let mut f = Fixture::new();
    let deep = (0..60).map(|n| format!("d{n}")).collect::<Vec<_>>().join("/");
    f.editor.save(&format!("{deep}/x"), "deep");
    let odd = OsStr::from_bytes(b"\xff\n \xc3\x28");
    {
        let _owner = crate::sys::AsOwner::enter().unwrap();
        fs_err::write(f.folder.path().join(odd), "odd").unwrap();
        fs_err::write(f.folder.path().join("n".repeat(255)), "long").unwrap();
    }
    f.made();
    assert_eq!(f.text(1, &format!("{deep}/x")), "deep");
    assert_eq!(fs_err::read_to_string(f.at(1, "").join(odd)).unwrap(), "odd");
    f.editor.save(&format!("{deep}/x"), "peed");
    counts(&f.made(), 1, 0, 2);
}

#[test]
fn a_folder_that_is_gone_or_unreadable_is_said_so() {
    let mut f = Fixture::new();
    f.editor.save("a", "1");
    f.made();
    f.editor.save("b", "1");
    f.editor.chmod("b", 0o000);
    let error = api::Error::from(f.save().unwrap_err());
    assert_eq!((error.code, error.message.contains("`b`")), (ErrorCode::FailedPrecondition, true));
    fs_err::remove_dir_all(f.folder.path()).unwrap();
    assert!(matches!(f.save(), Err(VersionError::Gone { .. })));
    assert_eq!(f.text(1, "a"), "1");
}

#[test]
fn a_file_with_as_many_names_as_it_can_have_is_copied() {
    let mut f = Fixture::new();
    f.editor.save("a", "1");
    f.editor.save("b", "1");
    f.made();
    let links = f.state.path().join("versions/links");
    let full = {
        let _owner = crate::sys::AsOwner::enter().unwrap();
        fs_err::create_dir(&links).unwrap();
        // Some file systems have no such limit within reach; then the file stays shared.
        (0..66_000).any(|n| fs_err::hard_link(f.at(1, "a"), links.join(n.to_string())).is_err())
    };
    f.editor.save("b", "2");
    counts(&f.made(), 1, 0, 1);
    assert_eq!(f.text(2, "a"), "1");
    assert_eq!(f.inode(1, "a") != f.inode(2, "a"), full);
}

#[test]
fn a_folder_that_changes_all_the_time_gives_whole_versions() {
    let mut f = Fixture::new();
    f.editor.save("dir/a", "0000");
    f.editor.save("stays", "1");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let editor = Editor::of(&f.folder);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                editor.save(&format!("dir/new{}", n % 7), &format!("{n}"));
                editor.save("dir/a~", &format!("{:04}", n % 10_000));
                fs_err::rename(editor.at("dir/a~"), editor.at("dir/a")).unwrap();
                if n % 5 == 0 {
                    fs_err::rename(editor.at("dir"), editor.at("moved")).unwrap();
                    fs_err::remove_dir_all(editor.at("moved")).unwrap();
                }
            }
        });
        for _ in 0..60 {
            if let Outcome::Made(made) = f.save().unwrap() {
                assert_eq!(f.text(made.id, "stays"), "1");
                if f.at(made.id, "dir/a").exists() {
                    assert_eq!(f.text(made.id, "dir/a").len(), 4, "half a file");
                }
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    // Whatever it saw in between, the last look is right.
    let _ = f.save().unwrap();
    let newest = f.versions.newest().unwrap();
    let listed = |dir: PathBuf| {
        let mut names: Vec<_> = fs_err::read_dir(dir)
            .map(|dir| dir.map(|entry| entry.unwrap().file_name()).collect())
            .unwrap_or_default();
        names.retain(|name: &std::ffi::OsString| !name.to_string_lossy().ends_with('~'));
        names.sort();
        names
    };
    assert_eq!(listed(f.at(newest, "dir")), listed(f.editor.at("dir")));
}

#[test]
fn a_folder_swapped_for_a_link_never_brings_foreign_files_in() {
    let mut f = Fixture::new();
    let victim = f.state.folder("victim");
    Editor::of(&victim).save("x", "theirs");
    f.editor.save("dir/x", "ours");
    f.editor.link(victim.path().to_str().unwrap(), "evil");
    let (dir, evil) = (f.editor.at("dir"), f.editor.at("evil"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _owner = crate::sys::AsOwner::enter().unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let (here, flags) = (nix::fcntl::AT_FDCWD, RenameFlags::RENAME_EXCHANGE);
                renameat2(here, &dir, here, &evil, flags).unwrap();
            }
        });
        let (mut folders, mut links) = (0, 0);
        // Until both were seen often enough that the race was run.
        while folders < 50 || links < 50 {
            if let Outcome::Made(made) = f.save().unwrap() {
                for name in ["dir", "evil"] {
                    let at = f.at(made.id, name);
                    match at.symlink_metadata() {
                        Ok(status) if status.is_symlink() => links += 1,
                        Ok(_) if at.join("x").exists() => {
                            assert_eq!(fs_err::read_to_string(at.join("x")).unwrap(), "ours");
                            folders += 1;
                        }
                        _ => {}
                    }
                }
                f.versions.prune(&BTreeSet::new()).unwrap();
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn after_any_edits_the_version_is_the_folder(
        edits in prop::collection::vec((0usize..6, 0u8..4, any::<bool>()), 1..24),
    ) {
        let names = ["a", "b", "dir/a", "dir/sub/b", "dir", "dir/sub"];
        let mut f = Fixture::new();
        for (which, what, make) in edits {
            let path = f.editor.at(names[which]);
            match what {
                0 | 1 => {
                    let _owner = crate::sys::AsOwner::enter().unwrap();
                    // It may be impossible now; then nothing happens.
                    let _ = path.parent().map(fs_err::create_dir_all);
                    let _ = fs_err::write(&path, [what]);
                }
                2 => drop(fs_err::remove_dir_all(&path).or_else(|_| fs_err::remove_file(&path))),
                _ => {
                    let _owner = crate::sys::AsOwner::enter().unwrap();
                    let _ = fs_err::os::unix::fs::symlink("b", &path);
                }
            }
            if make {
                let _ = f.save().unwrap();
                f.versions.prepare().unwrap();
            }
        }
        let _ = f.save().unwrap();
        let Some(newest) = f.versions.newest() else { return Ok(()) };
        let found = |root: &Path| {
            let dir = fs_err::File::open(root).unwrap();
            let mut entries = scan::scan(dir.file(), &Limits::default()).unwrap().entries;
            for entry in &mut entries {
                if let scan::Node::File(stamp) = &mut entry.node {
                    let path = root.join(entry.path.to_str().unwrap());
                    let bytes = fs_err::read(path).unwrap();
                    (stamp.inode, stamp.modified) = (u64::from(bytes.first().copied().unwrap_or(9)), 0);
                    stamp.changed = 0;
                }
            }
            entries
        };
        prop_assert_eq!(found(&f.at(newest, "")), found(f.folder.path()));
    }
}
