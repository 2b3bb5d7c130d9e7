//! What `xtask dev` changes on the host, and puts back.
//!
//! The firewall rules, the bridge and the namespaces are the provider's, which removes them when
//! it stops; here is only what a kernel setting needs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A number below `/proc/sys` that must be at least so large.
struct Setting {
    path: &'static str,
    at_least: u64,
}

const SETTINGS: [Setting; 2] = [
    // Functions reach the internet through the bridge.
    Setting { path: "net/ipv4/ip_forward", at_least: 1 },
    // Each function's folder is watched by an instance of its own.
    Setting { path: "fs/inotify/max_user_instances", at_least: 4096 },
];

/// Knows how it was.
#[derive(Debug)]
#[must_use]
pub(super) struct Restore {
    records: PathBuf,
}

/// Raises what is too low. How it was is written to the state folder first, so that it is put
/// back even when an earlier run was killed before it could.
pub(super) fn apply(state: &Path) -> Result<Restore> {
    let records = state.join("run/settings");
    fs_err::create_dir_all(&records)?;
    for setting in SETTINGS {
        let file = Path::new("/proc/sys").join(setting.path);
        let before = fs_err::read_to_string(&file)?;
        if before.trim().parse::<u64>().is_ok_and(|value| value >= setting.at_least) {
            continue;
        }
        let record = records.join(setting.path.replace('/', "."));
        if !record.exists() {
            fs_err::write(&record, before.trim())?;
        }
        fs_err::write(&file, setting.at_least.to_string())
            .with_context(|| format!("setting {}", setting.path))?;
    }
    Ok(Restore { records })
}

impl Restore {
    /// Puts back what [`apply`] found.
    pub(super) fn undo(self) -> Result<()> {
        for setting in SETTINGS {
            let record = self.records.join(setting.path.replace('/', "."));
            if record.exists() {
                let before = fs_err::read_to_string(&record)?;
                fs_err::write(Path::new("/proc/sys").join(setting.path), before)
                    .with_context(|| format!("putting {} back", setting.path))?;
                fs_err::remove_file(&record)?;
            }
        }
        Ok(())
    }
}
