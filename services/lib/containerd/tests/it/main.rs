//! The client against the real containerd. Needs root, the tools that `cargo xtask test` names in
//! the environment, and a static busybox.
#![expect(clippy::unwrap_used, reason = "what is not there ends the test")]

mod cleanup;
mod commit;
mod events;
mod images;
mod leases;
mod snapshots;
mod support;
mod tasks;
