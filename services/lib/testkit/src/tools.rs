//! Where the programs are that tests and `xtask dev` start.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Folders made by `cargo xtask`, which hands them on in the environment.
#[derive(Clone, Debug)]
pub struct Tools {
    /// `INPLACE_TOOLS`: holds `bin/` with containerd, its shim, ctr, buildkitd, buildctl, crun.
    pub tools: PathBuf,
    /// `INPLACE_BASES`: function bases (OCI layouts) and `templates/`.
    pub bases: PathBuf,
    /// `INPLACE_PROGRAMS`: our own compiled programs.
    pub programs: PathBuf,
}

impl Tools {
    /// Reads the three folders from the environment.
    ///
    /// # Errors
    /// When a variable is missing or names no folder.
    pub fn from_env() -> Result<Self> {
        let folder = |name: &str| -> Result<PathBuf> {
            let value = std::env::var_os(name).with_context(|| {
                format!("{name} is not set: run this through `cargo xtask test`")
            })?;
            let path = PathBuf::from(value);
            if !path.is_absolute() || !path.is_dir() {
                bail!("{name}={} is not the absolute path of a folder", path.display());
            }
            Ok(path)
        };
        Ok(Self {
            tools: folder("INPLACE_TOOLS")?,
            bases: folder("INPLACE_BASES")?,
            programs: folder("INPLACE_PROGRAMS")?,
        })
    }

    /// The path of a daemon's or tool's program, such as `containerd`.
    #[must_use]
    pub fn tool(&self, name: &str) -> PathBuf {
        self.tools.join("bin").join(name)
    }

    /// The path of one of our own programs, such as `provider`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}
