//! Import of an OCI image layout: a folder with `oci-layout`, `index.json` and `blobs/`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oci_spec::image::{Descriptor, DigestAlgorithm, ImageIndex, ImageManifest};
use tokio::io::AsyncReadExt;

use super::{Image, MAX_JSON, is_for_this_machine, is_index, name, parse};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::{Labels, Lease, sha256};

/// The annotation of an entry of `index.json` that holds its full name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// How long the lease of an import lives at most.
const LEASE_LIFE: Duration = Duration::from_secs(3600);
/// How deep indexes may nest.
const MAX_DEPTH: usize = 4;

/// How far an import is, in bytes of blobs; what was in the store already counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// So far.
    pub done: u64,
    /// Of how many.
    pub total: u64,
}

impl Client {
    /// Imports every named image of the layout at `folder` (names are full ones, in
    /// `index.json`), for linux/amd64. A blob that the store has is not read again.
    ///
    /// The images are not unpacked yet: see [`Client::unpack_image`].
    ///
    /// # Errors
    /// [`Error::Io`] naming the file; [`Error::Invalid`] naming the blob whose bytes are not those
    /// of its digest, or saying that the layout names no image. No name is made or changed then.
    pub async fn import_layout(
        &self,
        folder: &Path,
        progress: impl Fn(Progress) + Sync,
    ) -> Result<Vec<Image>> {
        let layout = Layout { folder };
        let plan = layout.plan().await?;
        let lease = self.lease("import", LEASE_LIFE).await?;
        let result = import(&lease, &layout, &plan, &progress).await;
        lease.finish(result).await
    }
}

async fn import(
    lease: &Lease,
    layout: &Layout<'_>,
    plan: &Plan,
    progress: &(impl Fn(Progress) + Sync),
) -> Result<Vec<Image>> {
    let total = plan.blobs.iter().map(|it| it.descriptor.size()).sum();
    let done = AtomicU64::new(0);
    for blob in &plan.blobs {
        let before = done.load(Ordering::Relaxed);
        let report = |bytes| progress(Progress { done: before + bytes, total });
        let digest = blob.descriptor.digest().as_ref();
        let file = layout.open(&blob.descriptor).await?;
        lease
            .write_blob(digest, blob.descriptor.size(), file, blob.labels.clone(), &report)
            .await
            .map_err(|error| match error {
                Error::Invalid { what, why } => {
                    Error::invalid(format!("{what} in {}", layout.folder.display()), why)
                }
                error => error,
            })?;
        done.store(before + blob.descriptor.size(), Ordering::Relaxed);
    }
    let mut images = Vec::with_capacity(plan.names.len());
    for (name, target) in &plan.names {
        images.push(lease.put_image(name, target).await?);
    }
    Ok(images)
}

/// What an import will do, found out before anything is written.
#[derive(Debug, Default)]
struct Plan {
    /// Blobs in the order of writing: what refers comes after what it refers to.
    blobs: Vec<PlannedBlob>,
    names: Vec<(String, Descriptor)>,
}

#[derive(Debug)]
struct PlannedBlob {
    descriptor: Descriptor,
    /// The references that keep its children from the garbage collector.
    labels: Labels,
}

impl Plan {
    fn add(&mut self, descriptor: &Descriptor, labels: Labels) {
        if !self.blobs.iter().any(|it| it.descriptor.digest() == descriptor.digest()) {
            self.blobs.push(PlannedBlob { descriptor: descriptor.clone(), labels });
        }
    }
}

struct Layout<'a> {
    folder: &'a Path,
}

impl Layout<'_> {
    async fn plan(&self) -> Result<Plan> {
        let path = self.folder.join("index.json");
        let bytes = read_at_most(&path, MAX_JSON).await?;
        let index: ImageIndex = parse(&path.display().to_string(), &bytes)?;
        let mut plan = Plan::default();
        for entry in index.manifests() {
            let annotations = entry.annotations().as_ref();
            let Some(name) = annotations.and_then(|it| it.get(REF_NAME)) else { continue };
            name::check(name)?;
            self.plan_tree(entry, &mut plan, 0).await?;
            // The name belongs to the layout, not to what the image is.
            let mut target = entry.clone();
            target.set_annotations(None);
            plan.names.push((name.clone(), target));
        }
        if plan.names.is_empty() {
            let why = format!("no entry has the annotation {REF_NAME}");
            return Err(Error::invalid(path.display().to_string(), why));
        }
        Ok(plan)
    }

    /// Plans a manifest or index after all that it refers to.
    async fn plan_tree(&self, entry: &Descriptor, plan: &mut Plan, depth: usize) -> Result<()> {
        if depth == MAX_DEPTH {
            let what = format!("index {} in {}", entry.digest(), self.folder.display());
            return Err(Error::invalid(what, format!("it nests deeper than {MAX_DEPTH}")));
        }
        let mut labels = Labels::new();
        if is_index(entry.media_type()) {
            let index: ImageIndex = self.json(entry).await?;
            let ours = index.manifests().iter().filter(|it| is_for_this_machine(it));
            for (number, child) in ours.enumerate() {
                Box::pin(self.plan_tree(child, plan, depth + 1)).await?;
                labels.insert(reference("m", number), child.digest().to_string());
            }
        } else {
            let manifest: ImageManifest = self.json(entry).await?;
            for layer in manifest.layers() {
                plan.add(layer, Labels::new());
            }
            plan.add(manifest.config(), Labels::new());
            labels = manifest_labels(manifest.config(), manifest.layers());
        }
        plan.add(entry, labels);
        Ok(())
    }

    /// Reads and checks a manifest or index.
    async fn json<T: serde::de::DeserializeOwned>(&self, entry: &Descriptor) -> Result<T> {
        let what = format!("blob {} in {}", entry.digest(), self.folder.display());
        let bytes = read_at_most(&self.path(entry)?, MAX_JSON).await?;
        let actual = sha256(&bytes);
        if actual != entry.digest().as_ref() {
            return Err(Error::invalid(what, format!("its bytes have the digest {actual}")));
        }
        parse(&what, &bytes)
    }

    async fn open(&self, blob: &Descriptor) -> Result<fs_err::tokio::File> {
        let file = fs_err::tokio::File::open(self.path(blob)?).await?;
        let actual = file.metadata().await?.len();
        if actual != blob.size() {
            let what = format!("blob {} in {}", blob.digest(), self.folder.display());
            let why = format!("it is {actual} bytes long, its descriptor says {}", blob.size());
            return Err(Error::invalid(what, why));
        }
        Ok(file)
    }

    /// The file of a blob. Only sha256, so that no digest can climb out of the folder.
    fn path(&self, blob: &Descriptor) -> Result<PathBuf> {
        let digest = blob.digest();
        if *digest.algorithm() != DigestAlgorithm::Sha256 {
            let what = format!("blob {digest} in {}", self.folder.display());
            return Err(Error::invalid(what, "its digest is not a sha256"));
        }
        Ok(self.folder.join("blobs/sha256").join(digest.digest()))
    }
}

/// The labels that make a manifest hold its configuration and layers.
pub(crate) fn manifest_labels(config: &Descriptor, layers: &[Descriptor]) -> Labels {
    let layers =
        layers.iter().enumerate().map(|(i, it)| (reference("l", i), it.digest().to_string()));
    let config = ("containerd.io/gc.ref.content.config".to_owned(), config.digest().to_string());
    layers.chain([config]).collect()
}

fn reference(kind: &str, number: usize) -> String {
    format!("containerd.io/gc.ref.content.{kind}.{number}")
}

async fn read_at_most(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let file = fs_err::tokio::File::open(path).await?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).await.map_err(|error| {
        io::Error::new(error.kind(), format!("failed to read `{}`: {error}", path.display()))
    })?;
    if bytes.len() > limit {
        let why = format!("it is larger than {limit} bytes");
        return Err(Error::invalid(path.display().to_string(), why));
    }
    Ok(bytes)
}
