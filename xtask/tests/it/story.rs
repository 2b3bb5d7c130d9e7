//! The loop, as a person plays it.

use std::process::Command;

use api::function::State;
use serde_json::json;

use crate::machine::{Machine, handler, xtask};

#[test]
fn edited_in_place_live_at_once_committed_and_rolled_back() {
    let machine = Machine::start();
    machine.create("hello");
    let fresh = machine.function("hello");
    assert_eq!((fresh.state, fresh.revision), (State::Ready, 0));

    // The folder is the owner's, and the next call after a save runs the new code.
    let folder = fs_err::metadata(machine.file("hello", "")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&folder), 1000);
    machine.save("hello", "first");
    assert!(machine.function("hello").dirty);

    // A commit is a git commit and an image in containerd's store, and no registry is asked.
    let first = machine.commit("hello", "the first one");
    assert_eq!((first.number, first.message.as_str()), (1, "the first one"));
    assert!(!machine.function("hello").dirty);
    let log = git(&machine, &["log", "--format=%H %s"]);
    assert_eq!(log.trim(), format!("{} the first one", first.commit));

    // Roll-back brings source and answers of the first revision back, and keeps what was typed.
    machine.save("hello", "second");
    let second = machine.commit("hello", "the second one");
    assert_eq!(second.number, 2);
    machine.save("hello", "not committed");
    let answer = machine.roll_back("hello", 1);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(machine.call("hello").body, "first");
    assert_eq!(
        fs_err::read_to_string(machine.file("hello", "handler.py")).unwrap(),
        handler("first")
    );
    let kept = answer.json()["kept"].as_str().expect("what was typed is kept").to_owned();
    let typed = git(&machine, &["show", &format!("{kept}:handler.py")]);
    assert_eq!(typed, handler("not committed"));

    // And forward again.
    assert_eq!(machine.roll_back("hello", 2).status, 200);
    assert_eq!(machine.call("hello").body, "second");
    let numbers: Vec<u64> =
        machine.revisions("hello").iter().map(|revision| revision.number).collect();
    assert_eq!(numbers.len(), 2, "{numbers:?}");
}

#[test]
fn a_plain_git_commit_in_the_folder_becomes_a_revision() {
    let machine = Machine::start();
    machine.create("plain");
    machine.save("plain", "by hand");
    git_in(&machine, "plain", &["add", "--all"]);
    git_in(
        &machine,
        "plain",
        &[
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@localhost",
            "commit",
            "-q",
            "-m",
            "from a terminal",
        ],
    );
    machine.wait("the commit is a revision", || !machine.revisions("plain").is_empty());
    assert_eq!(machine.revisions("plain")[0].message.trim(), "from a terminal");
}

#[test]
fn a_broken_save_never_takes_the_function_down_not_even_over_a_restart() {
    let machine = Machine::start();
    machine.create("sturdy");
    machine.save("sturdy", "good");
    fs_err::write(machine.file("sturdy", "handler.py"), "def handle(event, context:\n").unwrap();
    let degraded = machine.wait_for_state("sturdy", State::Degraded);
    let error = degraded.last_error.expect("it says why");
    assert!(error.lines.iter().any(|line| line.contains("SyntaxError")), "{error:?}");
    assert_eq!(machine.call("sturdy").body, "good");

    machine.kill("provider");
    machine
        .wait("the API is back", || machine.api("GET", "/v1/functions/sturdy", None).status == 200);
    assert_eq!(machine.call("sturdy").body, "good");

    machine.save("sturdy", "mended");
    machine.wait_for_state("sturdy", State::Ready);
}

#[test]
fn everything_is_there_after_a_stop_and_a_start_and_nothing_else_is() {
    let scratch = tempfile::Builder::new().prefix("inplace-story-").tempdir().unwrap();
    let before = host();
    let (revision, password);
    {
        let machine = Machine::start_on(scratch.path());
        machine.create("kept");
        machine.save("kept", "over night");
        revision = machine.commit("kept", "before the night");
        machine.save("kept", "typed, not committed");
        password = machine.addresses.password.clone();
        let taken = xtask(&["dev", "--json", "--yes", "--state", scratch.path().to_str().unwrap()]);
        assert!(String::from_utf8_lossy(&taken.stderr).contains("in use"), "{taken:?}");
        let stopped = machine.stop();
        assert!(stopped.status.success(), "{stopped:?}");
        assert_eq!(host(), before, "the host is as it was");
    }
    let machine = Machine::start_on(scratch.path());
    assert_eq!(machine.addresses.password, password);
    machine.wait("the function is back", || machine.call("kept").body == "typed, not committed");
    assert_eq!(machine.revisions("kept"), [revision]);
    assert!(machine.function("kept").dirty);
}

#[test]
fn a_removed_function_is_in_the_trash_and_comes_back_with_its_history() {
    let machine = Machine::start();
    machine.create("gone");
    machine.save("gone", "precious");
    machine.commit("gone", "precious work");
    assert!(matches!(machine.api("DELETE", "/v1/functions/gone", None).status, 200 | 202 | 204));
    machine.wait("it answers no more", || machine.call("gone").status == 404);
    assert!(!machine.file("gone", "").exists());
    let trash = machine.api("GET", "/v1/trash", None).json();
    let id = trash[0]["id"].as_str().expect("it is in the trash").to_owned();
    let answer = machine.api("POST", "/v1/functions", Some(json!({"name": "gone", "restore": id})));
    assert!(matches!(answer.status, 200..=202), "{}", answer.body);
    machine.wait("it answers again", || machine.call("gone").body == "precious");
    let log = git_in(&machine, "gone", &["log", "--format=%s"]);
    assert_eq!(log.trim(), "precious work");
}

#[test]
fn the_same_function_is_seen_through_the_openfaas_api() {
    let machine = Machine::start();
    machine.create("seen");
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let url = format!("{}/system/functions", machine.addresses.url);
    assert_eq!(agent.get(&url).call().unwrap().status(), 401);
    let mut answer =
        agent.get(&url).header("authorization", machine.authorization()).call().unwrap();
    let list: serde_json::Value = answer.body_mut().read_json().unwrap();
    assert_eq!(
        (list[0]["name"].as_str(), list[0]["namespace"].as_str()),
        (Some("seen"), Some("openfaas-fn"))
    );
    assert_eq!(list[0]["availableReplicas"], 1);
}

/// What a run may change on the host, as one comparable text.
fn host() -> String {
    let output = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let links: Vec<String> = output("ip", &["-o", "link"])
        .lines()
        .filter_map(|line| Some(line.split_whitespace().nth(1)?.to_owned()))
        // Other tests' machines come and go meanwhile.
        .filter(|name| !name.starts_with("inplt") && !name.starts_with("ip"))
        .collect();
    format!("{links:?}\n{}", fs_err::read_to_string("/proc/self/mounts").unwrap())
}

fn git(machine: &Machine, args: &[&str]) -> String {
    git_in(machine, "hello", args)
}

/// The real git, as the folder's owner has it.
fn git_in(machine: &Machine, function: &str, args: &[&str]) -> String {
    let output = Command::new("setpriv")
        .args(["--reuid", "1000", "--regid", "1000", "--clear-groups", "git", "-C"])
        .arg(machine.file(function, ""))
        .args(args)
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
