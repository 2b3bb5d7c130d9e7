//! Import, lookup, unpacking and removal of images.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use containerd::Error;
use containerd::images::{Progress, Reclaim};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::Daemon;

use crate::support::{IMAGE, LIMIT, Rig, write_layout};

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_is_imported_listed_and_removed() {
    let rig = Rig::start();
    let layout = rig.layout("layout");
    let reports = Mutex::new(Vec::new());
    let images =
        rig.client.import_layout(&layout, |it| reports.lock().unwrap().push(it)).await.unwrap();
    assert_eq!(images.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), [IMAGE]);
    let reports = reports.into_inner().unwrap();
    let total = reports[0].total;
    assert!(reports.is_sorted_by_key(|it| it.done), "progress goes back: {reports:?}");
    assert!(reports.len() > 5, "busybox alone is more than one piece: {reports:?}");
    assert_eq!(reports.last(), Some(&Progress { done: total, total }));

    assert_eq!(rig.client.image(IMAGE).await.unwrap(), images[0]);
    assert_eq!(rig.client.images(&[]).await.unwrap(), images);
    assert_eq!(rig.client.images(&["name~=^docker.io/other/"]).await.unwrap(), []);
    let resolved = rig.client.resolve_image(IMAGE).await.unwrap();
    assert_eq!(resolved.manifest.layers().len(), 2);
    assert_eq!(resolved.config.config().as_ref().unwrap().cmd().as_ref().unwrap()[0], "/bin/sh");

    // Twice is fine, and nothing is sent the second time.
    assert_eq!(rig.client.import_layout(&layout, |_| ()).await.unwrap(), images);

    rig.client.remove_image(IMAGE, Reclaim::Now).await.unwrap();
    assert_eq!(rig.client.images(&[]).await.unwrap(), []);
    let error = rig.client.blob(&resolved.digest).await.unwrap_err();
    assert!(error.is_not_found(), "the space was not given back: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_is_named() {
    let rig = Rig::start();
    let name = "docker.io/inplace/missing:1";
    let check = |error: Error| {
        assert!(error.is_not_found() && error.to_string().contains(name), "{error:?}");
    };
    check(rig.client.image(name).await.unwrap_err());
    check(rig.client.resolve_image(name).await.unwrap_err());
    check(rig.client.unpack_image(name).await.unwrap_err());
    check(rig.client.remove_image(name, Reclaim::Later).await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpacked_image_outlives_its_lease_and_a_collection_of_garbage() {
    let rig = Rig::start();
    let image = rig.image().await;
    assert!(!rig.ctr(&["leases", "list", "--quiet"]).contains('-'), "a lease is left");

    // A snapshot that nothing holds shows that the collection really takes place.
    let lease = rig.client.lease("test", LIMIT).await.unwrap();
    lease.prepare_snapshot("loose", &image.top_chain(), Default::default()).await.unwrap();
    lease.release().await.unwrap();
    rig.collect_garbage().await;
    assert!(rig.client.snapshot("loose").await.unwrap_err().is_not_found());

    for chain_id in image.chain() {
        rig.client.snapshot(&chain_id).await.unwrap();
    }
    let (status, output) = rig.run_to_end(&image, "after", &["cat", "/etc/marker"]).await;
    assert_eq!((status, output.as_str()), (0, "from the image\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_missing_layers_are_unpacked() {
    let rig = Rig::start();
    let image = rig.image().await;
    assert_eq!(rig.client.unpack_image(IMAGE).await.unwrap(), image);
    let lower = rig.ctr(&["snapshots", "info", &image.chain()[0]]);
    rig.client.remove_snapshot(&image.top_chain()).await.unwrap();
    rig.client.unpack_image(IMAGE).await.unwrap();
    rig.client.snapshot(&image.top_chain()).await.unwrap();
    assert_eq!(rig.ctr(&["snapshots", "info", &image.chain()[0]]), lower);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_import_and_unpack_the_same_image() {
    let rig = Rig::start();
    let layout = rig.layout("layout");
    let one = async || {
        rig.client.import_layout(&layout, |_| ()).await?;
        rig.client.unpack_image(IMAGE).await
    };
    let (a, b, c) = tokio::join!(one(), one(), one());
    assert_eq!(a.unwrap(), b.unwrap());
    let top = c.unwrap().top_chain();
    let left: Vec<String> =
        rig.client.snapshots(&[]).await.unwrap().into_iter().map(|it| it.name).collect();
    assert_eq!(left.len(), 2, "extracts are left: {left:?}");
    assert!(left.contains(&top));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_loses_containerd_says_so_and_can_be_repeated() {
    let mut rig = Rig::start();
    let layout = rig.layout("layout");
    let pid = rig.host.pid(Daemon::Containerd).unwrap();
    let pid = Pid::from_raw(pid.try_into().unwrap());
    // In the middle: the first piece of the first layer has been taken.
    let once = std::sync::Once::new();
    let kill_it = |_| once.call_once(|| kill(pid, Signal::SIGKILL).unwrap());
    let error = rig.client.import_layout(&layout, kill_it).await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");

    rig.host.stop_daemon(Daemon::Containerd, Signal::SIGKILL).unwrap();
    rig.host.start_daemon(Daemon::Containerd).unwrap();
    rig.client.wait_ready(LIMIT).await.unwrap();
    assert!(rig.client.image(IMAGE).await.unwrap_err().is_not_found());
    let image = rig.image().await;
    let (status, output) = rig.run_to_end(&image, "after", &["cat", "/etc/marker"]).await;
    assert_eq!((status, output.as_str()), (0, "from the image\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_whose_bytes_are_not_those_of_its_digest_is_named_and_not_kept() {
    let rig = Rig::start();
    let layout = rig.layout("layout");
    let blobs = blobs(&layout);
    assert_eq!(blobs.len(), 5, "index, manifest, configuration, two layers");
    for blob in &blobs {
        let good = fs_err::read(blob).unwrap();
        let digest = blob.file_name().unwrap().to_str().unwrap();
        let mut bad = good.clone();
        // Inside a JSON string or a file's content: the form stays right, the digest does not.
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs_err::write(blob, bad).unwrap();
        check_refused(&rig, &layout, digest).await;

        fs_err::write(blob, &good[..good.len() - 1]).unwrap();
        check_refused(&rig, &layout, digest).await;

        fs_err::remove_file(blob).unwrap();
        check_refused(&rig, &layout, digest).await;
        fs_err::write(blob, good).unwrap();
    }
    // The mended layout imports: nothing of the bad attempts is in the way.
    rig.client.import_layout(&layout, |_| ()).await.unwrap();
    rig.client.unpack_image(IMAGE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_without_a_usable_name_is_refused() {
    let rig = Rig::start();
    let layout = rig.host.dir().join("short");
    write_layout(&layout, "busybox");
    let error = rig.client.import_layout(&layout, |_| ()).await.unwrap_err().to_string();
    assert!(error.contains("`busybox`") && error.contains("not a full name"), "{error}");

    let index = layout.join("index.json");
    let text = fs_err::read_to_string(&index).unwrap().replace("image.ref.name", "image.other");
    fs_err::write(&index, text).unwrap();
    let error = rig.client.import_layout(&layout, |_| ()).await.unwrap_err().to_string();
    assert!(error.contains("index.json: no entry has the annotation"), "{error}");

    let error = rig.client.import_layout(Path::new("/none"), |_| ()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Io(it) if it.to_string().contains("/none/index.json")),
        "{error}"
    );
}

async fn check_refused(rig: &Rig, layout: &Path, digest: &str) {
    let error = rig.client.import_layout(layout, |_| ()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(digest) && text.contains(layout.to_str().unwrap()), "{text}");
    assert!(rig.client.image(IMAGE).await.unwrap_err().is_not_found());
    // Good blobs of the attempt may still be there; they would not be read again.
    rig.collect_garbage().await;
}

fn blobs(layout: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(layout.join("blobs/sha256")).unwrap();
    entries.map(|it| it.unwrap().path()).collect()
}
