//! Leases: what they hold, and how they end.

use std::time::Duration;

use containerd::Labels;

use crate::support::{Rig, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_expires_by_its_label_and_ends_with_its_guard() {
    let rig = Rig::start();
    let leases = || rig.ctr(&["leases", "list"]);
    let hour = Duration::from_secs(3600);
    let released = rig.client.lease("released", hour).await.unwrap();
    let dropped = rig.client.lease("dropped", hour).await.unwrap();
    let list = leases();
    assert!(list.contains("released-") && list.contains("dropped-"), "{list}");
    assert_eq!(list.matches("containerd.io/gc.expire=2").count(), 2, "{list}");

    released.release().await.unwrap();
    assert!(!leases().contains("released-"));
    drop(dropped);
    eventually("the dropped lease is gone", async || !leases().contains("dropped-")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lease_holds_stays_until_it_expires() {
    let rig = Rig::start();
    // Leases of dead owners: nobody releases them.
    let long = rig.client.lease("long", Duration::from_secs(3600)).await.unwrap();
    let held = long.write_bytes(b"held", Labels::new()).await.unwrap();
    long.prepare_snapshot("held", "", Labels::new()).await.unwrap();
    let mut life = Duration::from_secs(1);
    let _short = loop {
        let short = rig.client.lease("short", life).await.unwrap();
        // On a busy machine it may have expired by now.
        if short.prepare_snapshot("loose", "", Labels::new()).await.is_ok() {
            break short;
        }
        life *= 2;
    };

    eventually("the expired lease lets go", async || {
        rig.collect_garbage().await;
        rig.client.snapshot("loose").await.is_err_and(|error| error.is_not_found())
    })
    .await;
    assert_eq!(rig.client.read_blob(&held, 100).await.unwrap(), b"held");
    rig.client.snapshot("held").await.unwrap();
    let error = rig.client.read_blob(&held, 3).await.unwrap_err().to_string();
    assert!(error.ends_with("it is larger than 3 bytes"), "{error}");
}
