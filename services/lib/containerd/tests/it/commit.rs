//! Images from what a container wrote.

use containerd::commit::CommitSnapshot;
use containerd::images::Reclaim;
use containerd::tasks::TaskStatus;

use crate::support::{IMAGE, Rig};

const COMMITTED: &str = "docker.io/inplace/busybox:committed";

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_keeps_what_was_written_and_what_was_deleted() {
    let rig = Rig::start();
    let base = rig.image().await;
    let script = "rm /etc/marker; echo new > /etc/new; echo done; sleep 1000";
    let _task = rig.run(&base, "one", &["sh", "-c", script]).await;
    rig.wait_for_output("one", "done").await;
    let what =
        CommitSnapshot { container: "one", base: IMAGE, name: COMMITTED, comment: "by hand" };
    let image = rig.client.commit_snapshot(what).await.unwrap();
    assert_eq!(rig.client.task("one").await.unwrap().status, TaskStatus::Running);
    assert_eq!(image.manifest.layers().len(), 3);
    assert_eq!(image.chain()[..2], base.chain());
    let history = image.config.history().clone().unwrap();
    assert_eq!(history.last().unwrap().comment().as_deref(), Some("by hand"));

    // Only the image's own references hold it now.
    rig.client.remove_image(IMAGE, Reclaim::Now).await.unwrap();
    let script = "cat /etc/new; ls /etc";
    let (status, output) = rig.run_to_end(&image, "two", &["sh", "-c", script]).await;
    assert_eq!((status, output.as_str()), (0, "new\nnew\n"));
    assert_eq!(rig.client.unpack_image(COMMITTED).await.unwrap(), image);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_cannot_be_is_refused_by_name_and_freezes_nothing() {
    let rig = Rig::start();
    let base = rig.image().await;
    let _task = rig.run(&base, "one", &["sleep", "1000"]).await;
    let what = CommitSnapshot { container: "one", base: IMAGE, name: COMMITTED, comment: "" };
    rig.client.commit_snapshot(what).await.unwrap();

    let missing = CommitSnapshot { container: "none", ..what };
    let error = rig.client.commit_snapshot(missing).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("`none`"), "{error}");
    let other = CommitSnapshot { base: COMMITTED, ..what };
    let error = rig.client.commit_snapshot(other).await.unwrap_err().to_string();
    assert!(error.starts_with("container one: it stands on sha256:"), "{error}");
    let short = CommitSnapshot { name: "short", ..what };
    let error = rig.client.commit_snapshot(short).await.unwrap_err().to_string();
    assert!(error.contains("`short`"), "{error}");
    assert_eq!(rig.client.task("one").await.unwrap().status, TaskStatus::Running);
}
