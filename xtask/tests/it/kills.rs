//! kill -9 of each part in the middle of its work.

use crate::machine::Machine;

#[test]
fn the_provider_is_killed_and_functions_never_notice() {
    let machine = Machine::start();
    machine.create("a");
    machine.save("a", "still here");
    let tasks = machine.pids("containerd-shim-runc-v2");
    machine.kill("provider");
    // The gateway goes on with its table while the provider is away.
    assert_eq!(machine.call("a").body, "still here");
    machine.wait("the API is back", || machine.api("GET", "/v1/functions/a", None).status == 200);
    assert_eq!(machine.call("a").body, "still here");
    assert_eq!(machine.pids("containerd-shim-runc-v2"), tasks, "no replica was started anew");
    machine.save("a", "and edited again");
}

#[test]
fn the_gateway_is_killed_and_answers_again_from_its_table() {
    let machine = Machine::start();
    machine.create("a");
    machine.save("a", "still here");
    machine.kill("gateway");
    machine.wait("it answers", || machine.call("a").body == "still here");
    machine.save("a", "and edited again");
}

#[test]
fn containerd_is_killed_and_functions_go_on_and_can_be_edited() {
    let machine = Machine::start();
    machine.create("a");
    machine.save("a", "still here");
    for round in 0..2 {
        machine.kill("containerd");
        assert_eq!(machine.call("a").body, if round == 0 { "still here" } else { "round 0" });
        machine.save("a", &format!("round {round}"));
        // What needs containerd itself says so while it is away, and works as soon as it is back.
        let (name, mut answer) = (format!("new-{round}"), None);
        machine.wait("a function can be created", || {
            let body = serde_json::json!({"name": name, "template": "python3-http"});
            let now = machine.api("POST", "/v1/functions", Some(body));
            let away = now.status == 503 && now.error().0 == "unavailable";
            answer = Some(now);
            !away
        });
        let answer = answer.expect("it was asked");
        assert!(matches!(answer.status, 200..=202), "{} {}", answer.status, answer.body);
        assert_eq!(machine.call(&name).status, 200);
    }
}

#[test]
fn a_daemon_killed_during_a_commit_costs_no_work() {
    let machine = Machine::start();
    machine.create("a");
    machine.save("a", "zero");
    machine.commit("a", "zero");
    for (round, daemon) in ["buildkitd", "containerd"].into_iter().enumerate() {
        let text = format!("round {round}");
        machine.save("a", &text);
        let answer = std::thread::scope(|scope| {
            let commit = scope.spawn(|| machine.try_commit("a", &text));
            machine.kill(daemon);
            commit.join().unwrap()
        });
        // It was retried, or it failed with its reason; in both ways the work is in git, and
        // committing again leads to a revision.
        let last = answer.body.lines().last().unwrap_or_default().to_owned();
        if !last.contains("\"done\"") {
            assert!(
                last.contains("\"failed\"") || answer.status >= 400,
                "{} {}",
                answer.status,
                answer.body
            );
            machine.wait("the commit can be made", || {
                machine
                    .try_commit("a", &text)
                    .body
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .contains("\"done\"")
            });
        }
        let revisions = machine.revisions("a");
        assert!(revisions.iter().any(|revision| revision.message.trim() == text), "{revisions:?}");
        assert_eq!(machine.call("a").body, text);
    }
}

#[test]
fn a_worker_killed_in_its_container_is_back_on_the_good_version() {
    let machine = Machine::start();
    machine.create("a");
    machine.save("a", "good");
    fs_err::write(machine.file("a", "suicide.txt"), "x").unwrap();
    fs_err::write(
        machine.file("a", "handler.py"),
        "import os\ndef handle(event, context):\n    if event.path == '/die':\n        os._exit(3)\n    return 'good too'\n",
    )
    .unwrap();
    machine.wait("it is live", || machine.call("a").body == "good too");
    let answer = machine.call("a/die");
    assert_ne!(answer.status, 200);
    machine.wait("it answers again", || machine.call("a").body == "good too");
}
