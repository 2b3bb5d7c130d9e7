//! `cargo xtask stop`: stops, in order, the machine that `dev --detach` left running.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::dev::State;

/// Longer than all the limits of an ordered stop together.
const LIMIT: Duration = Duration::from_secs(120);

/// Arguments of `cargo xtask stop`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  sudo -E cargo xtask stop                         the machine of the default folder
  sudo -E cargo xtask stop --state /srv/inplace    the machine of another one")]
pub(crate) struct Args {
    /// State folder of the machine [default: /var/lib/inplace/dev]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Stops the machine and waits until it is gone.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("`cargo xtask stop` needs root, as `dev` does; try `sudo -E cargo xtask stop`");
    }
    let dir = State::existing(args.state.as_deref())?;
    State::stop(&dir, LIMIT)?;
    println!("stopped; {} is kept", dir.display());
    Ok(())
}
