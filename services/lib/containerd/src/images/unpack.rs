//! Unpacking: one committed snapshot a layer, named by its chain id.

use std::time::Duration;

use containerd_client::services::v1::ApplyRequest;
use oci_spec::image::Descriptor;

use super::{ResolvedImage, descriptor};
use crate::client::{Client, op, unique};
use crate::content::UNCOMPRESSED;
use crate::error::{Error, NotFoundExt, Result};
use crate::snapshots::{Mount, SNAPSHOTTER};
use crate::{Labels, Lease};

/// The label in which a snapshot that is being unpacked says which chain id it will be.
const SNAPSHOT_REF: &str = "containerd.io/snapshot.ref";
/// How long one layer may take to unpack and to reach the disk.
const APPLY_LIMIT: Duration = Duration::from_secs(600);
/// How long the lease of an unpacking lives at most.
const LEASE_LIFE: Duration = Duration::from_secs(3600);

impl Client {
    /// Makes the image's root file system a snapshot, [`ResolvedImage::top_chain`]; what is there
    /// already is used. When it returns, the snapshots are on the disk and held by the image.
    ///
    /// # Errors
    /// [`Error::NotFound`] naming the image or the layer that is missing; [`Error::Invalid`] when
    /// a layer is not what the configuration says.
    pub async fn unpack_image(&self, name: &str) -> Result<ResolvedImage> {
        let image = self.resolve_image(name).await?;
        if self.is_unpacked(&image).await? {
            return Ok(image);
        }
        let lease = self.lease("unpack", LEASE_LIFE).await?;
        let result = lease.unpack(&image).await;
        lease.finish(result).await?;
        Ok(image)
    }

    /// Whether the whole root file system is there and held by the image's configuration.
    async fn is_unpacked(&self, image: &ResolvedImage) -> Result<bool> {
        let config = self.blob(image.manifest.config().digest().as_ref()).await?;
        let top = image.top_chain();
        Ok(config.labels.get(&held_snapshot()) == Some(&top)
            && self.snapshot(&top).await.found()?.is_some())
    }
}

impl Lease {
    /// Unpacks what is missing, from the highest layer that is there upwards.
    pub(crate) async fn unpack(&self, image: &ResolvedImage) -> Result<()> {
        let chain = image.chain();
        let mut first = chain.len();
        while first > 0 {
            // Held first and looked at after, so that it cannot go in between.
            self.hold_snapshot(&chain[first - 1]).await.found()?;
            if self.client().snapshot(&chain[first - 1]).await.found()?.is_some() {
                break;
            }
            first -= 1;
        }
        for number in first..chain.len() {
            let parent = number.checked_sub(1).map_or("", |it| chain[it].as_str());
            let layer = &image.manifest.layers()[number];
            let diff_id = &image.config.rootfs().diff_ids()[number];
            self.unpack_layer(&image.name, layer, diff_id, parent, &chain[number]).await?;
        }
        let label = [(held_snapshot(), image.top_chain())].into();
        self.client().label_blob(image.manifest.config().digest().as_ref(), label).await
    }

    async fn unpack_layer(
        &self,
        image: &str,
        layer: &Descriptor,
        diff_id: &str,
        parent: &str,
        chain_id: &str,
    ) -> Result<()> {
        let labels: Labels = [(SNAPSHOT_REF.to_owned(), chain_id.to_owned())].into();
        let key = format!("{} {chain_id}", unique("extract"));
        let mounts = match self.prepare_snapshot(&key, parent, labels.clone()).await {
            // Another one has just finished it.
            Err(error) if error.is_already_exists() => return Ok(()),
            mounts => mounts?,
        };
        let result = self.apply(image, layer, diff_id, mounts).await;
        let result = match result {
            Ok(()) => self.commit_active(&key, chain_id, labels).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {}
            Err(error) => {
                // Best effort: what stays of it ends with the lease.
                let _ = self.client().remove_snapshot(&key).await;
                if !error.is_already_exists() {
                    return Err(error);
                }
            }
        }
        let label = [(UNCOMPRESSED.to_owned(), diff_id.to_owned())].into();
        self.client().label_blob(layer.digest().as_ref(), label).await
    }

    async fn apply(
        &self,
        image: &str,
        layer: &Descriptor,
        diff_id: &str,
        mounts: Vec<Mount>,
    ) -> Result<()> {
        let op = op("unpacking layer", layer.digest().as_ref()).within(APPLY_LIMIT);
        let request = ApplyRequest {
            diff: Some(descriptor(layer)),
            mounts,
            sync_fs: true,
            ..ApplyRequest::default()
        };
        let applied = op.run(self.client().diff_rpc().apply(request)).await?.applied;
        let actual = op.field(applied, "applied")?.digest;
        if actual != diff_id {
            let why = format!("unpacked it is {actual}, its configuration says {diff_id}");
            return Err(Error::invalid(format!("layer {} of image {image}", layer.digest()), why));
        }
        Ok(())
    }
}

/// The label that makes an image's configuration hold its snapshot.
fn held_snapshot() -> String {
    format!("containerd.io/gc.ref.snapshot.{SNAPSHOTTER}")
}
