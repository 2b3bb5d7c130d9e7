//! Snapshots: usage, mounts, and those that belong to a user namespace.

use std::os::linux::fs::MetadataExt;
use std::path::Path;

use containerd::Labels;
use containerd::snapshots::{IdRange, SnapshotKind, remap_labels};
use oci_spec::runtime::{LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType};

use crate::support::{LIMIT, Rig, spec};

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_tells_what_it_is_and_takes() {
    let rig = Rig::start();
    let image = rig.image().await;
    let chain = image.chain();
    let lower = rig.client.snapshot(&chain[0]).await.unwrap();
    assert_eq!((lower.kind, lower.parent.as_str()), (SnapshotKind::Committed, ""));
    let busybox = rig.client.snapshot_usage(&chain[0]).await.unwrap();
    let marker = rig.client.snapshot_usage(&chain[1]).await.unwrap();
    assert!(
        busybox.bytes > marker.bytes && busybox.inodes > marker.inodes,
        "{busybox:?} {marker:?}"
    );

    let lease = rig.client.lease("test", LIMIT).await.unwrap();
    let mounts = lease.prepare_snapshot("one", &chain[1], Labels::new()).await.unwrap();
    assert_eq!(rig.client.snapshot_mounts("one").await.unwrap(), mounts);
    let one = rig.client.snapshot("one").await.unwrap();
    assert_eq!((one.kind, &one.parent), (SnapshotKind::Active, &chain[1]));
    lease.view_snapshot("look", &chain[1]).await.unwrap();
    assert_eq!(rig.client.snapshot("look").await.unwrap().kind, SnapshotKind::View);
    let error = lease.prepare_snapshot("one", &chain[1], Labels::new()).await.unwrap_err();
    assert!(error.is_already_exists() && error.to_string().contains("`one`"), "{error}");
    let error = lease.prepare_snapshot("two", "sha256:none", Labels::new()).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    lease.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_remapped_snapshot_belong_to_the_user_namespace() {
    let rig = Rig::start();
    let image = rig.image().await;
    let range = IdRange { container: 0, host: 100_000, size: 65_536 };
    let mut spec = spec("one", &["sh", "-c", "stat -c %u /etc/marker; touch /etc/mine"]);
    let mut linux = spec.linux().clone().unwrap();
    let mut namespaces = linux.namespaces().clone().unwrap();
    let user = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::User).build().unwrap();
    namespaces.push(user);
    let mapping = LinuxIdMappingBuilder::default()
        .container_id(range.container)
        .host_id(range.host)
        .size(range.size)
        .build()
        .unwrap();
    linux.set_namespaces(Some(namespaces));
    linux.set_uid_mappings(Some(vec![mapping]));
    linux.set_gid_mappings(Some(vec![mapping]));
    spec.set_linux(Some(linux));

    rig.create_with(&image, "one", &spec, remap_labels(range, range)).await;
    let exit = rig.client.start_task("one").await.unwrap().exit.await.unwrap();
    rig.client.delete_task("one").await.unwrap();
    assert_eq!((exit.status, rig.output("one").as_str()), (0, "0\n"));
    let mounts = rig.client.snapshot_mounts("one").await.unwrap();
    let upper = mounts[0].options.iter().find_map(|it| it.strip_prefix("upperdir=")).unwrap();
    let mine = fs_err::metadata(Path::new(upper).join("etc/mine")).unwrap();
    assert_eq!((mine.st_uid(), mine.st_gid()), (range.host, range.host));
}
