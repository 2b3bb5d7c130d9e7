//! An image from what a container wrote: the base's layers and one more.
//!
//! Only the snapshot is in it. What is bound into the container is not.

use std::time::Duration;

use containerd_client::services::v1::DiffRequest;
use oci_spec::image::{Descriptor, Digest, MediaType};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::{Client, op, unique};
use crate::content::UNCOMPRESSED;
use crate::error::{Error, Result};
use crate::images::{ResolvedImage, from_descriptor, manifest_labels};
use crate::snapshots::Mount;
use crate::tasks::Paused;
use crate::{Labels, Lease, sha256};

/// What [`Client::commit_snapshot`] makes.
#[derive(Clone, Copy, Debug)]
pub struct CommitSnapshot<'a> {
    /// The container whose snapshot is committed. Its task is frozen while it is read.
    pub container: &'a str,
    /// Full name of the image that the snapshot stands on.
    pub base: &'a str,
    /// Full name of the new image.
    pub name: &'a str,
    /// Goes into the image's history.
    pub comment: &'a str,
}

/// How long comparing and compressing may take.
const DIFF_LIMIT: Duration = Duration::from_secs(600);
/// How long the lease of a commit lives at most.
const LEASE_LIFE: Duration = Duration::from_secs(3600);

impl Client {
    /// Makes an image of the base and of what the container has written and deleted since, and
    /// unpacks it. A task that runs is frozen while the snapshot is read, and always goes on.
    ///
    /// # Errors
    /// [`Error::NotFound`] naming the container, the base or a blob of the base that is gone;
    /// [`Error::Invalid`] when the container does not stand on that base.
    pub async fn commit_snapshot(&self, what: CommitSnapshot<'_>) -> Result<ResolvedImage> {
        let lease = self.lease("commit", LEASE_LIFE).await?;
        let result = commit(&lease, what).await;
        lease.finish(result).await?;
        self.unpack_image(what.name).await
    }
}

async fn commit(lease: &Lease, what: CommitSnapshot<'_>) -> Result<()> {
    let client = lease.client();
    let base = client.resolve_image(what.base).await?;
    for layer in base.manifest.layers() {
        // An image without its lower layers could be run here, but never leave the machine.
        client.blob(layer.digest().as_ref()).await?;
    }
    let key = client.container(what.container).await?.snapshot;
    let parent = client.snapshot(&key).await?.parent;
    if parent != base.top_chain() {
        let why = format!("it stands on {parent}, image {} on {}", base.name, base.top_chain());
        return Err(Error::invalid(format!("container {}", what.container), why));
    }
    let paused = Paused::begin(client, what.container).await?;
    let layer = lease.diff(&key, &parent).await;
    if let Some(paused) = paused {
        paused.end().await?;
    }
    let layer = layer?;
    let manifest = write_image(lease, &base, layer, what.comment).await?;
    lease.put_image(what.name, &manifest).await?;
    Ok(())
}

/// Writes configuration and manifest of the base with one more layer.
async fn write_image(
    lease: &Lease,
    base: &ResolvedImage,
    layer: Descriptor,
    comment: &str,
) -> Result<Descriptor> {
    let client = lease.client();
    let digest = layer.digest().to_string();
    let diff_id = client.blob(&digest).await?.labels.remove(UNCOMPRESSED).ok_or_else(|| {
        Error::invalid(format!("blob {digest}"), format!("it has no label {UNCOMPRESSED}"))
    })?;
    // As JSON, so that fields that we do not know are kept.
    let config: Value = client.read_json(base.manifest.config().digest().as_ref()).await?;
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let config = add_layer(config, &diff_id, comment, &now)
        .ok_or_else(|| {
            Error::invalid(format!("configuration of image {}", base.name), "no layers")
        })?
        .to_string();
    lease.write_bytes(config.as_bytes(), Labels::new()).await?;
    let config = descriptor_of(base.manifest.config().media_type().clone(), config.as_bytes())?;

    let mut manifest = base.manifest.clone();
    manifest.set_config(config.clone());
    manifest.layers_mut().push(layer);
    let bytes = serde_json::to_vec(&manifest)
        .map_err(|error| Error::invalid("new manifest", error.to_string()))?;
    let labels = manifest_labels(&config, manifest.layers());
    lease.write_bytes(&bytes, labels).await?;
    let media_type = manifest.media_type().clone().unwrap_or(MediaType::ImageManifest);
    descriptor_of(media_type, &bytes)
}

impl Lease {
    /// Writes the difference between the snapshot `key` and its parent as a compressed layer.
    ///
    /// # Errors
    /// [`Error::NotFound`] naming the snapshot.
    pub async fn diff(&self, key: &str, parent: &str) -> Result<Descriptor> {
        let right = self.client().snapshot_mounts(key).await?;
        let view = unique("view");
        let left = self.view_snapshot(&view, parent).await?;
        let layer = self.diff_mounts(key, left, right).await;
        let removed = self.client().remove_snapshot(&view).await;
        let layer = layer?;
        removed?;
        Ok(layer)
    }

    async fn diff_mounts(
        &self,
        key: &str,
        left: Vec<Mount>,
        right: Vec<Mount>,
    ) -> Result<Descriptor> {
        let request = DiffRequest {
            left,
            right,
            media_type: MediaType::ImageLayerGzip.to_string(),
            r#ref: unique("diff"),
            ..DiffRequest::default()
        };
        let op = op("comparing snapshot", key).within(DIFF_LIMIT);
        let layer = op.run(self.client().diff_rpc().diff(request)).await?.diff;
        from_descriptor(op.field(layer, "diff")?)
    }
}

/// The configuration with one more layer, or nothing when it has no list of layers.
fn add_layer(mut config: Value, diff_id: &str, comment: &str, now: &str) -> Option<Value> {
    config.get_mut("rootfs")?.get_mut("diff_ids")?.as_array_mut()?.push(json!(diff_id));
    let fields = config.as_object_mut()?;
    let history = fields.entry("history").or_insert_with(|| json!([]));
    if history.is_null() {
        *history = json!([]);
    }
    let entry = json!({"created": now, "created_by": "snapshot commit", "comment": comment});
    history.as_array_mut()?.push(entry);
    fields.insert("created".to_owned(), json!(now));
    Some(config)
}

/// The descriptor of bytes that were written just now.
fn descriptor_of(media_type: MediaType, bytes: &[u8]) -> Result<Descriptor> {
    let digest: Digest =
        sha256(bytes).parse().map_err(|_| Error::invalid("digest", "it is none"))?;
    Ok(Descriptor::new(media_type, bytes.len() as u64, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_added_and_unknown_fields_are_kept() {
        let config =
            json!({"rootfs": {"type": "layers", "diff_ids": ["a"]}, "x-new": 1, "history": null});
        let config = add_layer(config, "b", "by hand", "2026-01-01T00:00:00Z").unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!(["a", "b"]));
        assert_eq!(config["x-new"], 1);
        assert_eq!(config["history"][0]["comment"], "by hand");
        assert_eq!(config["created"], "2026-01-01T00:00:00Z");
        assert_eq!(add_layer(json!({}), "b", "", ""), None);
    }
}
