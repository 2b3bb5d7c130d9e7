//! What `xtask dev` changes on the host, and puts back.
//!
//! The firewall rules, the bridge and the namespaces are the provider's, which removes them when
//! it stops; here is only what a kernel setting needs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Knows how it was.
#[derive(Debug)]
#[must_use]
pub(super) struct Restore {
    record: PathBuf,
}

/// Switches forwarding on for the functions' bridge. How it was is written to the state folder
/// first, so that it is put back even when an earlier run was killed before it could.
pub(super) fn apply(state: &Path) -> Result<Restore> {
    let record = state.join("run/ip_forward");
    fs_err::create_dir_all(state.join("run"))?;
    if !record.exists() {
        let before = fs_err::read_to_string(IP_FORWARD)?;
        fs_err::write(&record, before.trim())?;
    }
    fs_err::write(IP_FORWARD, "1").context("switching on IPv4 forwarding")?;
    Ok(Restore { record })
}

impl Restore {
    /// Puts back what [`apply`] found.
    pub(super) fn undo(self) -> Result<()> {
        let before = fs_err::read_to_string(&self.record)?;
        fs_err::write(IP_FORWARD, before).context("putting IPv4 forwarding back")?;
        Ok(fs_err::remove_file(&self.record)?)
    }
}
