//! The folder against real file systems, and against others who change it meanwhile.

use std::io::Cursor;
use std::sync::atomic::{AtomicBool, Ordering};

use api::ErrorCode;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};

use super::testing::{Editor, State, name};
use super::*;

const LIMIT: u64 = 1 << 20;

fn path(text: &str) -> FilePath {
    text.parse().unwrap()
}

fn write(folder: &Folder, to: &str, content: &str) -> Result<Written, FolderError> {
    folder.write(&path(to), &mut content.as_bytes(), LIMIT, &Precondition::None)
}

fn text(folder: &Folder, from: &str) -> String {
    let mut content = folder.read(&path(from), LIMIT).unwrap();
    let mut text = String::new();
    content.file.read_to_string(&mut text).unwrap();
    assert_eq!(text.len() as u64, content.size);
    text
}

#[track_caller]
fn check_code<T: std::fmt::Debug>(result: Result<T, FolderError>, code: ErrorCode, words: &str) {
    let error = api::Error::from(result.unwrap_err());
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.contains(words), "{error}");
}

#[test]
fn what_was_written_is_read_again_with_the_same_tag() {
    let state = State::new();
    let folder = state.folder("hello");
    let written = write(&folder, "lib/deep/a.py", "one").unwrap();
    assert!(written.created);
    assert_eq!(text(&folder, "lib/deep/a.py"), "one");
    assert_eq!(folder.read(&path("lib/deep/a.py"), LIMIT).unwrap().etag, written.etag);
    let again = write(&folder, "lib/deep/a.py", "two").unwrap();
    assert!(!again.created);
    assert_ne!(again.etag, written.etag);
    assert_eq!(text(&folder, "lib/deep/a.py"), "two");
    let status = fs_err::metadata(folder.path().join("lib/deep/a.py")).unwrap();
    use std::os::unix::fs::MetadataExt;
    let owner = if Uid::effective().is_root() { OWNER } else { Uid::effective().as_raw() };
    assert_eq!((status.uid(), status.mode() & 0o777), (owner, 0o644));
}

#[test]
fn a_write_keeps_the_mode_and_leaves_no_other_file() {
    let state = State::new();
    let folder = state.folder("hello");
    let editor = Editor::of(&folder);
    editor.save("run.sh", "exit 0");
    editor.chmod("run.sh", 0o755);
    write(&folder, "run.sh", "exit 1").unwrap();
    assert_eq!((editor.mode("run.sh"), &*editor.read("run.sh")), (0o755, "exit 1"));
    let names: Vec<_> = folder.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["run.sh"]);
}

#[test]
fn of_two_writers_that_saw_the_same_file_one_is_refused() {
    let state = State::new();
    let folder = state.folder("hello");
    let seen = Precondition::Tagged(vec![write(&folder, "a", "0").unwrap().etag.to_string()]);
    let results: Vec<_> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|n: u8| {
                let (folder, seen) = (&folder, &seen);
                scope.spawn(move || {
                    folder.write(&path("a"), &mut &[b'1' + n][..], LIMIT, seen).map(|w| (n, w.etag))
                })
            })
            .collect();
        writers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for result in lost {
        check_code(result, ErrorCode::Conflict, "`a`");
    }
    let (n, etag) = won.into_iter().next().unwrap().unwrap();
    assert_eq!(text(&folder, "a"), (b'1' + n).escape_ascii().to_string());
    assert_eq!(folder.read(&path("a"), LIMIT).unwrap().etag, etag);
}

#[test]
fn preconditions_guard_writes_and_removals() {
    let state = State::new();
    let folder = state.folder("hello");
    let mut body = Cursor::new("x");
    let missing = folder.write(&path("a"), &mut body, LIMIT, &Precondition::Present);
    check_code(missing, ErrorCode::Conflict, "`a`");
    let etag = folder.write(&path("a"), &mut "x".as_bytes(), LIMIT, &Precondition::Absent).unwrap();
    let taken = folder.write(&path("a"), &mut "y".as_bytes(), LIMIT, &Precondition::Absent);
    check_code(taken, ErrorCode::Conflict, "`a`");
    let other = Precondition::Tagged(vec!["\"0\"".into()]);
    check_code(folder.remove(&path("a"), &other), ErrorCode::Conflict, "`a`");
    assert_eq!(text(&folder, "a"), "x");
    folder.remove(&path("a"), &Precondition::Tagged(vec![etag.etag.to_string()])).unwrap();
    check_code(folder.read(&path("a"), LIMIT), ErrorCode::NotFound, "`a`");
    check_code(folder.remove(&path("a"), &Precondition::None), ErrorCode::NotFound, "`a`");
}

#[test]
fn a_file_beyond_the_limit_is_refused_and_the_old_one_stays() {
    let state = State::new();
    let folder = state.folder("hello");
    write(&folder, "a", "old").unwrap();
    let mut endless = std::io::repeat(7);
    let result = folder.write(&path("a"), &mut endless, 100_000, &Precondition::None);
    check_code(result, ErrorCode::TooLarge, "`a` is larger than 100000 bytes");
    check_code(folder.read(&path("a"), 2), ErrorCode::TooLarge, "`a`");
    assert_eq!(text(&folder, "a"), "old");
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_body_that_breaks_off_changes_nothing() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 > 3 {
                Err(std::io::ErrorKind::ConnectionReset.into())
            } else {
                Ok(buffer.len())
            }
        }
    }
    let state = State::new();
    let folder = state.folder("hello");
    write(&folder, "a", "old").unwrap();
    folder.write(&path("a"), &mut Broken(0), LIMIT, &Precondition::None).unwrap_err();
    assert_eq!(text(&folder, "a"), "old");
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[test]
fn links_that_lead_out_are_refused_and_those_within_are_followed() {
    let state = State::new();
    let folder = state.folder("hello");
    let editor = Editor::of(&folder);
    editor.save("lib/real.py", "here");
    for (target, link) in
        [("/etc", "abs"), ("../..", "up"), ("loop", "loop"), ("lib/../../..", "hidden")]
    {
        editor.link(target, link);
    }
    editor.link("lib", "inner");
    editor.link("real.py", "lib/also.py");
    assert_eq!(text(&folder, "inner/real.py"), "here");
    assert_eq!(text(&folder, "lib/also.py"), "here");
    for climb in ["abs/passwd", "up/x", "loop", "loop/x", "hidden/x", "abs", "up"] {
        check_code(folder.read(&path(climb), LIMIT), ErrorCode::InvalidArgument, climb);
    }
    for climb in ["abs/x", "up/x", "loop/x", "hidden/x", "up/new/x"] {
        check_code(write(&folder, climb, "evil"), ErrorCode::InvalidArgument, "");
    }
    for link in ["abs", "lib/also.py"] {
        check_code(write(&folder, link, "x"), ErrorCode::InvalidArgument, "link");
    }
    assert!(!state.path().join("x").exists());
    check_code(folder.list(Some(&path("up")), 9), ErrorCode::InvalidArgument, "up");
    folder.remove(&path("abs"), &Precondition::None).unwrap();
    assert!(Path::new("/etc").is_dir());
}

#[test]
fn nothing_of_roots_is_reached_by_a_file_that_only_root_may_read() {
    let state = State::new();
    let folder = state.folder("hello");
    let secret = folder.path().join("secret");
    fs_err::write(&secret, "root's").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    fs_err::set_permissions(&secret, mode).unwrap();
    check_code(folder.read(&path("secret"), LIMIT), ErrorCode::FailedPrecondition, "secret");
}

#[test]
fn pipes_and_folders_are_no_files_and_nothing_waits_for_them() {
    let state = State::new();
    let folder = state.folder("hello");
    {
        let _owner = AsOwner::enter().unwrap();
        mkfifo(&folder.path().join("pipe"), Mode::from_bits_truncate(0o644)).unwrap();
    }
    write(&folder, "dir/x", "x").unwrap();
    for other in ["pipe", "dir"] {
        check_code(folder.read(&path(other), LIMIT), ErrorCode::InvalidArgument, other);
        check_code(write(&folder, other, "x"), ErrorCode::InvalidArgument, other);
    }
    check_code(write(&folder, "pipe/x", "x"), ErrorCode::InvalidArgument, "pipe");
    write(&folder, "file", "x").unwrap();
    check_code(write(&folder, "file/x", "x"), ErrorCode::InvalidArgument, "file/x");
    check_code(folder.list(Some(&path("file")), 9), ErrorCode::InvalidArgument, "`file`");
    let full = folder.remove(&path("dir"), &Precondition::None);
    check_code(full, ErrorCode::FailedPrecondition, "`dir` is not empty");
    folder.remove(&path("dir/x"), &Precondition::None).unwrap();
    folder.remove(&path("dir"), &Precondition::None).unwrap();
}

#[test]
fn a_listing_shows_sources_in_order_and_says_when_it_is_cut() {
    let state = State::new();
    let folder = state.folder("hello");
    let editor = Editor::of(&folder);
    for file in ["b.py", "a/x.py", "a/.git/config", ".x.swp", "a/y~", "é/ü"] {
        editor.save(file, "12345");
    }
    editor.save(".git", "gitdir: elsewhere");
    editor.link("b.py", "link");
    let all = folder.list(None, 100).unwrap();
    let shown: Vec<_> =
        all.entries.iter().map(|e| format!("{} {:?} {}", e.path, e.kind, e.size)).collect();
    assert_eq!(
        shown,
        ["a Dir 0", "a/x.py File 5", "b.py File 5", "link Link 0", "é Dir 0", "é/ü File 5"]
    );
    assert!(all.complete);
    let some = folder.list(None, 2).unwrap();
    assert_eq!((some.entries.len(), some.complete), (2, false));
    for n in 0..500 {
        editor.save(&format!("many/{n}"), "");
    }
    let some = folder.list(Some(&path("many")), 10).unwrap();
    assert_eq!((some.entries.len(), some.complete), (10, false));
    let below = folder.list(Some(&path("a")), 100).unwrap();
    assert_eq!(below.entries[0].path, "a/x.py");
}

#[test]
fn a_folder_that_is_deleted_or_moved_is_told_from_a_missing_file() {
    let state = State::new();
    let folder = state.folder("hello");
    write(&folder, "a", "x").unwrap();
    check_code(folder.read(&path("b"), LIMIT), ErrorCode::NotFound, "`b`");
    fs_err::rename(folder.path(), state.path().join("functions/other")).unwrap();
    for result in [
        folder.read(&path("b"), LIMIT).map(drop),
        write(&folder, "a", "y").map(drop),
        write(&folder, "c/a", "y").map(drop),
        folder.list(None, 9).map(drop),
    ] {
        assert!(matches!(result, Err(FolderError::Gone { .. })), "{result:?}");
    }
    assert!(matches!(Folder::open(state.path(), &name("hello")), Err(FolderError::Gone { .. })));
    fs_err::os::unix::fs::symlink("other", state.path().join("functions/hello")).unwrap();
    assert!(matches!(Folder::open(state.path(), &name("hello")), Err(FolderError::Gone { .. })));
}

#[test]
fn a_name_that_is_taken_is_not_taken_again() {
    let state = State::new();
    state.folder("hello");
    let again = Folder::create(state.path(), &name("hello"));
    check_code(again, ErrorCode::AlreadyExists, "hello");
    prepare_state(state.path()).unwrap();
}

#[test]
fn a_folder_swapped_for_a_link_never_lets_a_write_out() {
    let state = State::new();
    let folder = state.folder("hello");
    let victim = state.folder("victim");
    let editor = Editor::of(&folder);
    editor.save("dir/x", "0");
    editor.save("real/x", "0");
    let target = victim.path().to_str().unwrap().to_owned();
    editor.link(&target, "evil");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _owner = AsOwner::enter().unwrap();
            // An exchange of two names is one step: `dir` is always a folder or the link.
            let swap = |a: &str, b: &str| {
                nix::fcntl::renameat2(
                    nix::fcntl::AT_FDCWD,
                    &editor.at(a),
                    nix::fcntl::AT_FDCWD,
                    &editor.at(b),
                    nix::fcntl::RenameFlags::RENAME_EXCHANGE,
                )
                .unwrap();
            };
            while !stop.load(Ordering::Relaxed) {
                swap("dir", "evil");
            }
        });
        let (mut within, mut refused) = (0, 0);
        // Until both were seen often enough that the race was run.
        while within < 200 || refused < 200 {
            match folder.put(&path("dir/x"), b"1", Bits::Kept) {
                Ok(()) => within += 1,
                Err(FolderError::Outside { .. }) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(victim.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_file_that_is_pruned_takes_its_empty_folders_along() {
    let state = State::new();
    let folder = state.folder("hello");
    let editor = Editor::of(&folder);
    editor.save("a/b/c/x", "0");
    editor.save("a/y", "0");
    folder.prune(&path("a/b/c/x")).unwrap();
    assert!(editor.exists("a/y") && !editor.exists("a/b"));
    folder.prune(&path("a/b/c/x")).unwrap();
    folder.prune(&path("a/y/z")).unwrap();
    assert!(editor.exists("a/y"));
}
