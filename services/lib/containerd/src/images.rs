//! Images by their full name: lookup, the manifest for this machine, removal.

mod import;
mod name;
mod unpack;

use containerd_client::services::v1::{
    CreateImageRequest, DeleteImageRequest, GetImageRequest, Image as ImageRecord,
    ListImagesRequest, UpdateImageRequest,
};
use containerd_client::types;
use oci_spec::image::{
    Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Os,
};
use prost_types::FieldMask;
use serde::de::DeserializeOwned;

use crate::client::{Client, op};
use crate::error::{Error, Result};
use crate::{Labels, Lease, chain_ids};

pub use import::Progress;
pub(crate) use import::manifest_labels;

/// Longest manifest, index or configuration that is read, in bytes.
pub(crate) const MAX_JSON: usize = 4 << 20;

/// A name in the store, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Full name, for example `docker.io/inplace/python3:0123456789ab`.
    pub name: String,
    /// Its manifest, or an index of manifests.
    pub target: Descriptor,
    /// Labels.
    pub labels: Labels,
}

/// An image's manifest for linux/amd64, and its configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedImage {
    /// Full name.
    pub name: String,
    /// Digest of the manifest (of this machine's, if the name stands for an index).
    pub digest: String,
    /// The manifest: configuration and layers.
    pub manifest: ImageManifest,
    /// The configuration: user, environment, command, labels, digests of the unpacked layers.
    pub config: ImageConfiguration,
}

impl ResolvedImage {
    /// The chain id of every layer, lowest first; never empty.
    #[must_use]
    pub fn chain(&self) -> Vec<String> {
        chain_ids(self.config.rootfs().diff_ids())
    }

    /// The snapshot that a container of this image stands on, there once it is unpacked.
    #[must_use]
    pub fn top_chain(&self) -> String {
        self.chain().pop().unwrap_or_default()
    }
}

/// When the space of something removed is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reclaim {
    /// Some time later, by itself.
    Later,
    /// Before the call returns: garbage of every kind is collected.
    Now,
}

impl Client {
    /// The image of that full name.
    ///
    /// # Errors
    /// [`Error::NotFound`] naming the image.
    pub async fn image(&self, name: &str) -> Result<Image> {
        let op = op("getting image", name);
        let request = GetImageRequest { name: name.to_owned() };
        let record = op.run(self.images_rpc().get(request)).await?.image;
        image(op.field(record, "image")?)
    }

    /// All images, or those that match one of containerd's filters (`name~=^docker.io/inplace/`).
    ///
    /// # Errors
    /// As every call.
    pub async fn images(&self, filters: &[&str]) -> Result<Vec<Image>> {
        let filters = filters.iter().map(ToString::to_string).collect();
        let answer = op("listing images of", self.namespace())
            .run(self.images_rpc().list(ListImagesRequest { filters }))
            .await?;
        answer.images.into_iter().map(image).collect()
    }

    /// Removes a name. Content and snapshots that nothing else refers to become garbage; those
    /// under a container stay.
    ///
    /// # Errors
    /// [`Error::NotFound`] naming the image.
    pub async fn remove_image(&self, name: &str, reclaim: Reclaim) -> Result<()> {
        let sync = reclaim == Reclaim::Now;
        let request = DeleteImageRequest { name: name.to_owned(), sync, target: None };
        op("removing image", name).run(self.images_rpc().delete(request)).await?;
        Ok(())
    }

    /// The image's manifest for linux/amd64 and its configuration.
    ///
    /// # Errors
    /// [`Error::NotFound`] naming the image, or the blob of it that is missing;
    /// [`Error::Invalid`] when it is for other machines only, or cannot be understood.
    pub async fn resolve_image(&self, name: &str) -> Result<ResolvedImage> {
        let target = self.image(name).await?.target;
        let what = format!("image {name}");
        let digest = if is_index(target.media_type()) {
            let index: ImageIndex = self.read_json(target.digest().as_ref()).await?;
            let ours = index.manifests().iter().find(|it| is_for_this_machine(it));
            let ours = ours.ok_or_else(|| Error::invalid(&what, "it has no linux/amd64"))?;
            ours.digest().to_string()
        } else {
            target.digest().to_string()
        };
        let manifest: ImageManifest = self.read_json(&digest).await?;
        let config: ImageConfiguration =
            self.read_json(manifest.config().digest().as_ref()).await?;
        let (layers, diffs) = (manifest.layers().len(), config.rootfs().diff_ids().len());
        if layers != diffs || layers == 0 {
            let why = format!("its manifest has {layers} layers, its configuration {diffs}");
            return Err(Error::invalid(what, why));
        }
        Ok(ResolvedImage { name: name.to_owned(), digest, manifest, config })
    }

    /// Reads and parses a JSON blob.
    pub(crate) async fn read_json<T: DeserializeOwned>(&self, digest: &str) -> Result<T> {
        let bytes = self.read_blob(digest, MAX_JSON).await?;
        parse(&format!("blob {digest}"), &bytes)
    }
}

impl Lease {
    /// Makes the name stand for `target`, whether or not it exists already.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the name is not a full one; [`Error::NotFound`] when the target's
    /// blob is not in the store.
    pub async fn put_image(&self, name: &str, target: &Descriptor) -> Result<Image> {
        name::check(name)?;
        let op = op("naming image", name);
        let record = ImageRecord {
            name: name.to_owned(),
            target: Some(descriptor(target)),
            ..ImageRecord::default()
        };
        let request = CreateImageRequest { image: Some(record.clone()), ..Default::default() };
        let record = match op.run(self.client().images_rpc().create(request)).await {
            Ok(answer) => answer.image,
            Err(error) if error.is_already_exists() => {
                let update_mask = Some(FieldMask { paths: vec!["target".to_owned()] });
                let request = UpdateImageRequest {
                    image: Some(record),
                    update_mask,
                    ..UpdateImageRequest::default()
                };
                op.run(self.client().images_rpc().update(request)).await?.image
            }
            Err(error) => return Err(error),
        };
        image(op.field(record, "image")?)
    }
}

/// Our descriptor as containerd's.
pub(crate) fn descriptor(ours: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: ours.media_type().to_string(),
        digest: ours.digest().to_string(),
        size: i64::try_from(ours.size()).unwrap_or(i64::MAX),
        annotations: ours.annotations().clone().unwrap_or_default(),
    }
}

/// containerd's descriptor as ours.
pub(crate) fn from_descriptor(theirs: types::Descriptor) -> Result<Descriptor> {
    let digest: oci_spec::image::Digest = theirs
        .digest
        .parse()
        .map_err(|_| Error::invalid(format!("digest `{}`", theirs.digest), "it is none"))?;
    let size = u64::try_from(theirs.size).unwrap_or_default();
    let mut ours = Descriptor::new(MediaType::from(theirs.media_type.as_str()), size, digest);
    if !theirs.annotations.is_empty() {
        ours.set_annotations(Some(theirs.annotations));
    }
    Ok(ours)
}

/// Parses JSON that `what` holds.
fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::invalid(what, error.to_string()))
}

/// Whether a descriptor's blob is an index of manifests (OCI's or Docker's).
fn is_index(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageIndex
        || media_type.as_ref() == "application/vnd.docker.distribution.manifest.list.v2+json"
}

/// Whether an index' entry is what this machine runs. An entry that names no platform is taken.
fn is_for_this_machine(entry: &Descriptor) -> bool {
    entry
        .platform()
        .as_ref()
        .is_none_or(|it| *it.os() == Os::Linux && *it.architecture() == Arch::Amd64)
}

fn image(record: ImageRecord) -> Result<Image> {
    let target = op("reading image", &record.name).field(record.target, "target")?;
    Ok(Image { name: record.name, target: from_descriptor(target)?, labels: record.labels })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_an_index_the_entry_for_linux_on_amd64_is_taken() {
        let entry = |platform: serde_json::Value| -> Descriptor {
            let digest = crate::sha256(b"");
            let media = "application/vnd.oci.image.manifest.v1+json";
            let mut json = json!({"mediaType": media, "digest": digest, "size": 0});
            if !platform.is_null() {
                json["platform"] = platform;
            }
            serde_json::from_value(json).unwrap()
        };
        assert!(is_for_this_machine(&entry(json!({"os": "linux", "architecture": "amd64"}))));
        assert!(is_for_this_machine(&entry(json!(null))));
        for (os, arch) in [("linux", "arm64"), ("windows", "amd64"), ("unknown", "unknown")] {
            assert!(!is_for_this_machine(&entry(json!({"os": os, "architecture": arch}))));
        }
    }
}
