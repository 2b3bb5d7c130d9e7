//! Our git against the real one, in the same folder.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::time::Duration;

use api::ErrorCode;
use nix::unistd::Uid;
use time::macros::datetime;

use super::*;
use crate::folder::testing::{Editor, State};
use crate::folder::{Folder, FolderError};
use crate::sys::OWNER;

struct Fixture {
    state: State,
    folder: Folder,
    git: Git,
    editor: Editor,
}

impl Fixture {
    fn new() -> Self {
        let state = State::new();
        let folder = state.folder("hello");
        let git = Git::init(state.path(), &folder).unwrap();
        let editor = Editor::of(&folder);
        Self { state, folder, git, editor }
    }

    /// Runs the real git in the folder, as its owner.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("git");
        if Uid::effective().is_root() {
            command.uid(OWNER).gid(OWNER);
        }
        command
            .args(["-c", "user.name=Editor", "-c", "user.email=editor@example.org"])
            .args(arguments)
            .current_dir(self.folder.path())
            .env("HOME", self.state.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env_remove("GIT_DIR")
            .output()
            .unwrap()
    }

    /// As [`Fixture::run`]; what it printed.
    #[track_caller]
    fn real(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn commit(&self, message: &str) -> CommitId {
        self.git.commit(message, &author()).unwrap().unwrap()
    }

    fn kept(&self, number: u64) -> Option<(String, CommitId)> {
        self.git.keep_uncommitted(number, &author()).unwrap()
    }

    #[track_caller]
    fn changes(&self, against: Option<CommitId>, expected: &[(&str, ChangeKind)]) {
        let changes = self.git.changes(against, 100).unwrap();
        let found: Vec<_> = changes.paths.iter().map(|c| (c.path.as_str(), c.kind)).collect();
        assert_eq!(found, expected);
        assert_eq!(changes.more, 0);
        assert_eq!(self.git.dirty(against).unwrap(), !expected.is_empty());
    }
}

fn author() -> Author {
    Author {
        name: "Inplace".into(),
        email: "owner@inplace.invalid".into(),
        time: datetime!(2026-03-01 12:00 +2),
    }
}

#[test]
fn the_real_git_sees_a_commit_of_ours_and_a_clean_folder() {
    let f = Fixture::new();
    assert_eq!(f.git.head().unwrap(), None);
    f.editor.save("handler.py", "one\n");
    f.editor.save("lib/run.sh", "exit 0\n");
    f.editor.chmod("lib/run.sh", 0o755);
    f.editor.link("lib/run.sh", "link");
    f.editor.save(".gitignore", "secret\n");
    f.editor.save("secret", "s");
    f.editor.save(".handler.py.swp", "noise");
    let commit = f.commit("first");
    assert_eq!(f.git.head().unwrap(), Some(commit));
    assert_eq!(f.real(&["rev-parse", "HEAD"]).trim(), commit.to_string());
    assert_eq!(f.real(&["rev-parse", "--abbrev-ref", "HEAD"]).trim(), "main");
    assert_eq!(f.real(&["status", "--porcelain"]), "");
    assert_eq!(
        f.real(&["log", "--format=%an %ae %s %aI"]).trim(),
        "Inplace owner@inplace.invalid first 2026-03-01T12:00:00+02:00"
    );
    assert_eq!(
        f.real(&["ls-tree", "-r", "--format=%(objectmode) %(path)", "HEAD"]),
        "100644 .gitignore\n100644 handler.py\n100755 lib/run.sh\n120000 link\n"
    );
    f.real(&["fsck", "--strict"]);
    f.changes(None, &[]);
}

#[test]
fn we_see_a_commit_of_the_real_git_and_go_on_from_it() {
    let f = Fixture::new();
    f.editor.save("a", "1");
    f.real(&["add", "-A"]);
    f.real(&["commit", "-qm", "theirs"]);
    let theirs = f.git.head().unwrap().unwrap();
    f.changes(None, &[]);
    assert_eq!(f.git.commit("", &author()).unwrap(), None);
    f.editor.save("a", "2");
    let ours = f.commit("ours");
    assert_eq!(f.real(&["rev-parse", "HEAD^"]).trim(), theirs.to_string());
    f.real(&["checkout", "-qb", "feature/x"]);
    f.editor.save("a", "3");
    let third = f.commit("on a branch");
    assert_eq!(f.real(&["rev-parse", "feature/x"]).trim(), third.to_string());
    assert_eq!(f.real(&["rev-parse", "main"]).trim(), ours.to_string());
}

#[test]
fn a_commit_takes_additions_changes_modes_and_removals() {
    let f = Fixture::new();
    for file in ["stays", "changes", "goes", "runs", "dir/goes"] {
        f.editor.save(file, "1");
    }
    let first = f.commit("first");
    f.editor.save("changes", "2");
    f.editor.save("comes/new", "1");
    f.editor.remove("goes");
    f.editor.remove("dir/goes");
    f.editor.chmod("runs", 0o755);
    use ChangeKind::{Added, Modified, Removed};
    let expected = [
        ("changes", Modified),
        ("comes/new", Added),
        ("dir/goes", Removed),
        ("goes", Removed),
        ("runs", Modified),
    ];
    f.changes(None, &expected);
    f.commit("second");
    f.changes(None, &[]);
    f.changes(Some(first), &expected);
    assert_eq!(f.real(&["status", "--porcelain"]), "");
    assert_eq!(
        f.real(&["diff", "--no-renames", "--name-status", "HEAD^", "HEAD"]),
        "M\tchanges\nA\tcomes/new\nD\tdir/goes\nD\tgoes\nM\truns\n"
    );
}

#[test]
fn a_message_that_nobody_gave_says_what_changed() {
    let f = Fixture::new();
    f.editor.save("a", "1");
    f.editor.save("b", "1");
    f.commit(" \n");
    f.editor.save("a", "2");
    f.editor.remove("b");
    for file in ["c", "d", "e"] {
        f.editor.save(file, "1");
    }
    f.commit("");
    assert_eq!(
        f.real(&["log", "--format=%s"]),
        "change a, remove b, add c and 2 more\nadd a, add b\n"
    );
}

#[test]
fn a_first_commit_may_be_empty_and_a_second_may_not() {
    let f = Fixture::new();
    f.commit("");
    assert_eq!(f.git.commit("again", &author()).unwrap(), None);
}

#[test]
fn going_back_restores_tracked_files_and_keeps_the_rest() {
    let f = Fixture::new();
    f.editor.save("handler.py", "one\n");
    f.editor.save("old/only", "1");
    f.editor.save("run", "1");
    f.editor.chmod("run", 0o755);
    f.editor.link("handler.py", "link");
    f.editor.save("turns", "file");
    f.editor.save(".gitignore", "ignored\n");
    let first = f.commit("first");
    f.editor.save("handler.py", "two\n");
    f.editor.remove("old/only");
    f.editor.save("new/deep/only", "2");
    f.editor.chmod("run", 0o644);
    f.editor.remove("link");
    f.editor.link("new", "link");
    f.editor.remove("turns");
    f.editor.save("turns/into/folder", "2");
    let second = f.commit("second");
    f.editor.save("handler.py", "typing...");
    f.editor.save("untracked", "u");
    f.editor.save("ignored", "i");

    let (name, kept) = f.kept(7).unwrap();
    assert_eq!(name, "refs/inplace/before-rollback/7");
    f.git.restore(&f.folder, first).unwrap();

    assert_eq!(f.editor.read("handler.py"), "one\n");
    assert_eq!(f.editor.read("old/only"), "1");
    assert_eq!(f.editor.mode("run"), 0o755);
    assert_eq!(fs_err::read_link(f.editor.at("link")).unwrap().to_str(), Some("handler.py"));
    assert_eq!(f.editor.read("turns"), "file");
    assert!(!f.editor.exists("new"));
    assert_eq!((&*f.editor.read("untracked"), &*f.editor.read("ignored")), ("u", "i"));
    assert_eq!(f.git.head().unwrap(), Some(second));
    f.changes(Some(first), &[("untracked", ChangeKind::Added)]);
    assert_eq!(f.real(&["diff", "--name-only"]), "", "the index has what the folder has");
    assert_eq!(f.real(&["show", &format!("{kept}:handler.py")]), "typing...");
    assert_eq!(f.real(&["show", &format!("{name}:untracked")]), "u");
    assert_eq!(f.real(&["rev-parse", &format!("{name}^")]).trim(), second.to_string());

    // The next commit goes on top, and the way forward is open as well.
    f.editor.remove("untracked");
    let third = f.commit("as it was");
    assert_eq!(
        f.real(&["rev-parse", &format!("{third}^{{tree}}")]),
        f.real(&["rev-parse", &format!("{first}^{{tree}}")])
    );
    f.git.restore(&f.folder, second).unwrap();
    f.changes(Some(second), &[]);
    assert_eq!(f.editor.read("turns/into/folder"), "2");
    f.real(&["fsck", "--strict"]);
}

#[test]
fn restoring_twice_or_what_is_there_changes_nothing() {
    let f = Fixture::new();
    f.editor.save("a", "1");
    let first = f.commit("first");
    let before = fs_err::metadata(f.editor.at("a")).unwrap().modified().unwrap();
    f.git.restore(&f.folder, first).unwrap();
    assert_eq!(fs_err::metadata(f.editor.at("a")).unwrap().modified().unwrap(), before);
    assert_eq!(f.kept(1), None);
    assert!(!f.real(&["for-each-ref"]).contains("before-rollback"));
}

#[test]
fn keeping_uncommitted_work_touches_neither_branch_nor_index() {
    let f = Fixture::new();
    f.editor.save("a", "1");
    f.commit("first");
    f.editor.save("a", "2");
    f.editor.save("staged", "s");
    f.real(&["add", "staged"]);
    let before = (f.git.head().unwrap(), f.real(&["status", "--porcelain"]));
    f.kept(1).unwrap();
    assert_eq!((f.git.head().unwrap(), f.real(&["status", "--porcelain"])), before);
}

#[test]
fn what_was_kept_before_is_not_replaced() {
    let f = Fixture::new();
    let kept: Vec<_> = ["1", "2", "3"]
        .into_iter()
        .map(|content| {
            f.editor.save("a", content);
            f.kept(5).unwrap().0
        })
        .collect();
    for (n, name) in (5..).zip(&kept) {
        assert_eq!(*name, format!("refs/inplace/before-rollback/{n}"));
        assert_eq!(f.real(&["show", &format!("{name}:a")]), (n - 4).to_string());
    }
}

#[test]
fn of_a_message_without_measure_the_beginning_is_read() {
    let f = Fixture::new();
    f.editor.save("a", "1");
    let commit = f.commit(&"ä".repeat(100_000));
    let message = f.git.message(commit).unwrap();
    assert_eq!((message.len(), message.chars().next()), (MAX_MESSAGE, Some('ä')));
}

#[test]
fn of_what_was_kept_the_newest_stay_and_nobody_elses_goes() {
    let f = Fixture::new();
    f.editor.save("a", "committed");
    f.commit("first");
    let others = ["refs/inplace/before-rollback/mine", "refs/heads/1"];
    for other in others {
        f.real(&["update-ref", other, "HEAD"]);
    }
    for number in 100..125 {
        f.editor.save("a", &number.to_string());
        f.kept(number).unwrap();
        if number == 110 {
            f.real(&["pack-refs", "--all"]);
        }
    }
    let kept = || {
        let all = f.real(&["for-each-ref", "--format=%(refname)", "refs/inplace"]);
        all.lines().map(|it| it.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let numbers = |all: std::ops::Range<u64>| all.map(|it| it.to_string());
    let mine = || ["mine".to_owned()];
    assert_eq!(kept(), numbers(105..125).chain(mine()).collect::<Vec<_>>());
    assert!(f.real(&["for-each-ref"]).contains(others[1]));
    assert_eq!(f.real(&["show", "refs/inplace/before-rollback/105:a"]), "105");

    // After a clock was set back the new one is the lowest, and stays.
    f.editor.save("a", "new");
    f.kept(7).unwrap();
    assert_eq!(kept(), numbers(105..125).chain(numbers(7..8)).chain(mine()).collect::<Vec<_>>());
}

#[test]
fn what_git_does_not_know_is_not_overwritten_by_a_roll_back() {
    let f = Fixture::new();
    f.editor.save("data", "source");
    let first = f.commit("first");
    f.editor.remove("data");
    f.editor.save(".gitignore", "data/\n");
    f.editor.save("other", "1");
    f.commit("second");
    f.editor.save("data/precious", "p");
    let error = f.git.restore(&f.folder, first).unwrap_err();
    assert!(matches!(&error, GitError::InTheWay { path } if path == "data/precious"), "{error:?}");
    assert_eq!(api::Error::from(error).code, ErrorCode::FailedPrecondition);
    assert_eq!(f.editor.read("data/precious"), "p");
    assert_eq!(f.editor.read("other"), "1", "nothing was begun");
    f.editor.remove("data/precious");
    f.git.restore(&f.folder, first).unwrap();
    assert_eq!(f.editor.read("data"), "source");
}

#[test]
fn a_commit_that_would_write_outside_or_into_git_is_refused() {
    let f = Fixture::new();
    let tree = |entries: &str| {
        use std::io::Write;
        let mut command = Command::new("git");
        if Uid::effective().is_root() {
            command.uid(OWNER).gid(OWNER);
        }
        let mut child = command
            .args(["mktree", "--missing"])
            .current_dir(f.folder.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(entries.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    f.editor.save("a", "1");
    f.commit("first");
    let blob = f.real(&["rev-parse", "HEAD:a"]).trim().to_owned();
    for evil in ["..", ".git", ".GIT"] {
        let inner = tree(&format!("100644 blob {blob}\tconfig\n"));
        let outer = tree(&format!("040000 tree {inner}\t{evil}\n"));
        let commit = f.real(&["commit-tree", &outer, "-m", "evil"]);
        let commit: CommitId = commit.trim().parse().unwrap();
        let error = api::Error::from(f.git.restore(&f.folder, commit).unwrap_err());
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{error}");
        assert!(error.message.contains(evil), "{error}");
    }
    assert_eq!(f.editor.read("a"), "1");
}

#[test]
fn commits_that_are_not_there_are_said_so() {
    let f = Fixture::new();
    for text in ["", "main", "abc", &"g".repeat(40), &"1".repeat(41)] {
        assert!(text.parse::<CommitId>().is_err(), "{text:?}");
    }
    let missing: CommitId = "1".repeat(40).parse().unwrap();
    for error in
        [f.git.dirty(Some(missing)).unwrap_err(), f.git.restore(&f.folder, missing).unwrap_err()]
    {
        assert_eq!(api::Error::from(error).code, ErrorCode::NotFound);
    }
}

#[test]
fn a_list_of_changes_has_an_end() {
    let f = Fixture::new();
    for n in 0..20 {
        f.editor.save(&format!("f{n:02}"), "1");
    }
    let changes = f.git.changes(None, 3).unwrap();
    assert_eq!((changes.paths.len(), changes.more), (3, 17));
}

#[test]
fn a_git_that_is_at_work_is_waited_for_and_one_that_died_is_named() {
    let f = Fixture::new();
    assert!(!f.git.is_locked());
    for (n, lock) in ["index.lock", "HEAD.lock", "refs/heads/main.lock"].into_iter().enumerate() {
        f.editor.save("a", &n.to_string());
        let path = f.git.git_dir().join(lock);
        fs_err::write(&path, "").unwrap();
        assert!(f.git.is_locked());
        let error = f.git.wait_unlocked(Duration::from_millis(1)).unwrap_err();
        assert!(matches!(&error, GitError::Locked { file } if file == lock), "{error:?}");
        assert_eq!(api::Error::from(error).code, ErrorCode::Unavailable);
        std::thread::scope(|scope| {
            let commit = scope.spawn(|| f.git.commit("waited", &author()));
            // However late the commit begins to wait, it ends after this.
            fs_err::remove_file(&path).unwrap();
            commit.join().unwrap().unwrap().unwrap();
        });
    }
}

#[test]
fn two_gits_that_commit_at_once_lose_nothing() {
    let f = Fixture::new();
    f.editor.save("a", "0");
    f.commit("first");
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| {
            // A lock of ours makes theirs fail, as it is with any two gits; then they try again.
            (0..10)
                .filter(|n| {
                    let message = format!("theirs {n}");
                    f.run(&["commit", "-q", "--allow-empty", "-m", &message]).status.success()
                })
                .count()
        });
        let mut ours = 0;
        for n in 0..10 {
            f.editor.save("a", &format!("{n}!"));
            // None: theirs came between our index and our commit, and took the change along.
            ours += usize::from(f.git.commit(&format!("ours {n}"), &author()).unwrap().is_some());
            assert_eq!(f.real(&["show", "HEAD:a"]), format!("{n}!"));
        }
        let theirs = theirs.join().unwrap();
        let log = f.real(&["log", "--format=%s"]);
        assert_eq!(log.lines().filter(|line| line.starts_with("ours")).count(), ours, "{log}");
        assert_eq!(log.lines().filter(|line| line.starts_with("theirs")).count(), theirs, "{log}");
    });
    f.real(&["fsck", "--strict"]);
}

#[test]
fn a_merge_that_is_open_is_not_committed_over() {
    let f = Fixture::new();
    f.editor.save("a", "0\n");
    f.commit("base");
    f.real(&["checkout", "-qb", "other"]);
    f.editor.save("a", "1\n");
    f.commit("one");
    f.real(&["checkout", "-q", "main"]);
    f.editor.save("a", "2\n");
    f.commit("two");
    assert!(!f.run(&["merge", "other"]).status.success(), "the merge has a conflict");
    f.changes(None, &[("a", ChangeKind::Conflicted)]);
    let error = f.git.commit("", &author()).unwrap_err();
    assert!(matches!(error, GitError::InProgress { what: "merge" }), "{error:?}");
}

#[test]
fn a_hostile_configuration_runs_nothing_and_leads_nowhere() {
    let f = Fixture::new();
    f.editor.save("a", "1");
    f.commit("first");
    let trace = f.state.path().join("functions/trace");
    let evil = format!("touch {}", trace.display());
    for (key, value) in [
        ("core.fsmonitor", evil.as_str()),
        ("core.worktree", "/etc"),
        ("core.hooksPath", "/tmp"),
        ("core.pager", &evil),
        ("core.sshCommand", &evil),
        ("filter.evil.clean", &evil),
        ("filter.evil.smudge", &evil),
        ("filter.evil.process", &evil),
        ("diff.evil.command", &evil),
        ("diff.evil.textconv", &evil),
        ("gpg.program", &evil),
        ("commit.gpgSign", "true"),
        ("include.path", "/no/such/file"),
        ("core.excludesFile", "/no/such/file"),
        ("core.attributesFile", "/etc/passwd"),
    ] {
        f.real(&["config", "-f", f.git.git_dir().join("config").to_str().unwrap(), key, value]);
    }
    f.editor.save(".gitattributes", "* filter=evil diff=evil\n");
    f.editor.save("a", "2");
    let hook = f.git.git_dir().join("hooks/pre-commit");
    fs_err::create_dir_all(hook.parent().unwrap()).unwrap();
    fs_err::write(&hook, format!("#!/bin/sh\n{evil}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs_err::set_permissions(&hook, mode).unwrap();
    assert!(f.git.dirty(None).unwrap());
    let before = f.git.head().unwrap();
    f.commit("second");
    f.kept(1);
    f.git.restore(&f.folder, before.unwrap()).unwrap();
    assert_eq!(f.editor.read("a"), "1");
    assert!(!trace.exists(), "a program of the configuration ran");
}

#[test]
fn pipes_and_links_in_the_git_directory_are_refused_without_waiting() {
    let f = Fixture::new();
    let head = f.git.git_dir().join("HEAD");
    let text = fs_err::read_to_string(&head).unwrap();
    fs_err::remove_file(&head).unwrap();
    nix::unistd::mkfifo(&head, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    assert!(matches!(f.git.head(), Err(GitError::Special { file }) if file == "HEAD"));
    fs_err::remove_file(&head).unwrap();
    fs_err::write(&head, text).unwrap();
    assert_eq!(f.git.head().unwrap(), None);
    let moved = f.state.path().join("git/elsewhere");
    fs_err::rename(f.git.git_dir(), &moved).unwrap();
    assert!(matches!(f.git.head(), Err(GitError::Gone { .. })));
    fs_err::os::unix::fs::symlink(&moved, f.git.git_dir()).unwrap();
    assert!(matches!(f.git.head(), Err(GitError::Special { .. })));
}

#[test]
fn the_file_that_names_the_git_directory_is_put_right() {
    let f = Fixture::new();
    let right = f.editor.read(".git");
    assert_eq!(right, "gitdir: ../../git/hello.git\n");
    f.editor.save(".git", "gitdir: /etc");
    Git::open(f.state.path(), &f.folder).unwrap();
    assert_eq!(f.editor.read(".git"), right);
    f.editor.remove(".git");
    f.editor.link("/etc/passwd", ".git");
    Git::open(f.state.path(), &f.folder).unwrap();
    assert_eq!(f.editor.read(".git"), right);
    assert!(matches!(Git::init(f.state.path(), &f.folder), Err(GitError::AlreadyExists { .. })));
    assert_eq!(f.real(&["status", "--porcelain"]), "");
}

#[test]
fn a_folder_that_is_gone_is_said_so() {
    let f = Fixture::new();
    f.editor.save("a", "1");
    let first = f.commit("first");
    fs_err::remove_dir_all(f.folder.path()).unwrap();
    let error = f.git.restore(&f.folder, first).unwrap_err();
    assert!(matches!(error, GitError::Folder(FolderError::Gone { .. })), "{error:?}");
    let error = f.git.commit("", &author()).unwrap_err();
    assert!(matches!(error, GitError::Folder(FolderError::Gone { .. })), "{error:?}");
    assert_eq!(f.git.head().unwrap(), Some(first));
    // So the history is there for who makes the folder anew.
    let folder = Folder::create(f.state.path(), f.folder.name()).unwrap();
    Git::open(f.state.path(), &folder).unwrap().restore(&folder, first).unwrap();
    assert_eq!(f.editor.read("a"), "1");
    assert_eq!(f.real(&["status", "--porcelain"]), "");
}

#[test]
fn too_much_at_once_is_refused_before_it_is_stored() {
    let f = Fixture::new();
    f.editor.save("big", "");
    fs_err::OpenOptions::new()
        .write(true)
        .open(f.editor.at("big"))
        .unwrap()
        .set_len(2 << 30)
        .unwrap();
    let error = f.git.commit("", &author()).unwrap_err();
    assert!(matches!(error, GitError::TooLarge { .. }), "{error:?}");
    let objects = f.real(&["count-objects"]);
    assert!(objects.starts_with("0 objects"), "{objects}");
}
