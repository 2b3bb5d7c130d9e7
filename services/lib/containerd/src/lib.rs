//! Thin typed client over containerd: what the provider and the supervisor stand on.
//!
//! A [`Client`] is a socket and a namespace. What reads, runs and removes is on it; what *writes
//! content or snapshots* is on a [`Lease`], because containerd's garbage collector takes whatever
//! no image, container or lease holds. So no write path can forget its lease: [`Client::lease`]
//! makes one that expires, and the lease's methods are the only ones that send its header.
//!
//! | module | what it is about |
//! | --- | --- |
//! | [`error`] | the one error: callers branch on `NotFound`, `AlreadyExists`, `Unavailable` |
//! | [`client`] | socket, namespace, deadlines, waiting until containerd answers |
//! | [`leases`] | what holds content and snapshots while they are being made |
//! | [`content`] | blobs |
//! | [`images`] | names: import of an OCI layout, lookup, unpacking, removal |
//! | [`snapshots`] | root file systems |
//! | [`containers`] | records: spec, image, snapshot, runtime |
//! | [`tasks`] | processes: start, exit, exec, signals, pause |
//! | [`cleanup`] | removal of a container in whatever state it is |
//! | [`events`] | what happens, over reconnects |
//! | [`commit`] | an image from what a container wrote |
pub mod error;

pub mod client;
pub mod leases;

pub mod content;
pub mod images;
pub mod snapshots;

pub mod cleanup;
pub mod commit;
pub mod containers;
pub mod events;
pub mod tasks;

mod digest;

use std::collections::HashMap;

pub use client::Client;
pub use digest::{chain_ids, sha256};
pub use error::{Error, Result};
pub use leases::Lease;

/// Labels of an image, container, snapshot or blob.
pub type Labels = HashMap<String, String>;
