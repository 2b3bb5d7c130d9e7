//! `cargo xtask doctor`: what this host has, what it lacks, and how to get that.

use anyhow::{Result, bail};

use crate::host::{self, Need};
use crate::packages::Cache;

/// Say what this host has and lacks, and how to get it
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {}

/// Prints a line for each requirement; fails if one is not met.
pub(crate) fn run(_args: &Args) -> Result<()> {
    let mut missing = 0;
    for it in host::requirements(Need::Test) {
        match it.found() {
            Some(path) => println!("ok       {:18} {}", short(it.name()), path.display()),
            None => {
                missing += 1;
                println!(
                    "missing  {:18} needed for {}: {}",
                    short(it.name()),
                    it.purpose,
                    it.remedy()
                );
            }
        }
    }
    let root = nix::unistd::geteuid().is_root();
    let note = if root {
        "ok       root"
    } else {
        "note     not root: `cargo xtask dev` and the integration tests need it (sudo -E)"
    };
    println!("{note}");
    println!("note     {:18} {}", "cache", Cache::folder()?.display());
    if missing > 0 {
        bail!(
            "this host lacks {missing} of the above; `cargo xtask test` installs Debian packages itself"
        );
    }
    Ok(())
}

fn short(name: &str) -> &str {
    name.strip_prefix("/usr/lib/python3/dist-packages/")
        .and_then(|it| it.split('/').next())
        .unwrap_or(name)
}
