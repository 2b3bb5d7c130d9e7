//! News from real folders, while an editor and the real git work in them.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::unistd::Uid;

use super::*;
use crate::folder::testing::{Editor, State};
use crate::sys::{AsOwner, OWNER};

/// How long news may take before the test says that there is none.
const SOON: Duration = Duration::from_secs(10);

struct Fixture {
    state: State,
    folder: Folder,
    editor: Editor,
    git: Git,
}

impl Fixture {
    fn new() -> Self {
        let state = State::new();
        let folder = state.folder("hello");
        let git = Git::init(state.path(), &folder).unwrap();
        let editor = Editor::of(&folder);
        editor.save("handler.py", "one");
        editor.save("lib/util.py", "one");
        Self { state, folder, editor, git }
    }

    fn watch(&self) -> Watcher {
        Watcher::new(&self.folder, &self.git).unwrap()
    }

    fn real_git(&self, arguments: &[&str]) {
        let mut command = Command::new("git");
        if Uid::effective().is_root() {
            command.uid(OWNER).gid(OWNER);
        }
        let status = command
            .args(["-c", "user.name=E", "-c", "user.email=e@example.org"])
            .args(arguments)
            .current_dir(self.folder.path())
            .env("HOME", self.state.path())
            .status()
            .unwrap();
        assert!(status.success(), "git {arguments:?}");
    }
}

async fn next(watcher: &mut Watcher) -> Event {
    tokio::time::timeout(SOON, watcher.next()).await.expect("no news").unwrap()
}

/// What is told until `last` is.
async fn until(watcher: &mut Watcher, last: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    while !all.contains(last) {
        match next(watcher).await {
            Event::Changed(changed) => all.extend(changed.paths),
            other => panic!("{other:?} before {last}, after {all:?}"),
        }
    }
    all
}

fn set<const N: usize>(paths: [&str; N]) -> BTreeSet<String> {
    paths.into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_save_is_told_when_it_is_closed_and_not_before() {
    let f = Fixture::new();
    let mut watcher = f.watch();
    let mut file = {
        let _owner = AsOwner::enter().unwrap();
        fs_err::File::create(f.editor.at("handler.py")).unwrap()
    };
    for part in ["half ", "of ", "a ", "file"] {
        std::io::Write::write_all(&mut file, part.as_bytes()).unwrap();
    }
    // A fence: its event comes after those of the writes above.
    f.editor.save("fence", "");
    assert_eq!(until(&mut watcher, "fence").await, set(["fence"]));
    drop(file);
    assert_eq!(until(&mut watcher, "handler.py").await, set(["handler.py"]));
}

#[tokio::test]
async fn all_of_a_burst_is_in_one_answer() {
    let f = Fixture::new();
    let mut watcher = f.watch();
    for file in ["a", "b", "lib/c"] {
        f.editor.save(file, "1");
    }
    f.editor.remove("handler.py");
    let Event::Changed(changed) = next(&mut watcher).await else { panic!() };
    assert_eq!(changed.paths, set(["a", "b", "handler.py", "lib/c"]));
    assert!(!changed.more);
}

#[tokio::test]
async fn moves_links_and_modes_count_and_noise_does_not() {
    let f = Fixture::new();
    let mut watcher = f.watch();
    f.editor.save(".handler.py.swp", "x");
    f.editor.save("handler.py~", "x");
    f.editor.save("4913", "x");
    f.editor.chmod("handler.py", 0o755);
    f.editor.link("handler.py", "link");
    fs_err::hard_link(f.editor.at("handler.py"), f.editor.at("second")).unwrap();
    fs_err::rename(f.editor.at("lib/util.py"), f.editor.at("moved.py")).unwrap();
    let told = until(&mut watcher, "moved.py").await;
    assert_eq!(told, set(["handler.py", "lib/util.py", "link", "moved.py", "second"]));
}

#[tokio::test]
async fn folders_that_come_and_move_are_watched_under_their_names() {
    let f = Fixture::new();
    let mut watcher = f.watch();
    f.editor.save("new/deep/a", "1");
    until(&mut watcher, "new").await;
    f.editor.save("new/deep/a", "2");
    until(&mut watcher, "new/deep/a").await;
    fs_err::rename(f.editor.at("new"), f.editor.at("lib/moved")).unwrap();
    until(&mut watcher, "lib/moved").await;
    f.editor.save("lib/moved/deep/a", "3");
    until(&mut watcher, "lib/moved/deep/a").await;
    fs_err::remove_dir_all(f.editor.at("lib")).unwrap();
    until(&mut watcher, "lib").await;
    f.editor.save("lib/again", "1");
    until(&mut watcher, "lib").await;
    f.editor.save("lib/again", "2");
    until(&mut watcher, "lib/again").await;
}

#[tokio::test]
async fn a_tree_that_is_made_at_full_speed_ends_watched() {
    let f = Fixture::new();
    let mut watcher = f.watch();
    for round in 0..20 {
        let deep = format!("r{round}/a/b/c/d/e");
        f.editor.save(&format!("{deep}/x"), "1");
        until(&mut watcher, &format!("r{round}")).await;
        f.editor.save(&format!("{deep}/y"), "1");
        until(&mut watcher, &format!("{deep}/y")).await;
    }
}

#[tokio::test]
async fn the_folder_that_goes_is_told_even_while_it_is_open() {
    let f = Fixture::new();
    let mut watcher = f.watch();
    fs_err::remove_dir_all(f.folder.path()).unwrap();
    while next(&mut watcher).await != Event::Gone {}
    assert_eq!(next(&mut watcher).await, Event::Gone);

    let f = Fixture::new();
    let mut watcher = f.watch();
    fs_err::rename(f.folder.path(), f.state.path().join("volumes/x")).unwrap();
    assert_eq!(next(&mut watcher).await, Event::Gone);
    assert!(Watcher::new(&f.folder, &f.git).is_err());
}

#[tokio::test]
async fn commits_of_whichever_git_are_told_as_moves_of_the_branch() {
    let f = Fixture::new();
    let mut watcher = f.watch();
    f.real_git(&["add", "-A"]);
    f.real_git(&["commit", "-qm", "theirs"]);
    assert_eq!(next(&mut watcher).await, Event::Branch);
    let first = f.git.head().unwrap();
    f.real_git(&["checkout", "-qb", "feature/deep/x"]);
    assert_eq!(next(&mut watcher).await, Event::Branch);
    f.real_git(&["commit", "-q", "--allow-empty", "-m", "second"]);
    assert_eq!(next(&mut watcher).await, Event::Branch);
    assert_ne!(f.git.head().unwrap(), first);
    f.real_git(&["pack-refs", "--all"]);
    assert_eq!(next(&mut watcher).await, Event::Branch);
    f.real_git(&["status"]);
    f.editor.save("fence", "");
    assert_eq!(until(&mut watcher, "fence").await, set(["fence"]), "a status is no news");
}

#[tokio::test]
async fn a_checkout_of_the_real_git_is_seen_in_the_folder() {
    let f = Fixture::new();
    f.real_git(&["add", "-A"]);
    f.real_git(&["commit", "-qm", "first"]);
    f.editor.save("handler.py", "two");
    let mut watcher = f.watch();
    f.real_git(&["checkout", "-q", "--", "handler.py"]);
    until(&mut watcher, "handler.py").await;
    assert_eq!(f.editor.read("handler.py"), "one");
}

#[tokio::test]
async fn when_events_are_lost_everything_is_looked_at_again() {
    let f = Fixture::new();
    let mut watcher = f.watch();
    let limit: usize = fs_err::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // Two files in turn, since equal events in a row are one; and a folder that is lost among them.
    for _ in 0..limit / 2 + 10 {
        f.editor.save("a", "");
        f.editor.save("b", "");
    }
    f.editor.save("late/x", "1");
    let mut lost = false;
    while !lost {
        let Event::Changed(changed) = next(&mut watcher).await else { continue };
        lost = changed.more;
    }
    f.editor.save("late/x", "2");
    until(&mut watcher, "late/x").await;
}

#[tokio::test]
async fn a_long_list_of_paths_is_cut_and_says_so() {
    let f = Fixture::new();
    let mut watcher = f.watch();
    for n in 0..100 {
        f.editor.save(&format!("f{n}"), "1");
    }
    let Event::Changed(changed) = next(&mut watcher).await else { panic!() };
    assert_eq!((changed.paths.len(), changed.more), (MAX_PATHS, true));
}
