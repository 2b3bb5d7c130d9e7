//! Containers: the records from which tasks are made. They hold their snapshot and image.

use std::path::PathBuf;

use containerd_client::services::v1::container::Runtime as RuntimeRecord;
use containerd_client::services::v1::{
    Container as ContainerRecord, CreateContainerRequest, DeleteContainerRequest,
    GetContainerRequest, ListContainersRequest,
};
use prost::Message as _;
use prost_types::Any;
use serde::Serialize;

use crate::Labels;
use crate::client::{Client, op};
use crate::error::{Error, Result};
use crate::snapshots::SNAPSHOTTER;

/// containerd's shim for runc and what is called like it.
const SHIM: &str = "io.containerd.runc.v2";
const SHIM_OPTIONS: &str = "containerd.runc.v1.Options";
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// The OCI runtime that runs a container, and where its shim lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runtime {
    /// Path of the runtime's program (crun); empty for `runc` from containerd's `PATH`.
    pub binary: PathBuf,
    /// cgroup of the shim, below the cgroup root; it must exist. Empty for containerd's own, where
    /// shims die with containerd's container.
    pub shim_cgroup: String,
}

/// `containerd.runc.v1.Options` on the wire: containerd-client does not have it.
#[derive(Clone, PartialEq, prost::Message)]
struct ShimOptions {
    #[prost(string, tag = "3")]
    shim_cgroup: String,
    #[prost(string, tag = "6")]
    binary_name: String,
}

/// What [`Client::create_container`] makes.
#[derive(Clone, Debug, Default)]
pub struct NewContainer<'a> {
    /// Identifier: letters, digits, `-`, `.`, `_`, at most 76.
    pub id: &'a str,
    /// Full name of its image.
    pub image: &'a str,
    /// Key of its writable snapshot, prepared before.
    pub snapshot: &'a str,
    /// Labels; how a restarted owner finds what is its own.
    pub labels: Labels,
    /// What runs it.
    pub runtime: Runtime,
}

/// A container's record.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Identifier.
    pub id: String,
    /// Full name of its image.
    pub image: String,
    /// Key of its snapshot.
    pub snapshot: String,
    /// Labels.
    pub labels: Labels,
    /// The OCI runtime specification, JSON.
    pub spec: Vec<u8>,
}

impl Client {
    /// Records a container. `spec` is the OCI runtime specification: an
    /// [`oci_spec::runtime::Spec`] or anything that is written as the same JSON.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when the identifier is taken.
    pub async fn create_container(
        &self,
        new: NewContainer<'_>,
        spec: &impl Serialize,
    ) -> Result<()> {
        let options = ShimOptions {
            shim_cgroup: new.runtime.shim_cgroup,
            binary_name: new.runtime.binary.to_string_lossy().into_owned(),
        };
        let options = any(SHIM_OPTIONS, options.encode_to_vec());
        let record = ContainerRecord {
            id: new.id.to_owned(),
            labels: new.labels,
            image: new.image.to_owned(),
            runtime: Some(RuntimeRecord { name: SHIM.to_owned(), options: Some(options) }),
            spec: Some(any(SPEC, json(new.id, spec)?)),
            snapshotter: SNAPSHOTTER.to_owned(),
            snapshot_key: new.snapshot.to_owned(),
            ..ContainerRecord::default()
        };
        let request = CreateContainerRequest { container: Some(record) };
        op("creating container", new.id).run(self.containers_rpc().create(request)).await?;
        Ok(())
    }

    /// A container's record.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn container(&self, id: &str) -> Result<Container> {
        let op = op("getting container", id);
        let request = GetContainerRequest { id: id.to_owned() };
        let record = op.run(self.containers_rpc().get(request)).await?.container;
        Ok(container(op.field(record, "container")?))
    }

    /// All containers, or those that match one of containerd's filters (`labels.x==y`).
    ///
    /// # Errors
    /// As every call.
    pub async fn containers(&self, filters: &[&str]) -> Result<Vec<Container>> {
        let op = op("listing containers of", self.namespace());
        let filters = filters.iter().map(ToString::to_string).collect();
        let request = ListContainersRequest { filters };
        // The stream, since one answer with every specification in it may pass the size limit.
        let mut stream = op.run(self.containers_rpc().list_stream(request)).await?;
        let mut all = Vec::new();
        while let Some(message) = op.wait(stream.message()).await? {
            all.extend(message.container.map(container));
        }
        Ok(all)
    }

    /// Removes a container's record; its snapshot stays, held by nothing. containerd does not look
    /// for a task of it: delete that one first, or use [`Client::cleanup`].
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_container(&self, id: &str) -> Result<()> {
        let request = DeleteContainerRequest { id: id.to_owned() };
        op("deleting container", id).run(self.containers_rpc().delete(request)).await?;
        Ok(())
    }
}

/// A typed value as containerd packs it.
pub(crate) fn any(type_url: &str, value: Vec<u8>) -> Any {
    Any { type_url: type_url.to_owned(), value }
}

/// The specification of `id` as JSON.
pub(crate) fn json(id: &str, spec: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(spec)
        .map_err(|error| Error::invalid(format!("specification of {id}"), error.to_string()))
}

fn container(record: ContainerRecord) -> Container {
    Container {
        id: record.id,
        image: record.image,
        snapshot: record.snapshot_key,
        labels: record.labels,
        spec: record.spec.map(|it| it.value).unwrap_or_default(),
    }
}
