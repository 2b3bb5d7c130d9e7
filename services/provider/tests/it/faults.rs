//! kill -9 of everything, in the middle of work.

use api::ErrorCode;
use api::build::BuildEvent;
use api::function::{Function, State};
use api::revision::Revision;
use axum::body::Body;
use http::Request;
use nix::sys::signal::Signal;
use serde_json::json;
use testkit::Daemon;

use crate::fixture::{World, handler};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_provider_finds_everything_as_it_was() {
    let mut world = World::start().await;
    world.create("hello").await;
    world.save_live("hello", "handler.py", &handler("one")).await;
    let revision = world.committed("hello", "say one").await;
    world.save_live("hello", "handler.py", &handler("two")).await;
    let (address, before) = (world.address("hello").await.unwrap(), world.function("hello").await);

    world.stop_provider(Signal::SIGKILL);
    assert_eq!(world.call_at(address, "/").await.unwrap(), "two", "it goes on without us");
    world.save("hello", "handler.py", &handler("while away"));
    world.start_provider(&[]).await;
    world.until("hello", |it| it.live.as_ref().is_some_and(|it| it.took_ms > 0.0)).await;
    assert_eq!(world.address("hello").await, Some(address), "the replica was taken over");
    assert_eq!(world.call("hello").await, "while away");
    let after = world.function("hello").await;
    assert_eq!((after.revision, after.image, after.dirty), (1, before.image, true));
    let revisions: Vec<Revision> = world.get("/v1/functions/hello/revisions").await.unwrap();
    assert_eq!(revisions, [revision]);

    // An ordinary stop leaves replicas running too.
    world.stop_provider(Signal::SIGTERM);
    assert_eq!(world.call_at(address, "/").await.unwrap(), "while away");
    world.start_provider(&["--stop-functions-at-exit"]).await;
    world.until_state("hello", State::Ready).await;
    assert_eq!(world.address("hello").await, Some(address));

    // Unless it is told to stop them; then they come back with the good version.
    world.stop_provider(Signal::SIGTERM);
    assert!(world.call_at(address, "/").await.is_err());
    let leftovers = world.containers();
    assert!(leftovers.is_empty(), "{leftovers:?}");
    let link = world.host.cell().command("ip").args(["link", "show", "inplace0"]).output().unwrap();
    assert!(!link.status.success(), "the bridge is there");
    world.start_provider(&[]).await;
    world.until_state("hello", State::Ready).await;
    assert_eq!(world.call("hello").await, "while away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_while_provider_and_replica_were_dead_is_found_out() {
    let mut world = World::start().await;
    world.create("hello").await;
    world.save_live("hello", "handler.py", &handler("good")).await;
    world.save("hello", "handler.py", "import nothing_of_this_name\n");
    world.until_state("hello", State::Degraded).await;
    world.stop_provider(Signal::SIGKILL);
    world.crash("hello").await;
    world.start_provider(&[]).await;
    let degraded = world.until_state("hello", State::Degraded).await;
    let lines = degraded.last_error.unwrap().lines.join("\n");
    assert!(lines.contains("nothing_of_this_name"), "{lines}");
    assert_eq!(world.call("hello").await, "good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_killed_while_it_creates_leaves_nothing_half_made() {
    let mut world = World::start().await;
    world.create("other").await;
    let mut events = world.events().await;
    let api = world.api.clone();
    let body = json!({"name": "hello", "template": "python3-http"});
    let creating = tokio::spawn(async move {
        api.call::<Function>(http::Method::POST, "/v1/functions", Some(&body)).await
    });
    let begun = events.until(
        |event| matches!(event, api::event::Event::Function(it) if it.name.name() == "hello"),
    );
    assert!(begun.await.is_some());
    world.stop_provider(Signal::SIGKILL);
    creating.await.unwrap().unwrap_err();
    world.start_provider(&[]).await;
    world.until_state("other", State::Ready).await;
    let functions: Vec<Function> = world.get("/v1/functions").await.unwrap();
    assert_eq!(functions.len(), 1, "{functions:?}");
    assert!(!world.folder("hello").exists());
    world.create("hello").await;
    assert!(world.call("hello").await.contains("Hello"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_containerd_stops_nothing_and_work_goes_on_when_it_is_back() {
    let mut world = World::start().await;
    world.create("hello").await;
    let address = world.address("hello").await.unwrap();
    world.host.stop_daemon(Daemon::Containerd, Signal::SIGKILL).unwrap();

    assert!(world.call_at(address, "/").await.unwrap().contains("Hello"));
    world.save_live("hello", "handler.py", &handler("without containerd")).await;
    assert_eq!(world.call_at(address, "/").await.unwrap(), "without containerd");
    let body = json!({"name": "other", "template": "python3-http"});
    let refused = world.post::<Function>("/v1/functions", body).await.unwrap_err();
    assert_eq!(refused.error.code, ErrorCode::Unavailable);
    assert!(!world.folder("other").exists());

    world.host.start_daemon(Daemon::Containerd).unwrap();
    world.create("other").await;
    assert_eq!(world.address("hello").await, Some(address));
    world.save_live("hello", "handler.py", &handler("with containerd")).await;
    assert_eq!(world.call("hello").await, "with containerd");
    world.crash("hello").await;
    world.until("hello", |it| it.live.is_none()).await;
    world.until_state("hello", State::Ready).await;
    assert_eq!(world.call("hello").await, "with containerd");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_loses_a_daemon_is_tried_once_more() {
    let mut world = World::start().await;
    world.create("hello").await;
    for daemon in [Daemon::Buildkitd, Daemon::Containerd] {
        world.save_live("hello", "handler.py", &handler(daemon.name())).await;
        world.host.stop_daemon(daemon, Signal::SIGKILL).unwrap();
        let started: api::build::BuildStarted = world
            .post("/v1/functions/hello/commit", json!({"message": daemon.name()}))
            .await
            .unwrap();
        world.host.start_daemon(daemon).unwrap();
        let events = world.build(&started.build).await;
        let Some(BuildEvent::Done(revision)) = events.last() else {
            panic!("{events:?}\n{}", world.log());
        };
        assert_eq!(revision.message, daemon.name());
        // Read again, a build tells the same from its start; a browser goes on where it was.
        assert_eq!(world.build(&started.build).await, events);
        let reconnect = |seen: usize| {
            let request = Request::get(format!("/v1/builds/{}", started.build))
                .header("accept", "text/event-stream")
                .header("last-event-id", seen.to_string());
            world.raw(request.body(Body::empty()).unwrap())
        };
        let last = events.len() - 1;
        let (_, _, text) = reconnect(last - 1).await;
        assert_eq!(text.matches("data:").count(), 1, "{text}");
        assert!(text.contains(&format!("id: {last}\n")), "{text}");
        assert_eq!(reconnect(last).await.0, http::StatusCode::NO_CONTENT);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_built_although_the_provider_was_killed_in_between() {
    let mut world = World::start().await;
    world.create("hello").await;
    world.host.stop_daemon(Daemon::Buildkitd, Signal::SIGKILL).unwrap();
    let _: api::build::BuildStarted =
        world.post("/v1/functions/hello/commit", json!({"message": "to be built"})).await.unwrap();
    world.stop_provider(Signal::SIGKILL);
    world.host.start_daemon(Daemon::Buildkitd).unwrap();
    world.start_provider(&[]).await;
    world.until("hello", |it| it.revision == 1).await;
    let revisions: Vec<Revision> = world.get("/v1/functions/hello/revisions").await.unwrap();
    assert_eq!(revisions[0].message.trim(), "to be built");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_back_that_is_interrupted_leaves_source_and_image_as_they_were() {
    let mut world = World::start().await;
    world.create("hello").await;
    let slow = format!("import time\ntime.sleep(4)\n{}", handler("slow"));
    world.save_live("hello", "handler.py", &slow).await;
    world.committed("hello", "slow").await;
    world.save_live("hello", "handler.py", &handler("fast")).await;
    let before = world.function("hello").await;

    let api = world.api.clone();
    let body = json!({"revision": 1});
    let rolling = tokio::spawn(async move {
        let path = "/v1/functions/hello/rollback";
        api.call::<serde_json::Value>(http::Method::POST, path, Some(&body)).await
    });
    let file = world.folder("hello").join("handler.py");
    while fs_err::read_to_string(&file).unwrap() != slow {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    world.stop_provider(Signal::SIGKILL);
    rolling.await.unwrap().unwrap_err();
    world.start_provider(&[]).await;
    world.until_state("hello", State::Ready).await;
    assert_eq!(fs_err::read_to_string(&file).unwrap(), handler("fast"));
    assert_eq!(world.call("hello").await, "fast");
    let after = world.function("hello").await;
    assert_eq!((after.revision, after.image), (before.revision, before.image));

    // Asked again it is done.
    let body = json!({"revision": 1});
    world.post::<serde_json::Value>("/v1/functions/hello/rollback", body).await.unwrap();
    assert_eq!(world.call("hello").await, "slow");
}
