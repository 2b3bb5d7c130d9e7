//! Create, call, edit, commit, roll back, remove, take back.

use api::event::Event;
use api::function::{State, Trashed};
use api::revision::{Revision, RolledBack};
use serde_json::{Value, json};

use crate::fixture::{World, handler};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_is_edited_in_place_committed_and_rolled_back() {
    let world = World::start().await;

    let mut events = world.events().await;
    let created = world.create("hello").await;
    let imported =
        |event: &Event| matches!(event, Event::Progress { current, total, .. } if current == total);
    assert!(events.until(imported).await.is_some(), "the base was imported without a word");
    assert_eq!(created.state, State::Ready);
    assert_eq!((created.revision, created.dirty), (0, true));
    assert!(world.call("hello").await.contains("Hello"));

    // A save is live at the next call.
    world.save_live("hello", "handler.py", &handler("one")).await;
    assert_eq!(world.call("hello").await, "one");

    // A commit is a revision with an image in the store.
    let first = world.committed("hello", "say one").await;
    assert_eq!((first.number, first.message.as_str()), (1, "say one"));
    let function = world.until("hello", |it| !it.dirty).await;
    assert_eq!((function.revision, &function.image), (1, &first.image));

    world.save_live("hello", "handler.py", &handler("two")).await;
    world.until("hello", |it| it.dirty).await;
    assert_eq!(world.call("hello").await, "two");
    let second = world.committed("hello", "").await;
    assert_eq!(second.number, 2);
    let all: Vec<Revision> = world.get("/v1/functions/hello/revisions").await.unwrap();
    assert_eq!(all, [second, first.clone()]);

    // What is not committed is kept by a roll-back.
    world.save("hello", "handler.py", &handler("three"));
    world.until("hello", |it| it.dirty).await;
    let back: RolledBack =
        world.post("/v1/functions/hello/rollback", json!({"revision": 1})).await.unwrap();
    assert_eq!(back.revision, first);
    let kept = back.kept.expect("`three` was not committed");
    assert_eq!(world.call("hello").await, "one");
    let function = world.until("hello", |it| !it.dirty).await;
    assert_eq!((function.revision, &function.image), (1, &first.image));
    let text = fs_err::read_to_string(world.folder("hello").join("handler.py")).unwrap();
    assert_eq!(text, handler("one"));
    let git = std::process::Command::new("git")
        .args(["-c", "safe.directory=*", "--git-dir"])
        .arg(world.state().join("git/hello.git"))
        .args(["show", &format!("{kept}:handler.py")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&git.stdout), handler("three"));

    // Removed, it can be taken back.
    world.delete("/v1/functions/hello").await.unwrap();
    assert_eq!(world.address("hello").await, None);
    assert!(!world.folder("hello").exists());
    let trash: Vec<Trashed> = world.get("/v1/trash").await.unwrap();
    assert_eq!(trash.len(), 1);
    let restored: Value = world
        .post("/v1/functions", json!({"name": "hello", "restore": trash[0].id}))
        .await
        .unwrap();
    assert_eq!(restored["revision"], 1);
    assert_eq!(world.call("hello").await, "one");
}
