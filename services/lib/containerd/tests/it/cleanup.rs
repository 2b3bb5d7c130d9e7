//! Removal of containers in every state.

use containerd::Labels;
use containerd::containers::NewContainer;
use containerd::tasks::{SIGKILL, TaskStatus};

use crate::support::{LIMIT, Rig, spec};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_removed_in_whatever_state_it_is_and_twice_is_fine() {
    let rig = Rig::start();
    let image = rig.image().await;
    let lease = rig.client.lease("test", LIMIT).await.unwrap();
    let chain = image.top_chain();

    // The states on the way to a running container.
    lease.prepare_snapshot("snapshot", &chain, Labels::new()).await.unwrap();
    lease.prepare_snapshot("record-root", &chain, Labels::new()).await.unwrap();
    let new = NewContainer {
        id: "record",
        image: &image.name,
        snapshot: "record-root",
        runtime: rig.runtime(),
        ..NewContainer::default()
    };
    rig.client.create_container(new, &spec("record", &["true"])).await.unwrap();
    rig.create(&image, "created", &["true"]).await;
    let _running = rig.run(&image, "running", &["sleep", "1000"]).await;
    let _paused = rig.run(&image, "paused", &["sleep", "1000"]).await;
    rig.client.pause_task("paused").await.unwrap();
    rig.run(&image, "exited", &["true"]).await.exit.await.unwrap();
    // And on the way back.
    let mut killed = rig.run(&image, "deleted", &["sleep", "1000"]).await;
    rig.client.kill_task("deleted", SIGKILL).await.unwrap();
    killed.exit.within(LIMIT).await.unwrap();
    rig.client.delete_task("deleted").await.unwrap();

    for id in ["snapshot", "record", "created", "running", "paused", "exited", "deleted", "never"] {
        for round in ["first", "second"] {
            let result = rig.client.cleanup(id, LIMIT).await;
            assert!(result.is_ok(), "{id}, {round} time: {}", result.unwrap_err());
        }
    }
    assert_eq!(rig.client.tasks().await.unwrap(), []);
    assert_eq!(rig.client.containers(&[]).await.unwrap(), []);
    let left = rig.client.snapshots(&[]).await.unwrap();
    assert_eq!(left.len(), 2, "only the image's own are left: {left:?}");
    lease.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_shim_was_killed_is_removed() {
    let rig = Rig::start();
    let image = rig.image().await;
    let mut started = rig.run(&image, "one", &["sleep", "1000"]).await;
    let shims = rig.host.cell().path("/sys/fs/cgroup/shims/cgroup.procs".as_ref());
    for shim in fs_err::read_to_string(shims).unwrap().split_whitespace() {
        let pid = nix::unistd::Pid::from_raw(shim.parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    // containerd ends the orphan; what `Exiting` says then is an exit or that the task is gone.
    let _ = started.exit.within(LIMIT).await;
    rig.client.cleanup("one", LIMIT).await.unwrap();
    assert_eq!(rig.client.tasks().await.unwrap(), []);
    assert!(rig.client.container("one").await.unwrap_err().is_not_found());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_removed_is_told_and_the_rest_is_removed() {
    let rig = Rig::start();
    let image = rig.image().await;
    let _running = rig.run(&image, "one", &["sleep", "1000"]).await;
    // Somebody stands on the snapshot, so it cannot go.
    let lease = rig.client.lease("test", LIMIT).await.unwrap();
    assert_eq!(rig.client.task("one").await.unwrap().status, TaskStatus::Running);
    rig.client.kill_task("one", SIGKILL).await.unwrap();
    lease.prepare_snapshot("base", &image.top_chain(), Labels::new()).await.unwrap();
    lease.commit_active("base", "based", Labels::new()).await.unwrap();
    lease.prepare_snapshot("above", "based", Labels::new()).await.unwrap();
    let error = rig.client.cleanup("based", LIMIT).await.unwrap_err();
    assert_eq!(error.errors.len(), 1, "{error}");
    assert!(error.to_string().contains("removing snapshot `based`"), "{error}");

    rig.client.cleanup("one", LIMIT).await.unwrap();
    rig.client.cleanup("above", LIMIT).await.unwrap();
    rig.client.cleanup("based", LIMIT).await.unwrap();
    lease.release().await.unwrap();
}
