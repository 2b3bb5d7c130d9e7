//! What is wrong is refused with its name, its reason and the way out; nothing is lost.

use api::function::State;
use serde_json::{Value, json};

use crate::machine::{Answer, Machine, free_port, handler, xtask};

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str, words: &[&str]) {
    assert_eq!(answer.status, status, "{}", answer.body);
    let (got, message) = answer.error();
    assert_eq!(got, code, "{message}");
    for word in words {
        assert!(answer.body.contains(word), "`{word}` is not in {}", answer.body);
    }
}

fn create(machine: &Machine, body: Value) -> Answer {
    machine.api("POST", "/v1/functions", Some(body))
}

#[test]
fn names_templates_and_bodies_are_checked_before_anything_is_made() {
    let machine = Machine::start();
    for name in ["", "Upper", "under_score", "-x", "x-", "../etc", "a/b", &"x".repeat(64)] {
        let answer = create(&machine, json!({"name": name, "template": "python3-http"}));
        refused(&answer, 400, "invalid_argument", &[]);
    }
    let answer = create(&machine, json!({"name": "a", "template": "cobol"}));
    refused(&answer, 400, "invalid_argument", &["cobol", "python3-http"]);
    let answer = create(&machine, json!({"name": "a", "tmplate": "python3-http"}));
    refused(&answer, 400, "invalid_argument", &["tmplate"]);
    assert_eq!(machine.api("GET", "/v1/functions", None).json(), json!([]));
    assert_eq!(fs_err::read_dir(machine.state().join("functions")).map_or(0, Iterator::count), 0);

    machine.create("a");
    let answer = create(&machine, json!({"name": "a", "template": "python3-http"}));
    refused(&answer, 409, "already_exists", &["a"]);
    refused(&machine.api("GET", "/v1/functions/b", None), 404, "not_found", &["b"]);
}

#[test]
fn commits_and_roll_backs_that_cannot_be_made_say_why_and_change_nothing() {
    let machine = Machine::start();
    machine.create("a");
    machine.save("a", "one");
    let first = machine.commit("a", "one");
    refused(&machine.try_commit("a", "again"), 409, "failed_precondition", &["nothing"]);
    refused(&machine.roll_back("a", 7), 404, "not_found", &["7"]);

    machine.save("a", "two");
    machine.commit("a", "two");
    // Somebody removes the first image behind our back.
    let tools = std::env::var("INPLACE_TOOLS").expect("run through `cargo xtask test`");
    let removed = std::process::Command::new(format!("{tools}/bin/ctr"))
        .arg("-a")
        .arg(machine.state().join("run/containerd.sock"))
        .args(["-n", "functions", "images", "rm", &first.image])
        .output()
        .unwrap();
    assert!(removed.status.success(), "{removed:?}");
    refused(&machine.roll_back("a", 1), 409, "failed_precondition", &[&first.image]);
    assert_eq!(machine.call("a").body, "two");
    assert_eq!(fs_err::read_to_string(machine.file("a", "handler.py")).unwrap(), handler("two"));
}

#[test]
fn paths_that_leave_the_folder_and_bodies_over_the_limit_are_refused() {
    let machine = Machine::start();
    machine.create("a");
    std::os::unix::fs::symlink("/etc", machine.file("a", "out")).unwrap();
    for path in ["..%2f..%2fetc%2fpasswd", "%2e%2e/x", ".git", ".git/config", "out/passwd", "a%00b"]
    {
        let answer = machine.put(&format!("/v1/functions/a/files/{path}"), b"x");
        assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.body);
    }
    assert!(!std::path::Path::new("/etc/x").exists());
    let read = machine.api("GET", "/v1/functions/a/files/out/passwd", None);
    assert!((400..500).contains(&read.status), "{}", read.body);

    let large = vec![b'x'; 80 << 20];
    let answer = machine.put("/v1/functions/a/files/large.bin", &large);
    // The server may hang up on a body that it refuses before all of it was sent.
    assert!(answer.status == 413 || answer.status == 0, "{} {}", answer.status, answer.body);
    assert!(!machine.file("a", "large.bin").exists());

    let answer =
        machine.put("/v1/functions/a/files/handler.py", handler("through the API").as_bytes());
    assert!(matches!(answer.status, 200..=204), "{}", answer.body);
    machine.wait("it is live", || machine.call("a").body == "through the API");
}

#[test]
fn a_folder_deleted_while_live_is_told_and_the_function_goes_on() {
    let machine = Machine::start();
    machine.create("a");
    machine.save("a", "in memory of");
    let folder = machine.file("a", "");
    let aside = machine.state().join("aside");
    fs_err::rename(&folder, &aside).unwrap();
    let function = machine.wait_for_state("a", State::Degraded);
    assert!(function.last_error.is_some_and(|error| error.message.contains("folder")));
    assert_eq!(machine.call("a").body, "in memory of");
    fs_err::rename(&aside, &folder).unwrap();
    machine.wait_for_state("a", State::Ready);
    machine.save("a", "back");
}

#[test]
fn wrong_passwords_and_other_origins_get_nowhere() {
    let machine = Machine::start();
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let url = format!("{}/v1/functions", machine.addresses.console);
    assert_eq!(agent.get(&url).call().unwrap().status(), 401);
    assert_eq!(
        agent.get(&url).header("authorization", "Basic YWRtaW46eA==").call().unwrap().status(),
        401
    );
    let foreign = agent
        .post(&url)
        .header("authorization", machine.authorization())
        .header("origin", "http://evil.example")
        .send_json(json!({"name": "a", "template": "python3-http"}))
        .unwrap();
    assert_eq!(foreign.status(), 403);
    // The provider's own routes are not to be had through either door.
    for origin in [&machine.addresses.url, &machine.addresses.console] {
        let answer = agent
            .get(format!("{origin}/routes"))
            .header("authorization", machine.authorization())
            .call();
        assert_eq!(answer.unwrap().status(), 404);
    }
}

#[test]
fn a_port_in_use_a_subnet_in_use_and_a_folder_without_a_machine_are_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let state = tempfile::tempdir().unwrap();
    let state = state.path().to_str().unwrap();
    let output = xtask(&["dev", "--json", "--yes", "--state", state, "--port", &port]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && error.contains(&port) && error.contains("--port"),
        "{error}"
    );
    let output = xtask(&[
        "dev",
        "--json",
        "--yes",
        "--state",
        state,
        "--port",
        &free_port().to_string(),
        "--console-port",
        &free_port().to_string(),
        "--bridge",
        "inplover",
        "--subnet",
        "127.0.0.0/16",
    ]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("overlaps with 127.0.0.1/8"), "{error}");
    let output = xtask(&["stop", "--state", state]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no machine runs"), "{output:?}");
}
