//! A client of BuildKit: from a git commit to an image in containerd's store, without a registry.
//!
//! The way of a build: [`Client::solve`] takes a [`Build`] (which commit, which [`Recipe`], which
//! image names), lists the commit's tree, opens a session in which BuildKit fetches files and
//! secrets from us, sends the definition, and turns BuildKit's status stream into [`Event`]s until
//! the [`Image`] is in the store. Dropping the future cancels the build.
//!
//! Nothing here starts a daemon or keeps state; the only thing held open is one connection.

mod build;
mod client;
mod context;
mod error;
mod events;
mod exporter;
mod llb;
mod patterns;
mod session;
mod status;

pub use build::{
    Build, Cache, Commit, Dependencies, Dockerfile, Image, Network, Recipe, Secrets, Source,
};
pub use client::Client;
pub use error::Error;
pub use events::{Event, EventReader, Events, StepStatus, channel};
