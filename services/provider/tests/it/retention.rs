//! Old revisions make room for new ones, and take their images along.

use std::collections::BTreeSet;

use api::ErrorCode;
use api::function::Function;
use api::revision::{Revision, RolledBack};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::fixture::{LIMIT, World, handler};

/// Keeps two revisions, the newest ones, and none for its age.
const FEW: [&str; 4] = ["--keep-revisions", "2", "--keep-days", "0"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_four_commits_two_revisions_stay_with_their_images() {
    let mut world = World::start().await;
    world.stop_provider(Signal::SIGTERM);
    world.start_provider(&FEW).await;
    world.create("hello").await;
    let bases = images(&world);
    assert_eq!(bases.len(), 1, "{bases:?}");
    // As a crash between the store and containerd leaves it, or a build before its revision.
    world.ctr(&["images", "tag", bases.first().unwrap(), "docker.io/inplace/gone:0123456789ab"]);
    // And somebody's own.
    world.ctr(&["images", "tag", bases.first().unwrap(), "docker.io/inplace/mine:latest"]);
    let mut commits = Vec::new();
    for text in ["one", "two", "three", "four"] {
        world.save_live("hello", "handler.py", &handler(text)).await;
        commits.push(world.committed("hello", text).await);
    }
    let kept: Vec<Revision> = world.get("/v1/functions/hello/revisions").await.unwrap();
    assert_eq!(kept, [commits[3].clone(), commits[2].clone()]);
    let mut expected = bases.clone();
    expected.extend(["docker.io/inplace/mine:latest".to_owned()]);
    expected.extend(kept.iter().map(|it| it.image.clone()));
    until_images(&world, &expected).await;

    let path = "/v1/functions/hello/rollback";
    let back: RolledBack = world.post(path, json!({"revision": 3})).await.unwrap();
    assert_eq!(back.revision, commits[2]);
    assert_eq!(world.call("hello").await, "three");
    let gone = world.post::<RolledBack>(path, json!({"revision": 1})).await.unwrap_err().error;
    assert_eq!(gone.code, ErrorCode::NotFound);
    assert_eq!(gone.message, "revision 1 of function `hello` is not kept any more");
    assert!(gone.hint.contains("git"), "{}", gone.hint);
    assert_eq!(world.call("hello").await, "three");

    // What it went back to makes room when something else is current, and what runs goes on.
    for text in ["five", "six"] {
        world.save_live("hello", "handler.py", &handler(text)).await;
        commits.push(world.committed("hello", text).await);
    }
    let kept: Vec<Revision> = world.get("/v1/functions/hello/revisions").await.unwrap();
    assert_eq!(kept, [commits[5].clone(), commits[4].clone()]);
    world.crash("hello").await;
    world.until("hello", |it| it.live.is_none()).await;
    world.until_state("hello", api::function::State::Ready).await;
    assert_eq!(world.call("hello").await, "six");

    // A function in the trash keeps its images, and takes them along when it leaves it for good.
    world.delete("/v1/functions/hello").await.unwrap();
    world.stop_provider(Signal::SIGKILL);
    world.start_provider(&FEW).await;
    let mut expected = bases.clone();
    expected.extend(["docker.io/inplace/mine:latest".to_owned()]);
    let mine = expected.clone();
    expected.extend(kept.iter().map(|it| it.image.clone()));
    until_images(&world, &expected).await;
    world.stop_provider(Signal::SIGTERM);
    world.start_provider(&["--trash-days", "0"]).await;
    until_images(&world, &mine).await;
    let all: Vec<Function> = world.get("/v1/functions").await.unwrap();
    assert!(all.is_empty(), "{all:?}");
}

fn images(world: &World) -> BTreeSet<String> {
    world.ctr(&["images", "ls", "-q"]).lines().map(str::to_owned).collect()
}

/// Waits until these images are there, and no others.
async fn until_images(world: &World, expected: &BTreeSet<String>) {
    let begin = std::time::Instant::now();
    while images(world) != *expected {
        assert!(begin.elapsed() < LIMIT, "{:?}\n{}", images(world), world.log());
        // containerd's own events are the provider's to hear.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
