//! Packages: from `images/` to the programs and function bases that `dev` and `test` run.
//!
//! `build.yml` → checked [`spec`] → steps, each cached by the digest of all its inputs → a
//! [`tree`] of files → layers → an OCI image layout. What comes from outside is pinned in
//! `images/lock.yml` ([`lock`]); what was made is kept in the [`cache`], outside the tree.

mod build;
mod cache;
mod cargo;
mod deb;
mod finish;
mod golang;
mod key;
mod layer;
mod lock;
mod oci;
mod spec;
mod templates;
mod tools;
mod tree;
mod wheel;

use std::path::PathBuf;

use anyhow::Result;

pub(crate) use build::{image, prepare, relock};
pub(crate) use cache::Cache;
pub(crate) use cargo::Profile;
pub(crate) use lock::Lock;
pub(crate) use spec::Package;
pub(crate) use wheel::{DENY, NEXTEST, tool};

/// How to prepare.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// A part that is not as `images/lock.yml` has it is an error, instead of a new lock.
    pub(crate) locked: bool,
    /// How our own programs are compiled.
    pub(crate) profile: Profile,
}

/// What tests and `dev` run, in the words of `INPLACE_TOOLS`, `INPLACE_BASES`, `INPLACE_PROGRAMS`.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// Folder with `bin/{containerd,containerd-shim-runc-v2,ctr,buildkitd,buildctl,crun}`.
    pub(crate) tools: PathBuf,
    /// Folder with an OCI image layout for each function base, and `templates/`.
    pub(crate) bases: PathBuf,
    /// Folder with our own programs.
    pub(crate) programs: PathBuf,
}

/// Where the lock lies in the tree.
pub(crate) fn lock_path() -> PathBuf {
    crate::workspace::root().join("images/lock.yml")
}

/// All packages and function bases of the tree, by name.
pub(crate) fn all() -> Result<Vec<Package>> {
    spec::load_all(&crate::workspace::root().join("images"))
}
