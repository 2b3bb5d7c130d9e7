//! Where the tree is, and which cargo runs us.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The triple that every program of ours is built for.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The root of the checkout that this `xtask` was built from.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// Folder that holds what cargo builds: `$CARGO_TARGET_DIR`, else `target` of the checkout.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The cargo that runs us, at the root of the tree.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // Set for us by the cargo that runs us; a nested cargo would rebuild crates that read them.
    for name in ["CARGO_PKG_NAME", "CARGO_PKG_VERSION", "CARGO_MANIFEST_DIR"] {
        command.env_remove(name);
    }
    command
}

/// `path` as a person should read it: relative to the tree where it lies inside.
pub(crate) fn shown(path: &Path) -> std::path::Display<'_> {
    path.strip_prefix(root()).unwrap_or(path).display()
}
