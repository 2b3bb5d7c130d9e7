//! Starts the real containerd and buildkitd on an ordinary Linux host, and cleans up.
//!
//! A [`Cell`] is a mount namespace with a pure cgroup2, a cgroup of its own and, if wanted, a
//! network namespace of its own. Daemons and whatever they start live in it and nowhere else, so
//! ending the cell is one write to `cgroup.kill`: nothing stays behind, not even after a kill -9
//! of the process that made it. A [`Host`] is a cell with the two daemons in it.
//!
//! Tests and benches start one `Host` each; `cargo xtask dev` runs on the same code. All of it
//! needs root.

mod cell;
mod host;
mod tools;

pub use cell::{Cell, Network};
pub use host::{Daemon, Host};
pub use tools::Tools;
