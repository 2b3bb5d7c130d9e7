//! Saves that are broken, half typed, or no saves at all: the function goes on answering.

use std::process::Command;

use api::ErrorCode;
use api::event::Event;
use api::function::{Function, State};

use crate::fixture::{World, handler};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_save_degrades_and_harms_nothing_even_over_a_crash() {
    let world = World::start().await;
    world.create("hello").await;
    world.save_live("hello", "handler.py", &handler("good")).await;

    world.save("hello", "handler.py", "def handle(event, context:\n");
    let degraded = world.until_state("hello", State::Degraded).await;
    let error = degraded.last_error.expect("it says why");
    assert_eq!(error.code, ErrorCode::StartFailed);
    assert!(error.lines.iter().any(|line| line.contains("SyntaxError")), "{error:?}");
    assert_eq!(world.call("hello").await, "good");

    // A crash starts the good version, not the newest one.
    let before = world.address("hello").await;
    world.crash("hello").await;
    world.until("hello", |it| it.live.is_none()).await;
    world.until("hello", |it| it.live.is_some()).await;
    assert_ne!(world.address("hello").await, before);
    assert_eq!(world.call("hello").await, "good");
    assert_eq!(world.function("hello").await.state, State::Degraded);

    world.save_live("hello", "handler.py", &handler("repaired")).await;
    assert_eq!(world.function("hello").await.state, State::Ready);
    assert_eq!(world.call("hello").await, "repaired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_typed_in_small_writes_and_a_checkout_are_live_at_their_end() {
    let world = World::start().await;
    world.create("hello").await;
    world.save_live("hello", "handler.py", &handler("before")).await;
    let address = world.address("hello").await.unwrap();

    // Each piece is a save of its own, and most are no Python.
    let text = handler("typed");
    let mut events = world.events().await;
    for end in (0..=text.len()).step_by(7).chain([text.len()]) {
        world.save("hello", "handler.py", &text[..end]);
        let body = world.call_at(address, "/").await.unwrap();
        assert!(["before", "typed"].contains(&body.as_str()), "{body}");
    }
    while world.call("hello").await != "typed" {
        let live = events.until(|event| matches!(event, Event::Live { .. })).await;
        assert!(live.is_some(), "{}", world.log());
    }
    world.until_state("hello", State::Ready).await;
    assert_eq!(world.address("hello").await, Some(address), "no replica was replaced");

    // A commit and a checkout by plain git in the folder.
    let git = |args: &[&str]| {
        let output = Command::new("setpriv")
            .args(["--reuid=1000", "--regid=1000", "--clear-groups", "env", "HOME=/", "git"])
            .args(["-c", "safe.directory=*", "-c", "user.name=a", "-c", "user.email=a@b"])
            .args(args)
            .current_dir(world.folder("hello"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "by hand"]);
    let function = world.until("hello", |it| it.revision == 1).await;
    assert!(function.image.starts_with("docker.io/inplace/hello:"));
    world.save_live("hello", "handler.py", &handler("later")).await;
    let mut events = world.events().await;
    git(&["checkout", "-q", "--", "handler.py"]);
    assert!(events.until(|event| matches!(event, Event::Live { .. })).await.is_some());
    assert_eq!(world.call("hello").await, "typed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_one_of_many_calls_fails_while_versions_come_and_go() {
    let world = World::start().await;
    world.create("hello").await;
    let address = world.address("hello").await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let world = std::sync::Arc::new(world);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (world, stop) = (std::sync::Arc::clone(&world), stop.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !stop.is_cancelled() {
                    world.call_at(address, "/").await?;
                    calls += 1;
                }
                anyhow::Ok(calls)
            })
        })
        .collect();
    for round in 0..10 {
        world.save_live("hello", "handler.py", &handler(&round.to_string())).await;
        if round == 5 {
            world.save("hello", "handler.py", "this is no Python");
            world.until_state("hello", State::Degraded).await;
        }
    }
    stop.cancel();
    for caller in callers {
        assert!(caller.await.unwrap().unwrap() > 10);
    }
    assert_eq!(world.call("hello").await, "9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_back_brings_a_deleted_folder_back() {
    let world = World::start().await;
    world.create("hello").await;
    world.save_live("hello", "handler.py", &handler("first")).await;
    world.committed("hello", "first").await;
    fs_err::remove_dir_all(world.folder("hello")).unwrap();
    world.until_state("hello", State::Degraded).await;
    let body = serde_json::json!({"revision": 1});
    world.post::<serde_json::Value>("/v1/functions/hello/rollback", body).await.unwrap();
    world.until_state("hello", State::Ready).await;
    assert_eq!(world.call("hello").await, "first");
    world.save_live("hello", "handler.py", &handler("second")).await;
    assert_eq!(world.call("hello").await, "second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_deleted_while_live_is_missed_and_welcomed_back() {
    let world = World::start().await;
    world.create("hello").await;
    world.save_live("hello", "handler.py", &handler("here")).await;

    let (folder, aside) = (world.folder("hello"), world.state().join("aside"));
    fs_err::rename(&folder, &aside).unwrap();
    let degraded = world.until_state("hello", State::Degraded).await;
    let error = degraded.last_error.unwrap();
    assert!(error.message.contains("the folder of function `hello` is gone"), "{error}");
    assert_eq!(world.call("hello").await, "here");
    let refused = world.put("/v1/functions/hello/files/a.txt", "x").await.unwrap_err();
    assert_eq!(refused.error.code, ErrorCode::FailedPrecondition);
    let refused = world.post::<()>("/v1/functions/hello/commit", serde_json::json!({})).await;
    assert_eq!(refused.unwrap_err().error.code, ErrorCode::FailedPrecondition);

    // Made anew by root it is there, and not the function's.
    fs_err::create_dir(&folder).unwrap();
    let foreign = "belongs to user 0, it must be 1000's";
    let said =
        |it: &Function| it.last_error.as_ref().is_some_and(|it| it.message.contains(foreign));
    let degraded = world.until("hello", said).await;
    assert!(degraded.last_error.unwrap().hint.contains("chown -R 1000:1000"));
    let refused = world.put("/v1/functions/hello/files/a.txt", "x").await.unwrap_err();
    assert!(refused.error.message.contains(foreign), "{}", refused.error);
    fs_err::remove_dir(&folder).unwrap();

    fs_err::rename(&aside, &folder).unwrap();
    world.until_state("hello", State::Ready).await;
    world.save_live("hello", "handler.py", &handler("back")).await;
    assert_eq!(world.call("hello").await, "back");
}
