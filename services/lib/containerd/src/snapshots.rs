//! Snapshots: the layers of root file systems, and the writable one of each container.

use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, Info, Kind, ListSnapshotsRequest, MountsRequest, PrepareSnapshotRequest,
    RemoveSnapshotRequest, StatSnapshotRequest, UsageRequest, ViewSnapshotRequest,
};

use crate::client::{Client, op};
use crate::error::Result;
use crate::{Labels, Lease};

/// How to mount a snapshot: `type`, `source`, `options` as mount(8) knows them.
pub use containerd_client::types::Mount;

/// The snapshotter that this crate uses.
pub const SNAPSHOTTER: &str = "overlayfs";

/// A snapshot, as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its key: a chain id once it is committed.
    pub name: String,
    /// What it stands on; empty for the lowest.
    pub parent: String,
    /// What can be done with it.
    pub kind: SnapshotKind,
    /// Labels.
    pub labels: Labels,
}

/// What can be done with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotKind {
    /// Read, as it is mounted now.
    View,
    /// Written.
    Active,
    /// Stood on.
    Committed,
}

/// What a snapshot itself takes, without what it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Files and folders.
    pub inodes: u64,
}

/// A range of user or group ids: `size` ids from `container` on are the ones from `host` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside.
    pub container: u32,
    /// The same one outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// The labels for [`Lease::prepare_snapshot`] that make the files of a snapshot belong to a user
/// namespace with these mappings.
#[must_use]
pub fn remap_labels(uids: IdRange, gids: IdRange) -> Labels {
    let text = |it: IdRange| format!("{}:{}:{}", it.container, it.host, it.size);
    [
        ("containerd.io/snapshot/uidmapping".to_owned(), text(uids)),
        ("containerd.io/snapshot/gidmapping".to_owned(), text(gids)),
    ]
    .into()
}

impl Lease {
    /// Makes a writable snapshot `key` on the committed one `parent` (empty: on nothing).
    ///
    /// Create the container that names it before the lease is released.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`](crate::Error::AlreadyExists) when the key is taken,
    /// [`Error::NotFound`](crate::Error::NotFound) when there is no such parent.
    pub async fn prepare_snapshot(
        &self,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Vec<Mount>> {
        let request = PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels,
        };
        let call = op("preparing snapshot", key);
        Ok(call.run(self.client().snapshots_rpc().prepare(request)).await?.mounts)
    }

    /// Makes a read-only snapshot `key` of the committed one `parent`.
    ///
    /// # Errors
    /// As [`Lease::prepare_snapshot`].
    pub async fn view_snapshot(&self, key: &str, parent: &str) -> Result<Vec<Mount>> {
        let request = ViewSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: Labels::new(),
        };
        let call = op("viewing snapshot", parent);
        Ok(call.run(self.client().snapshots_rpc().view(request)).await?.mounts)
    }

    /// Turns the writable snapshot `key` into the committed one `name`.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`](crate::Error::AlreadyExists) when the name is taken; the writable
    /// one is still there then.
    pub async fn commit_active(&self, key: &str, name: &str, labels: Labels) -> Result<()> {
        let request = CommitSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
            labels,
        };
        op("committing snapshot", name).run(self.client().snapshots_rpc().commit(request)).await?;
        Ok(())
    }
}

impl Client {
    /// A snapshot by its key or name.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn snapshot(&self, name: &str) -> Result<Snapshot> {
        let op = op("getting snapshot", name);
        let (snapshotter, key) = (SNAPSHOTTER.to_owned(), name.to_owned());
        let request = StatSnapshotRequest { snapshotter, key };
        let info = op.run(self.snapshots_rpc().stat(request)).await?.info;
        Ok(snapshot(op.field(info, "info")?))
    }

    /// All snapshots, or those that match one of containerd's filters (`parent==...`).
    ///
    /// # Errors
    /// As every call.
    pub async fn snapshots(&self, filters: &[&str]) -> Result<Vec<Snapshot>> {
        let op = op("listing snapshots of", self.namespace());
        let filters = filters.iter().map(ToString::to_string).collect();
        let request = ListSnapshotsRequest { snapshotter: SNAPSHOTTER.to_owned(), filters };
        let mut stream = op.run(self.snapshots_rpc().list(request)).await?;
        let mut all = Vec::new();
        while let Some(message) = op.wait(stream.message()).await? {
            all.extend(message.info.into_iter().map(snapshot));
        }
        Ok(all)
    }

    /// How to mount the snapshot `key`.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn snapshot_mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let request = MountsRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
        let call = op("getting mounts of snapshot", key);
        Ok(call.run(self.snapshots_rpc().mounts(request)).await?.mounts)
    }

    /// What the snapshot itself takes on the disk.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn snapshot_usage(&self, key: &str) -> Result<Usage> {
        let request = UsageRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
        let answer = op("measuring snapshot", key).run(self.snapshots_rpc().usage(request)).await?;
        Ok(Usage {
            bytes: u64::try_from(answer.size).unwrap_or_default(),
            inodes: u64::try_from(answer.inodes).unwrap_or_default(),
        })
    }

    /// Removes the snapshot `key`.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound); [`Error::Failed`](crate::Error::Failed) while
    /// another snapshot stands on it.
    pub async fn remove_snapshot(&self, key: &str) -> Result<()> {
        let request =
            RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
        op("removing snapshot", key).run(self.snapshots_rpc().remove(request)).await?;
        Ok(())
    }
}

fn snapshot(info: Info) -> Snapshot {
    let kind = match info.kind() {
        Kind::View => SnapshotKind::View,
        Kind::Active => SnapshotKind::Active,
        Kind::Committed | Kind::Unknown => SnapshotKind::Committed,
    };
    Snapshot { name: info.name, parent: info.parent, kind, labels: info.labels }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_written_as_containerd_reads_them() {
        let uids = IdRange { container: 0, host: 100_000, size: 65_536 };
        let gids = IdRange { container: 1000, host: 200_000, size: 1 };
        let labels = remap_labels(uids, gids);
        assert_eq!(labels["containerd.io/snapshot/uidmapping"], "0:100000:65536");
        assert_eq!(labels["containerd.io/snapshot/gidmapping"], "1000:200000:1");
    }
}
